//! The event stream of a server: opened, read, and what can be wrong with it.

use anyhow::anyhow;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;
use std::time::Duration;

use super::sse::{Message, Parser};
use crate::usage::Usage;

/// How crest names itself.
pub(super) const AGENT: &str = concat!("crest/", env!("CARGO_PKG_VERSION"));
/// How long a server may take until its answer begins.
const ANSWER: Duration = Duration::from_secs(45);
/// A stream that says nothing for so long is dead: the server breaks silence every 15 s.
const SILENCE: Duration = Duration::from_secs(60);
/// The largest event.
const MAX_EVENT: usize = 4 << 20;
/// Most that is read of an answer that says no.
const MAX_REFUSAL: usize = 64 << 10;

/// Why there is no stream.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Trying again cannot help.
    Final(anyhow::Error),
    /// The server does not know where to go on from.
    UnknownCursor(String),
    /// Trying again may help.
    Passing(String),
}

/// Whom to ask, and for what.
#[derive(Debug)]
pub(super) struct Server {
    client: Client,
    url: Url,
    key: HeaderValue,
    types: Vec<String>,
}

impl Server {
    /// The crest at `url`; fails where `key` cannot be one.
    pub(super) fn new(mut url: Url, key: &str, types: Vec<String>) -> anyhow::Result<Self> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {key}"))
            .map_err(|_| Usage("the API key has characters that no key has".to_owned()))?;
        bearer.set_sensitive(true);
        let path = format!("{}/v1/events", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url.set_query(None);
        url.set_fragment(None);
        let local = url.host_str().is_some_and(|host| {
            let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
        });
        Ok(Self { client: client(local)?, url, key: bearer, types })
    }

    /// `host:port`.
    pub(super) fn name(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or_default();
        format!("{}:{port}", self.url.host_str().unwrap_or_default())
    }

    /// Opens the stream after `cursor`, or now.
    pub(super) async fn open(&self, cursor: Option<&str>) -> Result<Stream, Trouble> {
        let mut url = self.url.clone();
        if !self.types.is_empty() {
            url.query_pairs_mut().append_pair("types", &self.types.join(","));
        }
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("after", cursor);
        }
        let request = self
            .client
            .get(url)
            .header(reqwest::header::AUTHORIZATION, self.key.clone())
            .header(ACCEPT, "text/event-stream");
        let response = match tokio::time::timeout(ANSWER, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                return Err(Trouble::Passing(format!("{} cannot be reached: {}", self.name(), told(error))));
            }
            Err(_) => return Err(Trouble::Passing(format!("{} did not answer within {ANSWER:?}", self.name()))),
        };
        let is = |kind: &str| {
            response.headers().get(CONTENT_TYPE).is_some_and(|is| is.as_bytes().starts_with(kind.as_bytes()))
        };
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        if !is("text/event-stream") {
            return Err(Trouble::Passing(format!("{} answers, but not as crest does; check --url", self.name())));
        }
        let organization = response.headers().get("crest-organization").and_then(|id| id.to_str().ok());
        Ok(Stream {
            organization: organization.unwrap_or("unknown").to_owned(),
            response,
            parser: Parser::new(MAX_EVENT),
        })
    }

    async fn refused(&self, mut response: Response) -> Trouble {
        let status = response.status();
        let mut body = Vec::new();
        while let Ok(Ok(Some(chunk))) = tokio::time::timeout(ANSWER, response.chunk()).await {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_REFUSAL {
                break;
            }
        }
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or("it gives no reason");
        let name = self.name();
        match (status, problem["code"].as_str()) {
            (StatusCode::UNAUTHORIZED, _) => {
                Trouble::Final(anyhow!("{name} does not accept the API key ({detail}); check CREST_API_KEY or --key"))
            }
            (StatusCode::FORBIDDEN, _) => Trouble::Final(anyhow!("{name} refuses: {detail}")),
            (StatusCode::NOT_FOUND, _) => Trouble::Final(anyhow!(
                "{name} has no event stream; check --url, and that the server is a crest that has one"
            )),
            (StatusCode::BAD_REQUEST, Some("invalid_cursor")) => Trouble::UnknownCursor(detail.to_owned()),
            (StatusCode::UNPROCESSABLE_ENTITY, Some("unknown_event_type")) => {
                Trouble::Final(Usage(format!("--types: {detail}")).into())
            }
            _ => Trouble::Passing(format!("{name} answers {status}: {detail}")),
        }
    }
}

/// An open stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// Whose events these are.
    pub(super) organization: String,
    response: Response,
    parser: Parser,
}

impl Stream {
    /// The next messages, or none where only a sign of life came. The error says why the stream is
    /// over.
    pub(super) async fn next(&mut self) -> Result<Vec<Message>, String> {
        match tokio::time::timeout(SILENCE, self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => self.parser.push(&bytes).map_err(|e| e.to_string()),
            Ok(Ok(None)) => Err("the server ended the stream".to_owned()),
            Ok(Err(error)) => Err(format!("the connection broke: {}", told(error))),
            Err(_) => Err(format!("the server said nothing for {SILENCE:?}")),
        }
    }
}

/// A client that follows no redirect. Programs on this machine are asked without a proxy.
pub(super) fn client(local: bool) -> anyhow::Result<Client> {
    let builder = || {
        let builder = Client::builder()
            .user_agent(AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10));
        if local { builder.no_proxy() } else { builder }
    };
    // Without certificates of authorities on this system, plain HTTP still works.
    let built = builder().build().or_else(|_| builder().tls_certs_only([]).build());
    Ok(built?)
}

/// What an error comes from. The layers above say only that a request failed.
pub(super) fn told(error: reqwest::Error) -> String {
    anyhow::Error::from(error.without_url()).root_cause().to_string()
}
