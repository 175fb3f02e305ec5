//! Segments that are encrypted whole with AES-128 in CBC mode (RFC 8216 4.3.2.4 and 5.2): how a playlist says so,
//! their keys, and what is in them.

use aes::Aes128;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::inout::InOutBuf;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use bytes::{Bytes, BytesMut};
use cbc::Decryptor;
use m3u8_rs::{Key, KeyMethod};
use reqwest::Url;
use std::collections::VecDeque;

use super::super::Trouble;
use super::super::http::{Body, Http};
use super::playlist::join;

/// Bytes of a key, of an initialization vector and of a block.
const BLOCK: usize = 16;
/// Keys that are kept: a rotation goes on to the next, and may come back to one of the last.
const KEPT: usize = 4;

/// How a segment is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// With AES-128, from its first byte to its last.
    Aes128 {
        /// Where the key is.
        key: Url,
        /// The initialization vector; without one it is the segment's sequence number.
        iv: Option<[u8; BLOCK]>,
    },
    /// In a way that is not read; what the playlist calls it.
    Other(String),
}

impl Encryption {
    /// What a playlist at `base` says holds from here on.
    pub(crate) fn read(key: &Key, base: &Url) -> Result<Option<Self>, String> {
        let format = key.keyformat.as_deref().unwrap_or("identity");
        match (&key.method, &key.uri) {
            (KeyMethod::None, _) => Ok(None),
            (KeyMethod::AES128, Some(uri)) if format == "identity" => {
                let iv = key.iv.as_deref().map(vector).transpose()?;
                Ok(Some(Self::Aes128 { key: join(base, uri)?, iv }))
            }
            (method, _) => Ok(Some(Self::Other(method.to_string().chars().take(32).collect()))),
        }
    }

    /// Bytes that its address takes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Aes128 { key, .. } => key.as_str().len(),
            Self::Other(method) => method.len(),
        }
    }
}

/// An initialization vector: `0x` and up to 32 digits.
fn vector(text: &str) -> Result<[u8; BLOCK], String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).filter(|digits| digits.len() <= 32);
    let number = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
    number.map(u128::to_be_bytes).ok_or_else(|| "the playlist names an initialization vector that is none".to_owned())
}

/// The keys of a playlist, each fetched once.
#[derive(Debug, Default)]
pub(super) struct Keys(VecDeque<(Url, [u8; BLOCK])>);

impl Keys {
    /// What reads the segment of this sequence number.
    pub(super) async fn of(
        &mut self,
        http: &Http,
        encryption: Option<&Encryption>,
        sequence: u64,
    ) -> Result<Option<Decrypter>, Trouble> {
        match encryption {
            None => Ok(None),
            Some(Encryption::Other(method)) => {
                Err(Trouble::Final(format!("the media are encrypted ({method}), which is not read; AES-128 is")))
            }
            Some(Encryption::Aes128 { key, iv }) => {
                let iv = iv.unwrap_or_else(|| u128::from(sequence).to_be_bytes());
                Ok(Some(Decrypter::new(self.key(http, key).await?, iv)))
            }
        }
    }

    /// Forgets a key that did not fit.
    pub(super) fn forget(&mut self, encryption: Option<&Encryption>) {
        if let Some(Encryption::Aes128 { key, .. }) = encryption {
            self.0.retain(|(of, _)| of != key);
        }
    }

    async fn key(&mut self, http: &Http, url: &Url) -> Result<[u8; BLOCK], Trouble> {
        if let Some((_, key)) = self.0.iter().find(|(of, _)| of == url) {
            return Ok(*key);
        }
        let told = |reason: String| format!("the key of the media cannot be had: {reason}");
        let fetched = http.small(url, BLOCK).await.map_err(|trouble| match trouble {
            Trouble::Passing(reason) => Trouble::Passing(told(reason)),
            Trouble::Final(reason) => Trouble::Final(told(reason)),
        })?;
        let key = <[u8; BLOCK]>::try_from(fetched.as_ref())
            .map_err(|_| Trouble::Passing(told("what is at its address has not 16 bytes".to_owned())))?;
        self.0.truncate(KEPT - 1);
        self.0.push_front((url.clone(), key));
        Ok(key)
    }
}

/// Reads what is encrypted, as it arrives.
pub(super) struct Decrypter {
    cipher: Decryptor<Aes128>,
    /// What is not decrypted yet: less than a block, or the last block so far, which may be padding.
    held: BytesMut,
}

