//! The processes that share the database.

use async_trait::async_trait;

use crest_core::instance::{Instance, InstanceId};
use crest_core::store::Instances;
use crest_core::{Result, WallTime};

use super::DbStore;
use super::fusion_commit::ALL_TENANTS;
use super::row::{get, get_wall};
use crate::transaction::Whose;

#[async_trait]
impl Instances for DbStore {
    async fn beat(&self, instance: &Instance) -> Result<()> {
        change!(self, "beat", Whose::All, |tx| {
            sqlx::query(
                "INSERT INTO instances (id, organization_id, roles, rtmp_url, seen_at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (id) DO UPDATE \
                 SET roles = excluded.roles, rtmp_url = excluded.rtmp_url, seen_at = excluded.seen_at",
            )
            .bind(instance.id.as_str())
            .bind(ALL_TENANTS)
            .bind(&instance.roles)
            .bind(&instance.rtmp_url)
            .bind(instance.seen_at.0)
            .execute(&mut **tx)
            .await?;
            Ok(())
        })
    }

    async fn instances(&self) -> Result<Vec<Instance>> {
        look!(self, Whose::All, |tx| {
            let rows = sqlx::query("SELECT * FROM instances ORDER BY id").fetch_all(&mut **tx).await?;
            let instance = |row| {
                Ok(Instance {
                    id: InstanceId::from_raw(get::<String>(row, "id")?),
                    roles: get(row, "roles")?,
                    rtmp_url: get(row, "rtmp_url")?,
                    seen_at: get_wall(row, "seen_at")?,
                })
            };
            rows.iter().map(instance).collect()
        })
    }

    async fn forget_instances(&self, before: WallTime) -> Result<u64> {
        change!(self, "forget_instances", Whose::All, |tx| {
            let gone = sqlx::query(
                "DELETE FROM instances WHERE seen_at < $1 AND NOT EXISTS (SELECT 1 FROM streams s \
                 WHERE s.instance = instances.id AND s.state NOT IN ('ended', 'failed'))",
            )
            .bind(before.0)
            .execute(&mut **tx)
            .await?;
            Ok(gone.rows_affected())
        })
    }
}
