//! What the API and other processes ask of running feeds.

use async_trait::async_trait;
use crest_core::control::Control;
use crest_core::feeds::{Addresses, FeedControl};
use crest_core::instance::InstanceId;
use crest_core::space::Room;
use crest_core::stream::Stream;
use crest_core::{Result, StreamId};
use std::sync::Arc;

use crate::admission::Admission;
use crate::lifecycle::Ending;
use crate::pull::Pulls;

/// Steers the feeds of this process.
pub(crate) struct Steering {
    pub(crate) admission: Arc<Admission>,
    pub(crate) pulls: Arc<Pulls>,
    pub(crate) addresses: Addresses,
}

impl Steering {
    /// Does what another process asks for.
    pub(crate) async fn hear(&self, control: &Control) {
        match control {
            Control::Stop { stream_id } => self.pulls.stop(stream_id),
            Control::Pull { organization_id, stream_id } => {
                match self.admission.store().stream(organization_id, stream_id).await {
                    Ok(Some(stream)) if self.admission.is_ours(&stream) => self.pulls.start(stream),
                    Ok(_) => {}
                    // The watch finds it.
                    Err(error) => tracing::warn!(%stream_id, %error, "a stream to pull could not be looked up"),
                }
                return;
            }
            Control::Rekeyed { organization_id, stream_id } => {
                match self.admission.store().stream(organization_id, stream_id).await {
                    Ok(Some(stream)) => self.admission.hear_rekeyed(&stream),
                    Ok(None) => {}
                    // The watch finds it.
                    Err(error) => tracing::warn!(%stream_id, %error, "a stream's new key could not be looked up"),
                }
                return;
            }
            Control::Session { .. } => {}
        }
        self.admission.hear(control);
    }
}

#[async_trait]
impl FeedControl for Steering {
    async fn stop(&self, stream: &Stream) -> Result<()> {
        // First the stream, so that it is stopped and not broken off.
        let ended = self.admission.end(stream, Ending::Stopped).await;
        self.pulls.stop(&stream.id);
        ended
    }

    async fn rekeyed(&self, stream: &Stream) -> Result<()> {
        self.admission.rekeyed(stream).await;
        Ok(())
    }

    fn room(&self) -> Room {
        self.admission.room()
    }

    async fn addresses(&self) -> Result<Option<Addresses>> {
        Ok(Some(self.addresses.clone()))
    }

    async fn puller(&self, _: &StreamId) -> Result<Option<InstanceId>> {
        Ok(Some(self.admission.instance().clone()))
    }

    async fn pull(&self, stream: &Stream) -> Result<()> {
        self.pulls.start(stream.clone());
        Ok(())
    }
}
