//! Tenants and their API keys.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crest_core::store::{Organization, Tenants};
use crest_core::{Error, OrganizationId, Result, WallTime};

use super::row::get;
use super::{DbRow, DbStore, Tx};
use crate::transaction::{Outcome, Whose};

/// What is kept of a key. Keys are long and random, so one round of SHA-256 is enough.
fn digest(api_key: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(api_key.as_bytes()))
}

fn organization(row: &DbRow) -> Outcome<Organization> {
    Ok(Organization {
        id: OrganizationId::from_raw(get::<String>(row, "organization_id")?),
        name: get(row, "name")?,
        operator: get(row, "operator")?,
    })
}

#[async_trait]
impl Tenants for DbStore {
    async fn bootstrap(&self, api_key: Option<&str>, now: WallTime) -> Result<Option<Organization>> {
        change!(self, "bootstrap", Whose::All, |tx| {
            let found = operator(tx).await?;
            let Some(api_key) = api_key else { return Ok(found) };
            let operator = match found {
                Some(operator) => operator,
                None => match insert_organization(tx, "operator", true, now).await? {
                    Some(operator) => operator,
                    // Another process made it at the same moment.
                    None => operator(tx).await?.ok_or_else(|| Error::ours("the operator is there and is not"))?,
                },
            };
            insert_key(tx, &operator, api_key, now).await?;
            Ok(Some(operator))
        })
    }

    /// Done again with the same name and key it answers the same tenant: whoever does not know whether it
    /// was kept may ask again.
    async fn create_organization(&self, name: &str, api_key: &str, now: WallTime) -> Result<Organization> {
        change!(self, "create_organization", Whose::All, |tx| {
            let same = |holder: &Organization| holder.name == name && !holder.operator;
            if let Some(made) = holder(tx, api_key).await?.filter(same) {
                return Ok(made);
            }
            let created = insert_organization(tx, name, false, now).await?;
            let created = created.ok_or_else(|| Error::ours("an id was drawn twice"))?;
            insert_key(tx, &created, api_key, now).await?;
            Ok(created)
        })
    }

    async fn organization_of_key(&self, api_key: &str) -> Result<Option<Organization>> {
        look!(self, Whose::All, |tx| { holder(tx, api_key).await })
    }
}

async fn operator(tx: &mut Tx) -> Outcome<Option<Organization>> {
    let row = sqlx::query("SELECT * FROM organizations WHERE operator").fetch_optional(&mut **tx).await?;
    row.as_ref().map(organization).transpose()
}

/// The tenant that a key belongs to.
async fn holder(tx: &mut Tx, api_key: &str) -> Outcome<Option<Organization>> {
    let row = sqlx::query(
        "SELECT o.* FROM api_keys k JOIN organizations o ON o.organization_id = k.organization_id \
         WHERE k.key_sha256 = $1",
    )
    .bind(digest(api_key))
    .fetch_optional(&mut **tx)
    .await?;
    row.as_ref().map(organization).transpose()
}

/// `None` where there is one already that it would contradict: an operator.
async fn insert_organization(tx: &mut Tx, name: &str, operator: bool, now: WallTime) -> Outcome<Option<Organization>> {
    let created = Organization { id: OrganizationId::draw(), name: name.to_owned(), operator };
    let added = sqlx::query(
        "INSERT INTO organizations (organization_id, name, operator, created_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT DO NOTHING",
    )
    .bind(created.id.as_str())
    .bind(name)
    .bind(operator)
    .bind(now.0)
    .execute(&mut **tx)
    .await?;
    Ok(Some(created).filter(|_| added.rows_affected() > 0))
}

/// Adds a key; one that the tenant has already stays as it is, one of another tenant is refused.
async fn insert_key(tx: &mut Tx, owner: &Organization, api_key: &str, now: WallTime) -> Outcome<()> {
    sqlx::query(
        "INSERT INTO api_keys (key_sha256, organization_id, created_at) VALUES ($1, $2, $3) \
         ON CONFLICT (key_sha256) DO NOTHING",
    )
    .bind(digest(api_key))
    .bind(owner.id.as_str())
    .bind(now.0)
    .execute(&mut **tx)
    .await?;
    match holder(tx, api_key).await? {
        Some(holder) if holder.id == owner.id => Ok(()),
        _ => Err(Error::conflict("this API key belongs to another organization; choose another key").into()),
    }
}
