//! One error type for what crosses a stage boundary: a message that says what to do, whose fault it
//! is, and whether trying again can help.

use std::fmt;

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The caller asked for something that cannot be (a bad request, a wrong setting).
    User,
    /// What was asked for does not exist, or belongs to somebody else.
    NotFound,
    /// The request contradicts the present state.
    Conflict,
    /// Something outside crest failed (a disk, a peer, a database).
    Outside,
    /// There is no room left on a disk.
    Full,
    /// A defect in crest.
    Ours,
}

/// An error that crosses a stage boundary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Whose fault it is.
    pub fault: Fault,
    /// What happened and what to do about it.
    pub message: String,
    /// Whether the same call may succeed later.
    pub retryable: bool,
}

impl Error {
    /// The caller's fault; trying again does not help.
    pub fn user(message: impl Into<String>) -> Self {
        Self { fault: Fault::User, message: message.into(), retryable: false }
    }
    /// No such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { fault: Fault::NotFound, message: message.into(), retryable: false }
    }
    /// Not possible in the present state.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self { fault: Fault::Conflict, message: message.into(), retryable: false }
    }
    /// A failure outside crest; trying again may help.
    pub fn outside(message: impl Into<String>) -> Self {
        Self { fault: Fault::Outside, message: message.into(), retryable: true }
    }
    /// There is no room left on a disk; it passes when there is some again.
    pub fn full(message: impl Into<String>) -> Self {
        Self { fault: Fault::Full, message: message.into(), retryable: true }
    }
    /// What the operating system said of a file: [`Fault::Full`] where there is no room, else a failure
    /// outside crest.
    pub fn of_file(error: &std::io::Error, message: impl Into<String>) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded => Self::full(message),
            _ => Self::outside(message),
        }
    }
    /// A defect in crest.
    pub fn ours(message: impl Into<String>) -> Self {
        Self { fault: Fault::Ours, message: message.into(), retryable: false }
    }
    /// Puts what was being done in front of the message.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Result with the stage-boundary error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
