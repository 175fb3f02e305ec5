//! Feeds of other codecs than H.264 and AAC, over Enhanced RTMP and as old tags: frames that ffmpeg encoded, published
//! to the real listener.

use crate::support::rtmp::{AUDIO, Client, VIDEO};
use crate::support::{Rig, Settings, created};
use crest_core::MediaTime;
use crest_core::codec::{AudioCodec, MediaEvent, Packet};
use crest_core::stream::{Stream, StreamState};
use crest_media::FileReader;
use std::path::Path;
use tokio::process::Command;

/// What ffmpeg encodes, three seconds with ten pictures each, in a file.
async fn encoded(folder: &Path, options: &str, name: &str) -> Vec<MediaEvent> {
    let path = folder.join(name);
    let sources = "-v error -nostdin -f lavfi -i testsrc2=s=160x120:r=10:d=3 -f lavfi -i sine=440:r=48000:d=3";
    let arguments = sources.split(' ').chain(options.split(' '));
    let made = Command::new("ffmpeg").args(arguments).arg(&path).output().await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut reader = FileReader::open(path.to_str().unwrap()).unwrap();
    std::iter::from_fn(|| reader.next_event().unwrap()).collect()
}

/// How Enhanced RTMP names the codecs of picture and sound.
type FourCcs = (&'static [u8; 4], &'static [u8; 4]);

/// Sends an event as Enhanced RTMP has it.
async fn send(client: &mut Client, event: &MediaEvent, codecs: FourCcs) {
    let millis = |packet: &Packet| packet.dts.nanos() / 1_000_000;
    match event {
        MediaEvent::VideoConfig(config) => client.tag(VIDEO, 0, &[&[0x90], codecs.0, &config.record]).await,
        MediaEvent::AudioConfig(config) if config.codec == AudioCodec::Opus => {
            client.tag(AUDIO, 0, &[&[0x90], codecs.1, &head(&config.record)]).await;
        }
        MediaEvent::AudioConfig(config) if config.codec == AudioCodec::Aac => {
            client.tag(AUDIO, 0, &[&[0x90], codecs.1, &config.record]).await;
        }
        // Its frames say everything.
        MediaEvent::AudioConfig(_) => {}
        MediaEvent::Video(packet) => {
            let kind = if packet.keyframe { 0x90 } else { 0xa0 };
            let composition = ((packet.pts - packet.dts).nanos() / 1_000_000) as i32;
            match codecs.0 {
                b"avc1" | b"hvc1" => {
                    let offset = &composition.to_be_bytes()[1..];
                    client.tag(VIDEO, millis(packet), &[&[kind | 1], codecs.0, offset, &packet.data]).await;
                }
                // Some leave the delimiters in.
                b"av01" => client.tag(VIDEO, millis(packet), &[&[kind | 1], codecs.0, &[0x12, 0], &packet.data]).await,
                _ => client.tag(VIDEO, millis(packet), &[&[kind | 3], codecs.0, &packet.data]).await,
            }
        }
        MediaEvent::Audio(packet) => client.tag(AUDIO, millis(packet), &[&[0x91], codecs.1, &packet.data]).await,
    }
}

/// The head of an Ogg stream that says what the payload of a `dOps` says, for mono and stereo.
fn head(dops: &[u8]) -> Vec<u8> {
    let &[0, channels, s0, s1, r0, r1, r2, r3, g0, g1, 0] = dops else { panic!("{dops:?}") };
    [&b"OpusHead"[..], &[1, channels, s1, s0, r3, r2, r1, r0, g1, g0, 0]].concat()
}

/// What a stored file plays as: the codec of a track and how many packets it has.
async fn played(file: &Path, kind: &str) -> (String, usize) {
    let run = Command::new("ffprobe")
        .args(["-v", "error", "-count_packets", "-select_streams", kind])
        .args(["-show_entries", "stream=codec_name,nb_read_packets", "-of", "csv=p=0"])
        .arg(file)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let (codec, packets) = text.trim().split_once(',').unwrap_or_else(|| panic!("{kind}: '{text}'"));
    (codec.to_owned(), packets.parse().unwrap())
}

