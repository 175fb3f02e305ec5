//! What must not be guessed, from the operating system's generator.

use crest_core::{Error, Result};

/// So many hexadecimal digits, of 4 bits each: an id, or what ICE wants (RFC 8839, 5.4: a name of 24 bits at least,
/// a password of 128).
pub(super) fn hex(digits: usize) -> Result<String> {
    let mut bytes = vec![0; digits];
    getrandom::fill(&mut bytes).map_err(|e| Error::outside(format!("the system gives no random numbers: {e}")))?;
    Ok(bytes.iter().map(|byte| char::from(b"0123456789abcdef"[usize::from(byte % 16)])).collect())
}
