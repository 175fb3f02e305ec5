//! The schema: made once, by whoever comes first, and the same as SQLite's.

use crest_core::Fault;
use crest_core::store::Tenants;
use crest_store::{DatabaseConfig, PostgresStore, SqliteStore};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use std::collections::{BTreeMap, BTreeSet};

use super::Home;
use super::server::Server;
use super::world::{NOW, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_processes_that_start_on_an_empty_database_make_it_once() {
    let home = Home::new().await;
    let openings = (0..4).map(|_| {
        let config = home.config();
        tokio::spawn(async move { PostgresStore::open(&config).await })
    });
    for opening in openings.collect::<Vec<_>>() {
        opening.await.unwrap().unwrap().bootstrap(Some("crest_sk_one"), NOW).await.unwrap().unwrap();
    }
    let migrations = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres")).unwrap().count();
    assert_eq!(home.count("_sqlx_migrations WHERE success").await, i64::try_from(migrations).unwrap());
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_with_what_to_do() {
    let world = World::new().await;
    let mut raw = world.home.raw().await;
    sqlx::raw_sql(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', TRUE, '\\x00', 0)",
    )
    .execute(&mut raw)
    .await
    .unwrap();
    let error = PostgresStore::open(&world.home.config()).await.unwrap_err();
    assert_eq!((error.fault, error.retryable), (Fault::User, false));
    assert!(error.message.contains("newer version of crest") && error.message.contains("9999"), "{error}");

    let other = "DELETE FROM _sqlx_migrations WHERE version = 9999; UPDATE _sqlx_migrations SET checksum = '\\x00'";
    sqlx::raw_sql(other).execute(&mut raw).await.unwrap();
    let error = PostgresStore::open(&world.home.config()).await.unwrap_err();
    assert_eq!((error.fault, error.retryable), (Fault::User, false));
    assert!(error.message.contains("other sources"), "{error}");
}

#[tokio::test]
async fn both_databases_have_the_same_tables_and_columns() {
    let world = World::new().await;
    let columns = "SELECT table_name::text, column_name::text FROM information_schema.columns \
                   WHERE table_schema = 'public' AND table_name NOT LIKE '\\_%'";
    let rows: Vec<(String, String)> = sqlx::query_as(columns).fetch_all(&mut world.home.raw().await).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crest.db");
    SqliteStore::open(&file).await.unwrap();
    let mut sqlite = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    let names = "SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_info(t.name) c WHERE t.type = 'table' \
                 AND t.name NOT LIKE '\\_%' ESCAPE '\\' AND t.name NOT LIKE 'sqlite%'";
    let expected: Vec<(String, String)> = sqlx::query_as(names).fetch_all(&mut sqlite).await.unwrap();

    let tables = |rows: Vec<(String, String)>| {
        let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (table, column) in rows {
            tables.entry(table).or_default().insert(column);
        }
        tables
    };
    let (found, expected) = (tables(rows), tables(expected));
    assert_eq!(found, expected);
    assert!(found.len() >= 14 && found.values().all(|columns| columns.contains("organization_id")));
}

#[tokio::test]
async fn a_role_that_may_not_make_the_schema_is_told_what_it_needs() {
    let server = Server::shared();
    let owned = server.database().await;
    let mut admin = server.admin().await;
    let taken = format!("ALTER DATABASE {} OWNER TO CURRENT_USER", owned.name);
    sqlx::query(AssertSqlSafe(taken)).execute(&mut admin).await.unwrap();
    let config = DatabaseConfig { url: Some(owned.url.clone()), ..DatabaseConfig::default() };
    let error = PostgresStore::open(&config).await.unwrap_err();
    assert_eq!((error.fault, error.retryable), (Fault::User, false));
    assert!(error.message.contains("let it own the database"), "{error}");
}

#[tokio::test]
async fn a_database_that_cannot_keep_every_text_is_refused() {
    let server = Server::shared();
    let owned = server.database().await;
    let mut admin = server.admin().await;
    for statement in [
        format!("DROP DATABASE {}", owned.name),
        format!("CREATE DATABASE {0} OWNER {0} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'", owned.name),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
    }
    let config = DatabaseConfig { url: Some(owned.url.clone()), ..DatabaseConfig::default() };
    let error = PostgresStore::open(&config).await.unwrap_err();
    assert_eq!((error.fault, error.retryable), (Fault::User, false));
    assert!(error.message.contains("ENCODING 'UTF8'"), "{error}");
}

#[tokio::test]
async fn what_a_connection_has_prepared_survives_a_change_of_the_schema() {
    let world = World::new().await;
    let found = world.store.stream(&world.organization, &world.stream).await.unwrap();
    // What a newer crest does that starts while this one runs.
    let mut newer: PgConnection = world.home.raw().await;
    sqlx::raw_sql("ALTER TABLE streams ADD COLUMN more TEXT").execute(&mut newer).await.unwrap();
    assert_eq!(world.store.stream(&world.organization, &world.stream).await.unwrap(), found);
}
