//! What others do to the topics: records that are none, schemas of a later version, a topic that is deleted.

use anyhow::{Context, Result, ensure};
use crest_core::topic::Topic;
use std::sync::Arc;

use super::plan::ROLES;
use super::world::World;
use crate::harness::{run, wait_for};
use crate::scene::{LIMIT, Place, Scene};

#[test]
fn what_others_put_on_the_topics_is_set_aside_and_everything_else_goes_on() -> Result<()> {
    run(async {
        let world = World::new(&ROLES).await?;
        let mut scene = Scene::new(Arc::clone(&world), "28").await?;
        scene.live().await?;
        scene.works().await?;
        let topics = world.topics();
        for topic in [Topic::Signals, Topic::ChatMessages, Topic::Marks, Topic::MediaVideo] {
            // In the way of the stream that is live: in its partition.
            topics.produce(topic, &scene.stream, "1", b"not Arrow").await?;
            topics.produce(topic, &scene.stream, "1", b"").await?;
            topics.produce(topic, &scene.stream, "9", b"of a later version").await?;
        }
        let all = || async {
            let letters = topics.dead_letters().await?;
            ensure!(letters.len() >= 12, "set aside: {letters:?}");
            Ok(Some(letters))
        };
        let letters = wait_for("12 dead letters", LIMIT, all).await.with_context(|| world.log())?;
        let later = letters.iter().filter(|reason| reason.contains("schema version is 9")).count();
        ensure!(later == 4 && letters.iter().all(|reason| !reason.is_empty()), "{letters:#?}");
        scene.works().await?;
        scene.close().await.map(drop)
    })
}

#[test]
fn a_topic_that_is_deleted_is_named_and_waited_for() -> Result<()> {
    run(async {
        let world = World::new(&ROLES).await?;
        let mut scene = Scene::new(Arc::clone(&world), "28").await?;
        scene.live().await?;
        scene.works().await?;
        // What is marked while its topic is not there is kept: it is a moment once it is.
        gone_and_back(&world, &mut scene, Topic::Marks).await?;
        let logs = scene.close().await?.logs;
        ensure!(logs.set_aside.is_empty(), "{:?}", logs.set_aside);
        Ok(())
    })
}

#[test]
fn a_signals_log_that_is_made_anew_is_decided_on_from_its_first_record() -> Result<()> {
    run(async {
        let world = World::new(&ROLES).await?;
        let mut scene = Scene::new(Arc::clone(&world), "28").await?;
        scene.live().await?;
        scene.works().await?;
        gone_and_back(&world, &mut scene, Topic::Signals).await
    })
}

/// Deletes a topic: whichever process comes upon that first says so, it is made again, and crest goes on.
async fn gone_and_back(world: &Arc<World>, scene: &mut Scene<World>, topic: Topic) -> Result<()> {
    let name = world.topics().name(topic.name());
    world.topics().delete(topic).await?;
    world.hears(&format!("{name} does not exist")).await?;
    scene.watched().await?;
    wait_for("the topic to be there again", LIMIT, || async { world.topics().exists(topic).await })
        .await
        .with_context(|| world.log())?;
    scene.works().await
}
