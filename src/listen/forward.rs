//! Events as webhooks to a local URL, signed as crest signs what it sends itself.

use crest_core::{EndpointId, EventId, WebhookId};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use std::time::Duration;

use super::server::{client, told};
use super::{Pauses, say};

/// How long a receiver may take, as for webhooks.
const ANSWER: Duration = Duration::from_secs(15);
/// The pauses between attempts.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(15)];
/// The name under which ids of forwarded events are derived: there is no endpoint in the store.
const ENDPOINT: &str = "listen";

/// A receiver on this machine, or near it.
pub(super) struct Forward {
    client: Client,
    url: Url,
    webhook: Webhook,
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

impl Forward {
    /// To `url`, signed with a secret `whsec_...`.
    pub(super) fn new(url: Url, secret: &str) -> anyhow::Result<Self> {
        Ok(Self { client: client(true)?, url, webhook: Webhook::new(secret)? })
    }

    /// Sends an event until it is taken; answers the status. `id` is what identifies it, the same on
    /// each attempt and in each run.
    pub(super) async fn insist(&self, id: &str, body: &str) -> u16 {
        let id = WebhookId::derive(&EventId::from_raw(id), &EndpointId::from_raw(ENDPOINT));
        let mut pauses = Pauses::new(PAUSES[0], PAUSES[1]);
        loop {
            let why = match self.send(&id, body).await {
                Ok(status) if (200..300).contains(&status) => return status,
                Ok(status) => format!("it answered {status}"),
                Err(why) => why,
            };
            let pause = pauses.grow();
            say(&format!("{id} could not be forwarded to {}: {why}; trying again in {pause:?}", self.url));
            tokio::time::sleep(pause).await;
        }
    }

    /// One attempt, signed for now.
    async fn send(&self, id: &WebhookId, body: &str) -> Result<u16, String> {
        let timestamp = jiff::Timestamp::now().as_second();
        let signature = self.webhook.sign(id.as_str(), timestamp, body.as_bytes()).map_err(|e| e.to_string())?;
        let request = self
            .client
            .post(self.url.clone())
            .timeout(ANSWER)
            .header(CONTENT_TYPE, "application/json")
            .header(HEADER_WEBHOOK_ID, id.as_str())
            .header(HEADER_WEBHOOK_TIMESTAMP, timestamp.to_string())
            .header(HEADER_WEBHOOK_SIGNATURE, signature)
            .body(body.to_owned());
        // The status decides; the body of an answer is not read.
        let response = request.send().await.map_err(told)?;
        Ok(response.status().as_u16())
    }
}
