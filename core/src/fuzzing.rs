//! Entrances for `fuzz/`: what must hold of payloads and written values, whatever their bytes.

use crate::chat::{ChatMessage, Mark};
use crate::ipc::MAX_PAYLOAD_BYTES;
use crate::sample::{AudioWindow, VideoBatch};
use crate::segment::Fragment;
use crate::signal::{SignalBatch, SignalEntry};
use crate::time::{MediaTime, WallTime};
use crate::units::Span;
use crate::{Fault, Result};

/// A byte (which payload), and the payload as it lies on the bus. What can be read can be written, and is
/// then the same.
pub fn payload(data: &[u8]) {
    let Some((kind, payload)) = data.split_first() else { return };
    assert!(payload.len() <= MAX_PAYLOAD_BYTES);
    match kind % 6 {
        0 => survives(payload, VideoBatch::decode, VideoBatch::encode, |a, b| a == b),
        1 => survives(payload, AudioWindow::decode, AudioWindow::encode, same_sound),
        2 => survives(payload, ChatMessage::decode, ChatMessage::encode, |a, b| a == b),
        3 => survives(payload, Mark::decode, Mark::encode, |a, b| a == b),
        4 => survives(payload, SignalBatch::decode, SignalBatch::encode, same_entries),
        _ => survives(payload, Fragment::decode, |fragment| Ok(fragment.encode()), |a, b| a == b),
    }
}

/// Not a number is not equal to itself, and survives all the same.
fn same_sound(a: &AudioWindow, b: &AudioWindow) -> bool {
    let bits = |window: &AudioWindow| window.samples.iter().map(|sample| sample.to_bits()).collect::<Vec<_>>();
    let head = |w: &AudioWindow| (w.organization_id.clone(), w.session, w.start, w.complete_to);
    bits(a) == bits(b) && head(a) == head(b)
}

/// And every value is a number.
fn same_entries(a: &SignalBatch, b: &SignalBatch) -> bool {
    let finite = |entry: &SignalEntry| !matches!(entry, SignalEntry::Value { value, .. } if !value.is_finite());
    a == b && a.entries.iter().all(finite)
}

fn survives<T: std::fmt::Debug>(
    payload: &[u8],
    decode: fn(&[u8]) -> Result<T>,
    encode: fn(&T) -> Result<Vec<u8>>,
    same: fn(&T, &T) -> bool,
) {
    let read = match decode(payload) {
        Ok(read) => read,
        Err(e) => {
            return assert_ne!(e.fault, Fault::Ours, "damaged bytes are not crest's fault: {e}");
        }
    };
    let written = encode(&read).unwrap_or_else(|e| panic!("what was read cannot be written: {e}"));
    let again = decode(&written).unwrap_or_else(|e| panic!("what was written cannot be read: {e}"));
    assert!(same(&read, &again), "{read:?} became {again:?}");
}

/// A duration and an instant as people write them.
pub fn written(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(span) = Span::parse(text) {
        // Beyond that a float no longer holds every millisecond.
        if span.0.as_secs() < 1 << 40 {
            let again = serde_json::to_value(span).and_then(serde_json::from_value::<Span>);
            let again = again.unwrap_or_else(|e| panic!("{text}: written and refused: {e}"));
            assert!(span.0.abs_diff(again.0).as_millis() <= 1, "{text} became {again:?}");
        }
    }
    if let Some(wall) = WallTime::parse(text) {
        assert_eq!(WallTime::parse(&wall.rfc3339()), Some(wall), "{text}");
    }
    if let Some(seconds) = text.trim().parse::<f64>().ok().filter(|seconds| seconds.is_finite()) {
        let time = MediaTime::from_secs_f64(seconds);
        assert!(time.bucket().start() <= time.max(MediaTime::ZERO));
        assert!(seconds.abs() > 1e6 || (time.secs_f64() - seconds).abs() < 1e-6, "{text}");
    }
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::{replay, seed};
    use super::*;
    use crate::chat::ChatKind;
    use crate::sample::{Picture, VideoFrame};
    use crate::signal::{Modality, Signal};
    use crate::{Bucket, OrganizationId, Session};

    #[test]
    fn kept_inputs_pass() {
        replay("bus_payload", payload);
        replay("written", written);
    }

    #[test]
    fn what_stages_send_passes() -> Result<()> {
        let (organization_id, session) = (OrganizationId::from_raw("org_a"), Session::new(3));
        let at = MediaTime::from_millis(500);
        let picture = Picture { width: 2, height: 1, rgb: vec![1, 2, 3, 4, 5, 6].into() };
        let frame = |picture| VideoFrame { pts: at, encoded_bytes: 900, keyframe: true, picture };
        let frames = vec![frame(Some(picture)), frame(None)];
        let video = VideoBatch { organization_id: organization_id.clone(), session, complete_to: at, frames };
        let (start, samples) = (MediaTime::ZERO, vec![0.5, -0.25, f32::NAN]);
        let audio = AudioWindow { organization_id: organization_id.clone(), session, start, complete_to: at, samples };
        let message = ChatMessage {
            organization_id: organization_id.clone(),
            session,
            at,
            id: None,
            user: "viewer".into(),
            text: "goal".into(),
            kind: ChatKind::Bits,
            emotes: vec!["PogChamp".into(), "Kappa".into()],
            bits: Some(100),
        };
        let mark = Mark { organization_id: organization_id.clone(), session, at, label: Some("that".into()) };
        let entries = vec![
            SignalEntry::SessionStart { wall: WallTime(1_795_000_000_000), media: true },
            SignalEntry::Value { bucket: Bucket::new(7), signal: Signal::ChatRate, value: 0.25 },
            SignalEntry::Watermark { modality: Modality::Audio, to: at },
            SignalEntry::Mark { at },
            SignalEntry::SessionEnd { at },
        ];
        let signals = SignalBatch { organization_id, session, entries };
        let payloads = [video.encode()?, audio.encode()?, message.encode()?, mark.encode()?, signals.encode()?];
        for (kind, bytes) in (0..).zip(payloads) {
            seed("bus_payload", &format!("stage-{kind}"), &[&[kind], &bytes[..]].concat(), payload);
        }
        Ok(())
    }
}
