//! Tenants are kept apart by the database: SQL that forgets its tenant, as the program's own role.

use crest_core::Fault;
use crest_core::job::JobKind;
use crest_store::{DatabaseConfig, PostgresStore};
use sqlx::postgres::PgQueryResult;
use sqlx::{AssertSqlSafe, PgConnection};

use super::server::Server;
use super::world::{NOW, World, instance, stream_of};
use super::{count, speak_for};
use crest_core::{OrganizationId, StreamId};

/// A tenant with a row in every table, and another with a stream and a key.
async fn two_tenants() -> (World, OrganizationId) {
    let world = World::new().await;
    world.add_endpoint("a").await;
    world.commit(vec![world.detected(10), world.finalized(10, 2)]).await;
    let mut commit = world.decided(Vec::new());
    commit.snapshots = vec![world.snapshot(1, b"state")];
    let _ = world.store.commit_fusion(&commit, NOW).await.unwrap();
    world.store.add_fragment(&world.fragment("one.mp4", 100, 0, 4, true)).await.unwrap();
    let live = crest_core::stream::StreamState::Live;
    world.store.transition_stream(&world.stream, None, live, None, NOW, &[]).await.unwrap();
    let seen =
        crest_core::instance::Instance { id: instance("one"), roles: "all".into(), addresses: None, seen_at: NOW };
    world.store.beat(&seen).await.unwrap();
    let other = world.store.create_organization("other", "crest_sk_other", NOW).await.unwrap().id;
    let stream = StreamId::from_raw("str_other");
    world.store.create_stream(&stream_of(&other, &stream, NOW)).await.unwrap();
    (world, other)
}

async fn tables(connection: &mut PgConnection) -> Vec<String> {
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' \
                  AND table_name NOT LIKE '\\_%' ORDER BY 1";
    sqlx::query_scalar(tables).fetch_all(connection).await.unwrap()
}

async fn run(connection: &mut PgConnection, statement: &str) -> Result<PgQueryResult, sqlx::Error> {
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(connection).await
}

/// The code of what PostgreSQL says against a statement.
async fn refusal(connection: &mut PgConnection, statement: &str) -> String {
    match run(connection, statement).await {
        Err(sqlx::Error::Database(error)) => error.code().unwrap().into_owned(),
        other => panic!("{statement}: {other:?}"),
    }
}

const POLICY: &str = "42501";
const FOREIGN_KEY: &str = "23503";

#[tokio::test]
async fn every_table_has_its_policy_and_it_binds_the_owner() {
    let (world, _) = two_tenants().await;
    let mut raw = world.home.raw().await;
    let guarded = "SELECT relname::text FROM pg_class t WHERE relrowsecurity AND relforcerowsecurity \
                   AND EXISTS (SELECT 1 FROM pg_policies p WHERE p.tablename = t.relname AND p.cmd = 'ALL') ORDER BY 1";
    let guarded: Vec<String> = sqlx::query_scalar(guarded).fetch_all(&mut raw).await.unwrap();
    assert_eq!(guarded, tables(&mut raw).await);
}

#[tokio::test]
async fn whoever_does_not_say_whose_rows_sees_none() {
    let (world, _) = two_tenants().await;
    let (mut raw, mut all) = (world.home.raw().await, world.home.everybodys().await);
    let tables = tables(&mut raw).await;
    for table in &tables {
        assert!(count(&mut all, table).await > 0, "{table} has rows");
        assert_eq!(count(&mut raw, table).await, 0, "{table}");
    }
    // Nor does one that did in a transaction before.
    sqlx::raw_sql("BEGIN; SELECT set_config('crest.organization_id', '*', true); COMMIT")
        .execute(&mut raw)
        .await
        .unwrap();
    for table in &tables {
        assert_eq!(count(&mut raw, table).await, 0, "{table}, after a transaction");
    }
    assert_eq!(run(&mut raw, "DELETE FROM streams").await.unwrap().rows_affected(), 0);
    assert_eq!(run(&mut raw, "UPDATE endpoints SET url = 'https://thief.example'").await.unwrap().rows_affected(), 0);
    let made = "INSERT INTO api_keys VALUES ('stolen', (SELECT organization_id FROM organizations LIMIT 1), 0)";
    assert_eq!(refusal(&mut raw, made).await, POLICY);
}

