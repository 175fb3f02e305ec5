//! Reading files of all kinds, whole and broken.

use crest_core::Fault;
use crest_core::codec::{MediaEvent, Packet};
use crest_media::FileReader;
use std::fs;
use std::path::Path;

use crate::support::{Bench, events, ms, number, seconds};

fn packets(events: &[MediaEvent], video: bool) -> Vec<&Packet> {
    let wanted = events.iter().filter_map(|event| match event {
        MediaEvent::Video(packet) if video => Some(packet),
        MediaEvent::Audio(packet) if !video => Some(packet),
        _ => None,
    });
    wanted.collect()
}

#[test]
fn every_container_tells_the_same_story() {
    let bench = Bench::new();
    let original = bench.sample(4, "-bf 2", "in.mp4");
    let source = original.to_str().unwrap();
    for name in ["in.mp4", "in.mkv", "in.ts", "in.flv", "fragmented.mp4"] {
        let path = match name {
            "in.mp4" => original.clone(),
            "fragmented.mp4" => bench.make(&format!("-i {source} -c copy -movflags frag_keyframe+empty_moov {name}")),
            _ => bench.make(&format!("-i {source} -c copy {name}")),
        };
        let events = events(&path);
        let (video, audio) = (packets(&events, true), packets(&events, false));
        assert_eq!(video.len(), 120, "{name}");
        assert_eq!(video.iter().filter(|p| p.keyframe).count(), 4, "{name}");
        assert!((186..=190).contains(&audio.len()), "{name}: {}", audio.len());
        assert_eq!(video[0].pts.min(audio[0].pts), ms(0), "{name}");
        let offset = number(&path, "v", "start_time") - number(&path, "a", "start_time");
        assert!((seconds(video[0].pts - audio[0].pts) - offset).abs() < 0.025, "{name}");
        assert!(video.iter().all(|p| p.dts <= p.pts), "{name}");
        for track in [&video, &audio] {
            assert!(track.windows(2).all(|pair| pair[0].dts < pair[1].dts), "{name}");
        }
        // Interleaved by decoding time over both tracks.
        let times = events.iter().filter_map(|e| match e {
            MediaEvent::Video(p) | MediaEvent::Audio(p) => Some(p.dts),
            _ => None,
        });
        let all: Vec<_> = times.collect();
        assert!(all.windows(2).all(|pair| pair[0] <= pair[1]), "{name}");
        let mut reader = FileReader::open(path.to_str().unwrap()).unwrap();
        let told = reader.duration().is_some_and(|d| (d - ms(4000)).nanos().abs() < 200_000_000);
        assert!(told || name == "fragmented.mp4", "{name}");
        assert!(matches!(reader.next_event().unwrap(), Some(MediaEvent::VideoConfig(_) | MediaEvent::AudioConfig(_))));
    }
}

#[test]
fn reading_twice_gives_the_same_events() {
    let bench = Bench::new();
    for name in ["in.mp4", "in.mkv", "in.ts", "in.flv"] {
        let path = bench.sample(2, "-bf 2", name);
        assert!(events(&path) == events(&path), "{name}");
    }
}

#[test]
fn a_file_address_is_read_and_spaces_are_fine() {
    let bench = Bench::new();
    let path = bench.sample(1, "", "in.mp4");
    let renamed = bench.path("with space.mp4");
    fs::rename(path, &renamed).unwrap();
    let address = format!("file://{}", renamed.to_str().unwrap().replace(' ', "%20"));
    let mut reader = FileReader::open(&address).unwrap();
    assert!(reader.next_event().unwrap().is_some());
}

#[test]
fn what_cannot_be_kept_is_noted() {
    let bench = Bench::new();
    let original = bench.sample(3, "", "in.mp4");
    let source = original.to_str().unwrap();
    let path = bench.make(&format!("-i {source} -c:v copy -c:a flac flac.mkv"));
    let mut reader = FileReader::open(path.to_str().unwrap()).unwrap();
    let mut video = 0;
    while let Some(event) = reader.next_event().unwrap() {
        assert!(!matches!(event, MediaEvent::Audio(_)));
        video += usize::from(matches!(event, MediaEvent::Video(_)));
    }
    assert_eq!(video, 90);
    assert!(reader.notes().iter().any(|note| note.contains("flac")), "{:?}", reader.notes());

    let path = bench.make(&format!("-i {source} -c:v mpeg4 -b:v 200k -c:a flac foreign.mkv"));
    let error = FileReader::open(path.to_str().unwrap()).unwrap_err();
    assert_eq!(error.fault, Fault::User);
    assert!(error.message.contains("video/mpeg") && error.message.contains("flac"), "{error}");
}

