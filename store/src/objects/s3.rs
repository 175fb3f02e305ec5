//! Finished files in an S3 bucket.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use crest_core::objects::{Method, Objects};
use crest_core::{Error, Fault, Result};
use futures::stream::{self, BoxStream, FuturesUnordered};
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::path::Path as Location;
use object_store::signer::Signer;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
};

use super::config::{Place, StorageConfig};
use super::trouble::{Names, there};
use super::{check_key, check_prefix};

/// Parts of one file that are under way at a time.
const PARTS: usize = 2;
/// S3 takes no more parts of one object.
const MOST_PARTS: u64 = 10_000;
/// How long a connection may take to be made, where the whole request may take longer.
const CONNECT: Duration = Duration::from_secs(5);
/// Pauses between attempts: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Variables of which one tells where credentials come from when the configuration does not.
const CREDENTIALS: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// The bucket.
#[derive(Debug)]
pub(super) struct S3 {
    store: AmazonS3,
    /// In front of every key; empty or with a slash at its end.
    folder: String,
    names: Names,
    part_bytes: u64,
}

impl S3 {
    pub(super) fn new(config: &StorageConfig, place: Place) -> Result<Self> {
        let endpoint = config.server()?;
        let mut builder = match config.credentials()? {
            // A session token of the environment does not belong to these.
            Some((key, secret)) => {
                AmazonS3Builder::new().with_access_key_id(key.reveal()).with_secret_access_key(secret.reveal())
            }
            None => {
                let set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
                if endpoint.is_some() && !CREDENTIALS.iter().any(set) {
                    return Err(Error::user(
                        "storage.endpoint needs credentials: set storage.access_key_id and storage.secret_access_key",
                    ));
                }
                AmazonS3Builder::from_env()
            }
        };
        let region = config.region().map(str::to_owned);
        if let Some(region) = region.or_else(|| std::env::var("AWS_REGION").ok().filter(|region| !region.is_empty())) {
            builder = builder.with_region(region);
        }
        builder = match endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint).with_virtual_hosted_style_request(false),
            // Certificates do not cover names with more dots.
            None => builder.with_virtual_hosted_style_request(!place.bucket.contains('.')),
        };
        let timeout = config.timeout.0;
        let client = ClientOptions::new()
            .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
            .with_timeout(timeout)
            .with_connect_timeout(timeout.min(CONNECT))
            .with_content_type_for_suffix("mp4", "video/mp4")
            .with_content_type_for_suffix("jpg", "image/jpeg");
        let retry = RetryConfig {
            backoff: BackoffConfig { init_backoff: PAUSES.0, max_backoff: PAUSES.1, base: 2.0 },
            max_retries: usize::try_from(config.retries).unwrap_or(usize::MAX),
            retry_timeout: timeout.saturating_mul(config.retries.saturating_add(1)),
        };
        let store = builder
            .with_bucket_name(&place.bucket)
            .with_client_options(client)
            .with_retry(retry)
            .with_checksum_algorithm(Checksum::SHA256)
            .build()
            .map_err(|error| Error::user(format!("the storage cannot be set up; check storage.*: {error}")))?;
        let server = endpoint.unwrap_or("Amazon S3").to_owned();
        let folder = if place.folder.is_empty() { String::new() } else { format!("{}/", place.folder) };
        let names = Names { server, bucket: place.bucket };
        Ok(Self { store, folder, names, part_bytes: config.part_bytes.as_u64() })
    }

    /// Where an object of this key lies in the bucket.
    fn location(&self, key: &str) -> Result<Location> {
        check_key(key)?;
        self.below(key)
    }

    fn below(&self, path: &str) -> Result<Location> {
        let full = format!("{}{path}", self.folder);
        Location::parse(&full).map_err(|e| Error::ours(format!("{path:?} cannot be a key of S3: {e}")))
    }

    /// Stores what is small enough for one request.
    async fn put_whole(&self, key: &str, location: &Location, bytes: Bytes) -> Result<()> {
        let put = self.store.put(location, PutPayload::from_bytes(bytes)).await;
        put.map(drop).map_err(|e| self.not_stored(key, &e))
    }

    /// Stores what is larger, in parts; nothing can be read under the key before the last has arrived.
    async fn put_parts(&self, key: &str, location: &Location, file: Arc<std::fs::File>, length: u64) -> Result<()> {
        let failed = |e: object_store::Error| self.not_stored(key, &e);
        let mut upload = self.store.put_multipart(location).await.map_err(failed)?;
        let sent = async {
            let part = self.part_bytes.max(length.div_ceil(MOST_PARTS));
            let (mut under_way, mut at) = (FuturesUnordered::new(), 0);
            while at < length {
                let bytes = read_at(Arc::clone(&file), at, part.min(length - at)).await?;
                at += bytes.len() as u64;
                under_way.push(upload.put_part(PutPayload::from_bytes(bytes)));
                while under_way.len() >= PARTS {
                    under_way.next().await.transpose().map_err(failed)?;
                }
            }
            while let Some(done) = under_way.next().await {
                done.map_err(failed)?;
            }
            upload.complete().await.map_err(failed)
        };
        match sent.await {
            Ok(_) => Ok(()),
            Err(error) => {
                // What is left behind is no object, but it takes room.
                if let Err(left) = upload.abort().await {
                    let error = self.names.explain(&format!("remove the parts of {key}"), &left);
                    tracing::debug!(key, %error, "an upload that failed left parts behind");
                }
                Err(error)
            }
        }
    }

    /// Why something could not be stored. What a server does not find then is no object: an upload in parts
    /// that was given up meanwhile, perhaps.
    fn not_stored(&self, key: &str, error: &object_store::Error) -> Error {
        let error = self.names.explain(&format!("store {key}"), error);
        match error.fault {
            Fault::NotFound => Error::outside(format!(
                "cannot store {key}: {} answers 404; check storage.endpoint and storage.url",
                self.names.server
            )),
            _ => error,
        }
    }

    async fn check_size(&self, key: &str, expected: u64) -> Result<()> {
        match self.size(key).await? {
            Some(size) if size == expected => Ok(()),
            found => Err(Error::outside(format!(
                "{key} was stored with {expected} bytes and {} holds {} of them; it is stored again",
                self.names.server,
                found.unwrap_or(0)
            ))),
        }
    }
}

