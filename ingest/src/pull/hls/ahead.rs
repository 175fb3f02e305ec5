//! What is opened: what the server was asked for before it was there, and everything else with a few tries.

use futures::future::{BoxFuture, MaybeDone, maybe_done};
use std::pin::Pin;

use super::super::Trouble;
use super::super::http::Body;
use super::super::source::Sources;
use super::playlist::Resource;
use super::track::TRIES;
use super::upcoming::RELOAD;

type Opening<'a> = BoxFuture<'a, Result<Body, Trouble>>;

/// What the server said that it will have next, asked for: it answers when it can.
#[derive(Default)]
pub(super) struct Ahead<'a>(Option<Request<'a>>);

struct Request<'a> {
    of: Resource,
    body: Pin<Box<MaybeDone<Opening<'a>>>>,
}

impl<'a> Ahead<'a> {
    /// Asks for this, in place of what was asked for before.
    pub(super) fn ask(&mut self, sources: &'a Sources, of: &Resource) {
        if self.0.as_ref().is_none_or(|request| request.of != *of) {
            let at = of.clone();
            let body: Opening<'a> = Box::pin(async move { sources.http.open(&at.url, at.range).await });
            self.0 = Some(Request { of: of.clone(), body: Box::pin(maybe_done(body)) });
        }
    }

    /// Waits for the answer; without end where nothing was asked for.
    pub(super) async fn answered(&mut self) {
        match &mut self.0 {
            Some(request) => request.body.as_mut().await,
            None => std::future::pending().await,
        }
    }

    /// Opens this, which may have been asked for.
    pub(super) async fn open(&mut self, sources: &Sources, at: &Resource) -> Result<Body, Trouble> {
        if let Some(mut request) = self.0.take_if(|request| request.of == *at) {
            request.body.as_mut().await;
            if let Some(Ok(body)) = request.body.as_mut().take_output() {
                return Ok(body);
            }
        }
        let mut tries = 1;
        loop {
            match sources.http.open(&at.url, at.range).await {
                Err(Trouble::Passing(_)) if tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(RELOAD).await;
                }
                done => return done,
            }
        }
    }
}
