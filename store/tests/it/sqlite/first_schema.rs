//! A file of an earlier schema: it is brought up to date with everything that is in it.

use crest_core::store::{Events, Tenants};
use crest_core::{OrganizationId, WallTime};
use crest_store::SqliteStore;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use std::path::Path;

/// A file as the first version left it.
async fn first_schema(file: &Path) -> SqliteConnection {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    let mut all = Migrator::new(folder).await.unwrap();
    all.migrations.to_mut().truncate(1);
    let mut db = SqliteConnectOptions::new().filename(file).create_if_missing(true).connect().await.unwrap();
    all.run(&mut db).await.unwrap();
    db
}

#[tokio::test]
async fn events_of_the_first_schema_get_positions_in_the_order_of_their_commits() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crest.db");
    let mut old = first_schema(&file).await;
    for (id, name) in [("org_a", "a"), ("org_b", "b"), ("org_c", "silent")] {
        sqlx::query("INSERT INTO organizations VALUES (?, ?, FALSE, 0)")
            .bind(id)
            .bind(name)
            .execute(&mut old)
            .await
            .unwrap();
    }
    sqlx::query("INSERT INTO endpoints VALUES ('whe_1', 'org_a', 'http://a', '[]', NULL, 'whsec_', 2, 0)")
        .execute(&mut old)
        .await
        .unwrap();
    // Ids and times that stand in another order than the commits.
    let events = [("evt_z", "org_a", 500), ("evt_q", "org_b", 100), ("evt_a", "org_a", 500), ("evt_m", "org_a", 300)];
    for (id, owner, at) in events {
        sqlx::query("INSERT INTO events VALUES (?, ?, 'stream.started', 'str_1', 1, ?, NULL, NULL, NULL, '{\"n\":1}')")
            .bind(id)
            .bind(owner)
            .bind(at)
            .execute(&mut old)
            .await
            .unwrap();
    }
    sqlx::query(
        "INSERT INTO deliveries VALUES ('msg_1', 'org_a', 'evt_z', 'stream.started', 'whe_1', 1, '{}', 'pending', \
         0, 0, NULL, NULL, 0)",
    )
    .execute(&mut old)
    .await
    .unwrap();
    drop(old);

    let store = SqliteStore::open(&file).await.unwrap();
    let of = |id: &str| OrganizationId::from_raw(id);
    let a = store.events_after(&of("org_a"), 0, 10).await.unwrap();
    let told: Vec<_> = a.iter().map(|e| (e.position, e.event.id.as_str(), e.event.timestamp)).collect();
    assert_eq!(told, [(1, "evt_z", WallTime(500)), (2, "evt_a", WallTime(500)), (3, "evt_m", WallTime(300))]);
    assert_eq!(a[0].event.data, serde_json::json!({"n": 1}));
    assert_eq!(store.events_after(&of("org_b"), 0, 10).await.unwrap().len(), 1);
    let last = store.last_positions(&[of("org_a"), of("org_b"), of("org_c")]).await.unwrap();
    assert_eq!(last, [(of("org_a"), 3), (of("org_b"), 1), (of("org_c"), 0)].into());
    assert_eq!(crest_core::store::Webhooks::outbox_depth(&store).await.unwrap().0, 1);
    // And it goes on where they end.
    store.create_organization("new", "crest_sk_new", WallTime(0)).await.unwrap();
    drop(store);
    SqliteStore::open(&file).await.unwrap();
}
