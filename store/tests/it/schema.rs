//! The file itself: its schema, its version, what a kill leaves.

use crest_core::Fault;
use crest_core::store::{Highlights, Store, Tenants};
use crest_store::SqliteStore;
use sqlx::{Connection, SqliteConnection};

use crate::world::World;

async fn raw(world: &World) -> SqliteConnection {
    let file = world.folder.path().join("crest.db");
    SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap()
}

#[tokio::test]
async fn every_table_names_its_tenant() {
    let world = World::new().await;
    let mut db = raw(&world).await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\' \
         AND name NOT LIKE 'sqlite%'",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    assert!(tables.len() >= 13, "{tables:?}");
    for table in tables {
        let columns: Vec<String> =
            sqlx::query_scalar("SELECT name FROM pragma_table_info(?)").bind(&table).fetch_all(&mut db).await.unwrap();
        assert!(columns.iter().any(|c| c == "organization_id"), "{table} has {columns:?}");
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_with_what_to_do() {
    let world = World::new().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', TRUE, x'00', 0)",
    )
    .execute(&mut raw(&world).await)
    .await
    .unwrap();
    let error = SqliteStore::open(&world.folder.path().join("crest.db")).await.unwrap_err();
    assert_eq!(error.fault, Fault::User);
    assert!(error.message.contains("newer version of crest"), "{error}");
    assert!(error.message.contains("9999"), "{error}");
}

#[tokio::test]
async fn what_was_committed_survives_a_kill() {
    let world = World::new().await;
    let endpoint = world.add_endpoint("a").await;
    world.commit(vec![world.detected(10), world.finalized(10, 2)]).await;
    let after = world.after_a_kill().await;
    after.ping().await.unwrap();
    let id = world.highlight(10, crest_core::highlight::HighlightState::Final, 2).id;
    let stored = after.highlight(&world.organization, &id).await.unwrap().unwrap();
    assert_eq!(stored, world.store.highlight(&world.organization, &id).await.unwrap().unwrap());
    let survivors = crest_core::store::Webhooks::deliveries(
        &after,
        &world.organization,
        &endpoint.id,
        None,
        &crate::world::page(10),
    )
    .await
    .unwrap();
    assert_eq!(survivors.items, world.deliveries_of(&endpoint).await);
    assert_eq!(survivors.items.len(), 2);
}

#[tokio::test]
async fn dropped_without_closing_it_opens_again() {
    let world = World::new().await;
    let file = world.folder.path().join("crest.db");
    drop(world.store);
    let again = SqliteStore::open(&file).await.unwrap();
    assert_eq!(again.organization_of_key("crest_sk_acme").await.unwrap().unwrap().id, world.organization);
}

#[tokio::test]
async fn many_writers_at_once_all_get_through() {
    let world = World::new().await;
    let writers = (0..40).map(|n| {
        let store = world.store.clone();
        tokio::spawn(async move {
            let key = format!("crest_sk_{n}");
            store.create_organization("tenant", &key, crate::world::NOW).await
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap().unwrap();
    }
    assert!(world.store.organization_of_key("crest_sk_39").await.unwrap().is_some());
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_with_the_secrets_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new().await;
    for name in ["crest.db", "crest.db-wal"] {
        let mode = std::fs::metadata(world.folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}
