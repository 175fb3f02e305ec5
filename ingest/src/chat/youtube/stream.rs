//! One connection of the method that streams: an array whose elements are pages, each there when it is written.

use bytes::Bytes;
use reqwest::Response;

use super::api::{Page, Refusal, chain};
use super::elements::Elements;

/// A connection on which pages arrive.
pub(super) struct Stream {
    response: Response,
    arrived: Bytes,
    elements: Elements,
}

impl Stream {
    /// No page may be larger than `most` bytes.
    pub(super) fn new(response: Response, most: usize) -> Self {
        Self { response, arrived: Bytes::new(), elements: Elements::new(most) }
    }

    /// The next page; `None` once the connection has ended, in whatever way: what of a page was there by then comes
    /// again after the last one's token.
    pub(super) async fn next(&mut self) -> Result<Option<Page>, Refusal> {
        let broken = |why: &str| Refusal::NoStream(format!("YouTube's answer is not a stream: {why}"));
        loop {
            if let Some(element) = self.elements.next(&mut self.arrived).map_err(broken)? {
                let page: Page = serde_json::from_slice(&element).map_err(|error| broken(&error.to_string()))?;
                return match &page.error {
                    Some(failed) => Err(failed.refusal()),
                    None => Ok(Some(page)),
                };
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.arrived = chunk,
                Ok(None) => return Ok(None),
                Err(error) => {
                    tracing::debug!(error = chain(error), "YouTube's stream was cut");
                    return Ok(None);
                }
            }
        }
    }
}
