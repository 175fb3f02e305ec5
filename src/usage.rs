//! Wrong usage: a command line or a configuration that cannot be meant. Exit code 2.

use std::fmt;

/// What is wrong, and what would be right.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