#[test]
fn what_is_no_media_is_refused() {
    let bench = Bench::new();
    let open = |path: &Path| FileReader::open(path.to_str().unwrap()).unwrap_err();
    assert_eq!(open(&bench.path("missing.mp4")).fault, Fault::NotFound);
    assert_eq!(open(bench.dir.path()).fault, Fault::User);
    let noise: Vec<u8> = (0..60_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (name, bytes) in [("empty.mp4", &[][..]), ("text.mp4", b"just some words\n"), ("noise.mp4", &noise[..])] {
        fs::write(bench.path(name), bytes).unwrap();
        assert_eq!(open(&bench.path(name)).fault, Fault::User, "{name}");
    }
    fs::write(bench.path("list.m3u8"), "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://127.0.0.1:9/a.ts\n")
        .unwrap();
    assert_eq!(open(&bench.path("list.m3u8")).fault, Fault::User);
    assert_eq!(FileReader::open("rtsp://example.test/x").unwrap_err().fault, Fault::User);
    assert_eq!(FileReader::open("http://127.0.0.1:9/x.mp4").unwrap_err().fault, Fault::Outside);
}

#[test]
fn a_file_that_breaks_off_is_read_up_to_there() {
    let bench = Bench::new();
    for (options, name) in [("-movflags +faststart", "in.mp4"), ("", "in.mkv"), ("", "in.flv")] {
        let whole = fs::read(bench.sample(6, options, name)).unwrap();
        let torn = bench.path(&format!("torn-{name}"));
        fs::write(&torn, &whole[..whole.len() / 2]).unwrap();
        let mut reader = FileReader::open(torn.to_str().unwrap()).unwrap();
        let mut last = ms(0);
        while let Some(event) = reader.next_event().unwrap() {
            if let MediaEvent::Video(packet) = event {
                last = last.max(packet.pts);
            }
        }
        assert!(last > ms(2000) && last < ms(4500), "{name}: {last}");
        assert!(!reader.notes().is_empty(), "{name}");
        assert!(reader.next_event().unwrap().is_none());
    }
    // Without the tables at its end, there is nothing to read.
    let whole = fs::read(bench.sample(3, "", "plain.mp4")).unwrap();
    fs::write(bench.path("torn.mp4"), &whole[..whole.len() / 2]).unwrap();
    assert!(FileReader::open(bench.path("torn.mp4").to_str().unwrap()).is_err());
}

#[test]
fn a_reader_that_is_dropped_in_the_middle_stops() {
    let bench = Bench::new();
    let path = bench.sample(4, "", "in.mp4");
    for taken in [0, 1, 50] {
        let mut reader = FileReader::open(path.to_str().unwrap()).unwrap();
        for _ in 0..taken {
            reader.next_event().unwrap();
        }
        drop(reader);
    }
}

#[test]
fn of_several_audio_tracks_the_one_that_is_chosen_is_read() {
    let bench = Bench::new();
    let sounds = "-f lavfi -i sine=440:r=48000:d=3 -f lavfi -i sine=880:r=44100:d=3 -f lavfi -i sine=220:r=32000:d=3";
    for name in ["three.mp4", "three.mkv", "three.ts"] {
        let path = bench.make(&format!(
            "-f lavfi -i testsrc2=s=160x120:r=25:d=3 {sounds} -map 0 -map 1 -map 2 -map 3 -c:v libx264 -c:a aac {name}"
        ));
        for (track, rate) in [
            (None, Some(48000)),
            (Some(0), Some(48000)),
            (Some(1), Some(44100)),
            (Some(2), Some(32000)),
            (Some(3), None),
        ] {
            let mut reader = FileReader::open_with(path.to_str().unwrap(), track).unwrap();
            let mut all = Vec::new();
            while let Some(event) = reader.next_event().unwrap() {
                all.push(event);
            }
            let rates =
                all.iter().filter_map(|e| if let MediaEvent::AudioConfig(c) = e { Some(c.sample_rate) } else { None });
            assert_eq!(rates.collect::<Vec<_>>(), Vec::from_iter(rate), "{name} {track:?}");
            assert_eq!(packets(&all, false).is_empty(), rate.is_none(), "{name} {track:?}");
            assert_eq!(packets(&all, true).len(), 75, "{name} {track:?}");
        }
    }
}
