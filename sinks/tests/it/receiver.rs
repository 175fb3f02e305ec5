//! An endpoint on loopback that keeps what it receives and answers as a test wants.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::net::TcpListener;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub struct Receiver {
    pub port: u16,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// Answers the n-th request (from 0) with what `answer` says.
    pub async fn start<F>(answer: F) -> Self
    where
        F: Fn(usize) -> BoxFuture<'static, Response> + Send + Sync + 'static,
    {
        let received = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (received.clone(), Arc::new(answer));
        let app = Router::new().fallback(move |request: Request| {
            let (kept, answer) = (kept.clone(), answer.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let number = {
                    let mut kept: std::sync::MutexGuard<'_, Vec<Received>> = kept.lock().unwrap();
                    kept.push(Received { path: head.uri.path().to_owned(), headers: head.headers, body });
                    kept.len() - 1
                };
                answer(number).await
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { port, received }
    }

    /// Answers with these statuses in turn, and with the last of them from then on.
    pub async fn statuses(statuses: &'static [u16]) -> Self {
        Self::start(move |number| {
            let status = statuses.get(number).or(statuses.last()).copied().unwrap_or(200);
            Box::pin(async move { plain(status) })
        })
        .await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

pub fn plain(status: u16) -> Response {
    Response::builder().status(status).body("thanks".into()).unwrap()
}
