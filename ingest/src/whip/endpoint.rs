//! The endpoint: offers in, answers out; sessions are ended here (RFC 9725, 4).

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName,
    IF_MATCH, LOCATION,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, options, post};
use crest_core::StreamId;
use crest_core::key::KeyDigest;
use crest_core::stream::SourceKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::offer::Agreed;
use super::problem::Problem;
use super::session::Session;
use super::{Handle, PATH, Whip, secret};
use crate::publish::{Grounds, Publication};

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// How long the body of a request may take to arrive.
const BODY: Duration = Duration::from_secs(10);
const ENDPOINT_METHODS: &str = "POST, OPTIONS";
const SESSION_METHODS: &str = "DELETE, PATCH, OPTIONS";

/// The routes, to be served by whoever has the HTTP port.
pub(super) fn routes(whip: Arc<Whip>) -> Router {
    let most = usize::try_from(whip.terms.config.max_offer.as_u64()).unwrap_or(usize::MAX);
    let endpoint = |publish: MethodRouter<Arc<Whip>>| {
        options(about_endpoint).merge(publish).fallback(|| not_allowed(ENDPOINT_METHODS))
    };
    let session = options(about_session).merge(delete(end)).patch(trickle).fallback(|| not_allowed(SESSION_METHODS));
    Router::new()
        .route(PATH, endpoint(post(publish_by_token)))
        .route(&format!("{PATH}/{{stream_key}}"), endpoint(post(publish_by_address)))
        .route(&format!("{PATH}/sessions/{{id}}"), session)
        .layer(DefaultBodyLimit::max(most))
        .layer(map_response(for_any_origin))
        .with_state(whip)
}

/// Pages of any origin may publish: who may is a question of the stream key.
async fn for_any_origin(mut response: Response) -> Response {
    let exposed = HeaderValue::from_static("Location, Link, ETag, Accept-Patch, Retry-After, WWW-Authenticate");
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    response
}

async fn not_allowed(methods: &'static str) -> Problem {
    Problem::method_not_allowed(methods)
}

async fn about_endpoint() -> impl IntoResponse {
    about(ENDPOINT_METHODS, "accept-post", SDP)
}

async fn about_session() -> impl IntoResponse {
    about(SESSION_METHODS, "accept-patch", FRAGMENT)
}

