//! What becomes of picture and sound together when a publisher's clock goes wrong: a source whose true times are
//! known, faults on top of it, and how far the timeline moved each track.

use super::*;
use bytes::Bytes;
use proptest::prelude::*;

/// Sound and picture may come apart by so much, in nanoseconds.
const APART: i64 = 20_000_000;
const MILLI: i64 = 1_000_000;

/// A fault of the publisher's clock, from one moment on or for a moment.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Both tracks go on elsewhere: milliseconds.
    Jump(i64),
    /// The next packets of a track say the same time: how many.
    Repeat(Track, u32),
    /// The next packets of a track come in another order: the second before the first.
    Swap(Track),
    /// The next packets say no presentation time, or one before they are decoded.
    Presentation(i64),
    /// One track pauses: milliseconds.
    Silence(Track, i64),
    /// Frames from now on last so many microseconds.
    FrameLength(i64),
    /// So many samples per second from now on.
    SampleRate(i64),
}

fn fault() -> impl Strategy<Value = Fault> {
    let track = prop_oneof![Just(Track::Video), Just(Track::Audio)];
    prop_oneof![
        (-90_000_000_i64..90_000_000).prop_map(Fault::Jump),
        (-20_000_i64..20_000).prop_map(Fault::Jump),
        (track.clone(), 1..6_u32).prop_map(|(track, count)| Fault::Repeat(track, count)),
        track.clone().prop_map(Fault::Swap),
        (-100_000_i64..100).prop_map(Fault::Presentation),
        (track, 100..14_000_i64).prop_map(|(track, millis)| Fault::Silence(track, millis)),
        prop_oneof![Just(16_683), Just(33_367), Just(40_000), Just(100_000)].prop_map(Fault::FrameLength),
        prop_oneof![Just(22_050), Just(44_100), Just(48_000)].prop_map(Fault::SampleRate),
    ]
}

/// A packet as it is sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    track: Track,
    /// When it belongs, in nanoseconds of the source.
    real: i64,
    /// What the publisher says.
    dts: i64,
    pts: i64,
}

/// A feed of `stretch` nanoseconds after each fault, interleaved by decoding time.
fn feed(start: u32, faults: &[Fault], stretch: i64) -> Vec<(usize, Sent)> {
    let mut sent = Vec::new();
    let (mut offset, mut frame, mut rate) = (i64::from(start), 33_367_000_i64, 44_100_i64);
    let (mut video, mut audio, mut pictures) = (0_i64, 0_i64, 0_u64);
    for (number, fault) in std::iter::once(&Fault::Jump(0)).chain(faults).enumerate() {
        let begins = sent.len();
        match *fault {
            Fault::Jump(millis) => offset += millis,
            Fault::FrameLength(micros) => frame = micros * 1000,
            Fault::SampleRate(hertz) => rate = hertz,
            Fault::Silence(Track::Video, millis) => video += millis * MILLI,
            Fault::Silence(Track::Audio, millis) => audio += millis * MILLI,
            Fault::Repeat(..) | Fault::Swap(_) | Fault::Presentation(_) => {}
        }
        // Long enough for both to be heard of after a silence.
        let until = video.max(audio) + stretch;
        while video.min(audio) < until {
            let says = |real: i64| (real + MILLI / 2) / MILLI + offset;
            if video <= audio {
                // Two B-frames: a frame is shown up to two frames after it is decoded.
                let delay = if pictures % 3 == 0 { 2 * frame } else { 0 };
                let dts = says(video);
                sent.push((number, Sent { track: Track::Video, real: video, dts, pts: dts + delay / MILLI }));
                video += frame;
                pictures += 1;
            } else {
                let dts = says(audio);
                sent.push((number, Sent { track: Track::Audio, real: audio, dts, pts: dts }));
                audio += 1024 * 1_000_000_000 / rate;
            }
        }
        let of = |track: Track, sent: &[(usize, Sent)]| -> Vec<usize> {
            (begins..sent.len()).filter(|at| sent[*at].1.track == track).collect()
        };
        match *fault {
            Fault::Repeat(track, count) => {
                let places = of(track, &sent);
                let first = sent[places[0]].1;
                for at in places.iter().take(count as usize) {
                    (sent[*at].1.dts, sent[*at].1.pts) = (first.dts, first.pts);
                }
            }
            Fault::Swap(track) => {
                let places = of(track, &sent);
                sent.swap(places[0], places[1]);
            }
            Fault::Presentation(millis) => {
                for at in of(Track::Video, &sent).into_iter().take(5) {
                    sent[at].1.pts = sent[at].1.dts + millis;
                }
            }
            Fault::Jump(_) | Fault::Silence(..) | Fault::FrameLength(_) | Fault::SampleRate(_) => {}
        }
    }
    sent
}

