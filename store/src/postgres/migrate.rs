//! Brings the schema up to date: whichever process comes first does it, the others wait for it. Each
//! migration is a transaction of its own together with the note that it was made.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{PgConnection, Row};
use std::collections::BTreeMap;

use crest_core::{Error, Result};

use super::error::at_start;
use crate::check::Schema;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/postgres");

/// Applies what is missing. A schema that a newer crest has written is left as it is.
pub(super) async fn run(connection: &mut PgConnection) -> Result<()> {
    match look(connection).await? {
        Schema::Current => return Ok(()),
        Schema::Newer(version) => return Err(newer(version)),
        Schema::Different(version) => return Err(different(version)),
        Schema::Empty | Schema::Older(_) | Schema::Foreign => {}
    }
    // Takes an advisory lock and looks again.
    MIGRATIONS.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => newer(version),
        MigrateError::VersionMismatch(version) => different(version),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            at_start(&error).context("bringing the schema up to date failed, it is as it was")
        }
        other => Error::outside(format!("bringing the schema up to date failed, it is as it was: {other}")),
    })
}

/// How the schema stands to the one of this build; nothing is changed.
pub(super) async fn look(connection: &mut PgConnection) -> Result<Schema> {
    let applied = applied(connection).await?;
    if applied.is_empty() {
        return Ok(Schema::Empty);
    }
    for (version, checksum) in &applied {
        match MIGRATIONS.iter().find(|known| known.version == *version) {
            None => return Ok(Schema::Newer(*version)),
            Some(known) if known.checksum != checksum.as_slice() => return Ok(Schema::Different(*version)),
            Some(_) => {}
        }
    }
    let missing = MIGRATIONS.iter().filter(|known| !applied.contains_key(&known.version)).count();
    Ok(if missing == 0 { Schema::Current } else { Schema::Older(missing) })
}

/// The migrations that were made, with their checksums; none in a new database.
async fn applied(connection: &mut PgConnection) -> Result<BTreeMap<i64, Vec<u8>>> {
    let table = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
    if !sqlx::query_scalar::<_, bool>(table).fetch_one(&mut *connection).await.map_err(|e| at_start(&e))? {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query("SELECT version, checksum FROM _sqlx_migrations WHERE success").fetch_all(connection).await;
    let pair = |row: &sqlx::postgres::PgRow| Ok((row.try_get("version")?, row.try_get("checksum")?));
    rows.and_then(|rows| rows.iter().map(pair).collect()).map_err(|error| at_start(&error))
}

/// The tables of tenants.
const OF_TENANTS: &str = "FROM pg_class t JOIN pg_attribute c ON c.attrelid = t.oid \
     WHERE t.relkind = 'r' AND t.relnamespace = current_schema()::regnamespace \
     AND c.attname = 'organization_id' AND NOT c.attisdropped";

/// Fails where a table of tenants is open to whoever asks: somebody has switched its policies off, or made
/// one that lets this role see more.
pub(super) async fn check_policies(connection: &mut PgConnection) -> Result<()> {
    let off =
        format!("SELECT t.relname::text {OF_TENANTS} AND NOT (t.relrowsecurity AND t.relforcerowsecurity) ORDER BY 1");
    let off = names(connection, &off).await?;
    if let Some(table) = off.first() {
        return Err(Error::user(format!(
            "row-level security is off for {}, so PostgreSQL would not keep tenants apart; as the tables' owner: \
             ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            off.join(", ")
        )));
    }
    // What any permissive policy lets through can be seen. One for another role concerns that role.
    let foreign = format!(
        "SELECT format('DROP POLICY %I ON %I', p.polname, t.relname) FROM pg_policy p JOIN \
         (SELECT t.oid, t.relname {OF_TENANTS}) t ON p.polrelid = t.oid \
         WHERE p.polpermissive AND p.polname <> 'tenants' AND EXISTS \
         (SELECT FROM unnest(p.polroles) role WHERE role = 0 OR pg_has_role(role, 'MEMBER')) ORDER BY 1"
    );
    match names(connection, &foreign).await?.as_slice() {
        [] => Ok(()),
        drop => Err(Error::user(format!(
            "policies that crest did not make open its tables, so PostgreSQL would not keep tenants apart; make them for \
             other roles only, or: {}",
            drop.join("; ")
        ))),
    }
}

async fn names(connection: &mut PgConnection, query: &str) -> Result<Vec<String>> {
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned()));
    query.fetch_all(connection).await.map_err(|error| at_start(&error))
}

fn newer(version: i64) -> Error {
    Error::user(format!(
        "a newer version of crest has written it (schema {version}); start that version, or restore a backup from \
         before the upgrade"
    ))
}

fn different(version: i64) -> Error {
    Error::user(format!(
        "its schema {version} is not the one this build knows; it was written by a build from other sources"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_is_one_transaction() {
        assert!(MIGRATIONS.iter().all(|m| !m.no_tx), "a crash in the middle would leave half a schema");
    }
}
