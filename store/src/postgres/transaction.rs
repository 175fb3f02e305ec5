//! A transaction on one connection, on somebody's behalf.

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres};
use std::fmt::Write;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::transaction::{Failure, Outcome, Whose};
use crate::values::can_be_kept;

/// How long a connection may take to end a transaction that nobody waits for.
const BEHIND: Duration = Duration::from_secs(5);

/// One that was begun. Dropped before its end (its caller went away, or the connection broke) it closes
/// the connection: nobody knows in which state that is.
#[derive(Debug)]
pub(super) struct Transaction {
    connection: PoolConnection<Postgres>,
    over: bool,
}

impl Transaction {
    /// Begins, and says on whose behalf, in one exchange with the server.
    pub(super) async fn begin(pool: &PgPool, begin: &'static str, whose: Whose<'_>) -> Outcome<Transaction> {
        let mut transaction = Self { connection: pool.acquire().await?, over: false };
        let begin = format!("{begin}; {}", on_behalf(whose));
        sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *transaction).await.map_err(Failure::Began)?;
        Ok(transaction)
    }

    pub(super) async fn commit(mut self) -> Outcome<()> {
        sqlx::raw_sql("COMMIT").execute(&mut *self).await?;
        self.over = true;
        Ok(())
    }

    pub(super) async fn rollback(mut self) {
        self.over = sqlx::raw_sql("ROLLBACK").execute(&mut *self).await.is_ok();
    }

    /// Ends one that only read, after its caller has gone on.
    pub(super) fn end_behind(self) {
        tokio::spawn(tokio::time::timeout(BEHIND, self.rollback()));
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.over {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// What the policies of the tables go by, until the transaction is over. The tenant is written in
/// hexadecimal, so that no id can say anything else than itself.
fn on_behalf(whose: Whose<'_>) -> String {
    let whose = match whose {
        Whose::All => "*",
        // No tenant has such an id, least of all everybody's.
        Whose::Of(organization) if organization.as_str() == "*" || !can_be_kept(organization.as_str()) => "",
        Whose::Of(organization) => organization.as_str(),
    };
    let mut hex = String::with_capacity(whose.len() * 2);
    for byte in whose.as_bytes() {
        let _ = write!(hex, "{byte:02x}");
    }
    format!("SELECT set_config('crest.organization_id', convert_from(decode('{hex}', 'hex'), 'UTF8'), true)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crest_core::OrganizationId;

    #[test]
    fn no_id_stands_for_everybody_or_breaks_out() {
        let of = |id: &str| on_behalf(Whose::Of(&OrganizationId::from_raw(id)));
        assert_eq!(of("*"), of(""));
        assert_ne!(of("*"), on_behalf(Whose::All));
        assert!(!of("x', true); DROP TABLE streams; --").contains("DROP"));
    }
}
