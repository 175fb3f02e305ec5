//! Secrets of the configuration: they are hidden from the log before anything is said about them.

use toml::{Table, Value};

use crate::telemetry;

/// Keys whose whole values are secrets.
const SECRETS: [&[&str]; 5] = [
    &["bus", "kafka", "password"],
    &["storage", "secret_access_key"],
    &["srt", "passphrase"],
    &["chat", "youtube", "api_key"],
    &["twitch", "token"],
];
/// Keys whose values are addresses that may have a password in them.
const ADDRESSES: [&[&str]; 2] = [&["database", "url"], &["storage", "url"]];

/// Hides what is secret in this configuration from now on.
pub fn hide(table: &Table) {
    for path in SECRETS {
        if let Some(secret) = text(table, path) {
            telemetry::hide(&secret);
        }
    }
    for path in ADDRESSES {
        if let Some(address) = text(table, path)
            && let Some(password) = password(&address)
        {
            telemetry::hide(password);
        }
    }
}

/// A value as it was written, also where a text was to be written and a number was.
fn text(table: &Table, path: &[&str]) -> Option<String> {
    let (last, sections) = path.split_last()?;
    let section = sections.iter().try_fold(table, |section, name| section.get(*name)?.as_table())?;
    match section.get(*last)? {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The password in `scheme://user:password@host/..`.
fn password(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_where_there_is_one() {
        assert_eq!(password("postgres://crest:s3%40cret@db:5432/crest?sslmode=require"), Some("s3%40cret"));
        assert_eq!(password("postgres://crest:a@b:c@db/crest"), Some("a@b:c"));
        for none in ["postgres://crest@db/crest", "s3://bucket/prefix", "postgres://db:5432/a@b:c", "crest", ""] {
            assert_eq!(password(none), None, "{none}");
        }
    }
}
