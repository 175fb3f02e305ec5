//! Stored files over HTTP: streamed from the disk, in parts where parts are asked for; or a link to where
//! they lie, in an object storage.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    IF_NONE_MATCH, IF_RANGE, LOCATION, RANGE,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use crest_core::Error;
use crest_core::objects::Method as Asked;
use futures::StreamExt;
use std::fs::Metadata;
use std::io::{ErrorKind, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::Shared;
use crate::codes::Code;
use crate::downloads::Download;
use crate::problem::Problem;
use crate::range::{Wanted, wanted};

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// The bytes of a file, in the API description.
pub struct Binary;

impl PartialSchema for Binary {
    fn schema() -> RefOr<Schema> {
        let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(binary)).build().into()
    }
}
impl ToSchema for Binary {}

/// Headers that a request for a file may carry, in the API description.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its description is used")]
pub struct FileHeaders {
    /// Which bytes are wanted, `bytes=0-1023`.
    #[param(rename = "Range")]
    range: Option<String>,
    /// The range counts only if the file still has this ETag.
    #[param(rename = "If-Range")]
    if_range: Option<String>,
    /// ETags of what is there already.
    #[param(rename = "If-None-Match")]
    if_none_match: Option<String>,
}

/// Answers a GET or HEAD for the object `key`.
pub async fn serve(
    api: &Shared,
    key: &str,
    media_type: &'static str,
    method: &Method,
    headers: &HeaderMap,
    download: Download,
) -> Result<Response, Problem> {
    let Some(root) = api.objects.folder() else { return redirect(api, key, method).await };
    let path = locate(root, key)?;
    let (mut file, metadata) = match open(&path).await {
        Ok(opened) => opened,
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(gone(key)),
        Err(e) => return Err(Error::outside(format!("read {key}: {e}")).into()),
    };
    let (length, tag) = (metadata.len(), etag(&metadata));
    let tag_value = HeaderValue::try_from(&tag).map_err(|e| Error::ours(e.to_string()))?;
    let common = [
        (ETAG, tag_value),
        (ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        // A key stood between the file and the world: only the asker's own cache may keep it.
        (CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    ];
    if lists(headers, &IF_NONE_MATCH, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let same = headers.get(IF_RANGE).is_none_or(|value| value.as_bytes() == tag.as_bytes());
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok()).filter(|_| same && method == Method::GET);
    let (status, start, count) = match wanted(range, length) {
        Wanted::Whole => (StatusCode::OK, 0, length),
        Wanted::Part { start, end } => (StatusCode::PARTIAL_CONTENT, start, end - start + 1),
        Wanted::Nothing => {
            let mut problem =
                Problem::new(Code::RangeNotSatisfiable, format!("The file has {length} bytes, from 0 on."));
            if let Ok(value) = HeaderValue::try_from(format!("bytes */{length}")) {
                problem = problem.header(CONTENT_RANGE, value);
            }
            return Err(problem);
        }
    };
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let seek = file.seek(SeekFrom::Start(start)).await;
        seek.map_err(|e| Error::outside(format!("read {key}: {e}")))?;
        let file = ReaderStream::with_capacity(file.take(count), CHUNK);
        // Under way until its last byte.
        Body::from_stream(file.map(move |part| {
            let _ = &download;
            part
        }))
    };
    let mut response = (status, common, body).into_response();
    let answer = response.headers_mut();
    answer.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer.insert(CONTENT_LENGTH, HeaderValue::from(count));
    if status == StatusCode::PARTIAL_CONTENT {
        let last = start + count - 1;
        if let Ok(value) = HeaderValue::try_from(format!("bytes {start}-{last}/{length}")) {
            answer.insert(CONTENT_RANGE, value);
        }
    }
    Ok(response)
}

/// Answers with a link to where the object lies. It is made anew each time, so nobody may keep the answer.
async fn redirect(api: &Shared, key: &str, method: &Method) -> Result<Response, Problem> {
    // What the settings of the storage have against it is the operator's business.
    let ours = |error: Error| Problem::from(Error::outside(error.message));
    if api.objects.size(key).await.map_err(ours)?.is_none() {
        return Err(gone(key));
    }
    let asked = if method == Method::HEAD { Asked::Head } else { Asked::Get };
    let link = api.objects.signed_url(key, asked, api.link_validity).await.map_err(ours)?;
    let link = link.ok_or_else(|| Error::ours(format!("there is no link to {key}")))?;
    let location = HeaderValue::try_from(link).map_err(|_| Error::ours(format!("the link to {key} is no address")))?;
    let headers = [(LOCATION, location), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::TEMPORARY_REDIRECT, headers).into_response())
}

fn gone(key: &str) -> Problem {
    let highlight_id = Path::new(key).file_stem().and_then(|id| id.to_str());
    tracing::warn!(highlight_id, object = key, "a highlight's file is gone");
    Problem::new(Code::ClipNotAvailable, "The file is not stored any more.")
}

/// Where an object lies; its key must not lead out of `root`.
fn locate(root: &Path, key: &str) -> Result<PathBuf, Error> {
    let relative = Path::new(key);
    if relative.components().all(|part| matches!(part, Component::Normal(_))) {
        Ok(root.join(relative))
    } else {
        Err(Error::ours(format!("'{key}' is not an object key")))
    }
}

async fn open(path: &Path) -> std::io::Result<(File, Metadata)> {
    let file = File::open(path).await?;
    let metadata = file.metadata().await?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(ErrorKind::NotFound.into()) }
}

/// Changes whenever the file is written anew.
fn etag(metadata: &Metadata) -> String {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    format!("\"{:x}-{:x}\"", metadata.len(), modified.map_or(0, |since| since.as_nanos()))
}

/// Whether a header of ETags lists `tag`, or anything.
fn lists(headers: &HeaderMap, name: &HeaderName, tag: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}
