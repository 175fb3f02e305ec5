//! Settings of the storage: where finished files lie, and how they get there.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use crest_core::units::Span;
use crest_core::{Error, Result};
use serde::Deserialize;

/// S3 takes no smaller parts but the last.
const SMALLEST_PART: ByteSize = ByteSize::mib(5);
/// Parts are held in memory while they are sent.
const LARGEST_PART: ByteSize = ByteSize::mib(256);
/// S3 signs for no longer.
const LONGEST_LINK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where segments, clips and thumbnails lie.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// `s3://bucket` or `s3://bucket/folder`. Without it they lie in the data directory.
    pub url: Option<String>,
    /// Address of the S3 server, `https://host:port`; without it, Amazon's.
    pub endpoint: Option<String>,
    /// The region; without it, that of `AWS_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// The access key; without it, credentials are those of the standard `AWS_*` variables or of the
    /// machine's role.
    pub access_key_id: Option<Secret>,
    /// What belongs to the access key.
    pub secret_access_key: Option<Secret>,
    /// How long a link to a clip or thumbnail is valid.
    pub link_validity: Span,
    /// A segment file is closed, and uploaded, after so much media; in place of `segments.segment`.
    pub segment: Span,
    /// Limit of one request.
    pub timeout: Span,
    /// How often a request that failed for a passing reason is sent again before the failure is told.
    pub retries: u32,
    /// What is larger is sent in parts of this size.
    pub part_bytes: ByteSize,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            url: None,
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            link_validity: Span::secs(3600),
            segment: Span::secs(4),
            timeout: Span::secs(20),
            retries: 3,
            part_bytes: ByteSize::mib(8),
        }
    }
}

/// A setting that no message and no log may show.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A bucket, and the folder in it that keys begin below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) bucket: String,
    /// Empty for none; no slash at either end.
    pub(super) folder: String,
}

impl StorageConfig {
    /// Whether finished files lie elsewhere than in the data directory.
    pub fn is_remote(&self) -> bool {
        given(&self.url).is_some()
    }

    pub(super) fn check(&self) -> Result<()> {
        let positive = [
            ("storage.link_validity", self.link_validity),
            ("storage.segment", self.segment),
            ("storage.timeout", self.timeout),
        ];
        for (key, span) in positive {
            if span.0 < Duration::from_secs(1) {
                return Err(Error::user(format!("{key} must be at least 1s")));
            }
        }
        if self.link_validity.0 > LONGEST_LINK {
            return Err(Error::user("storage.link_validity must be at most 7d; S3 signs for no longer"));
        }
        if self.part_bytes < SMALLEST_PART || self.part_bytes > LARGEST_PART {
            return Err(Error::user(format!("storage.part_bytes must lie between {SMALLEST_PART} and {LARGEST_PART}")));
        }
        Ok(())
    }

    /// What `storage.url` names; `None` for the data directory.
    pub(super) fn place(&self) -> Result<Option<Place>> {
        let Some(url) = given(&self.url) else {
            let lonely = [
                ("storage.endpoint", given(&self.endpoint).is_some()),
                ("storage.access_key_id", self.access_key_id.is_some()),
                ("storage.secret_access_key", self.secret_access_key.is_some()),
            ];
            return match lonely.into_iter().find(|(_, set)| *set) {
                Some((key, _)) => Err(Error::user(format!(
                    "{key} is set and storage.url is not: name the bucket, storage.url = \"s3://bucket\""
                ))),
                None => Ok(None),
            };
        };
        let wrong = |why: &str| Error::user(format!("storage.url must be s3://bucket or s3://bucket/folder; {why}"));
        let rest = url.strip_prefix("s3://").ok_or_else(|| wrong("it does not begin with s3://"))?;
        let (bucket, folder) = rest.split_once('/').unwrap_or((rest, ""));
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if bucket.is_empty() || bucket.len() > 63 || !bucket.chars().all(allowed) {
            return Err(wrong("a bucket's name is 1 to 63 letters, digits, dots and hyphens"));
        }
        let folder = folder.strip_suffix('/').unwrap_or(folder);
        if !folder.is_empty() && (folder.len() > 200 || !super::is_path(folder)) {
            return Err(wrong("the folder is at most 200 bytes of names with single slashes between them"));
        }
        Ok(Some(Place { bucket: bucket.to_owned(), folder: folder.to_owned() }))
    }

