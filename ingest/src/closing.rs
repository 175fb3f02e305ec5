//! A publisher that is away, and a stream that ends.

use crest_core::event::EventType;
use crest_core::stream::StreamState;
use crest_core::{Fault, Result};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::lifecycle::{AGAIN, Ending, Latest, Life};

impl Life {
    /// The publisher is away. The session stays open: it may go on.
    pub(crate) async fn interrupt(&mut self, reason: &str) {
        let Some((session, _)) = self.latest.session() else { return };
        if self.deadline.is_some() {
            // It was away before, and left again without sending anything.
            return;
        }
        self.deadline = Some(Instant::now() + self.shared.patience(&self.stream));
        loop {
            let (to, event) = (StreamState::Interrupted, EventType::StreamInterrupted);
            let stepped = self.shared.steps().step(&self.stream, Some(session), to, event, Some(reason)).await;
            let Err(error) = stepped else { return };
            let stream_id = &self.stream.id;
            if error.fault == Fault::Conflict && !self.shared.alone {
                tracing::info!(%stream_id, %session, %error, "the stream is let go");
                return self.let_go();
            }
            tracing::error!(%stream_id, session = session.number(), %error, "the interruption could not be noted");
            let over = self.deadline.is_none_or(|deadline| Instant::now() >= deadline);
            // After a shutdown the next start finds the stream live, and notes it then.
            if !error.retryable || over || self.shared.shutdown.is_cancelled() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    pub(crate) async fn finish(&mut self, ending: Ending, reply: oneshot::Sender<Result<()>>) {
        self.registry.end(&self.stream.id);
        // Whoever asked may have gone away meanwhile.
        let _ = reply.send(self.end(&ending).await);
    }

    /// `false` where it may succeed later.
    pub(crate) async fn end_or_log(&mut self, reason: String) -> bool {
        let Err(error) = self.end(&Ending::Over(reason)).await else { return true };
        if error.fault == Fault::Conflict && !self.shared.alone {
            tracing::info!(stream_id = %self.stream.id, %error, "the stream is let go");
            return true;
        }
        tracing::error!(stream_id = %self.stream.id, %error, retryable = error.retryable, "the stream could not be ended");
        !error.retryable
    }

    async fn end(&mut self, ending: &Ending) -> Result<()> {
        if matches!(self.latest, Latest::Elsewhere) {
            return Ok(());
        }
        let (steps, latest) = (self.shared.steps(), self.latest.session());
        if let Some((session, end)) = latest {
            steps.end_session(&self.stream, session, end).await?;
        }
        let session = latest.map(|(session, _)| session);
        let (state, event, reason) = ending.step();
        steps.step(&self.stream, session, state, event, Some(reason)).await
    }
}