/// What may be sent; also the answer to a browser that asks before it sends (CORS).
fn about(methods: &'static str, accepts: &'static str, media_type: &'static str) -> impl IntoResponse {
    let headers = [
        (ALLOW, methods),
        (ACCESS_CONTROL_ALLOW_METHODS, methods),
        (ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
        (HeaderName::from_static(accepts), media_type),
    ];
    (StatusCode::NO_CONTENT, headers)
}

async fn publish_by_token(State(whip): State<Arc<Whip>>, request: Request) -> Result<Response, Problem> {
    let token = token(request.headers()).map(str::to_owned);
    let key = token.clone().unwrap_or_default();
    counted(publish(&whip, &key, token, request).await)
}

async fn publish_by_address(
    State(whip): State<Arc<Whip>>,
    Path(key): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    counted(publish(&whip, &key, None, request).await)
}

fn counted(answer: Result<Response, Problem>) -> Result<Response, Problem> {
    if let Err(problem) = &answer {
        metrics::counter!("crest_webrtc_offers_refused_total", "cause" => problem.code()).increment(1);
        tracing::info!(reason = problem.detail(), "a WebRTC publisher was refused");
    }
    answer
}

/// Who publishes comes before everything else, the body of the request included.
async fn publish(whip: &Arc<Whip>, key: &str, token: Option<String>, request: Request) -> Result<Response, Problem> {
    let publication = admit(whip, key).await?;
    match prepare(whip, request).await {
        Ok(prepared) => Ok(begin(whip, publication, token, prepared)),
        Err(problem) => {
            publication.close("its offer could not be taken").await;
            Err(problem)
        }
    }
}

async fn admit(whip: &Whip, key: &str) -> Result<Publication, Problem> {
    if key.is_empty() {
        return Err(Problem::unauthorized("Send the stream key: 'Authorization: Bearer STREAM_KEY'."));
    }
    whip.publishers.admit(key, SourceKind::Whip).await.map_err(|refusal| {
        let stream_id = refusal.stream.as_ref().map(StreamId::as_str);
        tracing::debug!(stream_id, reason = refusal.reason, "a WebRTC publisher was not admitted");
        match refusal.grounds {
            Grounds::Key => Problem::unauthorized(refusal.reason),
            Grounds::Stream => Problem::new(StatusCode::CONFLICT, "conflict", refusal.reason),
            Grounds::Server => Problem::unavailable(refusal.reason),
        }
    })
}

/// A session that can begin.
struct Prepared {
    place: OwnedSemaphorePermit,
    agreed: Agreed,
    id: String,
    etag: String,
}

async fn prepare(whip: &Whip, request: Request) -> Result<Prepared, Problem> {
    let Ok(place) = Arc::clone(&whip.places).try_acquire_owned() else {
        tracing::warn!(limit = whip.terms.config.max_sessions, "too many WebRTC publishers (webrtc.max_sessions)");
        return Err(Problem::unavailable("The server has as many publishers as it takes; try again later."));
    };
    let offer = body(request, SDP).await?;
    let agreed = whip.terms.answer(&offer)?;
    let unavailable = |error| {
        tracing::error!(%error, "a WebRTC session could not be named");
        Problem::unavailable("The server cannot make a session at the moment; try again.")
    };
    let (id, tag) = (secret::hex(32).map_err(unavailable)?, secret::hex(16).map_err(unavailable)?);
    Ok(Prepared { place, agreed, id, etag: format!("\"{tag}\"") })
}

/// From here on the session lives without the request.
fn begin(whip: &Arc<Whip>, publication: Publication, token: Option<String>, prepared: Prepared) -> Response {
    let Prepared { place, mut agreed, id, etag } = prepared;
    let answer = std::mem::take(&mut agreed.answer);
    let over = CancellationToken::new();
    let publisher_ufrag = std::mem::take(&mut agreed.publisher_ufrag);
    let handle = Handle { token, etag: etag.clone(), publisher_ufrag, over: over.clone() };
    whip.sessions().insert(id.clone(), handle);
    let route = whip.socket.route(agreed.ufrag.clone());
    let session = Session::new(agreed, route, whip.terms.candidates.clone(), publication, &whip.terms.config);
    let known = Known::new(Arc::clone(whip), id.clone(), place);
    let shutdown = whip.shutdown.clone();
    whip.tasks.spawn(async move {
        session.run(over, shutdown).await;
        drop(known);
    });
    let headers = [
        (CONTENT_TYPE, SDP.to_owned()),
        (LOCATION, format!("{PATH}/sessions/{id}")),
        (ETAG, etag),
        (HeaderName::from_static("accept-patch"), FRAGMENT.to_owned()),
    ];
    (StatusCode::CREATED, headers, answer).into_response()
}

/// A session that runs, as long as it does, even if the library panics.
struct Known {
    whip: Arc<Whip>,
    id: String,
    _place: OwnedSemaphorePermit,
}

impl Known {
    fn new(whip: Arc<Whip>, id: String, place: OwnedSemaphorePermit) -> Self {
        metrics::gauge!("crest_webrtc_sessions").increment(1.0);
        Self { whip, id, _place: place }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        metrics::gauge!("crest_webrtc_sessions").decrement(1.0);
        self.whip.sessions().remove(&self.id);
    }
}

/// Ends a session. The stream waits for its publisher a while, as after any other end.
async fn end(State(whip): State<Arc<Whip>>, Path(id): Path<String>, headers: HeaderMap) -> Result<StatusCode, Problem> {
    let mut sessions = whip.sessions();
    own(sessions.get(&id), &headers)?;
    if let Some(handle) = sessions.remove(&id) {
        handle.over.cancel();
    }
    Ok(StatusCode::OK)
}

/// Takes candidates that the publisher found later. There is nothing to do with them: it is the publisher that
/// tries, and where its tries come from is seen. A restart of ICE is refused, as RFC 9725, 4.3.3 has it.
async fn trickle(State(whip): State<Arc<Whip>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    let (etag, ufrag) = {
        let sessions = whip.sessions();
        let handle = own(sessions.get(&id), &headers)?;
        (handle.etag.clone(), handle.publisher_ufrag.clone())
    };
    let fragment = body(request, FRAGMENT).await?;
    let restart = || {
        let detail = "ICE cannot be restarted here; end this session and send a new offer.";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no_ice_restart", detail)
    };
    match headers.get(IF_MATCH) {
        None => {
            let detail = "Send 'If-Match' with the ETag of the session.";
            return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, "precondition_required", detail));
        }
        Some(given) if given == "*" => return Err(restart()),
        Some(given) if given.as_bytes() != etag.as_bytes() => {
            let detail = "The session has another ETag.";
            return Err(Problem::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", detail));
        }
        Some(_) => {}
    }
    let named = fragment.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:"));
    if named.is_some_and(|named| named.trim() != ufrag) {
        return Err(restart());
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The session, if the request may have to do with it.
fn own<'a>(handle: Option<&'a Handle>, headers: &HeaderMap) -> Result<&'a Handle, Problem> {
    let shown = token(headers);
    match handle.filter(|handle| !handle.over.is_cancelled()) {
        Some(Handle { token: Some(_), .. }) if shown.is_none() => Err(Problem::unauthorized(
            "Send the token that the session was made with: 'Authorization: Bearer STREAM_KEY'.",
        )),
        // Digests: how long comparing them takes says nothing of the token.
        Some(handle)
            if handle.token.as_deref().map(KeyDigest::of)
                == shown.map(KeyDigest::of).filter(|_| handle.token.is_some()) =>
        {
            Ok(handle)
        }
        Some(_) | None => Err(Problem::no_such_session()),
    }
}

/// The bearer token (RFC 6750, 2.1).
fn token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The body, if it is text of this type.
async fn body(request: Request, media_type: &'static str) -> Result<String, Problem> {
    let given = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !given.split(';').next().is_some_and(|given| given.trim().eq_ignore_ascii_case(media_type)) {
        let detail = format!("Send the header 'Content-Type: {media_type}'.");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
            .header(ACCEPT, HeaderValue::from_static(media_type)));
    }
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "The body did not arrive in time.");
    let read = tokio::time::timeout(BODY, Bytes::from_request(request, &())).await.map_err(late)?;
    let bytes = read.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "The body is longer than any offer has to be.",
        ),
        _ => Problem::new(StatusCode::BAD_REQUEST, "bad_request", "The body broke off."),
    })?;
    String::from_utf8(bytes.into())
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "invalid_offer", "The body is not text."))
}
