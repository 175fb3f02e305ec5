//! Connections that break and servers that go away in the middle of a commit: whatever the caller was told,
//! what it repeats is there once and whole.

use crest_core::event::{Event, EventType};
use crest_core::highlight::HighlightState;
use crest_core::job::JobKind;
use crest_core::store::{ClipResult, Committed, FusionCommit, SharedStore};
use crest_core::stream::StreamState;
use crest_core::webhook::{AttemptOutcome, DeliveryOrder};
use crest_core::{Error, HighlightId, MediaTime, Session};
use crest_store::{DatabaseConfig, PostgresStore};
use serde_json::json;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Home;
use super::proxy::{Fate, Proxy};
use super::server::Server;
use super::world::{NOW, World, instance, told};

const ORDER: DeliveryOrder = DeliveryOrder { attempts: 4, millis: 600_000, per_organization: 8 };

/// A world, and its store as a process has it whose connections can be broken.
async fn fragile() -> (World, SharedStore, Proxy) {
    let world = World::new().await;
    let proxy = Proxy::before(Server::shared().port()).await;
    let url = Some(world.home.database.through(proxy.port));
    let store = PostgresStore::open(&DatabaseConfig { url, ..DatabaseConfig::default() }).await.unwrap();
    (world, Arc::new(store), proxy)
}

/// Makes the call's commit fail as `fate` says, and calls again. Answers what came of the second call.
async fn again<T, F>(proxy: &Proxy, fate: Fate, call: impl Fn() -> F) -> T
where
    T: std::fmt::Debug,
    F: Future<Output = Result<T, Error>>,
{
    proxy.set(fate);
    let error = call().await.expect_err("the connection broke");
    assert!(error.retryable && error.message.contains("database.url"), "{error}");
    call().await.unwrap()
}

