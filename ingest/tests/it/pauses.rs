//! Feeds of which one track stops for seconds, and then returns.

use crate::support::rtmp::{AUDIO, Client, VIDEO};
use crate::support::{Rig, Settings, created};
use crest_core::codec::{MediaEvent, Packet};
use crest_media::FileReader;
use std::path::Path;
use tokio::process::Command;

/// Milliseconds without picture, and those without sound; both begin and end at keyframes.
const WITHOUT_PICTURE: std::ops::Range<i64> = 4000..9000;
const WITHOUT_SOUND: std::ops::Range<i64> = 12_000..17_000;

/// Twenty seconds of H.264 and AAC, a keyframe each second.
async fn encoded(folder: &Path) -> Vec<MediaEvent> {
    let path = folder.join("in.mp4");
    let source = "-v error -nostdin -f lavfi -i testsrc2=s=160x120:r=25:d=20 -f lavfi -i sine=440:r=48000:d=20";
    let codecs = "-c:v libx264 -preset ultrafast -g 25 -sc_threshold 0 -c:a aac";
    let arguments = source.split(' ').chain(codecs.split(' '));
    assert!(Command::new("ffmpeg").args(arguments).arg(&path).status().await.unwrap().success());
    let mut reader = FileReader::open(path.to_str().unwrap()).unwrap();
    std::iter::from_fn(|| reader.next_event().unwrap()).collect()
}

fn millis(packet: &Packet) -> i64 {
    packet.dts.nanos() / 1_000_000
}

/// Sends an event, unless it lies where its track pauses; the time of a packet that was sent.
async fn send(client: &mut Client, event: &MediaEvent) -> Option<i64> {
    match event {
        MediaEvent::VideoConfig(config) => client.tag(VIDEO, 0, &[&[0x17, 0, 0, 0, 0], &config.record]).await,
        MediaEvent::AudioConfig(config) => client.tag(AUDIO, 0, &[&[0xaf, 0], &config.record]).await,
        MediaEvent::Video(packet) if !WITHOUT_PICTURE.contains(&millis(packet)) => {
            let head = if packet.keyframe { 0x17 } else { 0x27 };
            client.tag(VIDEO, millis(packet), &[&[head, 1, 0, 0, 0], &packet.data]).await;
            return Some(millis(packet));
        }
        MediaEvent::Audio(packet) if !WITHOUT_SOUND.contains(&millis(packet)) => {
            client.tag(AUDIO, millis(packet), &[&[0xaf, 1], &packet.data]).await;
            return Some(millis(packet));
        }
        MediaEvent::Video(_) | MediaEvent::Audio(_) => {}
    }
    None
}

/// Presentation times of a stored track, in milliseconds.
async fn times(file: &Path, track: &str) -> Vec<i64> {
    let run = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", track, "-show_entries", "packet=pts_time", "-of", "csv=p=0"])
        .arg(file)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    let seconds = text.lines().map(|line| line.trim_end_matches(',').parse::<f64>().unwrap());
    seconds.map(|at| (at * 1000.0).round() as i64).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_stops_and_then_the_sound_leave_one_session_in_step() {
    let rig = Rig::start(Settings::default(), vec![created("str_a")]).await;
    let events = encoded(rig.root.path()).await;
    let mut client = Client::publish(&rig.url("key-of-str_a")).await;
    let (mut pictures, mut sounds) = (Vec::new(), Vec::new());
    for event in &events {
        let sent = send(&mut client, event).await;
        if matches!(event, MediaEvent::Video(_)) { &mut pictures } else { &mut sounds }.extend(sent);
    }
    let last = *pictures.iter().chain(&sounds).max().unwrap();
    let stored = |rig: &Rig| rig.store.all_fragments().iter().map(|f| f.end.nanos() / 1_000_000).max();
    rig.until("most of it to be stored", |rig| stored(rig) > Some(last - 2000)).await;
    assert_eq!(rig.store.events(), ["stream.started"], "nothing is interrupted by it");
    drop(client);
    rig.until_event("stream.interrupted", 1).await;
    assert_eq!(rig.store.all_sessions().len(), 1);

    let mut files: Vec<_> = rig.store.all_fragments().iter().map(|f| rig.root.path().join(&f.object)).collect();
    files.dedup();
    let (mut video, mut audio) = (Vec::new(), Vec::new());
    for file in &files {
        let decoding =
            Command::new("ffmpeg").args(["-v", "error", "-nostdin", "-i"]).arg(file).args(["-f", "null", "-"]).output();
        assert_eq!(String::from_utf8_lossy(&decoding.await.unwrap().stderr), "");
        video.extend(times(file, "v").await);
        audio.extend(times(file, "a").await);
    }
    for (track, stored, sent) in [("picture", video, pictures), ("sound", audio, sounds)] {
        assert_eq!(stored.len(), sent.len(), "{track}");
        let strays = stored.iter().zip(&sent).map(|(stored, sent)| (stored - sent).abs()).max();
        // A file's times are rounded, and those of sound put onto the grid of its frames.
        assert!(strays <= Some(5), "{track}: {strays:?} ms from where it was sent");
        assert!(sent.windows(2).any(|pair| pair[1] - pair[0] >= 4900), "{track}: nothing paused");
    }
}
