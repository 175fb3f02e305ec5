//! What is wrong with the settings, the server, or the way to it.

use super::server::{Proxy, Server, Way};
use super::{bucket, listed, noise, whole};
use bytes::Bytes;
use crest_core::objects::{Objects, SharedObjects};
use crest_core::units::Span;
use crest_core::{Error, Fault, Result};
use crest_store::objects::{Secret, StorageConfig, open};
use std::path::Path;
use std::time::Duration;

const KEY: &str = "media/org_a/str_a/00001/segment-000000.mp4";

fn opened(config: &StorageConfig) -> SharedObjects {
    open(config, Path::new("/nowhere")).unwrap()
}

/// Every operation, each with its error.
async fn errors(objects: &dyn Objects) -> Vec<(&'static str, Error)> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let large = tempfile::NamedTempFile::new().unwrap();
    large.as_file().set_len(6 << 20).unwrap();
    let done: Vec<(&str, Result<()>)> = vec![
        ("ping", objects.ping().await),
        ("put", objects.put(KEY, Bytes::from_static(b"x")).await),
        ("put_file", objects.put_file(KEY, file.path()).await),
        ("put_file in parts", objects.put_file(KEY, large.path()).await),
        ("read", objects.read(KEY, 0..1).await.map(drop)),
        ("delete", objects.delete(KEY).await),
        ("list", {
            use futures::TryStreamExt;
            match objects.list("media").await {
                Ok(listed) => listed.try_collect::<Vec<_>>().await.map(drop),
                Err(error) => Err(error),
            }
        }),
    ];
    done.into_iter().map(|(name, done)| (name, done.expect_err(name))).collect()
}

#[tokio::test]
async fn wrong_credentials_are_the_users_and_are_not_shown() {
    let server = Server::shared();
    let right = bucket(server, &server.endpoint);
    let key = StorageConfig { access_key_id: Some(Secret::new("AKIANOBODY")), ..right.clone() };
    let secret = StorageConfig { secret_access_key: Some(Secret::new("open-sesame")), ..right };
    for config in [key, secret] {
        for (name, error) in errors(&*opened(&config)).await {
            assert_eq!((error.fault, error.retryable), (Fault::User, false), "{name}: {error}");
            assert!(error.message.contains("storage.access_key_id"), "{name}: {error}");
            for hidden in ["AKIANOBODY", "open-sesame", &server.secret] {
                assert!(!error.message.contains(hidden), "{name}: {error}");
            }
        }
        let size = opened(&config).size(KEY).await.unwrap_err();
        assert_eq!((size.fault, size.retryable), (Fault::User, false), "{size}");
    }
}

