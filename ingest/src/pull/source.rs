//! Which way a source's address is pulled.

use crest_core::stream::Stream;
use crest_core::{Error, Result};
use reqwest::Url;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

use super::address::Allowed;
use super::config::PullConfig;
use super::http::Http;
use super::outlet::Outlet;
use super::page::{Found, Page};
use super::resolve::{Program, Resolver};
use super::turns::Turns;
use super::{Trouble, file, hls, rtsp};

/// Where a source stood when it broke off.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The pieces of its playlists that come next.
    pub(super) pieces: hls::Reached,
    /// A broadcast that is over already is not the one that is waited for.
    pub(super) only_live: bool,
    /// How long it waited for its turn to fetch a file.
    pub(super) waited: Duration,
    begun: bool,
}

impl Place {
    /// Whether the source has given anything, at this try or an earlier one.
    pub(super) fn has_begun(&mut self, outlet: &Outlet) -> bool {
        self.begun |= outlet.has_given();
        self.begun
    }
}

/// Everything that sources are pulled with.
pub(super) struct Sources {
    pub(super) config: PullConfig,
    pub(super) allowed: Allowed,
    pub(super) http: Http,
    /// Where files lie while they are read.
    pub(super) scratch: PathBuf,
    resolvers: Vec<Arc<dyn Resolver>>,
    /// Programs that run at a time.
    pub(super) resolving: Semaphore,
    /// Files that are fetched at a time.
    pub(super) fetching: Turns,
}

impl Sources {
    pub(super) fn new(config: &PullConfig, scratch: PathBuf) -> Result<Self> {
        // What an earlier process was fetching; the data directory is this process's alone.
        let _ = std::fs::remove_dir_all(&scratch);
        let allowed = Allowed::new(config).map_err(Error::user)?;
        let program = |resolver| Arc::new(Program::new(resolver, config.resolve_timeout.0)) as Arc<dyn Resolver>;
        let resolvers = config.resolvers.iter().cloned().map(program).collect();
        let (resolving, fetching) = (Semaphore::new(config.resolving.max(1)), Turns::new(config.fetching));
        Ok(Self {
            http: Http::new(config, allowed.clone())?,
            config: config.clone(),
            allowed,
            scratch,
            resolvers,
            resolving,
            fetching,
        })
    }

    /// Pulls until the source is over, and says why it is, or breaks off.
    pub(super) async fn run(
        &self,
        stream: &Stream,
        outlet: &mut Outlet<'_>,
        place: &mut Place,
    ) -> Result<String, Trouble> {
        let address = stream.source_url.as_deref().unwrap_or_default();
        let url = Url::parse(address).map_err(|error| Trouble::Final(format!("source.url is no address: {error}")))?;
        if matches!(url.scheme(), "rtsp" | "rtsps") {
            return rtsp::run(self, &url, outlet).await;
        }
        if url.scheme() == "file" {
            return file::run_local(self, &url, outlet).await;
        }
        let Some(resolver) = self.resolvers.iter().find(|resolver| resolver.knows(&url)) else {
            return self.fetch(&url, outlet, place, None).await;
        };
        let found = Page { sources: self, resolver: resolver.as_ref(), url: &url }.find().await?;
        let at = found.url.clone();
        self.fetch(&at, outlet, place, Some(found)).await
    }

    /// What is at an HTTP address says itself what it is.
    async fn fetch(
        &self,
        url: &Url,
        outlet: &mut Outlet<'_>,
        place: &mut Place,
        found: Option<Found<'_>>,
    ) -> Result<String, Trouble> {
        let (body, first) = self.http.begin(url).await?;
        if hls::is_playlist(&first) {
            drop(body);
            let only_live = place.only_live && !place.begun;
            return hls::run(self, url, outlet, &mut place.pieces, found, only_live).await;
        }
        file::run(self, url, (body, first), outlet, &mut place.waited).await
    }
}
