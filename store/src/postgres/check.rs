//! Looks at a database on a server, and leaves it as it is.

use sqlx::Connection;

use crest_core::{Error, Result};

use super::{connect, error, migrate};
use crate::DatabaseConfig;
use crate::check::Schema;

/// What a look at a server came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Where the database is and who asked, without the password.
    pub place: String,
    /// The server's version.
    pub version: String,
    /// How the database's schema stands to that of this build.
    pub schema: Schema,
    /// Whether it keeps what it says is committed.
    pub lasting: bool,
}

/// Connects to the database that `database.url` names, and looks at it.
///
/// Fails with the error that opening the store would give.
pub async fn examine(config: &DatabaseConfig) -> Result<Served> {
    config.check()?;
    let (options, place) = connect::options(config)?;
    let failed = |error: Error| error.context(format!("the database {place} (database.url)"));
    let look = async {
        let (mut connection, lasting) = connect::reach(&options, config).await?;
        let version = sqlx::query_scalar("SELECT current_setting('server_version')").fetch_one(&mut connection).await;
        let version: String = version.map_err(|e| error::at_start(&e))?;
        let schema = migrate::look(&mut connection).await?;
        if schema == Schema::Current && !config.allow_superuser {
            migrate::check_policies(&mut connection).await?;
        }
        // The server learns of it sooner or later.
        let _ = tokio::time::timeout(config.acquire_timeout.0, connection.close()).await;
        Ok((version, schema, lasting))
    };
    let (version, schema, lasting) = look.await.map_err(failed)?;
    Ok(Served { place, version, schema, lasting })
}
