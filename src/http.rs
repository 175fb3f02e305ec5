//! The HTTP listener: how many connections there may be, how long one may say nothing, and which one
//! makes room when it is full. `axum::serve` bounds none of it.

use axum::Router;
use axum::body::{Body, Bytes};
use crest_core::crowd::{Crowd, Entry, Place};
use crest_core::units::Span;
use hyper::Request;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Waits after the system refused to hand over a connection, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The longest request line with its headers.
const MAX_HEAD: usize = 64 * 1024;

/// The bounds of the listener.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at a time.
    pub max_connections: usize,
    /// How long a connection may take to send the head of a request, the first or the next.
    pub idle: Span,
    /// How long a connection may take none of the answer that is being sent to it.
    pub stalled: Span,
}

/// What answers a request that arrives now.
pub type Routes = Arc<dyn Fn() -> Router + Send + Sync>;

/// Serves until `shutdown`; requests that are being answered then are answered.
pub async fn serve(listener: TcpListener, routes: Routes, bounds: Bounds, shutdown: CancellationToken) {
    let crowd = Crowd::new(bounds.max_connections);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let make_room = CancellationToken::new();
        let leave = make_room.clone();
        let place = match crowd.enter(peer.ip(), move || leave.cancel()) {
            Entry::Room(place) => place,
            Entry::Instead(place) => {
                metrics::counter!("crest_http_connections_refused_total", "cause" => "crowded").increment(1);
                place
            }
            Entry::Full => {
                metrics::counter!("crest_http_connections_refused_total", "cause" => "limit").increment(1);
                tracing::warn!(%peer, limit = bounds.max_connections, "too many HTTP requests at a time (http.max_connections)");
                continue;
            }
        };
        let (routes, shutdown) = (Arc::clone(&routes), shutdown.clone());
        connections.spawn(async move {
            let place = Arc::new(Business {
                place,
                busy: AtomicBool::new(false),
                sending: AtomicBool::new(false),
                moved: Mutex::new(Instant::now()),
            });
            tokio::select! {
                () = connection(socket, routes, Arc::clone(&place), bounds.idle, shutdown) => {}
                () = make_room.cancelled() => {}
                () = stalled(&place, bounds.stalled) => {
                    metrics::counter!("crest_http_connections_closed_total", "cause" => "stalled").increment(1);
                }
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Returns when an answer was begun and nothing of it was taken for too long. How long it takes to begin
/// one is the API's affair.
async fn stalled(business: &Business, limit: Span) {
    loop {
        let moved = *business.moved.lock().unwrap_or_else(PoisonError::into_inner);
        if business.sending.load(Ordering::Acquire) && moved.elapsed() >= limit.0 {
            return;
        }
        tokio::time::sleep((limit.0 / 4).max(Duration::from_millis(10))).await;
    }
}

/// Serves one connection. What breaks it is the client's affair: it sees the connection close.
async fn connection(socket: TcpStream, routes: Routes, place: Arc<Business>, idle: Span, shutdown: CancellationToken) {
    let requests = Arc::clone(&place);
    let service = service_fn(move |request: Request<Incoming>| {
        let answering = Answering::begin(&requests);
        let response = TowerToHyperService::new(routes()).call(request.map(Body::new));
        async move {
            let Ok(response) = response.await;
            Ok::<_, Infallible>(response.map(|body| Answer { body, answering }))
        }
    });
    let _ = socket.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(idle.0).max_buf_size(MAX_HEAD);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(socket), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = shutdown.cancelled() => {}
    }
    // One that has sent nothing yet would be waited for.
    if place.busy.load(Ordering::Acquire) {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Whether a connection is answering a request; while it is, it need not make room.
struct Business {
    place: Place,
    busy: AtomicBool,
    /// Whether the body of an answer is on its way.
    sending: AtomicBool,
    /// When the next part of it was asked for.
    moved: Mutex<Instant>,
}

impl Business {
    fn moves(&self, sending: bool) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.sending.store(sending, Ordering::Release);
    }
}

/// A request that is being answered, until the last byte of its answer.
struct Answering(Arc<Business>);

impl Answering {
    fn begin(business: &Arc<Business>) -> Self {
        business.busy.store(true, Ordering::Release);
        business.place.busy(true);
        Self(Arc::clone(business))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
        self.0.sending.store(false, Ordering::Release);
        self.0.place.busy(false);
    }
}

/// The body of an answer.
struct Answer {
    body: Body,
    answering: Answering,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Asked for when there is room for it: the client takes what it was sent.
        self.answering.0.moves(true);
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
