//! Looks at a database without changing it: whose it is, how old its schema is, whether it is whole.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};
use std::path::Path;
use std::time::{Duration, Instant};

use crest_core::Result;

use super::{BUSY_LIMIT, MIGRATIONS, error};

/// SQLite's codes for a file that is damaged, or that was never a database.
const DAMAGED: [i32; 2] = [11, 26];
/// SQLite's code for a statement that was told to stop.
const INTERRUPTED: i32 = 9;
/// Steps of SQLite's machine between two looks at the time.
const STEPS: i32 = 10_000;

/// What wrote a database, as far as this build can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schema {
    /// Nothing is in it yet.
    Empty,
    /// This build's own.
    Current,
    /// An older crest; so many migrations are run at the next start.
    Older(usize),
    /// A newer crest, with this schema version; this build leaves it alone.
    Newer(i64),
    /// A build from other sources: this version of the schema is not the one known here.
    Different(i64),
    /// Something that is not crest.
    Foreign,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// What wrote it. Not known where the file is too damaged to tell.
    pub schema: Option<Schema>,
    /// What SQLite says is damaged.
    pub damage: Option<String>,
    /// Whether the time was enough to read all of it.
    pub whole: bool,
}

/// Looks at the file at `path`, for at most about `limit`.
///
/// With `at_rest`, nobody has the file open and there is no log beside it: then nothing at all is
/// written. Else SQLite takes part in its log, and needs the file `-shm` beside it for that.
pub async fn examine(path: &Path, at_rest: bool, limit: Duration) -> Result<Examined> {
    if path.metadata().is_ok_and(|file| file.len() == 0) {
        return Ok(Examined { schema: Some(Schema::Empty), damage: None, whole: true });
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_LIMIT);
    let options = if at_rest { options.immutable(true) } else { options };
    let mut found = Examined { schema: None, damage: None, whole: true };
    match look(&options, limit, &mut found).await {
        Err(error) if code(&error).is_some_and(|code| DAMAGED.contains(&code)) => {
            found.damage =
                Some(error.as_database_error().map_or_else(|| error.to_string(), |e| e.message().to_owned()));
            Ok(found)
        }
        Err(error) if code(&error) == Some(INTERRUPTED) => {
            found.whole = false;
            Ok(found)
        }
        Err(error) => Err(error::db(error).context(format!("cannot read the database {}", path.display()))),
        Ok(()) => Ok(found),
    }
}

/// The primary code of SQLite's answer.
fn code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?.parse::<i32>().ok()?;
    Some(code & 0xff)
}

async fn look(
    options: &SqliteConnectOptions,
    limit: Duration,
    found: &mut Examined,
) -> std::result::Result<(), sqlx::Error> {
    let mut connection = options.connect().await?;
    found.schema = Some(schema(&mut connection).await?);
    let end = Instant::now() + limit;
    connection.lock_handle().await?.set_progress_handler(STEPS, move || Instant::now() < end);
    let said: Vec<String> = sqlx::query_scalar("PRAGMA quick_check(3)").fetch_all(&mut connection).await?;
    if said != ["ok"] {
        found.damage = Some(said.join("; ").replace('\n', " "));
    }
    connection.close().await
}

async fn schema(connection: &mut SqliteConnection) -> std::result::Result<Schema, sqlx::Error> {
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'").fetch_all(&mut *connection).await?;
    if tables.is_empty() {
        return Ok(Schema::Empty);
    }
    if !tables.iter().any(|table| table == "_sqlx_migrations") {
        return Ok(Schema::Foreign);
    }
    let rows = sqlx::query("SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version")
        .fetch_all(&mut *connection)
        .await?;
    let mut known = 0;
    for row in rows {
        let (version, checksum): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        match MIGRATIONS.iter().find(|migration| migration.version == version) {
            None => return Ok(Schema::Newer(version)),
            Some(migration) if migration.checksum != checksum.as_slice() => return Ok(Schema::Different(version)),
            Some(_) => known += 1,
        }
    }
    let all = MIGRATIONS.iter().count();
    Ok(if known == all { Schema::Current } else { Schema::Older(all - known) })
}
