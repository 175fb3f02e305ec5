//! Containers that announce more than there is, or never come to an end: what cannot be is left out and noted, and
//! what follows is read.

use bytes::Bytes;
use crest_core::codec::MediaEvent;
use crest_media::{Container, Demuxer};

use crate::support::Bench;

const SOURCE: &str = "-f lavfi -i testsrc2=s=160x120:r=25:d=4 -f lavfi -i sine=440:r=48000:d=4 -shortest";
/// Where ffmpeg puts the picture of a transport stream.
const PICTURE: u16 = 0x100;

fn push(demuxer: &mut Demuxer, data: &[u8]) -> Vec<MediaEvent> {
    let pieces = data.chunks(65_536).map(Bytes::copy_from_slice);
    pieces.flat_map(|piece| demuxer.push(piece).unwrap()).collect()
}

fn pictures(events: &[MediaEvent]) -> usize {
    events.iter().filter(|event| matches!(event, MediaEvent::Video(_))).count()
}

/// Where the bodies of boxes of this kind begin.
fn boxes(data: &[u8], kind: &[u8; 4]) -> Vec<usize> {
    data.windows(4).enumerate().filter(|(_, window)| window == kind).map(|(at, _)| at + 4).collect()
}

/// Where the table of a run's samples begins, and how many bytes a sample has in it.
fn table(data: &[u8], run: usize) -> (usize, usize) {
    let flags = u32::from_be_bytes(data[run..run + 4].try_into().unwrap());
    let has = |flag: u32| usize::from(flags & flag != 0) * 4;
    (run + 8 + has(1) + has(4), has(0x100) + has(0x200) + has(0x400) + has(0x800))
}

#[test]
fn sizes_and_offsets_near_the_largest_number_cost_their_fragment_alone() {
    let bench = Bench::new();
    let layout = "-movflags frag_keyframe+empty_moov+default_base_moof";
    let path = bench.make(&format!("{SOURCE} -c:v libx264 -preset veryfast -g 25 -bf 2 -c:a aac {layout} a.mp4"));
    let data = std::fs::read(path).unwrap();
    // Of the second fragment: the run of its pictures, the time that its pictures begin at, its index and its body.
    let of_second = |kind: &[u8; 4], per_fragment: usize| boxes(&data, kind)[per_fragment];
    let (run, time, defaults) = (of_second(b"trun", 2), of_second(b"tfdt", 2), of_second(b"tfhd", 2));
    let (index, body) = (of_second(b"moof", 1), of_second(b"mdat", 1));
    let (size, sample) = table(&data, run);
    // Runs say where they begin and how large each sample is; times have 64 bits; durations are those of the track.
    let as_expected = data[run + 3] & 1 == 1 && data[run + 2] & 3 == 2 && data[time] == 1 && data[defaults + 3] == 0x38;
    assert!(as_expected, "ffmpeg lays it out differently");
    let every = |value: u32| (0..25).map(|at| (size + at * sample, value.to_be_bytes().to_vec())).collect::<Vec<_>>();
    let one = |at: usize, value: u32| vec![(at, value.to_be_bytes().to_vec())];
    let outside = "samples that lie outside";
    let cases = [
        ("a sample of 4 GiB", one(size, u32::MAX), outside),
        ("one that ends just beyond 4 GiB", one(size, u32::MAX - 1000), outside),
        ("all of 4 GiB", every(u32::MAX), outside),
        ("the farthest offset", one(run + 8, i32::MAX.cast_unsigned()), outside),
        ("the farthest offset back", one(run + 8, i32::MIN.cast_unsigned()), outside),
        ("more samples than there can be", one(run + 4, u32::MAX), "index cannot be read"),
        ("the longest durations", one(defaults + 8, u32::MAX), ""),
        ("the latest time", vec![(time + 4, i64::MAX.to_be_bytes().to_vec())], outside),
        ("a time beyond it", vec![(time + 4, vec![0xff; 8])], ""),
        ("an index of 4 GiB", one(index - 8, u32::MAX), "too long"),
        ("a body of 4 GiB", one(body - 8, u32::MAX), "too long"),
    ];
    for (what, changes, note) in cases {
        let mut damaged = data.clone();
        for (at, bytes) in changes {
            damaged[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        let mut demuxer = Demuxer::new(Container::FragmentedMp4).unwrap();
        let events = push(&mut demuxer, &damaged);
        let notes = demuxer.notes();
        // A box that is too long takes what follows with it, as far as it says; the first fragment is there.
        let whole = match note {
            "too long" => 25,
            "" => 100,
            _ => 75,
        };
        assert!(pictures(&events) >= whole && (note.is_empty() || pictures(&events) < 100), "{what}: {notes:?}");
        assert_eq!(notes.iter().any(|told| told.contains(note)), !notes.is_empty(), "{what}: {notes:?}");
        assert_eq!(notes.is_empty(), note.is_empty(), "{what}: {notes:?}");
        // And at its end it begins anew.
        demuxer.finish().unwrap();
        assert_eq!(pictures(&push(&mut demuxer, &data)), 100, "{what}");
    }
}

#[test]
fn a_box_as_long_as_can_be_said_is_passed_over_without_being_kept() {
    let mut demuxer = Demuxer::new(Container::FragmentedMp4).unwrap();
    let endless = [&1_u32.to_be_bytes()[..], b"moof", &u64::MAX.to_be_bytes()].concat();
    assert!(push(&mut demuxer, &endless).is_empty());
    for _ in 0..100 {
        assert!(push(&mut demuxer, &[0; 1 << 20]).is_empty());
    }
    assert!(demuxer.notes().iter().any(|note| note.contains("too long")));
}

/// Packets of the picture's elementary stream as packets of the transport stream, counted on from `counter`.
fn packets(stream: &[u8], counter: &mut u8) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, piece) in stream.chunks(184).enumerate() {
        *counter = (*counter + 1) & 15;
        let [high, low] = PICTURE.to_be_bytes();
        let filled = piece.len() == 184;
        out.extend([0x47, high | if at == 0 { 0x40 } else { 0 }, low, if filled { 0x10 } else { 0x30 } | *counter]);
        if !filled {
            let room = 183 - piece.len();
            out.push(u8::try_from(room).unwrap());
            out.extend((0..room).map(|at| if at == 0 { 0 } else { 0xff }));
        }
        out.extend(piece);
    }
    out
}