#[tokio::test]
async fn a_tenant_reads_nothing_of_another_however_it_asks() {
    let (world, other) = two_tenants().await;
    let mut raw = world.home.raw().await;
    speak_for(&mut raw, other.as_str()).await;
    for table in tables(&mut raw).await {
        assert_eq!(count(&mut raw, &format!("{table} WHERE organization_id <> '{other}'")).await, 0, "{table}");
    }
    for asked in [
        "streams a JOIN sessions b ON b.stream_id = a.id",
        "organizations a CROSS JOIN streams b WHERE a.organization_id <> b.organization_id",
        "streams WHERE id = 'str_a' OR stream_key = 'key_of_str_a'",
        "(SELECT DISTINCT organization_id FROM api_keys OFFSET 1) AS others",
        "events e WHERE EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = e.id)",
        "highlights h FULL JOIN jobs j ON j.subject = h.id",
    ] {
        assert_eq!(count(&mut raw, asked).await, 0, "{asked}");
    }
    assert_eq!(count(&mut raw, "streams").await, 1, "its own it sees");
    // The policies are no setting that one may leave.
    run(&mut raw, "SET row_security = off").await.unwrap();
    assert_eq!(refusal(&mut raw, "SELECT * FROM streams").await, POLICY);
    assert_eq!(refusal(&mut raw, "DELETE FROM streams").await, POLICY);
}

#[tokio::test]
async fn a_tenant_changes_nothing_of_another_and_gives_nothing_away() {
    let (world, other) = two_tenants().await;
    let mine = world.organization.clone();
    let mut raw = world.home.raw().await;
    speak_for(&mut raw, other.as_str()).await;
    for statement in [
        format!("UPDATE streams SET name = 'taken' WHERE organization_id = '{mine}'"),
        "UPDATE endpoints SET secret = 'whsec_known'".to_owned(),
        "UPDATE organizations SET operator = TRUE WHERE name = 'acme'".to_owned(),
        format!("UPDATE streams SET organization_id = '{other}' WHERE id = 'str_a'"),
        "DELETE FROM deliveries".to_owned(),
        "DELETE FROM fragments".to_owned(),
        "DELETE FROM fusion_partitions".to_owned(),
        "DELETE FROM highlights USING sessions".to_owned(),
    ] {
        assert_eq!(run(&mut raw, &statement).await.unwrap().rows_affected(), 0, "{statement}");
    }
    for statement in [
        format!("UPDATE streams SET organization_id = '{mine}'"),
        format!("UPDATE api_keys SET organization_id = '{mine}'"),
        "UPDATE streams SET organization_id = '*'".to_owned(),
        format!("INSERT INTO api_keys VALUES ('mine', '{mine}', 0)"),
        "INSERT INTO organizations VALUES ('org_new', 'new', FALSE, 0)".to_owned(),
        format!("INSERT INTO endpoints VALUES ('whe_x', '{mine}', 'https://thief.example', '[]', NULL, '', 0, 0)"),
        "INSERT INTO instances VALUES ('me', '*', 'all', NULL, 0)".to_owned(),
        "INSERT INTO fusion_partitions VALUES (0, '*', 99) ON CONFLICT (partition_number) DO UPDATE SET epoch = 99"
            .to_owned(),
    ] {
        assert_eq!(refusal(&mut raw, &statement).await, POLICY, "{statement}");
    }
}

#[tokio::test]
async fn nothing_of_a_tenant_refers_to_something_of_another() {
    let (world, other) = two_tenants().await;
    let mut raw = world.home.raw().await;
    speak_for(&mut raw, other.as_str()).await;
    for statement in [
        format!("INSERT INTO sessions VALUES ('str_a', 9, '{other}', 0)"),
        format!("INSERT INTO stream_history VALUES ('str_a', 9, '{other}', 'live', 'ended', NULL, 0)"),
        format!("INSERT INTO segments VALUES ('x.mp4', '{other}', 'str_a', 1, 1, 0, 1, 0)"),
        format!("INSERT INTO fragments VALUES ('one.mp4', 9, '{other}', 'str_a', 1, 1, 1, 0, 1, TRUE)"),
        format!(
            "INSERT INTO highlights VALUES ('hl_x', '{other}', 'str_a', 1, 'final', 1, 0, 1, 0, 0.5, 'x', '{{}}', '[]', \
             1, NULL, NULL, NULL, NULL, NULL, 0)"
        ),
        format!("INSERT INTO fusion_snapshots VALUES ('str_a', '{other}', 0, 1, 1, '') ON CONFLICT DO NOTHING"),
    ] {
        // A row that is there already is no way in either: what conflicts is left, and not shown.
        match run(&mut raw, &statement).await {
            Ok(done) => assert_eq!(done.rows_affected(), 0, "{statement}"),
            Err(sqlx::Error::Database(error)) => assert_eq!(error.code().unwrap(), FOREIGN_KEY, "{statement}"),
            Err(error) => panic!("{statement}: {error}"),
        }
    }
    let event =
        format!("INSERT INTO events VALUES ('evt_x', '{other}', 'x', 'x', 1, 0, NULL, NULL, NULL, '{{}}', NULL, 1)");
    run(&mut raw, &event).await.unwrap();
    let to_its_endpoint = format!(
        "INSERT INTO deliveries VALUES ('msg_x', '{other}', 'evt_x', 'x', 'whe_a', 9, '{{}}', 'pending', 0, 0, NULL, \
         NULL, NULL, 0)"
    );
    assert_eq!(refusal(&mut raw, &to_its_endpoint).await, FOREIGN_KEY);
}

