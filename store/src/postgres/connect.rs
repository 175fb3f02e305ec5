//! Connections: what they are opened with, and what must hold of the server before anything is kept there.

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, Row};
use std::str::FromStr;
use std::time::Duration;

use crest_core::{Error, Result};

use super::{error, migrate};
use crate::config::DatabaseConfig;

/// Statements that a connection keeps prepared; the queries are some seventy, and lists of various lengths.
const PREPARED: usize = 200;
/// A connection that was not used for so long is closed.
const IDLE: Duration = Duration::from_secs(600);
/// A connection is replaced after so long, so that a server that was added or moved is found.
const LIFETIME: Duration = Duration::from_secs(3600);
/// How long a process may need for a change of the schema that others wait for.
const MIGRATION: Duration = Duration::from_secs(600);

/// What `database.url` says, and how messages name it: without the password.
pub(super) fn options(config: &DatabaseConfig) -> Result<(PgConnectOptions, String)> {
    let shape = "write postgres://user:password@host:port/database";
    let url = config.url.as_deref().unwrap_or_default();
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(Error::user(format!("database.url is not the address of a PostgreSQL database; {shape}")));
    }
    let wrong = |said: sqlx::Error| Error::user(format!("database.url cannot be read: {said}; {shape}"));
    let options = PgConnectOptions::from_str(url).map_err(wrong)?;
    let Some(database) = options.get_database() else {
        return Err(Error::user(format!("database.url names no database; {shape}")));
    };
    let server = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let place = format!("{server}/{database} as {}", options.get_username());
    let named = options.get_application_name().is_some();
    let options = options.statement_cache_capacity(PREPARED);
    Ok((if named { options } else { options.application_name("crest") }, place))
}

/// Connects once, makes sure that crest can work there, and brings the schema up to date. Answers what the
/// store's connections are to be opened with.
pub(super) async fn prepare(options: &PgConnectOptions, config: &DatabaseConfig) -> Result<PgConnectOptions> {
    let (mut connection, lasting) = reach(options, config).await?;
    let bringing = async {
        migrate::run(&mut connection).await?;
        if config.allow_superuser { Ok(()) } else { migrate::check_policies(&mut connection).await }
    };
    // The server has the same limit; this one holds where it is silent.
    let silent = |_| Error::outside(format!("the schema was not brought up to date within {MIGRATION:?}"));
    tokio::time::timeout(MIGRATION.saturating_add(config.acquire_timeout.0), bringing).await.map_err(silent)??;
    // The server learns of it sooner or later.
    let _ = tokio::time::timeout(config.acquire_timeout.0, connection.close()).await;
    let options = bounded(options.clone(), config.timeout.0, config.lock_timeout.0);
    Ok(if lasting { options } else { options.options([("synchronous_commit", "on")]) })
}

/// One connection to a server that crest can work with, and whether it keeps what it says is committed.
pub(super) async fn reach(options: &PgConnectOptions, config: &DatabaseConfig) -> Result<(PgConnection, bool)> {
    let limit = config.acquire_timeout.0;
    let patient = bounded(options.clone(), MIGRATION, MIGRATION);
    let reaching = async {
        let connected = PgConnection::connect_with(&patient).await;
        let mut connection = connected.map_err(|error| error::at_start(&error))?;
        let lasting = judge(&mut connection, config).await?;
        Ok((connection, lasting))
    };
    let silent = |_| Error::outside(format!("no answer within {limit:?}"));
    tokio::time::timeout(limit, reaching).await.map_err(silent)?
}

/// The store's connections; the first is opened when it is needed.
pub(super) fn pool(options: PgConnectOptions, config: &DatabaseConfig) -> PgPool {
    PgPoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(config.acquire_timeout.0)
        .idle_timeout(IDLE)
        .max_lifetime(LIFETIME)
        // A dead one shows when its transaction begins, and another is taken.
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

/// With limits that the server keeps. It also notices when this process is cut off, and frees what it
/// holds for the others.
fn bounded(options: PgConnectOptions, statement: Duration, lock: Duration) -> PgConnectOptions {
    let millis = |limit: Duration| limit.as_millis().to_string();
    options.options([
        ("statement_timeout", millis(statement)),
        ("lock_timeout", millis(lock)),
        ("idle_in_transaction_session_timeout", millis(statement)),
        ("tcp_keepalives_idle", "15".to_owned()),
        ("tcp_keepalives_interval", "5".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("row_security", "on".to_owned()),
        // Compiling the queries takes longer than they do.
        ("jit", "off".to_owned()),
    ])
}

/// Whether the server keeps what it says is committed. Fails where crest cannot work there.
async fn judge(connection: &mut PgConnection, config: &DatabaseConfig) -> Result<bool> {
    let row = sqlx::query(
        "SELECT rolname::text AS name, rolsuper OR rolbypassrls AS unbound, pg_is_in_recovery() AS standby, \
         current_setting('server_encoding') AS encoding, current_setting('synchronous_commit') AS synchronous, \
         current_setting('fsync') AS fsync FROM pg_roles WHERE rolname = current_user",
    )
    .fetch_one(connection)
    .await
    .map_err(|error| error::at_start(&error))?;
    let text = |column: &str| row.try_get::<String, _>(column).map_err(|error| error::at_start(&error));
    let flag = |column: &str| row.try_get::<bool, _>(column).map_err(|error| error::at_start(&error));
    if flag("unbound")? && !config.allow_superuser {
        return Err(Error::user(format!(
            "the role {} is a superuser or has BYPASSRLS, so PostgreSQL would not keep tenants apart; connect as an \
             ordinary role that owns the database (CREATE ROLE crest LOGIN PASSWORD '...'; CREATE DATABASE crest OWNER \
             crest), or set database.allow_superuser = true on a machine of your own",
            text("name")?
        )));
    }
    if flag("standby")? {
        return Err(error::only_reads_here());
    }
    let encoding = text("encoding")?;
    if encoding != "UTF8" {
        return Err(Error::user(format!(
            "the database keeps text as {encoding}; create one with ENCODING 'UTF8' TEMPLATE template0"
        )));
    }
    if text("fsync")? == "off" {
        tracing::warn!(
            "the database server runs with fsync = off: a loss of power there takes back what was committed"
        );
    }
    Ok(text("synchronous")? != "off")
}
