//! The processes that share the database.

use async_trait::async_trait;

use crest_core::feeds::Addresses;
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
        let addresses = instance.addresses.as_ref();
        change!(self, "beat", Whose::All, |tx| {
            sqlx::query(
                "INSERT INTO instances (id, organization_id, roles, rtmp_url, rtmps_url, srt_url, whip_url, seen_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                 ON CONFLICT (id) DO UPDATE SET roles = excluded.roles, rtmp_url = excluded.rtmp_url, \
                 rtmps_url = excluded.rtmps_url, srt_url = excluded.srt_url, whip_url = excluded.whip_url, seen_at = excluded.seen_at",
            )
            .bind(instance.id.as_str())
            .bind(ALL_TENANTS)
            .bind(&instance.roles)
            .bind(addresses.and_then(|addresses| addresses.rtmp.as_deref()))
            .bind(addresses.and_then(|addresses| addresses.rtmps.as_deref()))
            .bind(addresses.and_then(|addresses| addresses.srt.as_deref()))
            .bind(addresses.and_then(|addresses| addresses.whip.as_deref()))
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
                let (rtmp, rtmps) = (get(row, "rtmp_url")?, get(row, "rtmps_url")?);
                let (srt, whip) = (get(row, "srt_url")?, get(row, "whip_url")?);
                let addresses = Addresses { rtmp, rtmps, srt, whip };
                Ok(Instance {
                    id: InstanceId::from_raw(get::<String>(row, "id")?),
                    roles: get(row, "roles")?,
                    addresses: (addresses != Addresses::default()).then_some(addresses),
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
