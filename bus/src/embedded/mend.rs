//! What a loss of power leaves of the journal, cut back to what is whole before `fjall` reads it.
//!
//! The pages of the last writes reach the disk in any order, so that a batch may have its end and lack
//! its middle. `fjall` 3.1 drops a batch without an end, but refuses to open a journal with a batch
//! whose checksum is wrong, and says nothing where it stops at bytes that are no entry. Here the same
//! walk is made beforehand: the journal ends after its last whole batch in one piece, and what is lost
//! is said. Only the newest journal is looked at; an older one was synced before the next began.
//!
//! The format of `fjall` 3 (its `journal/entry.rs`): a batch is a start (tag 1, number of items (4),
//! sequence number (8)), that many items (tag 2, value type (1), compression (1), keyspace (8), key
//! length (2), value length (4), stored length (4), key, value) or clearances (tag 4, keyspace (8)),
//! and an end (tag 3, XXH3-64 of the items (8), `FJL` 3); little-endian. Zeros follow.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tracing::{error, warn};
use xxhash_rust::xxh3::Xxh3;

use crest_core::{Error, Result};

/// The mark of the only format that is known here, in the file `version` and after each batch.
const FORMAT: &[u8] = b"FJL\x03";
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// Bytes that are read at a time.
const BLOCK: usize = 64 << 10;

/// Cuts the journal in `dir` back to what is whole. Does nothing where there is no bus yet, where
/// another process has it open, and where its format is not known here.
pub(crate) fn mend(dir: &Path) -> Result<()> {
    let failed = |e: io::Error| Error::outside(format!("cannot read the journal of the bus in {}: {e}", dir.display()));
    if std::fs::read(dir.join("version")).ok().as_deref() != Some(FORMAT) {
        return Ok(());
    }
    // What fjall locks as well: it is not to be written to meanwhile.
    let Ok(lock) = OpenOptions::new().read(true).write(true).open(dir.join("lock")) else { return Ok(()) };
    if lock.try_lock().is_err() {
        return Ok(());
    }
    let Some(journal) = newest(dir).map_err(failed)? else { return Ok(()) };
    let mut file = OpenOptions::new().read(true).write(true).open(&journal).map_err(failed)?;
    let whole = Walk::new(&file).and_then(Walk::whole).map_err(failed)?;
    let rest = Rest::read(&mut file, whole).map_err(failed)?;
    if rest.bytes == 0 {
        return Ok(());
    }
    if rest.more {
        let aside = journal.with_extension(format!("jnl.damaged-at-{whole}"));
        keep(&mut file, whole, rest.bytes, &aside).map_err(failed)?;
        error!(at = whole, bytes = rest.bytes, kept = %aside.display(),
            "the journal of the bus is damaged, as a loss of power or a failing disk leaves it; it goes on from \
             before the damage, and what followed was put aside");
    } else {
        warn!(at = whole, bytes = rest.bytes, "the last write to the bus was cut short and is dropped");
    }
    file.set_len(whole).and_then(|()| file.sync_all()).map_err(failed)
}

/// The journal with the highest number.
fn newest(dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        newest = newest.max(number.map(|number| (number, path)));
    }
    Ok(newest.map(|(_, path)| path))
}

/// Copies `bytes` from `at` on to a file of their own.
fn keep(file: &mut File, at: u64, bytes: u64, aside: &Path) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    let mut out = File::create(aside)?;
    io::copy(&mut file.take(bytes), &mut out)?;
    out.sync_all()
}

/// What stands after the last whole batch.
struct Rest {
    /// Up to the last byte that is not zero.
    bytes: u64,
    /// Whether there is a batch's end in it: something was whole once.
    more: bool,
}

impl Rest {
    fn read(file: &mut File, from: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(from))?;
        let mut rest = Self { bytes: 0, more: false };
        let (mut block, mut kept, mut at) = (vec![0; BLOCK + FORMAT.len()], 0, 0u64);
        let zeros = block.clone();
        loop {
            let read = file.read(&mut block[kept..])?;
            if read == 0 {
                return Ok(rest);
            }
            let filled = &block[..kept + read];
            // Most of a journal is zeros, and all of them are compared sooner than one by one.
            if *filled != zeros[..filled.len()] {
                if let Some(last) = filled.iter().rposition(|byte| *byte != 0) {
                    rest.bytes = rest.bytes.max(at - kept as u64 + last as u64 + 1);
                }
                rest.more |= filled.windows(FORMAT.len()).any(|w| w == FORMAT);
            }
            at += read as u64;
            // The mark may lie across two blocks.
            let tail = filled.len().min(FORMAT.len() - 1);
            let range = filled.len() - tail..filled.len();
            block.copy_within(range, 0);
            kept = tail;
        }
    }
}

/// Reads a journal batch by batch.
struct Walk<'a> {
    reader: BufReader<&'a File>,
    at: u64,
    length: u64,
}

impl<'a> Walk<'a> {
    fn new(file: &'a File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { reader: BufReader::with_capacity(BLOCK, file), at: 0, length })
    }

    /// Where the last whole batch ends.
    fn whole(mut self) -> io::Result<u64> {
        let mut whole = 0;
        while self.batch()?.is_some() {
            whole = self.at;
        }
        Ok(whole)
    }

    /// `None` where what follows is no whole batch.
    fn batch(&mut self) -> io::Result<Option<()>> {
        let mut hash = Xxh3::new();
        let Some([START, a, b, c, d, ..]) = self.take::<13>()? else { return Ok(None) };
        for _ in 0..u32::from_le_bytes([a, b, c, d]) {
            if self.item(&mut hash)?.is_none() {
                return Ok(None);
            }
        }
        let Some([END, end @ ..]) = self.take::<13>()? else { return Ok(None) };
        let whole = end[..8] == hash.digest().to_le_bytes() && end[8..] == *FORMAT;
        Ok(whole.then_some(()))
    }

    fn item(&mut self, hash: &mut Xxh3) -> io::Result<Option<()>> {
        let Some([tag]) = self.take::<1>()? else { return Ok(None) };
        hash.update(&[tag]);
        let body = match tag {
            ITEM => {
                let Some(head) = self.take::<20>()? else { return Ok(None) };
                hash.update(&head);
                let [.., k0, k1, v0, v1, v2, v3, s0, s1, s2, s3] = head;
                let (value, stored) = (u32::from_le_bytes([v0, v1, v2, v3]), u32::from_le_bytes([s0, s1, s2, s3]));
                if head[1] == 0 && value != stored {
                    return Ok(None);
                }
                u64::from(u16::from_le_bytes([k0, k1])) + u64::from(stored)
            }
            CLEAR => 8,
            _ => return Ok(None),
        };
        self.pass(body, hash)
    }

    /// The next `N` bytes, if there are so many.
    fn take<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        if self.length - self.at < N as u64 {
            return Ok(None);
        }
        self.reader.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(Some(bytes))
    }

    /// Hashes so many bytes, if there are so many.
    fn pass(&mut self, bytes: u64, hash: &mut Xxh3) -> io::Result<Option<()>> {
        if self.length - self.at < bytes {
            return Ok(None);
        }
        let (mut block, mut left) = ([0; 4096], bytes);
        while left > 0 {
            let now = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
            self.reader.read_exact(&mut block[..now])?;
            hash.update(&block[..now]);
            left -= now as u64;
        }
        self.at += bytes;
        Ok(Some(()))
    }
}
