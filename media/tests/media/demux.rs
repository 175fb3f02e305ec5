//! Containers from ffmpeg, taken apart piece by piece.

use bytes::Bytes;
use crest_core::MediaTime;
use crest_core::codec::{AudioCodec, MediaEvent, Packet, VideoCodec};
use crest_media::{Container, Demuxer};
use std::path::Path;

use crate::support::{Bench, complaints, number, store};

const SOURCE: &str = "-f lavfi -i testsrc2=s=160x120:r=25:d=4 -f lavfi -i sine=440:r=48000:d=4 -shortest";
const H264: &str = "-c:v libx264 -preset veryfast -g 25 -bf 2";
const AAC: &str = "-c:a aac -b:a 64k";

/// All events of these bytes, pushed in pieces, and the notes.
fn take_apart(container: Container, data: &[u8], piece: usize) -> (Vec<MediaEvent>, Vec<String>) {
    let mut demuxer = Demuxer::new(container).unwrap();
    let mut out = Vec::new();
    for piece in data.chunks(piece) {
        out.extend(demuxer.push(Bytes::copy_from_slice(piece)).unwrap());
    }
    out.extend(demuxer.finish().unwrap());
    (out, demuxer.notes())
}

/// The rate of the sound that is taken when this audio track is chosen, and the notes.
fn rate_of(container: Container, data: &[u8], track: Option<u8>) -> (Option<u32>, Vec<String>) {
    let mut demuxer = Demuxer::new(container).unwrap();
    demuxer.choose_audio(track);
    let mut events = demuxer.push(Bytes::copy_from_slice(data)).unwrap();
    events.extend(demuxer.finish().unwrap());
    // The choice holds beyond the end.
    events.extend(demuxer.push(Bytes::copy_from_slice(data)).unwrap());
    let rates =
        events.iter().filter_map(|e| if let MediaEvent::AudioConfig(c) = e { Some(c.sample_rate) } else { None });
    let rates: Vec<u32> = rates.collect();
    assert!(rates.windows(2).all(|pair| pair[0] == pair[1]), "{rates:?}");
    assert_eq!(audio(&events).is_empty(), rates.is_empty());
    assert!(video(&events).len() >= 100);
    (rates.first().copied(), demuxer.notes())
}