#[tokio::test]
async fn what_waiting_cannot_mend_names_the_setting() {
    let (proxy, objects, _) = through_a_proxy(2).await;
    // The server of the tests makes a bucket of whatever is asked for; others say so.
    for (status, code, setting) in [
        ("404 Not Found", "NoSuchBucket", "storage.url"),
        ("301 Moved Permanently", "PermanentRedirect", "storage.region"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", "storage.region"),
        ("403 Forbidden", "AccessDenied", "storage.access_key_id"),
        ("403 Forbidden", "RequestTimeTooSkewed", "clock"),
    ] {
        proxy.set(Way::Says(status, code));
        let before = proxy.refused();
        let errors = errors(&*objects).await;
        assert_eq!(proxy.refused() - before, errors.len() as u64, "none is asked again");
        for (name, error) in errors {
            assert_eq!((error.fault, error.retryable), (Fault::User, false), "{name}: {error}");
            assert!(error.message.contains(setting), "{name}: {error}");
        }
    }
}

#[test]
fn settings_that_cannot_be_are_refused_at_once() {
    let ok = StorageConfig { url: Some("s3://media".into()), ..StorageConfig::default() };
    let wrong = [
        ("storage.url", StorageConfig { url: Some("/srv/media".into()), ..ok.clone() }),
        ("storage.endpoint", StorageConfig { endpoint: Some("minio:9000".into()), ..ok.clone() }),
        ("storage.secret_access_key", StorageConfig { access_key_id: Some(Secret::new("key")), ..ok.clone() }),
        ("storage.link_validity", StorageConfig { link_validity: Span::secs(8 * 24 * 3600), ..ok.clone() }),
        ("storage.part_bytes", StorageConfig { part_bytes: bytesize::ByteSize::mib(1), ..ok.clone() }),
        ("storage.timeout", StorageConfig { timeout: Span::secs(0), ..ok.clone() }),
    ];
    for (setting, config) in wrong {
        let error = open(&config, Path::new("/nowhere")).map(drop).unwrap_err();
        assert_eq!(error.fault, Fault::User);
        assert!(error.message.contains(setting), "{setting}: {error}");
    }
}

/// Fast to give up.
async fn through_a_proxy(retries: u32) -> (Proxy, SharedObjects, StorageConfig) {
    let server = Server::shared();
    let proxy = Proxy::before(server).await;
    let config = StorageConfig { timeout: Span::secs(1), retries, ..bucket(server, &proxy.endpoint) };
    (proxy, opened(&config), config)
}

fn passes(name: &str, error: &Error) {
    assert_eq!((error.fault, error.retryable), (Fault::Outside, true), "{name}: {error}");
    assert!(error.message.contains("storage.endpoint"), "{name}: {error}");
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again_and_then_told_of() {
    let (proxy, objects, _) = through_a_proxy(2).await;
    proxy.set(Way::Says("503 Slow Down", "SlowDown"));
    let error = objects.put(KEY, Bytes::from_static(b"x")).await.unwrap_err();
    passes("put", &error);
    assert!(error.message.contains("503"), "{error}");
    assert_eq!(proxy.refused(), 3, "one attempt and two more");
    for (name, error) in errors(&*objects).await {
        passes(name, &error);
    }
    proxy.set(Way::Open);
    objects.put(KEY, Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(whole(&*objects, KEY).await.unwrap(), b"x");
}

#[tokio::test]
async fn nothing_that_is_to_be_stored_is_taken_for_missing() {
    let (proxy, objects, _) = through_a_proxy(0).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    for length in [1000, 6 << 20] {
        file.as_file().set_len(length).unwrap();
        for code in ["NoSuchUpload", "NoSuchKey"] {
            proxy.set(Way::Says("404 Not Found", code));
            passes(code, &objects.put_file(KEY, file.path()).await.unwrap_err());
        }
    }
}

#[tokio::test]
async fn a_short_disturbance_is_not_noticed() {
    let (proxy, objects, _) = through_a_proxy(20).await;
    proxy.set(Way::Says("503 Slow Down", "SlowDown"));
    let put = tokio::spawn({
        let objects = objects.clone();
        async move { objects.put(KEY, Bytes::from_static(b"x")).await }
    });
    for _ in 0..1000 {
        if proxy.refused() >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(proxy.refused() >= 2);
    proxy.set(Way::Open);
    put.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_answer_and_one_that_is_not_there_are_outside() {
    let (proxy, objects, config) = through_a_proxy(0).await;
    proxy.set(Way::Silent);
    for (name, error) in errors(&*objects).await {
        passes(name, &error);
    }
    passes("size", &objects.size(KEY).await.unwrap_err());
    assert!(objects.ping().await.unwrap_err().message.contains("storage.timeout"));

    // A port that nobody listens on.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let config = StorageConfig { endpoint: Some(format!("http://{free}")), ..config };
    for (name, error) in errors(&*opened(&config)).await {
        passes(name, &error);
        assert!(error.message.contains("cannot be reached"), "{name}: {error}");
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_leaves_nothing_to_read() {
    let (proxy, objects, _) = through_a_proxy(1).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    // In one request, and in parts.
    for length in [3 << 20, 12 << 20] {
        let bytes = noise(length);
        std::fs::write(file.path(), &bytes).unwrap();
        proxy.set(Way::Cut(2 << 20));
        passes("put_file", &objects.put_file(KEY, file.path()).await.unwrap_err());
        proxy.set(Way::Open);
        assert_eq!(objects.size(KEY).await, Ok(None));
        assert!(listed(&*objects, "media").await.is_empty());
        objects.put_file(KEY, file.path()).await.unwrap();
        assert!(whole(&*objects, KEY).await.unwrap() == bytes);

        // What was there stays until the new one is whole.
        std::fs::write(file.path(), noise(length + 7)).unwrap();
        proxy.set(Way::Cut(2 << 20));
        assert!(objects.put_file(KEY, file.path()).await.is_err());
        proxy.set(Way::Open);
        assert!(whole(&*objects, KEY).await.unwrap() == bytes);
        objects.delete(KEY).await.unwrap();
    }
}

#[tokio::test]
async fn a_read_that_is_cut_goes_on_or_says_so() {
    let server = Server::shared();
    let proxy = Proxy::before(server).await;
    let config = StorageConfig { retries: 0, ..bucket(server, &proxy.endpoint) };
    let objects = opened(&config);
    let bytes = noise(12 << 20);
    objects.put(KEY, bytes.clone().into()).await.unwrap();
    let mut read = objects.read(KEY, 0..12 << 20).await.unwrap();
    use futures::StreamExt;
    let first = read.next().await.unwrap().unwrap();
    proxy.set(Way::Silent);
    let mut rest = first.len();
    let error = loop {
        match read.next().await {
            Some(Ok(part)) => rest += part.len(),
            Some(Err(error)) => break error,
            None => panic!("it ended without an error after {rest} bytes"),
        }
    };
    passes("read", &error);
}

#[tokio::test]
async fn what_is_stored_is_there_after_a_restart_of_the_server() {
    let server = Server::start();
    let objects = opened(&bucket(&server, &server.endpoint));
    objects.put(KEY, Bytes::from_static(b"kept")).await.unwrap();
    server.stop();
    passes("read", &objects.size(KEY).await.unwrap_err());
    server.start_again();
    assert_eq!(whole(&*objects, KEY).await.unwrap(), b"kept");
}
