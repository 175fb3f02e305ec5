//! Publishers that are let in, and send what is no media, or media that makes no sense.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use tokio::process::Command;

use super::client::{AUDIO, Client, Tag, VIDEO, tags_of};
use super::stage::{SOON, Stage};
use crate::broadcast;
use crate::harness::{run, succeed};
use crate::publisher::Publisher;

const SKIPPED: &str = "crest_rtmp_tags_skipped_total";

fn tag(kind: u8, body: &[u8]) -> Tag {
    Tag { kind, at: 0, body: body.to_vec() }
}

/// Six seconds of a good feed.
async fn good() -> Result<Vec<Tag>> {
    tags_of(broadcast::file().await?, 6).await
}

/// The configurations of a feed, and its packets.
fn parted(tags: Vec<Tag>) -> (Vec<Tag>, Vec<Tag>) {
    // Without what says that the sequence is over.
    let packets = tags.into_iter().filter(|tag| tag.kind == AUDIO || tag.body.get(1) != Some(&2));
    packets.partition(Tag::is_configuration)
}

/// How many pictures come out of the decoder for a file, which must have nothing to complain about.
async fn pictures(file: &Path) -> Result<u64> {
    let args = ["-v", "error", "-select_streams", "v:0", "-count_frames", "-show_entries", "stream=nb_read_frames"];
    let args = args.into_iter().chain(["-of", "csv=p=0"]).map(std::ffi::OsStr::new).chain([file.as_os_str()]);
    let said = succeed("ffprobe", args).await?;
    ensure!(said.err.trim().is_empty(), "decoding {} complains: {}", file.display(), said.err);
    Ok(said.text().trim().trim_end_matches(',').parse().unwrap_or(0))
}

#[test]
fn tags_without_use_are_counted_by_cause_and_the_feed_goes_on() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        let (stream, key) = stage.stream().await?;
        let mut publisher = Client::publish(&stage.server.rtmp, &key).await?;
        let large = [&[0x27, 1, 0, 0, 0][..], &vec![0; 1_500_000]].concat();
        // H.264 and AAC without their configurations; nothing; half a header; other codecs; NAL units beyond the tag.
        let useless = [
            (tag(VIDEO, &[0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65]), "no_configuration"),
            (tag(AUDIO, &[0xaf, 1, 0x21]), "no_configuration"),
            (tag(VIDEO, &[]), "empty"),
            (tag(AUDIO, &[]), "empty"),
            (tag(VIDEO, &[0x17, 1, 0]), "truncated"),
            (tag(AUDIO, &[0xaf]), "truncated"),
            (tag(VIDEO, &[0x22, 0, 0]), "unsupported_codec"),
            (tag(VIDEO, b"\x90hvc1\0\0"), "malformed"),
            (tag(VIDEO, b"\x95av01\0\0"), "transport_stream_configuration"),
            (tag(VIDEO, b"\x96\x03vp09\x01\x82"), "other_track"),
            (tag(VIDEO, &large), "too_large"),
            (tag(VIDEO, &[0x17, 0, 0, 0, 0, 1, 0x42, 0, 0x1e, 0xff, 0xe1, 0xff, 0xff]), "malformed"),
            (tag(VIDEO, &[0x17, 0, 0, 0, 0, 9, 9, 9]), "malformed"),
            (tag(AUDIO, &[0xaf, 0, 0, 0]), "malformed"),
        ];
        for (tag, cause) in &useless {
            let before = stage.metric(SKIPPED, cause).await?;
            publisher.tag(tag).await?;
            stage.counted(SKIPPED, cause, before + 1.0).await?;
        }
        // On the same connection, what is good is taken.
        let good = good().await?;
        publisher.tags(&good).await?;
        stage.becomes(&stream, "live").await?;
        let length = Tag { kind: VIDEO, at: 6000, body: vec![0x27, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x41] };
        let before = stage.metric(SKIPPED, "malformed").await?;
        publisher.tag(&length).await?;
        stage.counted(SKIPPED, "malformed", before + 1.0).await?;
        stage.unharmed().await?;
        ensure!(stage.state(&stream).await? == "live", "the feed did not outlive the garbage");

        // RTMP cannot say 100 MB. The most that it can say is more than a publisher may announce.
        publisher.shout(&[6, 0, 0, 0, 0xff, 0xff, 0xff, VIDEO, 1, 0, 0, 0, 0]).await;
        publisher.closed().await?;
        stage.counted("crest_rtmp_connections_failed_total", "too_large", 1.0).await?;
        stage.becomes(&stream, "interrupted").await?;
        stage.goes_on().await
    })
}

#[test]
fn media_that_cannot_be_decoded_is_kept_or_dropped_and_counted() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        let (configurations, packets) = parted(good().await?);
        let of = |kind: u8| configurations.iter().find(move |tag| tag.kind == kind).context("no configuration");
        let (video, audio) = (of(VIDEO)?.clone(), of(AUDIO)?.clone());

        // Pictures that all depend on one that never came.
        let (stream, key) = stage.stream().await?;
        let mut headless = Client::publish(&stage.server.rtmp, &key).await?;
        headless.tags(&configurations).await?;
        headless.tags(packets.iter().filter(|tag| tag.kind == AUDIO || tag.body.first() == Some(&0x27))).await?;
        stage.becomes(&stream, "live").await?;
        headless.finish().await?;
        stage.becomes(&stream, "interrupted").await?;
        ensure!(!stage.segments(&stream).is_empty(), "the sound of a feed without keyframes is not kept");

        // Parameter sets that say nothing; sound of a kind that does not exist.
        let record = [1, 0x64, 0, 0x1e, 0xff, 0xe1, 0, 2, 0x67, 0, 1, 0, 2, 0x68, 0];
        let strange = Tag { body: [&[0x17, 0, 0, 0, 0][..], &record].concat(), ..video.clone() };
        let deaf = Tag { body: [&audio.body[..2], &[0xf8, 0x7f, 0xff]].concat(), ..audio.clone() };
        for (index, first) in [&strange, &deaf].into_iter().enumerate() {
            let (stream, key) = stage.stream().await?;
            let mut publisher = Client::publish(&stage.server.rtmp, &key).await?;
            publisher.tag(if index == 0 { first } else { &video }).await?;
            publisher.tag(if index == 1 { first } else { &audio }).await?;
            publisher.tags(&packets).await?;
            stage.becomes(&stream, "live").await?;
            publisher.finish().await?;
            stage.becomes(&stream, "interrupted").await?;
        }
        stage.counted("crest_samples_dropped_total", "video_decoder", 1.0).await?;
        stage.counted(SKIPPED, "no_configuration", 1.0).await?;
        stage.unharmed().await
    })
}

