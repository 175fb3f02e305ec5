//! Which deliveries are leased next: of each endpoint one, in order, and of no tenant too many.

use sqlx::QueryBuilder;
use std::collections::{BTreeSet, HashMap};

use crest_core::WallTime;
use crest_core::trace::Trace;
use crest_core::webhook::{Delivery, DeliveryOrder, Endpoint};

use super::row::{get, get_trace};
use super::webhooks::{delivery, endpoint};
use super::{Db, Tx, take_turn};
use crate::transaction::Outcome;

/// Ids of the deliveries that may be leased, in the order in which they should be. Until the
/// transaction is over nobody else leases any: what is counted here stays so.
pub(crate) async fn due(tx: &mut Tx, now: WallTime, limit: u32, order: &DeliveryOrder) -> Outcome<Vec<String>> {
    take_turn(tx).await?;
    // One delivery of an endpoint at a time. Its queue waits for its head, so that events arrive in
    // order; but a head that was refused so often and for so long that the receiver refuses it,
    // and not everything, steps aside and is tried again between the others.
    //
    // Each step finds its rows by an index, however long a queue has become; a database that merges these
    // steps may read all that is pending instead, or, per delivery, all others of its endpoint.
    let old = now.plus_millis(order.millis.saturating_neg());
    let rows = sqlx::query(
        "WITH heads AS MATERIALIZED ( \
           SELECT e.id, (SELECT due.sequence FROM ( \
               SELECT aside.next_attempt_at, aside.attempts, aside.sequence FROM deliveries aside \
               WHERE aside.endpoint_id = e.id AND aside.state = 'pending' AND aside.attempts >= $2 \
               AND aside.created_at <= $3 AND aside.next_attempt_at <= $1 \
               UNION ALL \
               SELECT head.next_attempt_at, head.attempts, head.sequence FROM deliveries head \
               WHERE head.endpoint_id = e.id AND head.state = 'pending' AND head.next_attempt_at <= $1 \
               AND head.sequence = (SELECT MIN(queue.sequence) FROM deliveries queue \
                 WHERE queue.endpoint_id = e.id AND queue.state = 'pending' \
                 AND (queue.attempts < $2 OR queue.created_at > $3)) \
             ) AS due ORDER BY due.next_attempt_at, due.attempts, due.sequence LIMIT 1) AS sequence \
           FROM endpoints e WHERE NOT EXISTS (SELECT 1 FROM deliveries busy \
             WHERE busy.endpoint_id = e.id AND busy.state = 'pending' AND busy.leased_until > $1)) \
         SELECT id FROM ( \
           SELECT d.id, d.next_attempt_at, \
             ROW_NUMBER() OVER (PARTITION BY d.organization_id ORDER BY d.next_attempt_at, d.id) AS turn, \
             (SELECT COUNT(*) FROM deliveries mine WHERE mine.organization_id = d.organization_id \
              AND mine.state = 'pending' AND mine.leased_until > $1) AS leased \
           FROM heads JOIN deliveries d ON d.endpoint_id = heads.id AND d.sequence = heads.sequence) AS next \
         WHERE turn + leased <= $4 ORDER BY turn, next_attempt_at, id LIMIT $5",
    )
    .bind(now.0)
    .bind(i64::from(order.attempts))
    .bind(old.0)
    .bind(i64::from(order.per_organization))
    .bind(i64::from(limit))
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| get(row, "id")).collect()
}

/// Leases those of them that are still free; one that is being changed this very moment is left for the
/// next time.
pub(crate) async fn take(
    tx: &mut Tx,
    due: &[String],
    now: WallTime,
    until: WallTime,
) -> Outcome<HashMap<String, (Delivery, Option<Trace>)>> {
    let mut query = QueryBuilder::<Db>::new("UPDATE deliveries SET leased_until = ");
    query.push_bind(until.0).push(" WHERE id IN (SELECT id FROM deliveries WHERE id IN (");
    let mut list = query.separated(", ");
    for id in due {
        list.push_bind(id);
    }
    query.push(") AND state = 'pending' AND (leased_until IS NULL OR leased_until <= ").push_bind(now.0);
    query.push(concat!(") ORDER BY id", skip_locked!(), ") RETURNING *"));
    let rows = query.build().fetch_all(&mut **tx).await?;
    rows.iter().map(|row| Ok((get(row, "id")?, (delivery(row)?, get_trace(row, "trace")?)))).collect()
}

/// The endpoints of these ids, each once.
pub(crate) async fn targets<'a>(tx: &mut Tx, ids: impl Iterator<Item = &'a str>) -> Outcome<Vec<Endpoint>> {
    let ids: BTreeSet<&str> = ids.collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = QueryBuilder::<Db>::new("SELECT * FROM endpoints WHERE id IN (");
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(id);
    }
    query.push(")");
    query.build().fetch_all(&mut **tx).await?.iter().map(endpoint).collect()
}
