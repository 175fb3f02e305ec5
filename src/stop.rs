//! SIGTERM and SIGINT: the first asks crest to stop, the second ends it at once.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells when crest was asked to stop.
#[derive(Debug, Clone)]
pub struct StopSignal(watch::Receiver<Option<&'static str>>);

impl StopSignal {
    /// Listens from now on, on a thread of its own: whatever hangs, a second signal still ends the
    /// process, with the exit code that shells give one that a signal ended.
    pub fn listen() -> anyhow::Result<Self> {
        let (asked, receiver) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut terminate, mut interrupt) = {
            let _entered = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let listen = async move {
            loop {
                let (name, code) = tokio::select! {
                    Some(()) = terminate.recv() => ("SIGTERM", 143),
                    Some(()) = interrupt.recv() => ("SIGINT", 130),
                    else => return,
                };
                if asked.borrow().is_some() {
                    crate::telemetry::flush();
                    crate::telemetry::failed(&anyhow::anyhow!("{name} again: ending at once"));
                    std::process::exit(code);
                }
                asked.send_replace(Some(name));
            }
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(listen))
            .context("cannot start the thread that waits for signals")?;
        Ok(Self(receiver))
    }

    /// Waits until crest is asked to stop; says by what.
    pub async fn asked(&mut self) -> &'static str {
        match self.0.wait_for(Option::is_some).await {
            Ok(name) => name.unwrap_or_default(),
            // Nobody listens any more: nothing will be asked.
            Err(_) => std::future::pending().await,
        }
    }
}
