//! Many processes on one database, and somebody else who is in their way.

use crest_core::event::EventType;
use crest_core::highlight::{Decision, HighlightState};
use crest_core::store::{FusionCommit, SharedStore};
use crest_core::webhook::Endpoint;
use crest_core::{Bucket, EndpointId, HighlightId, OrganizationId, StreamId};
use std::future::Future;
use tokio::task::JoinSet;

use super::world::{FIRST, NOW, World, instance, stream_of, told};

/// The same database as so many processes have it.
pub async fn processes(world: &World, count: usize) -> Vec<SharedStore> {
    let mut stores = Vec::new();
    for _ in 0..count {
        stores.push(world.home.after_a_kill().await);
    }
    stores
}

/// What becomes of tasks that run at once.
pub async fn all<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut running = JoinSet::new();
    tasks.into_iter().for_each(|task| drop(running.spawn(task)));
    running.join_all().await
}

/// Tenants with an endpoint each, and a stream that is fed.
pub async fn tenants(world: &World, count: usize) -> Vec<(OrganizationId, StreamId, Endpoint)> {
    let mut made = Vec::new();
    for n in 0..count {
        let owner = world.store.create_organization("more", &format!("crest_sk_more_{n}"), NOW).await.unwrap().id;
        let stream = StreamId::from_raw(format!("str_more_{n}"));
        world.store.create_stream(&stream_of(&owner, &stream, NOW)).await.unwrap();
        world.store.start_session(&stream, NOW, &instance("one")).await.unwrap();
        let endpoint = Endpoint {
            id: EndpointId::from_raw(format!("whe_more_{n}")),
            organization_id: owner.clone(),
            url: "https://more.example/hook".to_owned(),
            events: Vec::new(),
            min_score: None,
            secret: "whsec_c2VjcmV0".to_owned(),
            created_at: NOW,
        };
        world.store.create_endpoint(&endpoint).await.unwrap();
        made.push((owner, stream, endpoint));
    }
    made
}

/// Decisions about several tenants' streams in one commit, in the order of `streams`.
pub fn decided(world: &World, streams: &[(OrganizationId, StreamId)], entry: i64) -> FusionCommit {
    let one = |(owner, stream): &(OrganizationId, StreamId)| {
        let mut highlight = world.highlight(entry, HighlightState::Provisional, 1);
        highlight.organization_id = owner.clone();
        highlight.stream_id = stream.clone();
        highlight.id = HighlightId::derive(stream, FIRST, Bucket::new(entry as u64));
        let event = told(&highlight, EventType::HighlightDetected);
        (Decision::Detected { highlight }, Some(event))
    };
    world.decided(streams.iter().map(one).collect())
}

/// A transaction of somebody else that has a tenant's row.
pub async fn hold(world: &World, owner: &OrganizationId) -> sqlx::PgConnection {
    let mut other = world.home.everybodys().await;
    sqlx::raw_sql("BEGIN").execute(&mut other).await.unwrap();
    take(&mut other, owner).await;
    other
}

/// Makes it have another tenant's row, too.
pub async fn take(other: &mut sqlx::PgConnection, owner: &OrganizationId) {
    sqlx::query("SELECT * FROM organizations WHERE organization_id = $1 FOR UPDATE")
        .bind(owner.as_str())
        .execute(other)
        .await
        .unwrap();
}

/// Waits until so many connections of the test's database wait for a lock.
pub async fn until_waiting(world: &World, count: i64) {
    let mut watch = world.home.raw().await;
    let waiting =
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut watch).await.unwrap() < count {
        assert!(std::time::Instant::now() < limit, "nobody waits");
    }
}