#[tokio::test]
async fn whatever_became_of_a_commit_it_can_be_repeated() {
    for fate in [Fate::Lost, Fate::Unanswered] {
        let (world, store, proxy) = fragile().await;
        let endpoint = world.add_endpoint("a").await;
        let first_took = fate == Fate::Unanswered;

        // A tenant, a session, a step.
        let made = again(&proxy, fate, || store.create_organization("more", "crest_sk_more", NOW)).await;
        assert_eq!(store.organization_of_key("crest_sk_more").await.unwrap(), Some(made));
        assert_eq!(world.home.count("organizations").await, 2);
        let operator = again(&proxy, fate, || store.bootstrap(Some("crest_sk_operator"), NOW)).await;
        assert!(operator.unwrap().operator);
        let (later, two) = (NOW.plus_millis(1), instance("two"));
        let session = again(&proxy, fate, || store.start_session(&world.stream, later, &two)).await;
        assert_eq!((session, world.home.count("sessions").await), (Session::new(2), 2));
        let (owner, stream) = (&world.organization, &world.stream);
        let started = [Event::new(owner.clone(), EventType::StreamStarted, stream.as_str(), 1, NOW, json!({}))];
        let step = || store.transition_stream(stream, Some(session), StreamState::Live, None, NOW, &started);
        assert_eq!(again(&proxy, fate, step).await, !first_took, "whether it is this call that did it");
        again(&proxy, fate, || store.end_session(stream, session, MediaTime::ZERO)).await;
        let fragment = world.fragment("one.mp4", 100, 0, 4, true);
        again(&proxy, fate, || store.add_fragment(&fragment)).await;
        assert_eq!(world.home.count("fragments").await, 1);

        // A decision, and what follows from it.
        let claimed = again(&proxy, fate, || store.claim_partition(0, &two, NOW)).await;
        let commit = FusionCommit {
            claim: claimed.claim,
            snapshots: vec![world.snapshot(5, b"state")],
            offset: Some(5),
            ..world.decided(vec![world.detected(10), world.finalized(10, 2)])
        };
        assert_eq!(again(&proxy, fate, || store.commit_fusion(&commit, NOW)).await, Committed::Kept);
        let until = NOW.plus_millis(1000);
        let leased = again(&proxy, fate, || store.lease_job(JobKind::Clip, NOW, until)).await;
        assert_eq!(leased.is_none(), first_took, "what was leased to nobody comes back when the lease runs out");
        let job = store.lease_job(JobKind::Clip, until, until.plus_millis(1000)).await.unwrap().unwrap();
        again(&proxy, fate, || store.requeue_job(&job, until, "waits", false)).await;
        let job = store.lease_job(JobKind::Clip, until, until.plus_millis(1000)).await.unwrap().unwrap();
        assert_eq!(job.attempt, 2, "the one that waited is not counted, nor is anything counted twice");
        let ready = told(&world.highlight(10, HighlightState::Ready, 3), EventType::HighlightReady);
        let clip = ClipResult {
            clip: Some("a.mp4".into()),
            thumbnail: None,
            clip_start: MediaTime::ZERO,
            clip_duration: MediaTime::from_millis(1000),
        };
        again(&proxy, fate, || store.finish_clip(&job, &clip, &ready)).await;
        assert_eq!(world.state_of(10).await, HighlightState::Ready);

        // Each event is told once, in order.
        let sent = world.deliveries_of(&endpoint).await;
        let types: Vec<_> = sent.iter().rev().map(|d| (d.sequence, d.event_type.name())).collect();
        let expected = ["stream.started", "highlight.detected", "highlight.updated", "highlight.ready"];
        assert_eq!(types, (1..).zip(expected).collect::<Vec<_>>(), "{fate:?}");
        let leased = again(&proxy, fate, || store.lease_deliveries(NOW, until, 10, &ORDER)).await;
        assert_eq!(leased.is_empty(), first_took);
        let leased = store.lease_deliveries(until, until.plus_millis(1000), 10, &ORDER).await.unwrap().remove(0);
        let retry = AttemptOutcome::Retry { at: until, reason: "status 500".into() };
        again(&proxy, fate, || store.finish_attempt(&leased, &retry, until)).await;
        assert_eq!(world.deliveries_of(&endpoint).await[3].attempts, 1);
        again(&proxy, fate, || store.prune(NOW.plus_millis(1), 100)).await;
        again(&proxy, fate, || store.delete_endpoint(owner, &endpoint.id)).await;
        assert_eq!(world.home.count("deliveries").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_whose_connection_is_ended_leaves_nothing_and_can_be_repeated() {
    let world = World::new().await;
    let endpoint = world.add_endpoint("a").await;
    let commit = world.decided(vec![world.detected(10), world.finalized(10, 2)]);
    // Somebody has the endpoint's row: the commit gets to its first delivery and waits there.
    let mut other = world.home.everybodys().await;
    sqlx::raw_sql("BEGIN; SELECT * FROM endpoints FOR UPDATE").execute(&mut other).await.unwrap();
    let committing = {
        let (store, commit) = (world.store.clone(), commit.clone());
        tokio::spawn(async move { store.commit_fusion(&commit, NOW).await })
    };
    let mut admin = Server::shared().admin().await;
    let end = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = $1 AND wait_event_type = 'Lock'";
    let limit = std::time::Instant::now() + Duration::from_secs(60);
    let ended = async |admin: &mut sqlx::PgConnection| -> i64 {
        sqlx::query_scalar(end).bind(&world.home.database.name).fetch_one(admin).await.unwrap()
    };
    while ended(&mut admin).await == 0 {
        assert!(std::time::Instant::now() < limit, "it never waited");
    }
    let error = committing.await.unwrap().unwrap_err();
    assert!(error.retryable && error.message.contains("database.url"), "{error}");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    for table in ["highlights", "events", "deliveries", "jobs"] {
        assert_eq!(world.home.count(table).await, 0, "{table}");
    }
    assert_eq!(world.store.commit_fusion(&commit, NOW).await.unwrap(), Committed::Kept);
    assert_eq!(world.deliveries_of(&endpoint).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_restarts_while_a_hundred_commits_run_keeps_every_one_that_was_confirmed_and_none_by_half() {
    for crashes in [false, true] {
        let server = Server::start();
        let database = server.database().await;
        let world = World::at(Home { database }).await;
        let endpoint = world.add_endpoint("a").await;
        let store = PostgresStore::open(&world.home.config()).await.unwrap();

        let confirmed = Arc::new(AtomicUsize::new(0));
        let mut committing = Vec::new();
        for entry in 0..100 {
            let commit = world.decided(vec![world.detected(entry * 20), world.finalized(entry * 20, 2)]);
            let id = commit.decisions[0].decision.highlight().id.clone();
            let (store, confirmed) = (store.clone(), confirmed.clone());
            committing.push(tokio::spawn(async move {
                let kept = crest_core::store::Highlights::commit_fusion(&store, &commit, NOW).await;
                let kept = kept.map(|committed| assert_eq!(committed, Committed::Kept)).is_ok();
                confirmed.fetch_add(usize::from(kept), Ordering::SeqCst);
                (id, kept, commit)
            }));
        }
        // In the middle of it.
        while confirmed.load(Ordering::SeqCst) < 20 {
            assert!(committing.iter().any(|task| !task.is_finished()), "fewer than 20 were kept");
            tokio::task::yield_now().await;
        }
        if crashes {
            server.crash()
        } else {
            server.stop()
        }
        let mut outcomes = Vec::new();
        for task in committing {
            outcomes.push(task.await.unwrap());
        }
        server.start_again();

        let there: BTreeSet<HighlightId> = ids(&world, "SELECT id FROM highlights").await;
        for (id, kept, _) in &outcomes {
            assert!(!kept || there.contains(id), "{id} was confirmed and is gone");
        }
        assert!(outcomes.iter().any(|(_, kept, _)| !kept), "the server went away after all was done");
        // What is there is there with all that belongs to it.
        let whole = "SELECT h.id FROM highlights h JOIN jobs j ON j.subject = h.id \
                     WHERE h.state = 'final' AND 2 = (SELECT COUNT(*) FROM events e \
                     JOIN deliveries d ON d.event_id = e.id WHERE e.subject = h.id)";
        assert_eq!(ids(&world, whole).await, there);
        assert_eq!(world.home.count("events").await, 2 * there.len() as i64);

        // And repeating all of them makes it a hundred, each told once.
        for (_, _, commit) in &outcomes {
            let kept = crest_core::store::Highlights::commit_fusion(&store, commit, NOW).await.unwrap();
            assert_eq!(kept, Committed::Kept);
        }
        assert_eq!(world.home.count("highlights").await, 100);
        let sent = crest_core::store::Page { after: None, limit: 500 };
        let sent = world.store.deliveries(&world.organization, &endpoint.id, None, &sent).await.unwrap().items;
        assert_eq!(sent.iter().rev().map(|d| d.sequence).collect::<Vec<_>>(), (1..=200).collect::<Vec<_>>());
    }
}

async fn ids(world: &World, query: &'static str) -> BTreeSet<HighlightId> {
    let ids: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut world.home.everybodys().await).await.unwrap();
    ids.into_iter().map(HighlightId::from_raw).collect()
}
