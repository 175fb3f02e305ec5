//! What is fetched over HTTP: bounded in time, size and redirects, and only from admitted addresses.

use bytes::{Bytes, BytesMut};
use crest_core::{Error, Result};
use reqwest::header::RANGE;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use std::error::Error as _;

use super::Trouble;
use super::address::Allowed;
use super::config::PullConfig;

/// How crest names itself.
const AGENT: &str = concat!("crest/", env!("CARGO_PKG_VERSION"));
const SCHEMES: [&str; 2] = ["http", "https"];

/// Bytes of a file, from the first to the one before the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// Fetches.
#[derive(Debug, Clone)]
pub(super) struct Http {
    client: Client,
    allowed: Allowed,
    max_segment: u64,
    max_playlist: u64,
}

impl Http {
    pub(super) fn new(config: &PullConfig, allowed: Allowed) -> Result<Self> {
        // Fails where the program has chosen one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (hops, redirects) = (allowed.clone(), config.max_redirects);
        let policy = Policy::custom(move |attempt| {
            if attempt.previous().len() > redirects {
                let many = format!("it redirects more than {redirects} times (pull.max_redirects)");
                return attempt.error(Box::from(many) as Box<dyn std::error::Error + Send + Sync>);
            }
            match hops.check(attempt.url(), &SCHEMES) {
                Ok(()) => attempt.follow(),
                Err(refused) => attempt.error(Box::from(refused) as Box<dyn std::error::Error + Send + Sync>),
            }
        });
        let client = Client::builder()
            .user_agent(AGENT)
            .redirect(policy)
            .referer(false)
            .no_proxy()
            .dns_resolver(allowed.clone())
            .connect_timeout(config.timeout.0)
            .read_timeout(config.timeout.0)
            .pool_max_idle_per_host(2)
            .build()
            .map_err(|e| Error::ours(format!("no client for pulled feeds: {e}")))?;
        let (max_segment, max_playlist) = (config.max_segment.as_u64(), config.max_playlist.as_u64());
        Ok(Self { client, allowed, max_segment, max_playlist })
    }

    /// A playlist, whole, and where it was found in the end.
    pub(super) async fn playlist(&self, url: &Url) -> Result<(Url, Bytes), Trouble> {
        let body = self.open(url, None).await?;
        let (at, most) = (body.response.url().clone(), bytesize::ByteSize(self.max_playlist));
        let too_large = || Trouble::Final(format!("the playlist is larger than {most} (pull.max_playlist)"));
        Ok((at, body.whole(self.max_playlist).await?.ok_or_else(too_large)?))
    }

    /// Something of at most so many bytes.
    pub(super) async fn small(&self, url: &Url, most: usize) -> Result<Bytes, Trouble> {
        let body = self.open(url, None).await?;
        let too_large = || Trouble::Passing(format!("what is at its address has more than {most} bytes"));
        body.whole(most as u64).await?.ok_or_else(too_large)
    }

    /// What may go on for ever, or be as large as it likes: whoever takes it bounds it. Its first bytes come with it.
    pub(super) async fn begin(&self, url: &Url) -> Result<(Body, Bytes), Trouble> {
        let mut body = Body { left: u64::MAX, ..self.open(url, None).await? };
        let first = body.next().await?.ok_or_else(|| Trouble::Passing("the server sends nothing".to_owned()))?;
        Ok((body, first))
    }

    /// A segment, or a part of a file.
    pub(super) async fn open(&self, url: &Url, range: Option<Range>) -> Result<Body, Trouble> {
        self.allowed.check(url, &SCHEMES).map_err(Trouble::Final)?;
        let mut request = self.client.get(url.clone());
        if let Some(Range { start, length }) = range {
            let last = start.saturating_add(length).saturating_sub(1);
            request = request.header(RANGE, format!("bytes={start}-{last}"));
        }
        let response = request.send().await.map_err(|error| told(&error))?;
        let status = response.status();
        match (status, range) {
            (StatusCode::OK, None) | (StatusCode::PARTIAL_CONTENT, _) => {}
            (StatusCode::OK, Some(Range { start: 0, .. })) => {}
            (StatusCode::OK, Some(_)) => {
                return Err(Trouble::Final("the server does not send parts of files, which this needs".to_owned()));
            }
            _ => return Err(Trouble::Passing(format!("the server answers {status}"))),
        }
        let left = range.map_or(self.max_segment, |range| range.length.min(self.max_segment));
        let whole = range.is_none();
        Ok(Body { response, left, whole })
    }
}

/// What arrives.
#[derive(Debug)]
pub(super) struct Body {
    response: Response,
    left: u64,
    /// Whether all of a file is wanted, so that more than `left` is too much.
    whole: bool,
}

impl Body {
    /// How long it says that it is; a broadcast without end does not.
    pub(super) fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// All of it; `None` where it is more than `most` bytes.
    async fn whole(mut self, most: u64) -> Result<Option<Bytes>, Trouble> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.next().await? {
            whole.extend_from_slice(&chunk);
            if whole.len() as u64 > most {
                return Ok(None);
            }
        }
        Ok(Some(whole.freeze()))
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        let Some(mut chunk) = self.response.chunk().await.map_err(|error| told(&error))? else { return Ok(None) };
        let size = chunk.len() as u64;
        if size > self.left {
            if self.whole {
                return Err(Trouble::Passing("a segment is larger than accepted (pull.max_segment)".to_owned()));
            }
            chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        }
        self.left -= chunk.len() as u64;
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}

/// An error with its causes, without the address: it may carry a token.
fn told(error: &reqwest::Error) -> Trouble {
    let mut innermost = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        innermost = cause.to_string();
        source = cause.source();
    }
    let what = match error {
        error if error.is_redirect() => return Trouble::Final(innermost),
        error if error.is_timeout() => "the server is silent (pull.timeout)",
        error if error.is_connect() => "the server cannot be reached",
        _ => "the connection broke",
    };
    match innermost.is_empty() {
        true => Trouble::Passing(what.to_owned()),
        // What the resolver refused will be refused again.
        false if innermost.contains("pull.allow") => Trouble::Final(innermost),
        false => Trouble::Passing(format!("{what}: {innermost}")),
    }
}
