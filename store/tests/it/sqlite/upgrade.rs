//! A database of the first released schema, with something in every table, opened by today's crest.

use sha2::{Digest, Sha384};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, Row, SqliteConnection};
use std::collections::BTreeMap;
use std::path::Path;

use crest_core::highlight::HighlightState;
use crest_core::job::JobKind;
use crest_core::store::{Highlights, Jobs, MediaIndex, Streams, Tenants, Webhooks};
use crest_core::stream::StreamState;
use crest_core::{EndpointId, HighlightId, MediaTime, OrganizationId, Session, StreamId, WallTime};
use crest_store::SqliteStore;

use super::world::{instance, page};

/// Never to be changed: what is out there has it.
const SCHEMA: &str = include_str!("../../fixtures/0001_init.sql");
const ROWS: &str = include_str!("../../fixtures/0001_rows.sql");

async fn raw(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    options.journal_mode(SqliteJournalMode::Wal).connect().await.unwrap()
}

/// The file as the first schema's crest left it.
async fn old(path: &Path) {
    let mut db = raw(path).await;
    sqlx::raw_sql(SCHEMA).execute(&mut db).await.unwrap();
    sqlx::raw_sql(
        "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
         installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, checksum BLOB NOT NULL, \
         execution_time BIGINT NOT NULL)",
    )
    .execute(&mut db)
    .await
    .unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations VALUES (1, 'init', CURRENT_TIMESTAMP, TRUE, ?, 1000)")
        .bind(&Sha384::digest(SCHEMA.as_bytes())[..])
        .execute(&mut db)
        .await
        .unwrap();
    sqlx::raw_sql(ROWS).execute(&mut db).await.unwrap();
    sqlx::Connection::close(db).await.unwrap();
}

/// Of each table its columns.
async fn columns(db: &mut SqliteConnection) -> BTreeMap<String, Vec<String>> {
    let names = "SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_info(t.name) c WHERE t.type = 'table' \
                 AND t.name NOT LIKE '\\_%' ESCAPE '\\' AND t.name NOT LIKE 'sqlite%' ORDER BY t.name, c.cid";
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in sqlx::query(names).fetch_all(db).await.unwrap() {
        tables.entry(row.get(0)).or_default().push(row.get(1));
    }
    tables
}

/// Every value of these columns of each table.
async fn contents(db: &mut SqliteConnection, tables: &BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for (table, columns) in tables {
        let values = columns.iter().map(|c| format!("quote({c})")).collect::<Vec<_>>().join(" || ', ' || ");
        let query = format!("SELECT {values} FROM {table} ORDER BY 1");
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&mut *db).await.unwrap();
        all.insert(table.clone(), rows);
    }
    all
}

#[tokio::test]
async fn nothing_is_missing_after_the_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crest.db");
    old(&path).await;
    let mut db = raw(&path).await;
    let tables = columns(&mut db).await;
    let before = contents(&mut db, &tables).await;
    assert!(before.len() == 14 && before.values().all(|rows| !rows.is_empty()), "{before:?}");

    let store = SqliteStore::open(&path).await.unwrap();
    // What was one log is its partition 0 now.
    let (mut kept, mut expected) = (tables.clone(), before);
    kept.remove("fusion_position");
    expected.remove("fusion_position");
    assert_eq!(contents(&mut db, &kept).await, expected);

    let organization = store.organization_of_key("crest_sk_old").await.unwrap().unwrap();
    assert!(organization.operator && organization.name == "acme");
    let (org, stream) = (OrganizationId::from_raw("org_a"), StreamId::from_raw("str_a"));
    let shown = store.stream_of_key("key_a").await.unwrap().unwrap();
    assert_eq!((shown.state, shown.session), (StreamState::Interrupted, Some(Session::new(2))));
    assert_eq!(store.sessions(&stream).await.unwrap().len(), 2);
    let second = MediaTime::from_millis(1000);
    let media = store.fragments(&stream, Session::new(1), MediaTime::ZERO, second + second + second).await.unwrap();
    assert_eq!(media.iter().map(|f| (f.offset, f.bytes)).collect::<Vec<_>>(), [(100, 1000), (1100, 2000)]);
    let ready = store.highlight(&org, &HighlightId::from_raw("hl_ready")).await.unwrap().unwrap();
    assert_eq!(ready.highlight.state, HighlightState::Ready);
    assert_eq!(ready.clip.as_deref(), Some("clips/org_a/hl_ready.mp4"));
    let zero = store.claim_partition(0, &instance("new"), WallTime(0)).await.unwrap();
    let snapshot = &zero.snapshots[0];
    assert_eq!((snapshot.offset, &snapshot.state[..], zero.offset), (40, &[1, 2, 255][..], Some(41)));
    assert_eq!(zero.claim.epoch, 1);
    assert_eq!(store.fusion_reached().await.unwrap(), Some(41));
    let later = WallTime(1_795_000_000_100);
    let job = store.lease_job(JobKind::Clip, later, later.plus_millis(1000)).await.unwrap().unwrap();
    assert_eq!(job.subject, "hl_final");
    assert_eq!(store.outbox_depth().await.unwrap().0, 1);
    let endpoint = EndpointId::from_raw("whe_a");
    let deliveries = store.deliveries(&org, &endpoint, None, &page(10)).await.unwrap().items;
    assert_eq!(deliveries.iter().map(|d| (d.sequence, d.attempts)).collect::<Vec<_>>(), [(2, 3), (1, 1)]);
}

#[tokio::test]
async fn the_file_from_before_the_upgrade_is_kept_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crest.db");
    old(&path).await;
    let mut db = raw(&path).await;
    let tables = columns(&mut db).await;
    let before = contents(&mut db, &tables).await;
    drop(SqliteStore::open(&path).await.unwrap());

    let mut copy = raw(&folder.path().join("crest.db.before-0002")).await;
    assert_eq!(columns(&mut copy).await, tables, "it still has the old schema");
    assert_eq!(contents(&mut copy, &tables).await, before);
    // Opened again there is nothing to do, and nothing is copied.
    std::fs::remove_file(folder.path().join("crest.db.before-0002")).unwrap();
    SqliteStore::open(&path).await.unwrap();
    assert!(!folder.path().join("crest.db.before-0002").exists());
}
