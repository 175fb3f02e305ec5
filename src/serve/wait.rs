//! What a start waits for: databases, brokers and object storages come up in their own time. What waiting
//! cannot help is told at once.

use crest_core::{Result, WallTime};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Pauses between attempts; the last one from then on.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// What is waited for now. Cheap to clone; all clones see the same.
#[derive(Debug, Clone)]
pub struct Waiting {
    what: Arc<Mutex<Option<&'static str>>>,
    pauses: [Duration; 3],
}

impl Default for Waiting {
    fn default() -> Self {
        Self { what: Arc::default(), pauses: PAUSES }
    }
}

impl Waiting {
    /// What `/readyz` says meanwhile. Without the reason: whoever asks has shown no key.
    pub fn told(&self) -> String {
        match *self.what.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(what) => format!("The server is starting; it waits for {what}."),
            None => "The server is starting.".to_owned(),
        }
    }

    /// Asks until there is an answer, and says in the log what is waited for. `what` names the setting. An
    /// error that does not pass is returned.
    pub async fn reach<T, F>(&self, what: &'static str, mut attempt: impl FnMut() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.set(Some(what));
        let mut pauses = self.pauses.into_iter();
        let mut pause = Duration::ZERO;
        let reached = loop {
            match attempt().await {
                Err(error) if error.retryable => {
                    tracing::warn!(%error, "waiting for {what}");
                    pause = pauses.next().unwrap_or(pause);
                    tokio::time::sleep(pause).await;
                }
                Err(error) => break Err(error.into()),
                Ok(reached) => break Ok(reached),
            }
        };
        self.set(None);
        reached
    }

    fn set(&self, what: Option<&'static str>) {
        *self.what.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

/// Wall-clock time, for what is noted; it decides nothing.
pub fn now() -> WallTime {
    WallTime(jiff::Timestamp::now().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crest_core::Error;
    use std::cell::Cell;

    #[tokio::test]
    async fn what_passes_is_waited_for_and_what_does_not_is_told() -> anyhow::Result<()> {
        let (waiting, asked) = (Waiting { pauses: [Duration::ZERO; 3], ..Waiting::default() }, Cell::new(0));
        let says = waiting.clone();
        let reached = waiting.reach("the database (database.url)", || {
            asked.set(asked.get() + 1);
            let told = says.told();
            let attempts = asked.get();
            async move {
                assert_eq!(told, "The server is starting; it waits for the database (database.url).");
                if attempts < 6 { Err(Error::outside("connection refused")) } else { Ok(attempts) }
            }
        });
        assert_eq!(reached.await?, 6);
        assert_eq!(waiting.told(), "The server is starting.");
        let wrong =
            waiting.reach("the bus (bus.brokers)", || async { Err::<(), _>(Error::user("bus.kafka.password")) });
        assert_eq!(wrong.await.map_err(|error| error.to_string()), Err("bus.kafka.password".to_owned()));
        Ok(())
    }
}
