//! One attempt: a signed request, and as much of the answer as is of interest.

use std::error::Error as _;
use std::time::Duration;

use crest_core::webhook::LeasedDelivery;
use crest_core::{Error, Result, WallTime};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, Response, Url};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use tokio::time::{Instant, timeout_at};

use super::address::{PublicResolver, check_url};
use crate::config::WebhooksConfig;

/// W3C Trace Context.
const TRACEPARENT: &str = "traceparent";
/// How crest names itself.
const AGENT: &str = concat!("crest/", env!("CARGO_PKG_VERSION"));

/// What an endpoint answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A status came in time.
    Status {
        /// The status.
        status: u16,
        /// The `Retry-After` header as it stands.
        retry_after: Option<String>,
    },
    /// No status came.
    None {
        /// Why, in words for the endpoint's owner.
        reason: String,
    },
}

/// Sends deliveries.
#[derive(Debug)]
pub(crate) struct Sender {
    client: Client,
    allow_private: bool,
    timeout: Duration,
    response_bytes: usize,
}

impl Sender {
    /// Sets up TLS with the system's certificates.
    pub(crate) fn new(config: &WebhooksConfig) -> Result<Self> {
        // Another part of the process may have chosen a provider already; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = builder(config).build().or_else(|error| {
            tracing::warn!(
                error = %chain(&error),
                "no certificates of authorities on this system: webhooks to https endpoints will fail; \
                 install ca-certificates"
            );
            builder(config).tls_certs_only([]).build()
        });
        Ok(Self {
            client: client.map_err(|error| Error::outside(format!("webhooks cannot be sent: {}", chain(&error))))?,
            allow_private: config.allow_private,
            timeout: config.timeout.0,
            response_bytes: config.response_bytes,
        })
    }

    /// Sends a delivery, signed for `now`. The whole exchange, answer included, takes no longer than
    /// the limit.
    pub(crate) async fn send(&self, leased: &LeasedDelivery, now: WallTime) -> Answer {
        let deadline = Instant::now() + self.timeout;
        let response = match timeout_at(deadline, self.ask(leased, now)).await {
            Ok(Ok(response)) => response,
            Ok(Err(reason)) => return Answer::None { reason },
            Err(_) => return Answer::None { reason: format!("no answer within {:?}", self.timeout) },
        };
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let answer = Answer::Status { status: response.status().as_u16(), retry_after: retry_after.map(str::to_owned) };
        // The status has decided; a body that dawdles is left.
        let _ = timeout_at(deadline, self.read(response)).await;
        answer
    }

    async fn ask(&self, leased: &LeasedDelivery, now: WallTime) -> Result<Response, String> {
        let LeasedDelivery { delivery, endpoint, trace, .. } = leased;
        let url = Url::parse(&endpoint.url).map_err(|error| format!("the address is not a URL: {error}"))?;
        check_url(&url, self.allow_private)?;
        let timestamp = now.0.div_euclid(1000);
        let signature = Webhook::new(&endpoint.secret)
            .and_then(|webhook| webhook.sign(delivery.id.as_str(), timestamp, delivery.body.as_bytes()))
            .map_err(|error| format!("the event cannot be signed: {error}; rotate the endpoint's secret"))?;
        let mut request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(HEADER_WEBHOOK_ID, delivery.id.as_str())
            .header(HEADER_WEBHOOK_TIMESTAMP, timestamp.to_string())
            .header(HEADER_WEBHOOK_SIGNATURE, signature)
            .body(delivery.body.clone());
        if let Some(trace) = trace {
            request = request.header(TRACEPARENT, trace.step().to_string());
        }
        request.send().await.map_err(|error| chain(&error.without_url()))
    }

    /// Reads the body as far as it may go: what is read to its end leaves a connection that can be
    /// used again, anything longer costs the connection.
    async fn read(&self, mut response: Response) {
        let mut left = self.response_bytes;
        while let Ok(Some(chunk)) = response.chunk().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }
}

fn builder(config: &WebhooksConfig) -> ClientBuilder {
    Client::builder()
        .user_agent(AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .dns_resolver(PublicResolver { allow_private: config.allow_private })
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(Duration::from_secs(30))
}

/// An error and what caused it: the outermost alone says only that sending failed.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        source = error.source();
    }
    text
}