#[async_trait]
impl Objects for S3 {
    fn folder(&self) -> Option<&Path> {
        None
    }

    async fn put_file(&self, key: &str, file: &Path) -> Result<()> {
        let (location, path) = (self.location(key)?, file.to_owned());
        let open = move || {
            let file = std::fs::File::open(path)?;
            Ok((file.metadata()?.len(), Arc::new(file)))
        };
        let (length, file) = with_disk(file.display().to_string(), open).await?;
        if length <= self.part_bytes {
            let bytes = read_at(file, 0, length).await?;
            self.put_whole(key, &location, bytes).await?;
        } else {
            self.put_parts(key, &location, file, length).await?;
        }
        self.check_size(key, length).await
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let (location, length) = (self.location(key)?, bytes.len() as u64);
        self.put_whole(key, &location, bytes).await?;
        self.check_size(key, length).await
    }

    async fn size(&self, key: &str) -> Result<Option<u64>> {
        match self.store.head(&self.location(key)?).await {
            Ok(object) => Ok(Some(object.size)),
            // This answer has no body that would tell S3 from what may stand before it.
            Err(object_store::Error::NotFound { .. }) => self.ping().await.map(|()| None),
            Err(e) => Err(self.names.explain(&format!("look at {key}"), &e)),
        }
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let location = self.location(key)?;
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let (store, names, part) = (self.store.clone(), self.names.clone(), self.part_bytes);
        let end = range.end;
        let doing = format!("read {key}");
        // In pieces, each a request of its own: the time that one may take does not grow with the object.
        let piece = move |at: u64| {
            let (store, names, location) = (store.clone(), names.clone(), location.clone());
            let (doing, to) = (doing.clone(), end.min(at.saturating_add(part)));
            async move {
                let options = GetOptions { range: Some(GetRange::Bounded(at..to)), ..GetOptions::default() };
                let got = store.get_opts(&location, options).await.map_err(|e| names.explain(&doing, &e))?;
                if got.range != (at..to) {
                    let size = got.meta.size;
                    return Err(Error::not_found(format!("cannot {doing}: it has {size} bytes, not {end}")));
                }
                let bytes = got.into_stream().map_err(move |e| names.explain(&doing, &e));
                Ok((bytes.boxed(), to))
            }
        };
        // The first one here, so that what is not there is told at once.
        let (first, at) = piece(range.start).await?;
        let rest = stream::try_unfold(at, move |at| {
            let next = (at < end).then(|| piece(at));
            async move {
                match next {
                    Some(next) => next.await.map(Some),
                    None => Ok(None),
                }
            }
        });
        Ok(first.chain(rest.try_flatten()).boxed())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let deleted = self.store.delete(&self.location(key)?).await;
        there(deleted.map_err(|e| self.names.explain(&format!("remove {key}"), &e))).map(drop)
    }

    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<(String, u64)>>> {
        let prefix = check_prefix(prefix)?;
        let (names, doing) = (self.names.clone(), format!("list {prefix}"));
        let folder = self.folder.clone();
        let listed = self.store.list(Some(&self.below(prefix)?));
        let keys = listed.map_err(move |e| names.explain(&doing, &e)).try_filter_map(move |object| {
            // Somebody else's keys in the same folder are no objects of ours.
            let key = object.location.as_ref().strip_prefix(&folder).map(str::to_owned);
            let key = key.filter(|key| check_key(key).is_ok());
            std::future::ready(Ok(key.map(|key| (key, object.size))))
        });
        Ok(keys.boxed())
    }

    async fn signed_url(&self, key: &str, method: Method, valid: Duration) -> Result<Option<String>> {
        let method = match method {
            Method::Get => http::Method::GET,
            Method::Head => http::Method::HEAD,
        };
        let signed = self.store.signed_url(method, &self.location(key)?, valid).await;
        let signed = signed.map_err(|e| self.names.explain(&format!("sign a link to {key}"), &e))?;
        Ok(Some(signed.into()))
    }

    async fn ping(&self) -> Result<()> {
        let folder = self.below("")?;
        let listed = self.store.list_with_delimiter(Some(&folder)).await;
        listed.map(drop).map_err(|e| self.names.explain("use the storage", &e))
    }
}

async fn read_at(file: Arc<std::fs::File>, at: u64, bytes: u64) -> Result<Bytes> {
    let read = move || {
        let mut part = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        file.read_exact_at(&mut part, at)?;
        Ok(Bytes::from(part))
    };
    with_disk("a file that is to be stored".to_owned(), read).await
}

/// Runs on a thread that may wait for the disk.
async fn with_disk<T: Send + 'static>(
    what: String,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::not_found(format!("cannot read {what}: {e}")),
            _ => Error::outside(format!("cannot read {what}: {e}")),
        }),
        Err(error) => Err(Error::ours(format!("reading {what} ended abnormally: {error}"))),
    }
}
