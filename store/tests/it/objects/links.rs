//! Links that need no credentials.

use super::server::{Server, plain};
use super::{bucket, s3, whole};
use bytes::Bytes;
use crest_core::objects::Method;
use crest_store::objects::{Secret, StorageConfig, open};
use std::path::Path;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_link_reads_its_object_and_nothing_else() {
    let objects = s3();
    let (key, other) = ("clips/org_a/hl_a ä.mp4", "clips/org_a/hl_b.mp4");
    objects.put(key, Bytes::from_static(b"a clip")).await.unwrap();
    objects.put(other, Bytes::from_static(b"another")).await.unwrap();
    let link = objects.signed_url(key, Method::Get, HOUR).await.unwrap().unwrap();
    assert!(!link.contains(&Server::shared().secret));
    assert_eq!(plain("GET", &link).await, (200, b"a clip".to_vec()));
    let (bare, _) = link.split_once('?').unwrap();
    assert_eq!(plain("GET", bare).await.0, 403, "without its signature");

    let path = bare.rsplit_once('/').unwrap().0;
    let moved = link.replace(bare, &format!("{path}/hl_b.mp4"));
    assert_eq!(plain("GET", &moved).await.0, 403, "for another object");
    assert_eq!(plain("PUT", &link).await.0, 403, "for writing");
    assert_eq!(plain("DELETE", &link).await.0, 403, "for removing");
    assert_eq!(whole(&*objects, key).await.unwrap(), b"a clip");

    let head = objects.signed_url(key, Method::Head, HOUR).await.unwrap().unwrap();
    assert_eq!(plain("HEAD", &head).await, (200, Vec::new()));
    assert_eq!(plain("GET", &head).await.0, 403);
}

#[tokio::test]
async fn a_link_expires() {
    let objects = s3();
    let key = "clips/org_a/hl_a.mp4";
    objects.put(key, Bytes::from_static(b"a clip")).await.unwrap();
    let link = objects.signed_url(key, Method::Get, Duration::from_secs(2)).await.unwrap().unwrap();
    assert_eq!(plain("GET", &link).await.0, 200);
    for _ in 0..600 {
        if plain("GET", &link).await.0 == 403 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it can still be read");
}

#[tokio::test]
async fn a_link_of_wrong_credentials_is_worth_nothing() {
    let server = Server::shared();
    let config = bucket(server, &server.endpoint);
    let objects = open(&config, Path::new("/nowhere")).unwrap();
    objects.put("clips/org_a/hl_a.mp4", Bytes::from_static(b"a clip")).await.unwrap();
    let config = StorageConfig { secret_access_key: Some(Secret::new("guessed")), ..config };
    let objects = open(&config, Path::new("/nowhere")).unwrap();
    let link = objects.signed_url("clips/org_a/hl_a.mp4", Method::Get, HOUR).await.unwrap().unwrap();
    assert_eq!(plain("GET", &link).await.0, 403);
}
