//! Tenants and their API keys.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite, Transaction};

use crest_core::store::{Organization, Tenants};
use crest_core::{Error, OrganizationId, Result, WallTime};

use crate::SqliteStore;
use crate::row::{db, get};

/// What is kept of a key. Keys are long and random, so one round of SHA-256 is enough.
fn digest(api_key: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(api_key.as_bytes()))
}

fn organization(row: &SqliteRow) -> Result<Organization> {
    Ok(Organization {
        id: OrganizationId::from_raw(get::<String>(row, "organization_id")?),
        name: get(row, "name")?,
        operator: get(row, "operator")?,
    })
}

#[async_trait]
impl Tenants for SqliteStore {
    async fn bootstrap(&self, api_key: Option<&str>, now: WallTime) -> Result<Option<Organization>> {
        let mut tx = self.write().await?;
        let found =
            sqlx::query("SELECT * FROM organizations WHERE operator").fetch_optional(&mut *tx).await.map_err(db)?;
        let found = found.as_ref().map(organization).transpose()?;
        let Some(api_key) = api_key else { return Ok(found) };
        let operator = match found {
            Some(operator) => operator,
            None => insert_organization(&mut tx, "operator", true, now).await?,
        };
        insert_key(&mut tx, &operator, api_key, now).await?;
        tx.commit().await.map_err(db)?;
        Ok(Some(operator))
    }

    async fn create_organization(&self, name: &str, api_key: &str, now: WallTime) -> Result<Organization> {
        let mut tx = self.write().await?;
        let created = insert_organization(&mut tx, name, false, now).await?;
        insert_key(&mut tx, &created, api_key, now).await?;
        tx.commit().await.map_err(db)?;
        Ok(created)
    }

    async fn organization_of_key(&self, api_key: &str) -> Result<Option<Organization>> {
        let row = sqlx::query(
            "SELECT o.* FROM api_keys k JOIN organizations o ON o.organization_id = k.organization_id \
             WHERE k.key_sha256 = ?",
        )
        .bind(digest(api_key))
        .fetch_optional(&self.readers)
        .await
        .map_err(db)?;
        row.as_ref().map(organization).transpose()
    }
}

async fn insert_organization(
    tx: &mut Transaction<'_, Sqlite>,
    name: &str,
    operator: bool,
    now: WallTime,
) -> Result<Organization> {
    let created = Organization { id: OrganizationId::draw(), name: name.to_owned(), operator };
    sqlx::query("INSERT INTO organizations (organization_id, name, operator, created_at) VALUES (?, ?, ?, ?)")
        .bind(created.id.as_str())
        .bind(name)
        .bind(operator)
        .bind(now.0)
        .execute(&mut **tx)
        .await
        .map_err(db)?;
    Ok(created)
}

/// Adds a key; one that the tenant has already stays as it is, one of another tenant is refused.
async fn insert_key(
    tx: &mut Transaction<'_, Sqlite>,
    owner: &Organization,
    api_key: &str,
    now: WallTime,
) -> Result<()> {
    let digest = digest(api_key);
    sqlx::query(
        "INSERT INTO api_keys (key_sha256, organization_id, created_at) VALUES (?, ?, ?) \
         ON CONFLICT (key_sha256) DO NOTHING",
    )
    .bind(&digest)
    .bind(owner.id.as_str())
    .bind(now.0)
    .execute(&mut **tx)
    .await
    .map_err(db)?;
    let holder: String = sqlx::query_scalar("SELECT organization_id FROM api_keys WHERE key_sha256 = ?")
        .bind(&digest)
        .fetch_one(&mut **tx)
        .await
        .map_err(db)?;
    if holder != owner.id.as_str() {
        return Err(Error::conflict("this API key belongs to another organization; choose another key"));
    }
    Ok(())
}