#[tokio::test]
async fn the_stores_own_methods_stay_with_their_tenant() {
    let (world, other) = two_tenants().await;
    // A worker's word about a job goes no further than the job's tenant.
    let mut job = world.store.lease_job(JobKind::Clip, NOW, NOW.plus_millis(1000)).await.unwrap().unwrap();
    job.organization_id = other.clone();
    let error = world.store.requeue_job(&job, NOW, "mine now", true).await.unwrap_err();
    assert_eq!(error.fault, Fault::NotFound);
    // Everybody's name is nobody's.
    let everybody = OrganizationId::from_raw("*");
    assert!(world.store.streams(&everybody, &super::world::page(10)).await.unwrap().items.is_empty());
    let mut foreign = world.fragment("two.mp4", 100, 0, 4, true);
    foreign.organization_id = other;
    assert_eq!(world.store.add_fragment(&foreign).await.unwrap_err().fault, Fault::NotFound);
}

#[tokio::test]
async fn a_role_that_the_policies_do_not_bind_is_refused_unless_a_developer_says_so() {
    let world = World::new().await;
    let mut admin = Server::shared().admin().await;
    for power in ["SUPERUSER", "BYPASSRLS"] {
        run(&mut admin, &format!("ALTER ROLE {} {power}", world.home.database.name)).await.unwrap();
        let error = PostgresStore::open(&world.home.config()).await.unwrap_err();
        assert_eq!((error.fault, error.retryable), (Fault::User, false));
        assert!(error.message.contains("BYPASSRLS") && error.message.contains("allow_superuser"), "{error}");
        let allowed = DatabaseConfig { allow_superuser: true, ..world.home.config() };
        PostgresStore::open(&allowed).await.unwrap();
        run(&mut admin, &format!("ALTER ROLE {} NO{power}", world.home.database.name)).await.unwrap();
    }
    PostgresStore::open(&world.home.config()).await.unwrap();
}

#[tokio::test]
async fn a_table_whose_policy_was_switched_off_is_refused() {
    let world = World::new().await;
    let mut raw = world.home.raw().await;
    for off in ["NO FORCE", "DISABLE"] {
        run(&mut raw, &format!("ALTER TABLE streams {off} ROW LEVEL SECURITY")).await.unwrap();
        let error = PostgresStore::open(&world.home.config()).await.unwrap_err();
        assert_eq!((error.fault, error.retryable), (Fault::User, false));
        assert!(error.message.contains("streams"), "{error}");
    }
}

#[tokio::test]
async fn a_policy_that_opens_a_table_is_refused_and_one_for_another_role_is_not() {
    let world = World::new().await;
    let (mut raw, reader) = (world.home.raw().await, format!("{}_reader", world.home.database.name));
    run(&mut Server::shared().admin().await, &format!("CREATE ROLE {reader}")).await.unwrap();
    run(&mut raw, &format!("CREATE POLICY reports ON streams FOR SELECT TO {reader} USING (true)")).await.unwrap();
    PostgresStore::open(&world.home.config()).await.unwrap();
    run(&mut raw, "CREATE POLICY everybody ON streams USING (true)").await.unwrap();
    let error = PostgresStore::open(&world.home.config()).await.unwrap_err();
    assert_eq!((error.fault, error.retryable), (Fault::User, false));
    assert!(
        error.message.contains("DROP POLICY everybody ON streams") && !error.message.contains("reports"),
        "{error}"
    );
    run(&mut raw, "DROP POLICY everybody ON streams").await.unwrap();
    run(&mut raw, "DROP POLICY reports ON streams").await.unwrap();
    run(&mut Server::shared().admin().await, &format!("DROP ROLE {reader}")).await.unwrap();
}
