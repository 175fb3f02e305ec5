//! One SRT connection, from its admission to its end, whichever way it ends.

use crest_core::StreamId;
use crest_core::crowd::Place;
use crest_core::stream::SourceKind;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::reader::{self, Ending};
use super::socket::Socket;
use super::stream_id;
use crate::config::SrtConfig;
use crate::counted::Counted;
use crate::publish::{Publication, Publishers};

/// A connection that was accepted.
pub(super) struct Accepted {
    pub(super) socket: Arc<Socket>,
    pub(super) peer: SocketAddr,
    /// Its place among the others.
    pub(super) place: Place,
    /// Cancelled when it has to make room.
    pub(super) make_room: CancellationToken,
}

/// Serves one connection until it ends, is not wanted any more, or says nothing for too long.
pub(super) async fn serve(
    Accepted { socket, peer, place, make_room }: Accepted,
    config: SrtConfig,
    publishers: Arc<dyn Publishers>,
    shutdown: CancellationToken,
) {
    let counted = Counted::new("crest_srt_connections");
    let admitted = tokio::select! {
        admitted = tokio::time::timeout(config.handshake.0, admit(&socket, peer, publishers)) => admitted,
        () = make_room.cancelled() => Ok(None),
        () = shutdown.cancelled() => Ok(None),
    };
    let Ok(admitted) = admitted else {
        metrics::counter!("crest_srt_connections_failed_total", "cause" => "handshake").increment(1);
        return tracing::warn!(%peer, "an SRT publisher could not be admitted in time (srt.handshake)");
    };
    let Some(publication) = admitted else { return };
    place.busy(true);
    if make_room.is_cancelled() {
        return publication.close("it had to make room for another connection (srt.max_connections)").await;
    }
    publish(socket, peer, publication, &config, shutdown).await;
    drop((counted, place));
}

/// Asks for the stream of the caller's key; a refusal is logged, and the connection closed.
async fn admit(socket: &Socket, peer: SocketAddr, publishers: Arc<dyn Publishers>) -> Option<Publication> {
    let named = socket.stream_id();
    let refused = match stream_id::key(&named) {
        Ok(key) => match publishers.admit(key, SourceKind::Srt).await {
            Ok(publication) => return Some(publication),
            Err(refusal) => (refusal.reason, refusal.stream),
        },
        Err(refused) => (refused.to_string(), None),
    };
    metrics::counter!("crest_srt_connections_refused_total", "cause" => "publish").increment(1);
    let (reason, stream) = refused;
    let stream_id = stream.as_ref().map(StreamId::as_str);
    tracing::info!(%peer, stream_id, reason, "an SRT publisher was refused");
    None
}

/// Reads in a thread until the end of the connection, and says why it ended.
async fn publish(
    socket: Arc<Socket>,
    peer: SocketAddr,
    publication: Publication,
    config: &SrtConfig,
    shutdown: CancellationToken,
) {
    let disconnect = publication.disconnect();
    let (sender, mut finished) = oneshot::channel();
    let read = reader::Reader {
        socket: Arc::clone(&socket),
        peer,
        publication,
        idle: config.idle.0,
        runtime: tokio::runtime::Handle::current(),
    };
    let thread = std::thread::Builder::new().name("srt-publisher".to_owned());
    if let Err(error) = thread.spawn(move || drop(sender.send(read.run()))) {
        // The publication went with the thread that was not made: the feed sees a lost connection.
        return tracing::warn!(%peer, %error, "no thread for an SRT publisher");
    }
    let why = tokio::select! {
        finished = &mut finished => {
            return match finished {
                Ok((publication, ending)) => end(peer, publication, ending).await,
                Err(_) => tracing::error!(%peer, "the thread of an SRT publisher was lost"),
            };
        }
        () = disconnect.cancelled() => "disconnected",
        () = shutdown.cancelled() => "server stopped",
    };
    // The library may wait for its own threads.
    let _ = tokio::task::spawn_blocking(move || socket.close()).await;
    if let Ok((publication, _)) = finished.await {
        end(peer, publication, Ending::new(None, why)).await;
    }
}

async fn end(peer: SocketAddr, publication: Publication, ending: Ending) {
    if let Some(cause) = ending.cause {
        metrics::counter!("crest_srt_connections_failed_total", "cause" => cause).increment(1);
        let stream_id = publication.stream();
        tracing::info!(%peer, %stream_id, reason = ending.reason, "the connection of an SRT publisher was ended");
    }
    publication.close(ending.reason).await;
}
