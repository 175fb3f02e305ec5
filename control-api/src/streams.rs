//! Streams: create, list, show, stop, give another key.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::response::IntoResponse;
use crest_core::feeds::Addresses;
use crest_core::space::Room;
use crest_core::stream::{SourceKind, Stream, StreamState};
use crest_core::{Fault, StreamId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;
use utoipa::ToSchema;

use crate::Shared;
use crate::auth::Tenant;
use crate::chat_source::Chat;
use crate::clock::now;
use crate::codes::Code;
use crate::extract::{Body, Params};
use crate::forward::{self, ForwardView, NewForward};
use crate::names;
use crate::openapi::tag;
use crate::owned::OwnStream;
use crate::page::{List, ListParams, Pager};
use crate::problem::{Problem, ProblemBody};
use crate::secret;
use crate::text::name_problem;

/// When to ask again for what there is no room for now.
const AGAIN_SECONDS: &str = "30";

/// The longest address of a source.
const MAX_URL_BYTES: usize = 4000;

const STREAMS: Pager = Pager("streams");

/// A stream to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewStream {
    /// What you call it, 1 to 200 bytes.
    #[schema(example = "friday night")]
    name: String,
    /// How it arrives.
    source: Source,
    /// Not available in this version: null, or left out.
    #[schema(value_type = Option<String>)]
    dimension_set_id: Option<Value>,
    /// The chat that crest follows by itself while the stream is live; without it, chat is sent to `/chat`.
    chat: Option<Chat>,
    /// Servers that the feed is relayed to as it comes, one or several; only for `rtmp`.
    forward: Option<NewForward>,
}

/// How a stream arrives.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// `rtmp`, `srt` and `whip` are pushed, `url` is pulled: an HLS playlist, an RTSP address, a file or MPEG-TS over
    /// HTTP, a page on Twitch or YouTube.
    #[schema(value_type = names::SourceKindName)]
    kind: SourceKind,
    /// The address it is pulled from, for `url`.
    url: Option<String>,
    /// Which of its audio tracks is analysed and clipped, counted from 0; null takes the first, or the one that the
    /// source itself prefers. With a track that the feed does not have it is without sound.
    #[serde(default)]
    audio_track: Option<u8>,
}

/// A stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamView {
    /// Its id.
    id: String,
    /// What its owner calls it.
    name: String,
    /// Where it is in its life.
    #[schema(value_type = names::StreamStateName)]
    state: StreamState,
    /// Why it is there, where there is something to say.
    state_reason: Option<String>,
    /// Number of the latest session, from 1; a feed that comes back with a new timeline gets the next.
    session: Option<u32>,
    /// Where to publish to.
    ingest: Ingest,
    /// How it arrives.
    source: Source,
    /// The chat that is followed, if any.
    chat: Option<Chat>,
    /// Servers that it is relayed to, and how they are doing.
    forward: Vec<ForwardView>,
    /// The dimension set it names.
    dimension_set_id: Option<String>,
    /// RFC 3339 UTC.
    created_at: String,
    /// When its state changed last, RFC 3339 UTC.
    updated_at: String,
    /// Where it can be read again.
    url: String,
}

/// Where to publish a stream to.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ingest {
    /// Server and application: `Server` in OBS. Null while no process takes feeds.
    #[schema(example = "rtmp://crest.example:1935/live")]
    rtmp_url: Option<String>,
    /// The same over TLS. Null where that is not taken.
    #[schema(example = "rtmps://crest.example:4433/live")]
    rtmps_url: Option<String>,
    /// The secret that the publisher presents: `Stream Key` in OBS, `streamid` of SRT.
    stream_key: String,
    /// The WHIP endpoint; the stream key is the bearer token. Null for streams that arrive otherwise.
    #[schema(example = "https://crest.example/whip")]
    whip_url: Option<String>,
    /// All of the address, with the stream key: `Server` in OBS. Where the server has a passphrase, `&passphrase=` and
    /// the passphrase are to be added. Null for streams of another kind, and while no process takes feeds.
    #[schema(example = "srt://crest.example:8890?streamid=sk_...")]
    srt_url: Option<String>,
}

/// Where publishers are sent to; asked once for all streams of an answer.
async fn addresses(api: &Shared) -> Result<Addresses, Problem> {
    Ok(api.feeds.addresses().await?.unwrap_or_default())
}

fn view(api: &Shared, stream: &Stream, addresses: &Addresses) -> StreamView {
    let address = |kind, address: &Option<String>| address.clone().filter(|_| stream.source == kind);
    StreamView {
        id: stream.id.to_string(),
        name: stream.name.clone(),
        state: stream.state,
        state_reason: stream.state_reason.clone(),
        session: stream.session.map(|session| session.number()),
        ingest: Ingest {
            rtmp_url: address(SourceKind::Rtmp, &addresses.rtmp),
            rtmps_url: address(SourceKind::Rtmp, &addresses.rtmps),
            stream_key: stream.stream_key.clone(),
            whip_url: address(SourceKind::Whip, &addresses.whip),
            srt_url: address(SourceKind::Srt, &addresses.srt).map(|server| {
                let separator = if server.contains('?') { '&' } else { '?' };
                format!("{server}{separator}streamid={}", stream.stream_key)
            }),
        },
        source: Source { kind: stream.source, url: stream.source_url.clone(), audio_track: stream.audio_track },
        chat: stream.chat.as_ref().map(Chat::from),
        forward: forward::view(stream),
        dimension_set_id: None,
        created_at: stream.created_at.rfc3339(),
        updated_at: stream.updated_at.rfc3339(),
        url: api.links.stream(&stream.id),
    }
}