impl Decrypter {
    fn new(key: [u8; BLOCK], iv: [u8; BLOCK]) -> Self {
        Self { cipher: Decryptor::new(&key.into(), &iv.into()), held: BytesMut::new() }
    }

    fn push(&mut self, chunk: &[u8]) -> Bytes {
        self.held.extend_from_slice(chunk);
        let whole = self.held.len().saturating_sub(1) / BLOCK * BLOCK;
        let mut ready = self.held.split_to(whole);
        let (blocks, _) = InOutBuf::from(&mut ready[..]).into_chunks();
        self.cipher.decrypt_blocks_inout(blocks);
        ready.freeze()
    }

    /// The last block without its padding (RFC 5652 6.3).
    fn finish(self) -> Result<Bytes, String> {
        let mut last = self.held;
        if last.len() != BLOCK {
            return Err("an encrypted segment is cut short".to_owned());
        }
        let clear = self.cipher.decrypt_padded::<Pkcs7>(&mut last);
        clear.map(Bytes::copy_from_slice).map_err(|_| "a segment cannot be decrypted: its key does not fit".into())
    }
}

/// What arrives of a segment, in the clear.
pub(super) struct Clear {
    body: Body,
    decrypter: Option<Decrypter>,
}

impl Clear {
    pub(super) fn new(body: Body, decrypter: Option<Decrypter>) -> Self {
        Self { body, decrypter }
    }

    /// An initialization section need not be encrypted where the segments are; `is_clear` tells by its first bytes.
    pub(super) async fn first(&mut self, is_clear: impl Fn(&[u8]) -> bool) -> Result<Option<Bytes>, Trouble> {
        let Some(chunk) = self.body.next().await? else { return Ok(None) };
        self.decrypter.take_if(|_| is_clear(&chunk));
        Ok(Some(self.read(chunk)))
    }

    /// The next bytes, of any number; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        match self.body.next().await? {
            Some(chunk) => Ok(Some(self.read(chunk))),
            None => self.decrypter.take().map(Decrypter::finish).transpose().map_err(Trouble::Passing),
        }
    }

    fn read(&mut self, chunk: Bytes) -> Bytes {
        match &mut self.decrypter {
            Some(decrypter) => decrypter.push(&chunk),
            None => chunk,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use aes::cipher::BlockModeEncrypt;

    #[test]
    fn what_was_encrypted_is_read_whatever_pieces_it_arrives_in() {
        let (key, iv) = ([7; BLOCK], [9; BLOCK]);
        for length in [0, 1, 15, 16, 17, 1000, 1024] {
            let clear: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut hidden = clear.clone();
            hidden.resize(length + BLOCK, 0);
            let cipher = cbc::Encryptor::<Aes128>::new(&key.into(), &iv.into());
            let hidden = cipher.encrypt_padded::<Pkcs7>(&mut hidden, length).unwrap().to_vec();
            for size in [1, 16, 33, 4096] {
                let (mut decrypter, mut read) = (Decrypter::new(key, iv), Vec::new());
                hidden.chunks(size).for_each(|chunk| read.extend_from_slice(&decrypter.push(chunk)));
                read.extend_from_slice(&decrypter.finish().unwrap());
                assert!(read == clear, "{length} bytes in pieces of {size}");
            }
            let mut short = Decrypter::new(key, iv);
            short.push(&hidden[..hidden.len() - 3]);
            assert!(short.finish().unwrap_err().contains("cut short"));
        }
        let mut wrong = Decrypter::new([8; BLOCK], iv);
        let cipher = cbc::Encryptor::<Aes128>::new(&key.into(), &iv.into());
        let mut hidden = [0; 32];
        wrong.push(cipher.encrypt_padded::<Pkcs7>(&mut hidden, 20).unwrap());
        assert!(wrong.finish().unwrap_err().contains("key"));
    }

    #[test]
    fn a_vector_is_a_number_of_at_most_32_digits() {
        assert_eq!(vector("0x0000000000000000000000000000002A").unwrap()[15], 0x2a);
        assert_eq!(vector("0X1").unwrap(), u128::to_be_bytes(1));
        for wrong in ["", "0x", "2A", "0x000000000000000000000000000000001", "0xg"] {
            assert!(vector(wrong).is_err(), "{wrong}");
        }
    }
}
