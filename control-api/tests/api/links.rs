//! Clips that lie in a bucket of a real S3 server: the answer is a link.

#[path = "../../../store/tests/it/objects/server.rs"]
mod server;

use axum::body::Bytes;
use crest_control_api::ApiConfig;
use crest_core::highlight::HighlightState;
use crest_core::objects::SharedObjects;
use crest_core::units::Span;
use crest_store::objects::{Secret, StorageConfig, open};
use server::{Proxy, Server, Way, own_url, plain};
use std::path::Path;

use crate::world::{ALICE, BOB, World};

const CLIP: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

fn bucket(server: &Server, endpoint: &str) -> SharedObjects {
    let config = StorageConfig {
        url: Some(own_url()),
        endpoint: Some(endpoint.to_owned()),
        access_key_id: Some(Secret::new(&server.key)),
        secret_access_key: Some(Secret::new(&server.secret)),
        timeout: Span::secs(2),
        retries: 0,
        ..StorageConfig::default()
    };
    open(&config, Path::new("/nowhere")).unwrap()
}

/// A world with a clip in the bucket, and where it is asked for.
async fn world(objects: &SharedObjects) -> (World, String) {
    let config = ApiConfig { request_timeout: Span::secs(30), ..ApiConfig::default() };
    let world = World::storing(config, Some(objects.clone()));
    let stream = world.stream(ALICE).await;
    let id = world.highlight("alice", &stream, 4, HighlightState::Ready, CLIP);
    let key = world.store.highlights.lock().unwrap()[0].clip.clone().unwrap();
    objects.put(&key, Bytes::from_static(CLIP)).await.unwrap();
    (world, format!("/v1/highlights/{id}/clip"))
}

#[tokio::test]
async fn a_clip_elsewhere_is_a_link_that_needs_no_key() {
    let server = Server::shared();
    let (world, path) = world(&bucket(server, &server.endpoint)).await;
    let answer = world.ask("GET", &path, ALICE, &[("range", "bytes=0-1"), ("if-none-match", "*")]).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (307, 0));
    assert_eq!(answer.header("cache-control"), "no-store");
    let link = answer.header("location");
    assert!(link.contains("X-Amz-Expires=3600&"), "{link}");
    assert_eq!(plain("GET", link).await, (200, CLIP.to_vec()));

    let answer = world.ask("HEAD", &path, ALICE, &[]).await;
    assert_eq!(answer.status, 307);
    assert_eq!(plain("HEAD", answer.header("location")).await.0, 200);

    world.get(&path, BOB).await.refused(404, "not_found");
    world.get(&path, "").await.refused(401, "unauthorized");
}

#[tokio::test]
async fn a_link_is_given_only_to_what_is_there() {
    let server = Server::shared();
    let proxy = Proxy::before(server).await;
    let objects = bucket(server, &proxy.endpoint);
    let (world, path) = world(&objects).await;
    // What is wrong with the storage is no business of the tenant.
    for way in [Way::Says("503 Slow Down", "SlowDown"), Way::Says("403 Forbidden", "InvalidAccessKeyId"), Way::Silent] {
        proxy.set(way);
        let detail = world.get(&path, ALICE).await.refused(503, "unavailable");
        assert!(!detail.contains("storage"), "{detail}");
    }
    proxy.set(Way::Open);
    assert_eq!(world.get(&path, ALICE).await.status, 307);
    let key = world.store.highlights.lock().unwrap()[0].clip.clone().unwrap();
    objects.delete(&key).await.unwrap();
    world.get(&path, ALICE).await.refused(404, "clip_not_available");
}