    /// `storage.endpoint`, as far as it can be one.
    pub(super) fn server(&self) -> Result<Option<&str>> {
        let Some(endpoint) = given(&self.endpoint) else { return Ok(None) };
        let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        let host = host.map(|host| host.strip_suffix('/').unwrap_or(host));
        // Whoever puts credentials here would read them in every message.
        let plain = |host: &str| !host.is_empty() && !host.contains(['@', '/', '?', '#', ' ']);
        if !host.is_some_and(plain) {
            return Err(Error::user(
                "storage.endpoint must be the address of an S3 server, https://host:port, without a path and without \
                 credentials",
            ));
        }
        Ok(Some(endpoint.strip_suffix('/').unwrap_or(endpoint)))
    }

    /// Access key and secret, where the configuration has them.
    pub(super) fn credentials(&self) -> Result<Option<(&Secret, &Secret)>> {
        let (key, secret) = (self.access_key_id.as_ref(), self.secret_access_key.as_ref());
        let (key, secret) = (key.filter(|s| !s.0.is_empty()), secret.filter(|s| !s.0.is_empty()));
        match (key, secret) {
            (Some(key), Some(secret)) => Ok(Some((key, secret))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(Error::user("storage.access_key_id is set and storage.secret_access_key is not")),
            (None, Some(_)) => Err(Error::user("storage.secret_access_key is set and storage.access_key_id is not")),
        }
    }

    /// `storage.region`, where it is set.
    pub(super) fn region(&self) -> Option<&str> {
        given(&self.region)
    }
}

/// A setting that says something.
fn given(setting: &Option<String>) -> Option<&str> {
    setting.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(url: &str) -> StorageConfig {
        StorageConfig { url: Some(url.to_owned()), ..StorageConfig::default() }
    }

    #[test]
    fn a_bucket_may_have_a_folder() {
        let place = |bucket: &str, folder: &str| Ok(Some(Place { bucket: bucket.into(), folder: folder.into() }));
        assert_eq!(with("s3://media").place(), place("media", ""));
        assert_eq!(with("s3://media/").place(), place("media", ""));
        assert_eq!(with("s3://media.example/a/b/").place(), place("media.example", "a/b"));
        assert_eq!(with("").place(), Ok(None), "an empty variable is none");
        assert!(!with(" ").is_remote() && with("s3://media").is_remote());
        for url in ["media", "https://media", "s3://", "s3:///a", "s3://me dia", "s3://media//a", "s3://media/../a"] {
            let error = with(url).place().map_err(|e| e.message);
            assert!(error.as_ref().is_err_and(|e| e.contains("storage.url")), "{url}: {error:?}");
        }
    }

    #[test]
    fn half_of_the_settings_is_an_error_that_names_the_other_half() {
        let alone = StorageConfig { endpoint: Some("http://localhost:9000".into()), ..StorageConfig::default() };
        assert!(alone.place().is_err_and(|e| e.message.contains("storage.url")));
        let key = StorageConfig { access_key_id: Some(Secret::new("key")), ..with("s3://media") };
        assert!(key.credentials().is_err_and(|e| e.message.contains("storage.secret_access_key")));
        for endpoint in ["localhost:9000", "ftp://host", "http://", "http://me:secret@host", "http://host/path"] {
            let config = StorageConfig { endpoint: Some(endpoint.into()), ..with("s3://media") };
            let error = config.server().map_err(|e| e.message);
            assert!(error.as_ref().is_err_and(|e| e.contains("storage.endpoint") && !e.contains("secret@")));
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = StorageConfig { secret_access_key: Some(Secret::new("sesame")), ..with("s3://media") };
        assert!(!format!("{config:?}").contains("sesame"));
    }
}
