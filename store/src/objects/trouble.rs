//! What an S3 server, or the way to it, says went wrong, as an error that names the setting. Its answers
//! are not passed on: they may repeat what was signed, and the access key.

use std::error::Error as _;

use crest_core::{Error, Result};
use object_store::Error as StoreError;
use object_store::client::{HttpError, HttpErrorKind};

/// What messages name.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The server as people know it.
    pub(super) server: String,
    /// The bucket.
    pub(super) bucket: String,
}

impl Names {
    /// Turns what was said while `doing` into an error. What is not there is `NotFound`.
    pub(super) fn explain(&self, doing: &str, error: &StoreError) -> Error {
        let (server, bucket) = (&self.server, &self.bucket);
        let said = texts(error);
        let code = code(&said);
        let user = |why: String| Error::user(format!("cannot {doing}: {why}"));
        match code {
            Some("NoSuchBucket") => {
                return user(format!("{server} has no bucket '{bucket}'; create it, or correct storage.url"));
            }
            Some("InvalidRange") => return Error::not_found(format!("cannot {doing}: it has fewer bytes")),
            Some("InvalidBucketName") => return user(format!("'{bucket}' in storage.url cannot be a bucket's name")),
            Some("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
                return user(format!(
                    "the bucket '{bucket}' lies in another region; set storage.region, or storage.endpoint, to the \
                     bucket's"
                ));
            }
            Some(code @ ("RequestTimeTooSkewed" | "RequestExpired")) => {
                return user(format!("{server} finds the time of this machine wrong ({code}); set the clock"));
            }
            _ => {}
        }
        match (error, status(&said)) {
            // Only S3 itself knows what it has: a 404 of whatever stands before it says nothing of the object.
            (StoreError::NotFound { .. }, _) if matches!(code, Some("NoSuchKey")) => {
                return Error::not_found(format!("cannot {doing}: it is not stored"));
            }
            (StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. }, _)
            | (_, Some("401" | "403")) => {
                let code = code.map_or_else(String::new, |code| format!(" ({code})"));
                return user(format!(
                    "{server} refuses it{code}; check storage.access_key_id and storage.secret_access_key, and that \
                     they may read, write, delete and list in the bucket '{bucket}'"
                ));
            }
            _ => {}
        }
        // No credentials were configured, and the machine has none to give.
        if said.contains("169.254.169.254") || said.contains("169.254.170.2") {
            return Error::outside(format!(
                "cannot {doing}: there are no credentials; set storage.access_key_id and storage.secret_access_key"
            ));
        }
        if said.contains("Received redirect") {
            return user(format!(
                "{server} sends requests elsewhere; storage.endpoint must be the S3 server itself, and storage.region \
                 the bucket's"
            ));
        }
        let why = match (transport(error), status(&said)) {
            (Some(HttpErrorKind::Timeout), _) => "it does not answer in time (storage.timeout)".to_owned(),
            (Some(HttpErrorKind::Connect), _) => "it cannot be reached".to_owned(),
            (Some(_), _) => "the connection broke off".to_owned(),
            (None, Some(status)) => match code {
                Some(code) => format!("it answers {status} ({code})"),
                None => format!("it answers {status}"),
            },
            (None, None) => "its answer cannot be understood".to_owned(),
        };
        let error =
            Error::outside(format!("cannot {doing}: {why}; check storage.endpoint ({server}) and the way there"));
        // The server understood, and will say the same again.
        let refused = status(&said).is_some_and(|s| s.starts_with('4') && !matches!(s, "404" | "408" | "425" | "429"));
        Error { retryable: !refused, ..error }
    }
}

/// `None` where it is not there.
pub(super) fn there<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.fault == crest_core::Fault::NotFound => Ok(None),
        done => done.map(Some),
    }
}

/// Everything that the error says, and what lies behind it.
fn texts(error: &StoreError) -> String {
    let mut all = error.to_string();
    let mut source = error.source();
    while let Some(behind) = source {
        all.push_str("; ");
        all.push_str(&behind.to_string());
        source = behind.source();
    }
    all
}

/// The code in S3's answer.
fn code(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    (!code.is_empty() && code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(code)
}

/// The status that was answered.
fn status(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("status code: ")?;
    rest.get(..3).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
}

/// How the exchange failed, where no answer came.
fn transport(error: &StoreError) -> Option<HttpErrorKind> {
    let mut source = error.source();
    while let Some(behind) = source {
        if let Some(http) = behind.downcast_ref::<HttpError>() {
            return Some(http.kind());
        }
        source = behind.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crest_core::Fault;

    fn said(text: &str) -> StoreError {
        StoreError::Generic { store: "S3", source: text.to_owned().into() }
    }

    fn names() -> Names {
        Names { server: "http://s3.example:9000".to_owned(), bucket: "media".to_owned() }
    }

    #[test]
    fn what_waiting_cannot_mend_is_the_users_and_names_the_setting() {
        for (code, setting) in [
            ("NoSuchBucket", "storage.url"),
            ("InvalidBucketName", "storage.url"),
            ("PermanentRedirect", "storage.region"),
            ("RequestTimeTooSkewed", "clock"),
        ] {
            let error = said(&format!("status code: 403 Forbidden: <Error><Code>{code}</Code></Error>"));
            let error = names().explain("store media/a", &error);
            assert_eq!((error.fault, error.retryable), (Fault::User, false), "{error}");
            assert!(error.message.contains(setting), "{error}");
        }
        let source = "<Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIASECRET</AWSAccessKeyId>".into();
        let error = names().explain("store media/a", &StoreError::PermissionDenied { path: "media/a".into(), source });
        assert_eq!((error.fault, error.retryable), (Fault::User, false));
        assert!(error.message.contains("storage.access_key_id") && error.message.contains("SignatureDoesNotMatch"));
        assert!(!error.message.contains("AKIASECRET"), "{error}");
    }

    #[test]
    fn what_passes_is_outside_and_names_the_endpoint() {
        for text in ["status code: 503 Service Unavailable: <Code>SlowDown</Code>", "status code: 429 ", "nonsense"] {
            let error = names().explain("read media/a", &said(text));
            assert_eq!((error.fault, error.retryable), (Fault::Outside, true), "{error}");
            assert!(error.message.contains("storage.endpoint"), "{error}");
        }
        let error = names().explain("read media/a", &said("status code: 400 Bad Request: <Code>EntityTooLarge</Code>"));
        assert!(!error.retryable && error.message.contains("EntityTooLarge"), "{error}");
    }
}
