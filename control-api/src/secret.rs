//! Secrets that crest makes, from the operating system's generator.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crest_core::{Error, Result};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What a publisher must present: 190 bits, letters and digits only, as streaming programs want it.
pub fn stream_key() -> Result<String> {
    alphanumeric("sk_live_", 32)
}

/// An organization's API key: 238 bits.
pub fn api_key() -> Result<String> {
    alphanumeric("crest_sk_", 40)
}

/// What webhooks are signed with, as Standard Webhooks writes it: 192 bits.
pub fn webhook_secret() -> Result<String> {
    let mut bytes = [0u8; 24];
    fill(&mut bytes)?;
    Ok(format!("whsec_{}", STANDARD.encode(bytes)))
}

fn alphanumeric(prefix: &str, length: usize) -> Result<String> {
    let mut out = prefix.to_owned();
    let mut bytes = [0u8; 64];
    while out.len() < prefix.len() + length {
        fill(&mut bytes)?;
        // Bytes from 248 on would favour the first letters.
        let letters = bytes.iter().filter(|b| **b < 248).map(|b| char::from(ALPHABET[usize::from(b % 62)]));
        out.extend(letters.take(prefix.len() + length - out.len()));
    }
    Ok(out)
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|e| Error::outside(format!("the system gives no random numbers: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_their_shape_and_do_not_repeat() -> Result<()> {
        let (a, b) = (stream_key()?, stream_key()?);
        assert_ne!(a, b);
        assert_eq!(a.len(), "sk_live_".len() + 32);
        assert!(api_key()?.starts_with("crest_sk_"));
        let secret = webhook_secret()?;
        let decoded = secret.strip_prefix("whsec_").and_then(|s| STANDARD.decode(s).ok());
        assert_eq!(decoded.map(|bytes| bytes.len()), Some(24));
        Ok(())
    }
}
