//! What is kept and compared of a key instead of the key itself.

use sha2::{Digest, Sha256};
use std::fmt;

/// SHA-256 of a key. Keys are long and random, so one round is enough, and it may be shown: nothing leads
/// back from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Of a key as its holder presents it.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }
}

/// In hexadecimal, as databases keep it.
impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::KeyDigest;

    #[test]
    fn a_digest_is_that_of_fips_180() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(KeyDigest::of("abc").to_string(), abc);
        assert_ne!(KeyDigest::of("abc"), KeyDigest::of("abd"));
    }
}
