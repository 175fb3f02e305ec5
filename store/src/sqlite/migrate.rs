//! Brings the schema up to date: a copy of the file first, then each migration in a transaction of
//! its own together with the note that it was made, so that a crash leaves one schema or the other.

use sqlx::SqlitePool;
use sqlx::migrate::{MigrateError, Migrator};
use std::path::{Path, PathBuf};

use crest_core::{Error, Result};

use super::{create_private, error};

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/sqlite");

/// The largest database that is copied before its schema changes: some seconds on a slow disk. The
/// owner of a larger one is told to copy it beforehand the next time.
const COPY_LIMIT: u64 = 1 << 30;

/// Applies what `migrator` has and the database has not. One that a newer crest has written is left
/// as it is.
pub(super) async fn run(db: &SqlitePool, path: &Path, migrator: &Migrator) -> Result<()> {
    let applied = applied(db).await?;
    let pending = migrator.iter().find(|m| !applied.contains(&m.version)).map(|m| m.version);
    let known = applied.iter().all(|version| migrator.version_exists(*version));
    if let (Some(first), true, false) = (pending, known, applied.is_empty()) {
        back_up(db, path, first).await?;
    }
    migrator.run(db).await.map_err(failed)
}

/// The migrations that were made; none in a new file.
async fn applied(db: &SqlitePool) -> Result<Vec<i64>> {
    let table = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
    if sqlx::query_scalar::<_, i64>(table).fetch_one(db).await.map_err(error::db)? == 0 {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("SELECT version FROM _sqlx_migrations").fetch_all(db).await.map_err(error::db)
}

/// Where the copy from before migration `version` lies.
fn backup(path: &Path, version: i64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".before-{version:04}"));
    name.into()
}

/// Copies the database beside itself. The copy is there whole or not at all.
async fn back_up(db: &SqlitePool, path: &Path, version: i64) -> Result<()> {
    let copy = backup(path, version);
    let bytes: i64 = sqlx::query_scalar("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
        .fetch_one(db)
        .await
        .map_err(error::db)?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes > COPY_LIMIT) {
        tracing::warn!(bytes, limit = COPY_LIMIT, "the database is too large to be copied before its upgrade");
        return Ok(());
    }
    let failed = |what: String| {
        Error::outside(format!(
            "the database could not be copied to {} before its upgrade, and is left as it was: {what}; free {bytes} \
             bytes and start again",
            copy.display()
        ))
    };
    let io = |e: std::io::Error| failed(e.to_string());
    let mut part = copy.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    match std::fs::remove_file(&part) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
        _ => {}
    }
    // Made here, empty, for its permissions: it holds the same secrets.
    create_private(&part).map_err(io)?;
    let to = part.to_str().ok_or_else(|| failed("the path is not UTF-8".to_owned()))?;
    sqlx::query("VACUUM INTO ?").bind(to).execute(db).await.map_err(|e| failed(e.to_string()))?;
    let finish = || -> std::io::Result<()> {
        std::fs::File::open(&part)?.sync_all()?;
        std::fs::rename(&part, &copy)?;
        std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    finish().map_err(io)?;
    tracing::info!(copy = %copy.display(), bytes, "the database was copied before its upgrade; the copy may be deleted");
    Ok(())
}

fn failed(error: MigrateError) -> Error {
    match error {
        MigrateError::VersionMissing(version) => Error::user(format!(
            "a newer version of crest has written it (schema {version}); \
             start that version, or restore a backup from before the upgrade (crest.db.before-*)"
        )),
        MigrateError::VersionMismatch(version) => Error::user(format!(
            "its schema {version} is not the one this build knows; it was written by a build from other sources"
        )),
        other => Error::outside(format!("bringing the schema up to date failed, it is as it was: {other}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use sqlx::migrate::{Migration, MigrationType};
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
    use std::borrow::Cow;
    use std::os::unix::fs::PermissionsExt;

    async fn pool(path: &Path) -> SqlitePool {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap()
    }

    fn migrator(scripts: &[&'static str]) -> Migrator {
        let migration = |(version, sql): (i64, &&'static str)| {
            let sql = sqlx::SqlStr::from_static(sql);
            Migration::new(version, "test".into(), MigrationType::Simple, sql, false)
        };
        let migrations: Vec<Migration> = (1..).zip(scripts).map(migration).collect();
        Migrator { migrations: Cow::Owned(migrations), ..Migrator::DEFAULT }
    }

    async fn tables(db: &SqlitePool) -> Vec<String> {
        let tables =
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\' ORDER BY name";
        sqlx::query_scalar(tables).fetch_all(db).await.unwrap()
    }

    const FIRST: &str = "CREATE TABLE a (x BIGINT); INSERT INTO a VALUES (7);";

    #[tokio::test]
    async fn a_migration_that_breaks_off_changes_nothing_and_can_be_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("crest.db");
        let db = pool(&path).await;
        run(&db, &path, &migrator(&[FIRST])).await.unwrap();
        assert!(!backup(&path, 1).exists(), "there was nothing to copy");

        let breaks = "CREATE TABLE b (x BIGINT); UPDATE a SET x = 8; INSERT INTO nowhere VALUES (1);";
        let error = run(&db, &path, &migrator(&[FIRST, breaks])).await.unwrap_err();
        assert!(error.message.contains("it is as it was"), "{error}");
        assert_eq!(tables(&db).await, ["a"]);
        assert_eq!(sqlx::query_scalar::<_, i64>("SELECT x FROM a").fetch_one(&db).await.unwrap(), 7);
        assert_eq!(applied(&db).await.unwrap(), [1]);

        run(&db, &path, &migrator(&[FIRST, "CREATE TABLE b (x BIGINT); UPDATE a SET x = 8;"])).await.unwrap();
        assert_eq!(tables(&db).await, ["a", "b"]);
    }

    #[tokio::test]
    async fn the_copy_from_before_holds_what_was_there_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("crest.db");
        let db = pool(&path).await;
        run(&db, &path, &migrator(&[FIRST])).await.unwrap();
        // What an upgrade that was killed while it copied leaves.
        std::fs::write(folder.path().join("crest.db.before-0002.part"), "half").unwrap();
        run(&db, &path, &migrator(&[FIRST, "UPDATE a SET x = 8;"])).await.unwrap();
        let copy = folder.path().join("crest.db.before-0002");
        assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o077, 0);
        let before = pool(&copy).await;
        assert_eq!(sqlx::query_scalar::<_, i64>("SELECT x FROM a").fetch_one(&before).await.unwrap(), 7);
        assert_eq!(applied(&before).await.unwrap(), [1]);
        before.close().await;
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "the database and the copy");
    }

    #[test]
    fn every_migration_is_one_transaction() {
        assert!(MIGRATIONS.iter().all(|m| !m.no_tx), "a crash in the middle would leave half a schema");
    }
}
