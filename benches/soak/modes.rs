//! The two runs: many streams that come and go, and one that goes on.

use anyhow::{Context, Result};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

use crate::crest::Crest;
use crate::sample::Sampler;
use crate::stream::Live;
use crate::{Common, media};

/// The figures of [`streams`].
pub const STREAMS: &str = "streams.csv";
/// The figures of [`hour`].
pub const HOUR: &str = "hour.csv";

/// `rounds` times `count` streams, `at_once` at a time, with rests in between.
pub async fn streams(common: &Common, count: usize, rounds: usize, at_once: usize, rest: Duration) -> Result<()> {
    let file: Arc<Path> = media::SHORT.file().await?.into();
    let crest = Arc::new(Crest::start(&common.crest, &common.out.join("streams.log")).await?);
    let sampler = Sampler::start(&crest, &common.out.join(STREAMS), common.scrape)?;
    sampler.phase("start");
    tokio::time::sleep(rest).await;
    for round in 1..=rounds {
        sampler.phase(&format!("round {round}"));
        let mut running = JoinSet::new();
        for number in 0..count {
            if running.len() >= at_once.max(1) {
                over(running.join_next().await, &sampler);
            }
            let (crest, file) = (Arc::clone(&crest), Arc::clone(&file));
            running.spawn(async move { one(&crest, number, &file).await });
        }
        while let Some(ended) = running.join_next().await {
            over(Some(ended), &sampler);
        }
        println!("round {round} of {rounds}: {count} streams have come and gone");
        sampler.phase(&format!("rest {round}"));
        tokio::time::sleep(rest).await;
    }
    sampler.stop().await?;
    Arc::into_inner(crest).context("a stream holds on to the server")?.stop().await
}

/// Counts a stream, and tells of one that did not go as it should.
fn over(ended: Option<Result<Result<()>, tokio::task::JoinError>>, sampler: &Sampler) {
    sampler.stream_over();
    match ended {
        Some(Ok(Err(error))) => eprintln!("a stream went wrong: {error:#}"),
        Some(Err(error)) => eprintln!("a stream went wrong: {error}"),
        Some(Ok(Ok(()))) | None => {}
    }
}

/// Every other stream breaks off, the rest end by themselves.
async fn one(crest: &Crest, number: usize, file: &Path) -> Result<()> {
    let mut live = Live::start(crest, number, file, false).await?;
    for second in 0..4 {
        live.chat(10).await?;
        if second == 2 {
            live.mark().await?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    live.end(number.is_multiple_of(2)).await
}

/// One stream for `length`, with chat each second and a mark each minute.
pub async fn hour(common: &Common, length: Duration) -> Result<()> {
    let file = media::LONG.file().await?;
    let crest = Crest::start(&common.crest, &common.out.join("hour.log")).await?;
    let sampler = Sampler::start(&crest, &common.out.join(HOUR), common.scrape)?;
    sampler.phase("live");
    let mut live = Live::start(&crest, 0, &file, true).await?;
    let begun = Instant::now();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    for second in 0u64.. {
        seconds.tick().await;
        if begun.elapsed() >= length {
            break;
        }
        anyhow::ensure!(live.is_published()?, "ffmpeg ended early; {} says why", common.out.join("hour.log").display());
        live.chat(5).await?;
        if second % 60 == 20 {
            live.mark().await?;
        }
    }
    println!("the stream was live for {} s", begun.elapsed().as_secs());
    sampler.phase("rest");
    live.end(true).await?;
    tokio::time::sleep(Duration::from_secs(30)).await;
    sampler.stream_over();
    sampler.stop().await?;
    crest.stop().await
}
