//! What of it is seen in `/metrics`.

#[path = "../../../../bus/tests/it/counters.rs"]
#[allow(dead_code)]
mod counters;

use super::server::{Proxy, Server, Way};
use super::{bucket, whole};
use bytes::Bytes;
use counters::Counters;
use crest_core::units::Span;
use crest_store::objects::{StorageConfig, open};
use std::path::Path;

const KEY: &str = "media/org_a/str_a/00001/segment-000000.mp4";

#[tokio::test]
async fn requests_are_counted_with_their_outcome_and_bytes_with_their_direction() {
    let counters = Counters::default();
    let _here = metrics::set_default_local_recorder(&counters);
    let server = Server::shared();
    let proxy = Proxy::before(server).await;
    let config = StorageConfig { timeout: Span::secs(1), retries: 0, ..bucket(server, &proxy.endpoint) };
    let objects = open(&config, Path::new("/nowhere")).unwrap();
    objects.put(KEY, Bytes::from_static(b"0123456789")).await.unwrap();
    assert_eq!(whole(&*objects, KEY).await.unwrap().len(), 10);
    assert!(objects.read("media/none", 0..1).await.is_err());
    proxy.set(Way::Says("503 Slow Down", "SlowDown"));
    assert!(objects.put(KEY, Bytes::from_static(b"0123456789")).await.is_err());
    proxy.set(Way::Says("403 Forbidden", "AccessDenied"));
    assert!(objects.delete(KEY).await.is_err());

    let requests = |label| counters.of("crest_objects_requests_total", label);
    assert_eq!([requests(("operation", "put")), requests(("operation", "read"))], [2, 2]);
    let outcomes = ["ok", "not_found", "unavailable", "refused"].map(|outcome| requests(("outcome", outcome)));
    assert_eq!(outcomes, [3, 1, 1, 1], "put, size, read; read; put; delete");
    let bytes = ["out", "in"].map(|direction| counters.of("crest_objects_bytes_total", ("direction", direction)));
    assert_eq!(bytes, [10, 10]);
}