/// Create a stream
///
/// The answer says where to publish to. Publishing starts the stream's first session.
#[utoipa::path(post, path = "/v1/streams", operation_id = "createStream", tag = tag::STREAMS, request_body = NewStream,
    responses((status = 201, body = StreamView, description = "The stream, in state `created`",
        headers(("Location" = String, description = "Path of the stream"))),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`limit_reached`"),
        (status = 507, body = ProblemBody, content_type = "application/problem+json",
            description = "`storage_full`: the server's disk is full; try again later",
            headers(("Retry-After" = String, description = "Seconds"))),
        (status = 503, body = ProblemBody, content_type = "application/problem+json",
            description = "`no_ingest`: no process takes feeds at the moment; `unavailable` or `timeout`: the same \
                           request may succeed in a moment")))]
pub async fn create(
    State(api): State<Shared>,
    Tenant(organization): Tenant,
    Body(new): Body<NewStream>,
) -> Result<impl IntoResponse, Problem> {
    let name = name_problem("name", &new.name)?;
    let later = [("dimension_set_id", &new.dimension_set_id)];
    if let Some((field, _)) = later.iter().find(|(_, value)| value.is_some()) {
        return Err(Problem::new(
            Code::NotSupportedYet,
            format!("{field}: not available in this version; leave it out or send null."),
        ));
    }
    let source_url = source_url(&new.source)?;
    if new.source.kind == SourceKind::Whip && new.source.audio_track.is_some() {
        return Err(Problem::new(
            Code::InvalidRequest,
            "source.audio_track: WHIP carries one audio track, and there is none to choose; leave it out.",
        ));
    }
    let chat = new.chat.map(|chat| chat.source(api.youtube)).transpose()?;
    let forward = forward::targets(&api, new.source.kind, new.forward)?;
    if api.feeds.room() != Room::Ample {
        return Err(Problem::new(
            Code::StorageFull,
            "The disk of the server is full, and it takes no new streams; those that run go on. Try again once there \
             is room.",
        )
        .header(RETRY_AFTER, HeaderValue::from_static(AGAIN_SECONDS)));
    }
    /// Pulled streams are counted and made one after the other: many at once would all find room.
    static PULLS: Mutex<()> = Mutex::const_new(());
    let mut one_by_one = None;
    if new.source.kind == SourceKind::Url {
        one_by_one = Some(PULLS.lock().await);
        let max = api.config.max_pulled_streams;
        if api.store.open_pulls(&organization.id).await? >= max {
            let said = format!("Stop one first; an organization has at most {max} streams that are pulled.");
            return Err(Problem::new(Code::LimitReached, said));
        }
    }
    let addresses = api.feeds.addresses().await?.ok_or_else(no_ingest)?;
    let (now, id) = (now(), StreamId::draw());
    let instance = match new.source.kind {
        SourceKind::Url => Some(api.feeds.puller(&id).await?.ok_or_else(no_ingest)?),
        SourceKind::Rtmp | SourceKind::Whip | SourceKind::Srt => None,
    };
    let stream = Stream {
        id,
        organization_id: organization.id,
        name,
        source: new.source.kind,
        source_url,
        audio_track: new.source.audio_track,
        chat,
        forward,
        forwarded: Vec::new(),
        stream_key: secret::stream_key()?,
        state: StreamState::Created,
        state_reason: None,
        session: None,
        instance,
        created_at: now,
        updated_at: now,
    };
    api.store.create_stream(&stream).await?;
    drop(one_by_one);
    if stream.source == SourceKind::Url
        && let Err(error) = api.feeds.pull(&stream).await
    {
        // It stands in the store, where whoever is to pull it looks.
        tracing::warn!(stream_id = %stream.id, %error, "the stream is not pulled at once");
    }
    tracing::info!(stream_id = %stream.id, organization_id = %stream.organization_id, "stream created");
    Ok((StatusCode::CREATED, [(LOCATION, format!("/v1/streams/{}", stream.id))], Json(view(&api, &stream, &addresses))))
}

fn no_ingest() -> Problem {
    Problem::new(
        Code::NoIngest,
        "There is no process with the role 'ingest' that takes feeds; start one, or set rtmp.public_url. Nothing was \
         created.",
    )
}

