//! Settings of the database.

use crest_core::units::Span;
use crest_core::{Error, Result};
use serde::Deserialize;
use std::fmt;
use std::time::Duration;

/// More connections than any server likes.
const MOST_CONNECTIONS: u32 = 1000;

/// Where the database is, and the bounds of its use. All but the first are about PostgreSQL.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://user:password@host:port/database`, with `?sslmode=verify-full` and the like where it is
    /// to be encrypted. Without it the database is a file in the data directory.
    pub url: Option<String>,
    /// Connections of this process at most, 2 to 1000.
    pub max_connections: u32,
    /// How long is waited for a connection, 100ms to 10m. While the server is away each call takes so long
    /// to fail.
    pub acquire_timeout: Span,
    /// How long is waited for rows that somebody else is changing, 100ms to 10m.
    pub lock_timeout: Span,
    /// How long a transaction may take once it has its connection, 1s to 10m.
    pub timeout: Span,
    /// Lets crest work as a role that PostgreSQL's row-level security does not bind: for developers.
    pub allow_superuser: bool,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: None,
            max_connections: 8,
            acquire_timeout: Span::secs(5),
            lock_timeout: Span::secs(5),
            timeout: Span::secs(20),
            allow_superuser: false,
        }
    }
}

/// The address holds a password.
impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseConfig")
            .field("url", &self.url.as_ref().map(|_| "[secret]"))
            .field("max_connections", &self.max_connections)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .field("timeout", &self.timeout)
            .field("allow_superuser", &self.allow_superuser)
            .finish()
    }
}

impl DatabaseConfig {
    /// Fails on a setting that makes no sense.
    pub fn check(&self) -> Result<()> {
        let within = |key: &str, span: Span, least: Duration| {
            let most = Duration::from_secs(600);
            let fits = (least..=most).contains(&span.0);
            let message = || format!("database.{key} is {:?}; it must lie between {least:?} and {most:?}", span.0);
            if fits { Ok(()) } else { Err(Error::user(message())) }
        };
        if !(2..=MOST_CONNECTIONS).contains(&self.max_connections) {
            let message = format!(
                "database.max_connections is {}; it must lie between 2 and {MOST_CONNECTIONS}",
                self.max_connections
            );
            return Err(Error::user(message));
        }
        within("acquire_timeout", self.acquire_timeout, Duration::from_millis(100))?;
        within("lock_timeout", self.lock_timeout, Duration::from_millis(100))?;
        within("timeout", self.timeout, Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_and_what_is_secret_not_shown() {
        let config = DatabaseConfig { url: Some("postgres://crest:hunter2@db/crest".into()), ..Default::default() };
        assert_eq!(config.check(), Ok(()));
        assert!(!format!("{config:?}").contains("hunter2"));
        let wrong = [
            ("max_connections", DatabaseConfig { max_connections: 1, ..config.clone() }),
            ("acquire_timeout", DatabaseConfig { acquire_timeout: Span::secs(601), ..config.clone() }),
            ("lock_timeout", DatabaseConfig { lock_timeout: Span::secs(0), ..config.clone() }),
            ("timeout", DatabaseConfig { timeout: Span(Duration::from_millis(999)), ..config }),
        ];
        for (key, config) in wrong {
            let refused = config.check().err().map(|error| error.message).unwrap_or_default();
            assert!(refused.contains(&format!("database.{key}")), "{refused}");
        }
    }
}