fn file(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn video(events: &[MediaEvent]) -> Vec<Packet> {
    events.iter().filter_map(|e| if let MediaEvent::Video(p) = e { Some(p.clone()) } else { None }).collect()
}

fn audio(events: &[MediaEvent]) -> Vec<Packet> {
    events.iter().filter_map(|e| if let MediaEvent::Audio(p) = e { Some(p.clone()) } else { None }).collect()
}

fn rising(packets: &[Packet]) -> bool {
    packets.windows(2).all(|pair| pair[0].dts < pair[1].dts)
}

/// Presentation and decoding times and key flags as ffprobe reads them.
fn probed(path: &Path, kind: &str) -> Vec<(f64, f64, bool)> {
    let run = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", kind, "-show_entries", "packet=pts_time,dts_time,flags"])
        .args(["-of", "csv=p=0"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    let fields = text.lines().map(|line| line.split(',').collect::<Vec<_>>()).filter(|fields| fields.len() >= 3);
    fields.map(|f| (f[0].parse().unwrap(), f[1].parse().unwrap(), f[2].starts_with('K'))).collect()
}

/// The same packets at the same times as ffprobe finds. Where offsets from decoding to presentation are negative it
/// puts the whole track a frame or two later, for decoding times not to be: no more than that may differ.
fn assert_like_ffprobe(path: &Path, events: &[MediaEvent]) {
    for (ours, theirs) in [(video(events), probed(path, "v")), (audio(events), probed(path, "a"))] {
        assert_eq!(ours.len(), theirs.len());
        let Some(later) = ours.first().map(|first| theirs[0].0 - first.pts.secs_f64()) else { continue };
        assert!((-0.001..0.09).contains(&later), "{later}");
        for (at, (ours, (pts, dts, keyframe))) in ours.iter().zip(&theirs).enumerate() {
            let near = |ours: MediaTime, theirs: f64| (ours.secs_f64() + later - theirs).abs() < 0.001;
            assert!(near(ours.pts, *pts), "pts {at}: {} {pts}", ours.pts);
            assert!(near(ours.dts, *dts), "dts {at}: {} {dts}", ours.dts);
            assert_eq!(ours.keyframe, *keyframe, "{at}");
        }
    }
}

#[test]
fn a_transport_stream_gives_what_was_encoded_however_it_is_cut() {
    let bench = Bench::new();
    let path = bench.make(&format!("{SOURCE} {H264} {AAC} a.ts"));
    let data = file(&path);
    let (whole, notes) = take_apart(Container::MpegTs, &data, data.len());
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(video(&whole).len(), 100);
    assert!(video(&whole).iter().any(|p| p.pts > p.dts), "no B-frames");
    assert!(rising(&video(&whole)) && rising(&audio(&whole)));
    assert_like_ffprobe(&path, &whole);
    for piece in [1, 187, 188, 1316, 65_536] {
        assert!(take_apart(Container::MpegTs, &data, piece).0 == whole, "in pieces of {piece} bytes");
    }
    // What comes out can be stored and played.
    let fragments = store(bench.dir.path(), &whole);
    let stored = bench.path(&fragments[0].object);
    assert_eq!(complaints(&stored), "");
    assert!((number(&stored, "v", "nb_read_frames") - 100.0).abs() < 0.5);
}

#[test]
fn packets_come_out_soon() {
    let bench = Bench::new();
    let data = file(&bench.make(&format!("{SOURCE} {H264} {AAC} a.ts")));
    let mut demuxer = Demuxer::new(Container::MpegTs).unwrap();
    let (whole, _) = take_apart(Container::MpegTs, &data, data.len());
    let (frames, mut seen) = (video(&whole).len(), 0);
    for piece in data.chunks(188) {
        let starts = piece[1] & 0x40 != 0 && (piece[1] & 0x1f, piece[2]) == (1, 0);
        seen += usize::from(starts);
        let events = demuxer.push(Bytes::copy_from_slice(piece)).unwrap();
        let out: usize = video(&events).len();
        // `seen` counts frames that began and have not come out.
        seen -= out;
        assert!(seen <= 3, "{seen} frames are held back");
    }
    assert!(frames == 100 && seen <= 3);
}

#[test]
fn h265_and_a_single_track_are_read() {
    let bench = Bench::new();
    let path = bench.make(&format!("{SOURCE} -c:v libx265 -x265-params log-level=none:keyint=25 -an b.ts"));
    let (events, notes) = take_apart(Container::MpegTs, &file(&path), 1316);
    let Some(MediaEvent::VideoConfig(config)) = events.first() else { panic!("{:?}", events.first()) };
    assert_eq!((config.codec, config.width, config.height), (VideoCodec::H265, 160, 120));
    assert_eq!((video(&events).len(), audio(&events).len(), notes.len()), (100, 0, 0));
    assert_like_ffprobe(&path, &events);

    let path = bench.make(&format!("{SOURCE} -vn {AAC} c.ts"));
    let (events, _) = take_apart(Container::MpegTs, &file(&path), 1316);
    let Some(MediaEvent::AudioConfig(config)) = events.first() else { panic!("{:?}", events.first()) };
    assert_eq!((config.codec, config.sample_rate, config.channels), (AudioCodec::Aac, 48_000, 1));
    assert!(audio(&events).len() > 180);
    assert_like_ffprobe(&path, &events);
}

#[test]
fn time_goes_on_where_33_bits_wrap() {
    let bench = Bench::new();
    // 2^33 / 90000 = 95443.7 s.
    let path = bench.make(&format!("{SOURCE} {H264} {AAC} -output_ts_offset 95440 d.ts"));
    let (events, _) = take_apart(Container::MpegTs, &file(&path), 1316);
    for packets in [video(&events), audio(&events)] {
        assert!(rising(&packets));
        let length = packets.last().unwrap().dts - packets[0].dts;
        assert!((3.5..4.2).contains(&length.secs_f64()), "{length}");
    }
    let apart = video(&events)[0].pts - audio(&events)[0].pts;
    assert!(apart.secs_f64().abs() < 0.2, "sound and picture are {apart} apart");
}

/// Takes the times out of each third packet of an elementary stream of the transport stream, beginning with the third:
/// the header's room for them stays, filled.
fn without_each_third_time(data: &mut [u8], pid: u16) -> usize {
    let (mut begun, mut cleared) = (0, 0);
    for packet in data.chunks_exact_mut(188) {
        let starts = packet[1] & 0x40 != 0 && u16::from_be_bytes([packet[1] & 0x1f, packet[2]]) == pid;
        if !starts {
            continue;
        }
        begun += 1;
        let at = if packet[3] & 0x20 != 0 { 5 + usize::from(packet[4]) } else { 4 };
        let header = &mut packet[at..];
        assert_eq!(header[..3], [0, 0, 1], "no elementary stream begins here");
        if begun % 3 == 0 {
            header[7] &= 0x3f;
            let room = usize::from(header[8]);
            header[9..9 + room].fill(0xff);
            cleared += 1;
        }
    }
    cleared
}

#[test]
fn what_has_no_time_of_its_own_lies_where_its_neighbours_put_it() {
    let bench = Bench::new();
    for (name, frames) in [("plain.ts", "-bf 0"), ("reordered.ts", "-bf 2")] {
        let path = bench.make(&format!("{SOURCE} {H264} {frames} {AAC} {name}"));
        let data = file(&path);
        let (whole, _) = take_apart(Container::MpegTs, &data, 1316);
        let mut bare = data.clone();
        let cleared = (without_each_third_time(&mut bare, 0x100), without_each_third_time(&mut bare, 0x101));
        assert!(cleared.0 >= 30 && cleared.1 >= 4, "{cleared:?}");
        let (events, notes) = take_apart(Container::MpegTs, &bare, 1316);
        assert_eq!(notes, Vec::<String>::new());
        for (kind, ours, theirs) in
            [("picture", video(&events), video(&whole)), ("sound", audio(&events), audio(&whole))]
        {
            assert_eq!(ours.len(), theirs.len(), "{name}: {kind}");
            assert!(rising(&ours), "{name}: {kind}");
            for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                assert!(ours.data == theirs.data && ours.keyframe == theirs.keyframe, "{name}: {kind} {at}");
                let near = |one: MediaTime, other: MediaTime| (one - other).nanos().abs() < 1_000_000;
                assert!(near(ours.dts, theirs.dts), "{name}: {kind} {at}: dts {} {}", ours.dts, theirs.dts);
                assert!(near(ours.pts, theirs.pts), "{name}: {kind} {at}: pts {} {}", ours.pts, theirs.pts);
            }
        }
    }
}

#[test]
fn another_resolution_is_announced_and_tracks_that_are_not_read_are_noted() {
    let bench = Bench::new();
    let small = file(&bench.make(&format!("{SOURCE} {H264} {AAC} e.ts")));
    let large = "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -f lavfi -i sine=440:r=48000:d=2";
    let large = file(&bench.make(&format!("{large} {H264} {AAC} -output_ts_offset 4 f.ts")));
    let (events, notes) = take_apart(Container::MpegTs, &[small, large].concat(), 1316);
    assert!(!notes.iter().any(|note| note.contains("cannot be parsed")), "{notes:?}");
    let sizes: Vec<u32> =
        events.iter().filter_map(|e| if let MediaEvent::VideoConfig(c) = e { Some(c.width) } else { None }).collect();
    assert_eq!(sizes, [160, 320]);
    // Where one stream follows the other, a picture of no announced length is lost.
    assert!((148..=150).contains(&video(&events).len()), "{}", video(&events).len());

    let two = "-f lavfi -i testsrc2=s=160x120:r=25:d=1 -f lavfi -i sine=r=48000:d=1 -map 0 -map 1 -map 1";
    let data = file(&bench.make(&format!("{two} {H264} -c:a:0 mp2 -c:a:1 aac g.ts")));
    let (events, notes) = take_apart(Container::MpegTs, &data, 1316);
    assert!(audio(&events).len() > 40);
    assert!(notes.iter().any(|note| note.contains("MP3 or MPEG audio")), "{notes:?}");
    let data = file(&bench.make(&format!("{two} {H264} -c:a aac h.ts")));
    let (_, notes) = take_apart(Container::MpegTs, &data, 1316);
    assert!(notes.iter().any(|note| note.contains("further audio")), "{notes:?}");
}

#[test]
fn damage_costs_what_is_damaged() {
    let bench = Bench::new();
    let data = file(&bench.make(&format!("{SOURCE} {H264} {AAC} i.ts")));
    let (whole, _) = take_apart(Container::MpegTs, &data, 1316);
    // Garbage between packets, and a packet cut short.
    let (begin, end) = data.split_at(188 * 300);
    let mixed = [begin, &[0x47, 1, 2, 3], &[0x55; 500], &end[..100], &end[188..]].concat();
    let (events, notes) = take_apart(Container::MpegTs, &mixed, 1316);
    assert!(video(&events).len() + 3 >= video(&whole).len(), "{} of {}", video(&events).len(), video(&whole).len());
    assert!(
        notes.iter().any(|n| n.contains("passed over")) && notes.iter().any(|n| n.contains("missing")),
        "{notes:?}"
    );
    // Not from the beginning.
    let (events, _) = take_apart(Container::MpegTs, &data[188 * 200 + 77..], 1316);
    assert!(video(&events).len() >= 50, "{}", video(&events).len());
    assert!(rising(&video(&events)));
    // After a break everything is found again.
    let mut demuxer = Demuxer::new(Container::MpegTs).unwrap();
    let half = data.len() / 2;
    let mut first = demuxer.push(Bytes::copy_from_slice(&data[..half])).unwrap();
    first.extend(demuxer.finish().unwrap());
    let mut again = demuxer.push(Bytes::copy_from_slice(&data)).unwrap();
    again.extend(demuxer.finish().unwrap());
    assert!(again == whole);
    assert!(video(&first).len() > 30);
}

#[test]
fn any_damage_is_survived() {
    let bench = Bench::new();
    let ts = file(&bench.make(&format!("{SOURCE} {H264} {AAC} j.ts")));
    let fragments = file(&bench.make(&format!("{SOURCE} {H264} {AAC} -movflags cmaf+empty_moov j.mp4")));
    let adts = file(&bench.make(&format!("{SOURCE} -vn {AAC} j.aac")));
    for (container, data) in [(Container::MpegTs, ts), (Container::FragmentedMp4, fragments), (Container::Adts, adts)] {
        for seed in 1_u32..60 {
            let mut damaged = data.clone();
            let mut state = seed;
            for _ in 0..(1 + seed * 3) {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (state >> 8) as usize % damaged.len();
                match seed % 3 {
                    0 => damaged[at] ^= 1 << (state & 7),
                    1 => damaged[at] = state as u8,
                    _ => drop(damaged.drain(at..(at + 40).min(damaged.len()))),
                }
            }
            let mut demuxer = Demuxer::new(container).unwrap();
            for piece in damaged.chunks(1316) {
                if demuxer.push(Bytes::copy_from_slice(piece)).is_err() {
                    assert_eq!(container, Container::FragmentedMp4);
                    demuxer = Demuxer::new(container).unwrap();
                }
            }
            demuxer.finish().unwrap();
            assert!(demuxer.notes().len() <= 64);
        }
    }
}

#[test]
fn fragmented_mp4_in_the_layouts_of_others() {
    let bench = Bench::new();
    for (name, flags) in [
        ("cmaf", "cmaf+empty_moov"),
        ("base", "frag_keyframe+empty_moov+default_base_moof"),
        ("old", "frag_keyframe+empty_moov"),
        ("dash", "frag_every_frame+empty_moov+dash"),
    ] {
        let path = bench.make(&format!("{SOURCE} {H264} {AAC} -movflags {flags} {name}.mp4"));
        let data = file(&path);
        let (whole, notes) = take_apart(Container::FragmentedMp4, &data, data.len());
        assert_eq!(notes, Vec::<String>::new(), "{flags}");
        assert_like_ffprobe(&path, &whole);
        for piece in [1, 1000] {
            assert!(take_apart(Container::FragmentedMp4, &data, piece).0 == whole, "{flags} in pieces of {piece}");
        }
    }
    let path = bench.make(&format!("{SOURCE} {H264} -c:a libmp3lame -movflags frag_keyframe+empty_moov mp3.mp4"));
    let (events, notes) = take_apart(Container::FragmentedMp4, &file(&path), 1316);
    assert!(audio(&events).is_empty() && video(&events).len() == 100);
    assert!(notes.iter().any(|note| note.contains("MP3")), "{notes:?}");
}

#[test]
fn adts_with_tags_has_the_times_of_the_tags() {
    let bench = Bench::new();
    let data = file(&bench.make(&format!("{SOURCE} -vn {AAC} k.aac")));
    let mut tag = b"PRIV\0\0\0\x35\0\0com.apple.streaming.transportStreamTimestamp\0".to_vec();
    tag.extend_from_slice(&(90_000_u64 * 100).to_be_bytes());
    let tag = [&b"ID3\x04\0\0\0\0\0"[..], &[tag.len() as u8], &tag].concat();
    let whole = [tag.clone(), data.clone()].concat();
    for piece in [1, 1316, whole.len()] {
        let (events, notes) = take_apart(Container::Adts, &whole, piece);
        let packets = audio(&events);
        assert_eq!(notes, Vec::<String>::new());
        assert!(packets.len() > 180 && rising(&packets));
        assert_eq!(packets[0].pts, MediaTime::from_millis(100_000));
        let expected = 100.0 + (packets.len() - 1) as f64 * 1024.0 / 48_000.0;
        assert!((packets.last().unwrap().pts.secs_f64() - expected).abs() < 0.001);
    }
}

#[test]
fn of_several_audio_tracks_the_one_that_is_chosen_is_taken() {
    let bench = Bench::new();
    let sounds = "-f lavfi -i sine=440:r=48000:d=4 -f lavfi -i sine=880:r=44100:d=4 -f lavfi -i sine=220:r=32000:d=4";
    let source = format!("-f lavfi -i testsrc2=s=160x120:r=25:d=4 {sounds} -map 0 -map 1 -map 2 -map 3 {H264} {AAC}");
    let ts = bench.make(&format!("{source} three.ts"));
    let fragmented = bench.make(&format!("{source} -movflags frag_keyframe+empty_moov+default_base_moof three.mp4"));
    for (container, path) in [(Container::MpegTs, ts), (Container::FragmentedMp4, fragmented)] {
        let data = file(&path);
        for (track, rate) in [(None, 48000), (Some(0), 48000), (Some(1), 44100), (Some(2), 32000)] {
            assert_eq!(rate_of(container, &data, track).0, Some(rate), "{container:?} {track:?}");
        }
        let (rate, notes) = rate_of(container, &data, Some(3));
        assert_eq!(rate, None, "{container:?}");
        assert!(notes.iter().any(|note| note.contains("no audio track 3")), "{notes:?}");
    }
}
