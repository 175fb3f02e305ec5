//! The file itself: its schema, its version, whose it is.

use crest_core::Fault;
use crest_core::store::Tenants;
use crest_store::SqliteStore;

use super::world::World;

#[tokio::test]
async fn every_table_names_its_tenant() {
    let world = World::new().await;
    let mut db = world.home.raw().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\' \
         AND name NOT LIKE 'sqlite%'",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    assert!(tables.len() >= 14, "{tables:?}");
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
    .execute(&mut world.home.raw().await)
    .await
    .unwrap();
    let error = SqliteStore::open(&world.home.file()).await.unwrap_err();
    assert_eq!(error.fault, Fault::User);
    assert!(error.message.contains("newer version of crest"), "{error}");
    assert!(error.message.contains("9999"), "{error}");
}

#[tokio::test]
async fn dropped_without_closing_it_opens_again() {
    let world = World::new().await;
    let file = world.home.file();
    drop(world.store);
    let again = SqliteStore::open(&file).await.unwrap();
    assert_eq!(again.organization_of_key("crest_sk_acme").await.unwrap().unwrap().id, world.organization);
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_with_the_secrets_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new().await;
    for name in ["crest.db", "crest.db-wal"] {
        let mode = std::fs::metadata(world.home.folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}