/// Places a feed as it comes out of RTMP, in 32 bits of milliseconds, and checks what must hold of every packet.
/// Returns, by fault, how far apart the tracks were moved at most, and how far at the end of its stretch.
fn apart(start: u32, faults: &[Fault], stretch: i64) -> Result<Vec<(i64, i64)>, TestCaseError> {
    let (mut unwrap, mut timeline) = (Unwrap::default(), Timeline::default());
    let mut last = [None::<MediaTime>; 2];
    let mut moved = [None::<i64>; 2];
    let mut found = vec![(0, 0); faults.len() + 1];
    for (fault, sent) in feed(start, faults, stretch) {
        let dts = unwrap.extend(u32::try_from(sent.dts.rem_euclid(1 << 32)).unwrap_or(0));
        let pts = dts + MediaTime::from_millis(sent.pts - sent.dts);
        let placed = timeline.place(sent.track, Packet { dts, pts, keyframe: false, data: Bytes::new() });
        let track = usize::from(sent.track == Track::Audio);
        prop_assert!(last[track].is_none_or(|last| placed.dts > last), "decoding times fall");
        prop_assert!(placed.pts >= placed.dts, "presentation comes before decoding");
        last[track] = Some(placed.dts);
        moved[track] = Some(placed.dts.nanos() - sent.real);
        if let [Some(video), Some(audio)] = moved {
            let apart = (video - audio).abs();
            found[fault] = (found[fault].0.max(apart), apart);
        }
    }
    Ok(found)
}

#[test]
fn no_fault_but_a_jump_moves_sound_against_picture() {
    let faults = [
        Fault::Swap(Track::Audio),
        Fault::Presentation(-40),
        Fault::Presentation(-90_000),
        Fault::FrameLength(16_683),
        Fault::FrameLength(100_000),
        Fault::SampleRate(48_000),
        Fault::SampleRate(22_050),
        Fault::Silence(Track::Video, 12_000),
        Fault::Silence(Track::Audio, 12_000),
    ];
    let found = apart(0, &faults, 3_000_000_000).unwrap();
    for (number, (_, end)) in found.iter().enumerate() {
        assert!(*end <= APART, "{:?} leaves them {end} ns apart", number.checked_sub(1).map(|n| faults[n]));
    }
}

#[test]
fn after_a_jump_they_are_together_again() {
    for start in [0, u32::MAX - 2000] {
        for millis in
            [-3_600_000, -16_000, -5000, -1500, -1001, -999, -500, -50, 50, 14_990, 15_010, 20_000, 86_400_000]
        {
            let found = apart(start, &[Fault::Jump(millis)], 3_000_000_000).unwrap();
            assert!(found.iter().all(|(_, end)| *end <= APART), "{millis} ms from {start}: {found:?}");
        }
    }
}

#[test]
fn eight_hours_at_29_97_frames_and_44_100_samples_stay_together() {
    // From just below the limit of 32 bits, and over it.
    for start in [0, u32::MAX - 60_000] {
        let found = apart(start, &[], 8 * 3600 * 1_000_000_000).unwrap();
        // What RTMP's rounding takes, and nothing more.
        assert!(found.iter().all(|(most, _)| *most <= 2 * MILLI), "from {start}: {found:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_goes_wrong_they_come_together_again(
        start in any::<u32>(),
        faults in prop::collection::vec(fault(), 1..8),
    ) {
        let found = apart(start, &faults, 4_000_000_000)?;
        for (number, (_, end)) in found.iter().enumerate() {
            let fault = number.checked_sub(1).map(|n| faults[n]);
            prop_assert!(*end <= APART, "{fault:?} leaves them {} ms apart: {found:?}", end / MILLI);
        }
    }
}