async fn complaints(file: &Path) -> String {
    let run =
        Command::new("ffmpeg").args(["-v", "error", "-nostdin", "-i"]).arg(file).args(["-f", "null", "-"]).output();
    String::from_utf8_lossy(&run.await.unwrap().stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_of_enhanced_rtmp_is_stored_and_sampled() {
    let cases: [(&str, &str, FourCcs, (&str, &str)); 4] = [
        (
            "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=10 -c:a aac",
            "in.mp4",
            (b"hvc1", b"mp4a"),
            ("hevc", "aac"),
        ),
        ("-c:v libaom-av1 -cpu-used 8 -g 10 -c:a libopus", "in.mkv", (b"av01", b"Opus"), ("av1", "opus")),
        ("-c:v libvpx-vp9 -cpu-used 8 -g 10 -c:a libmp3lame", "in.mkv", (b"vp09", b".mp3"), ("vp9", "mp3")),
        ("-c:v libvpx -cpu-used 8 -g 10 -c:a libopus", "in.webm", (b"vp08", b"Opus"), ("vp8", "opus")),
    ];
    for (options, name, codecs, names) in cases {
        let rig = Rig::start(Settings::default(), vec![created("str_a")]).await;
        let events = encoded(rig.root.path(), options, name).await;
        let mut client = Client::publish(&rig.url("key-of-str_a")).await;
        assert!(
            client.heard("videoFourCcInfoMap") && client.heard("av01") && client.heard("Opus"),
            "what is taken is told"
        );
        for event in &events {
            send(&mut client, event, codecs).await;
        }
        let sound = events.iter().filter(|event| matches!(event, MediaEvent::Audio(_))).count();
        drop(client);
        rig.until_event("stream.interrupted", 1).await;

        let fragments = rig.store.all_fragments();
        assert!(fragments.len() >= 3 && fragments.iter().all(|f| f.keyframe), "{options}: {fragments:?}");
        let file = rig.root.path().join(&fragments[0].object);
        assert_eq!(complaints(&file).await, "", "{options}");
        assert_eq!(played(&file, "v").await, (names.0.to_owned(), 30), "{options}");
        assert_eq!(played(&file, "a").await, (names.1.to_owned(), sound), "{options}");
        let frames = || rig.bus.video().into_iter().flat_map(|batch| batch.frames);
        assert!(frames().filter(|frame| frame.picture.is_some()).count() >= 3, "{options}");
        assert!(rig.bus.audio().iter().flat_map(|window| &window.samples).any(|s| s.abs() > 0.05), "{options}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_audio_tracks_the_first_is_kept_and_mp3_as_it_always_was() {
    let rig = Rig::start(Settings::default(), vec![created("str_a")]).await;
    let events = encoded(rig.root.path(), "-c:v libvpx-vp9 -cpu-used 8 -g 10 -c:a libmp3lame", "in.mkv").await;
    let mut client = Client::publish(&rig.url("key-of-str_a")).await;
    let mut sound = 0;
    for event in &events {
        let MediaEvent::Audio(packet) = event else {
            send(&mut client, event, (b"vp09", b".mp3")).await;
            continue;
        };
        let at = packet.dts.nanos() / 1_000_000;
        sound += 1;
        client.tag(AUDIO, at, &[&[0x2f], &packet.data]).await;
        // A second track, alone and beside one that nobody has heard of.
        client.tag(AUDIO, at, &[b"\x95\x01Opus\x01", &[0xf8, 1, 2]]).await;
        client.tag(AUDIO, at, &[b"\x95\x11fLaC\x02\0\0\x01\x07"]).await;
    }
    drop(client);
    rig.until_event("stream.interrupted", 1).await;
    let fragments = rig.store.all_fragments();
    let file = rig.root.path().join(&fragments[0].object);
    assert_eq!(complaints(&file).await, "");
    assert_eq!(played(&file, "a").await, ("mp3".to_owned(), sound));
    assert_eq!(played(&file, "v").await, ("vp9".to_owned(), 30));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_audio_tracks_the_one_that_is_chosen_is_kept() {
    let chosen = |id: &str, track| Stream { audio_track: Some(track), ..created(id) };
    let rig = Rig::start(Settings::default(), vec![chosen("str_a", 1), chosen("str_b", 2)]).await;
    let events = encoded(rig.root.path(), "-c:v libvpx-vp9 -cpu-used 8 -g 10 -c:a libmp3lame", "in.mkv").await;
    for (id, kept) in [("str_a", true), ("str_b", false)] {
        let mut client = Client::publish(&rig.url(&format!("key-of-{id}"))).await;
        let mut sound = 0;
        for event in &events {
            let MediaEvent::Audio(packet) = event else {
                send(&mut client, event, (b"vp09", b".mp3")).await;
                continue;
            };
            let at = packet.dts.nanos() / 1_000_000;
            sound += 1;
            // The first is another codec, the second what is wanted of one, and nobody sends a third.
            client.tag(AUDIO, at, &[&[0xaf, 1, 0x21, 0x10]]).await;
            client.tag(AUDIO, at, &[b"\x95\x01.mp3\x01", &packet.data]).await;
        }
        drop(client);
        rig.until(id, |rig| rig.store.state(id) == StreamState::Interrupted).await;
        let fragments = rig.store.all_fragments();
        let of_it = fragments.iter().find(|fragment| fragment.stream_id.as_str() == id).unwrap();
        let file = rig.root.path().join(&of_it.object);
        assert_eq!(complaints(&file).await, "");
        assert_eq!(played(&file, "v").await, ("vp9".to_owned(), 30));
        if kept {
            assert_eq!(played(&file, "a").await, ("mp3".to_owned(), sound));
        } else {
            assert_eq!(sample_rates(&file).await, "", "there is no sound");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_comes_back_between_keyframes_leaves_nothing_that_cannot_be_decoded() {
    // A keyframe a second. Those of H.265 are open: a picture that is shown before each comes after it. All of its
    // pictures are decoded 0.2 s before they are shown.
    let cases: [(&str, FourCcs, usize); 2] = [
        ("-c:v libx264 -preset ultrafast -g 10 -c:a aac", (b"avc1", b"mp4a"), 4 + 10),
        (
            "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=10:min-keyint=10:open-gop=1:bframes=3:b-adapt=0:scenecut=0 -c:a aac",
            (b"hvc1", b"mp4a"),
            6 + 10,
        ),
    ];
    for (options, codecs, pictures) in cases {
        let rig = Rig::start(Settings::default(), vec![created("str_a")]).await;
        let events = encoded(rig.root.path(), options, "in.mp4").await;
        let (mut before, mut after, mut sound) = (Vec::new(), Vec::new(), 0);
        for event in events {
            match event {
                MediaEvent::VideoConfig(_) | MediaEvent::AudioConfig(_) => {
                    before.push(event.clone());
                    after.push(event);
                }
                MediaEvent::Video(packet) => {
                    let at = packet.dts;
                    rejoin(at, packet, MediaEvent::Video, &mut before, &mut after);
                }
                MediaEvent::Audio(packet) => {
                    let at = packet.dts;
                    sound += usize::from(rejoin(at, packet, MediaEvent::Audio, &mut before, &mut after));
                }
            }
        }
        for (events, count) in [(before, 1), (after, 2)] {
            let mut client = Client::publish(&rig.url("key-of-str_a")).await;
            for event in &events {
                send(&mut client, event, codecs).await;
            }
            drop(client);
            rig.until_event("stream.interrupted", count).await;
        }
        assert_eq!(rig.store.all_sessions().len(), 1, "{options}");
        let fragments = rig.store.all_fragments();
        assert!(fragments.iter().all(|f| f.keyframe), "{options}: {fragments:?}");
        let files: std::collections::BTreeSet<_> = fragments.iter().map(|f| rig.root.path().join(&f.object)).collect();
        let mut stored = (0, 0);
        for file in &files {
            assert_eq!(complaints(file).await, "", "{options}");
            stored = (stored.0 + played(file, "v").await.1, stored.1 + played(file, "a").await.1);
        }
        assert_eq!(stored, (pictures, sound), "{options}: the sound is whole, the picture goes on at a keyframe");
        let end = fragments.iter().map(|f| f.end).max().unwrap();
        assert!((4.8..5.3).contains(&end.secs_f64()), "{options}: the time away is a gap: {end}");
    }
}

/// Puts a packet before the moment at which a publisher breaks off, or after the one at which it comes back, two
/// seconds late and in the middle of a group of pictures. Whether it is sent at all.
fn rejoin(
    at: MediaTime,
    packet: Packet,
    event: fn(Packet) -> MediaEvent,
    before: &mut Vec<MediaEvent>,
    after: &mut Vec<MediaEvent>,
) -> bool {
    let away = MediaTime::from_millis(2000);
    if at < MediaTime::from_millis(350) {
        before.push(event(packet));
        return true;
    }
    let is_back = at >= MediaTime::from_millis(1550);
    if is_back {
        after.push(event(Packet { pts: packet.pts + away, dts: packet.dts + away, ..packet }));
    }
    is_back
}

/// The sample rate of each audio track of a file.
async fn sample_rates(file: &Path) -> String {
    let run = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "a", "-show_entries", "stream=sample_rate", "-of", "csv=p=0"])
        .arg(file)
        .output();
    String::from_utf8_lossy(&run.await.unwrap().stdout).trim().to_owned()
}