#[test]
fn a_configuration_that_changes_at_every_packet_ends_the_connection() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        let (configurations, packets) = parted(good().await?);
        let video = configurations.iter().find(|tag| tag.kind == VIDEO).context("no configuration")?;
        let other = Tag { body: [&video.body[..], &[0]].concat(), ..video.clone() };
        let (stream, key) = stage.stream().await?;
        let mut publisher = Client::publish(&stage.server.rtmp, &key).await?;
        for (index, packet) in packets.iter().filter(|tag| tag.kind == VIDEO).enumerate() {
            let bytes = if index % 2 == 0 { video } else { &other };
            if publisher.tag(bytes).await.is_err() || publisher.tag(packet).await.is_err() {
                break;
            }
        }
        publisher.closed().await?;
        stage.counted("crest_rtmp_connections_failed_total", "configurations", 1.0).await?;
        stage.becomes(&stream, "interrupted").await?;
        let files = stage.segments(&stream).len();
        ensure!(files < 100, "{files} files for a few pictures");
        stage.unharmed().await
    })
}

#[test]
fn timestamps_that_jump_are_closed_up() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        let (configurations, packets) = parted(good().await?);
        let day = 24 * 3600 * 1000;
        type Clock = fn(u32) -> u32;
        let times: [(&str, Clock); 2] = [("all zero", |_| 0), ("across the 32-bit limit", |at| at.wrapping_sub(3000))];
        for (what, time) in times {
            let (stream, key) = stage.stream().await?;
            let mut publisher = Client::publish(&stage.server.rtmp, &key).await?;
            publisher.tags(&configurations).await?;
            for packet in &packets {
                publisher.tag(&packet.at(time(packet.at))).await?;
            }
            stage.becomes(&stream, "live").await?;
            publisher.finish().await?;
            stage.becomes(&stream, "interrupted").await.context(what)?;
            whole(&stage, &stream, 1, &packets).await.context(what)?;
        }

        // Two days ahead, back to the beginning, ahead by more than 32 bits can tell, and an hour back.
        let (stream, key) = stage.stream().await?;
        let mut publisher = Client::publish(&stage.server.rtmp, &key).await?;
        publisher.tags(&configurations).await?;
        let offsets = [0, 2 * day, 0, 40 * day, 40 * day - 3_600_000];
        for offset in offsets {
            for packet in &packets {
                publisher.tag(&packet.at(packet.at.wrapping_add(offset))).await?;
            }
        }
        stage.becomes(&stream, "live").await?;
        stage.counted("crest_timeline_jumps_total", "", 4.0).await?;
        publisher.finish().await?;
        stage.becomes(&stream, "interrupted").await?;
        whole(&stage, &stream, offsets.len(), &packets).await?;
        stage.unharmed().await
    })
}

/// Everything that was sent is stored and can be decoded, and lasts no longer than what was sent.
async fn whole(stage: &Stage, stream: &str, times: usize, packets: &[Tag]) -> Result<()> {
    let sent = packets.iter().filter(|tag| tag.kind == VIDEO).count() * times;
    let (mut stored, mut last) = (0, 0.0_f64);
    for file in stage.segments(stream) {
        stored += pictures(&file).await?;
        last = last.max(crate::harness::probe(&file, "v:0", "format=duration").await?.parse().unwrap_or(0.0));
    }
    ensure!(stored == sent as u64, "{sent} pictures were sent, {stored} are stored");
    let once = f64::from(packets.iter().map(|tag| tag.at).max().unwrap_or(0)) / 1000.0;
    ensure!(last < (once + 0.5) * times as f64 + 1.0, "{last} s are stored");
    Ok(())
}

#[test]
fn a_publisher_faster_than_real_time_stalls_nobody() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        let (stream, key) = stage.stream().await?;
        let tags = tags_of(broadcast::file().await?, broadcast::LENGTH as u32).await?;
        let mut publisher = Client::publish(&stage.server.rtmp, &key).await?;
        publisher.tags(&tags).await?;
        stage.becomes(&stream, "live").await?;
        publisher.hang_up().await?;
        stage.becomes(&stream, "interrupted").await?;
        // Nothing that had arrived is lost with the connection.
        whole(&stage, &stream, 1, &parted(tags).1).await?;

        let (stream, key) = stage.stream().await?;
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-i"]).arg(broadcast::file().await?);
        command.args(["-c", "copy", "-f", "flv", &format!("{}/{key}", stage.server.rtmp)]);
        let said = Publisher::start(command)?.end(SOON).await?;
        ensure!(said.code == Some(0), "{said:?}");
        stage.becomes(&stream, "interrupted").await?;
        let segments = stage.segments(&stream);
        ensure!(!segments.is_empty(), "nothing is stored");
        for file in segments {
            pictures(&file).await?;
        }
        stage.unharmed().await
    })
}