/// A packet of the elementary stream that does not say how long it is.
fn unbounded(data: &[u8]) -> Vec<u8> {
    [&[0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0][..], data].concat()
}

/// The continuity counter of the last packet of the picture.
fn counter(stream: &[u8]) -> u8 {
    let of_picture = |packet: &&[u8]| u16::from_be_bytes([packet[1] & 0x1f, packet[2]]) == PICTURE;
    stream.chunks(188).rfind(of_picture).unwrap()[3] & 15
}

#[test]
fn what_never_ends_in_a_transport_stream_is_left_out() {
    let bench = Bench::new();
    // Pictures of four slices, so that there are slices that do not begin a picture.
    let slices = "-c:v libx264 -preset ultrafast -qp 8 -x264-params slices=4 -g 25";
    let clean = std::fs::read(bench.make(&format!("{SOURCE} {slices} -c:a aac a.ts"))).unwrap();
    let units = std::fs::read(bench.make(&format!("{SOURCE} {slices} -an a.h264"))).unwrap();
    let starts: Vec<usize> = boxes(&units, &[0, 0, 1, 0x41]).into_iter().map(|body| body - 4).collect();
    let slice = starts.windows(2).map(|pair| &units[pair[0]..pair[1]]).find(|unit| unit[4] & 0x80 == 0).unwrap();
    // More of each than is kept: 16 MiB of a packet, 48 MiB of an access unit.
    let packet = unbounded(&vec![0xff; 20 << 20]);
    let unit = unbounded(&slice.repeat((1 << 20) / slice.len()));
    for (what, pieces, note) in
        [("a packet", vec![packet], "missing or damaged"), ("a picture", vec![unit; 56], "not end")]
    {
        let mut demuxer = Demuxer::new(Container::MpegTs).unwrap();
        let before = pictures(&push(&mut demuxer, &clean));
        assert!(before >= 97, "{before}");
        let mut counter = counter(&clean);
        for piece in pieces {
            // What came before may come out yet.
            assert!(pictures(&push(&mut demuxer, &packets(&piece, &mut counter))) <= 3, "{what}");
        }
        let notes = demuxer.notes();
        assert!(notes.iter().any(|told| told.contains(note)), "{what}: {notes:?}");
        assert!(pictures(&push(&mut demuxer, &clean)) >= 90, "{what}: what follows is read");
    }
}