/// The address that a stream is pulled from, where it is one that is pulled.
fn source_url(source: &Source) -> Result<Option<String>, Problem> {
    match (source.kind, source.url.as_deref()) {
        (SourceKind::Rtmp | SourceKind::Srt | SourceKind::Whip, None) => Ok(None),
        (SourceKind::Url, Some(url)) => address(url).map(Some),
        (SourceKind::Url, None) => Err(Problem::new(
            Code::InvalidRequest,
            "source.url: a stream of kind 'url' is pulled from there; give its address.",
        )),
        (_, Some(_)) => {
            Err(Problem::new(Code::InvalidRequest, "source.url: this stream is pushed, not pulled; leave it out."))
        }
    }
}

/// An address that can be pulled from, as far as that can be seen without asking there.
fn address(url: &str) -> Result<String, Problem> {
    let url = url.trim();
    let wrong = |what: &str| Problem::new(Code::InvalidUrl, format!("source.url: {what}."));
    if url.len() > MAX_URL_BYTES {
        return Err(wrong(&format!("it has more than {MAX_URL_BYTES} bytes")));
    }
    let Ok(parsed) = Url::parse(url) else { return Err(wrong("it is no address; write https://.. or rtsp://..")) };
    if !matches!(parsed.scheme(), "http" | "https" | "rtsp" | "file") {
        return Err(wrong(&format!("{}:// is not pulled from; http, https and rtsp are", parsed.scheme())));
    }
    Ok(url.to_owned())
}

/// List streams, newest first
#[utoipa::path(get, path = "/v1/streams", operation_id = "listStreams", tag = tag::STREAMS, params(ListParams),
    responses((status = 200, body = List<StreamView>, description = "A part of the list")))]
pub async fn list(
    State(api): State<Shared>,
    Tenant(organization): Tenant,
    Params(params): Params<ListParams>,
) -> Result<Json<List<StreamView>>, Problem> {
    let page = STREAMS.page(params.limit, params.cursor.as_deref(), api.config.max_page)?;
    let addresses = addresses(&api).await?;
    let paged = api.store.streams(&organization.id, &page).await;
    STREAMS.answer(&page, paged, |stream| view(&api, stream, &addresses))
}

/// Show a stream
#[utoipa::path(get, path = "/v1/streams/{id}", operation_id = "getStream", tag = tag::STREAMS,
    params(("id" = String, Path, description = "Id of the stream")),
    responses((status = 200, body = StreamView, description = "The stream")))]
pub async fn get(State(api): State<Shared>, OwnStream(stream): OwnStream) -> Result<Json<StreamView>, Problem> {
    let addresses = addresses(&api).await?;
    Ok(Json(view(&api, &stream, &addresses)))
}

/// Stop a stream
///
/// Disconnects the publisher and ends the stream for good. Stopping a stream that is over changes
/// nothing. Where the process that has the feed does not answer in time, the answer is `unavailable`; the
/// stream is stopped later all the same.
#[utoipa::path(post, path = "/v1/streams/{id}/stop", operation_id = "stopStream", tag = tag::STREAMS,
    params(("id" = String, Path, description = "Id of the stream")),
    responses(
        (status = 200, body = StreamView, description = "The stream as it is now"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "Not possible now"),
    ))]
pub async fn stop(State(api): State<Shared>, OwnStream(stream): OwnStream) -> Result<Json<StreamView>, Problem> {
    api.feeds.stop(&stream).await?;
    let stopped = api.store.stream(&stream.organization_id, &stream.id).await?;
    let addresses = addresses(&api).await?;
    Ok(Json(view(&api, &stopped.unwrap_or(stream), &addresses)))
}

/// Replace a stream's key
///
/// The answer has the new one, drawn at random. The key before is refused from then on, and a publisher that
/// came in with it is disconnected; the stream is interrupted and goes on when somebody publishes with the new
/// key in time. Asked twice, it is replaced twice.
#[utoipa::path(post, path = "/v1/streams/{id}/rotate-key", operation_id = "rotateStreamKey", tag = tag::STREAMS,
    params(("id" = String, Path, description = "Id of the stream")),
    responses(
        (status = 200, body = StreamView, description = "The stream with its new key"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json",
            description = "`stream_over`: nobody publishes to it any more"),
    ))]
pub async fn rotate_key(State(api): State<Shared>, OwnStream(stream): OwnStream) -> Result<Json<StreamView>, Problem> {
    let key = secret::stream_key()?;
    let rotated = api.store.rotate_stream_key(&stream.organization_id, &stream.id, &key).await;
    let rotated = match rotated {
        Err(error) if error.fault == Fault::Conflict => {
            return Err(Problem::new(
                Code::StreamOver,
                "The stream is over, and its key opens nothing; create another one.",
            ));
        }
        rotated => rotated?.ok_or_else(|| Problem::no_such("stream"))?,
    };
    if let Err(error) = api.feeds.rekeyed(&rotated).await {
        // It stands in the store, where whoever has the feed looks every few seconds.
        tracing::warn!(stream_id = %rotated.id, %error, "the publisher is not disconnected at once");
    }
    tracing::info!(stream_id = %rotated.id, organization_id = %rotated.organization_id, "stream key replaced");
    let addresses = addresses(&api).await?;
    Ok(Json(view(&api, &rotated, &addresses)))
}
