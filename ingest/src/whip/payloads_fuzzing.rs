//! Entrance for `fuzz/`: what must hold of a WebRTC publisher's RTP packets, whatever is in them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use str0m::change::SdpAnswer;
use str0m::media::{Direction, MediaData, MediaKind, Mid};
use str0m::net::{Protocol, Receive, Transmit};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

use super::fuzzing::Told;
use super::offer::Terms;
use super::session::{Said, poll};
use super::tracks::{Frame, Tracks};
use crate::config::WebRtcConfig;

/// What fits into a datagram.
const LONGEST_PAYLOAD: usize = 1100;

/// RTP payloads of one session, as a publisher that has connected sends them: through the library's way from packets
/// to frames. Each is a byte (bit 0: the picture; bit 1: the last of its frame; bit 2: the one before was lost),
/// milliseconds since the one before, a length (2 bytes) and as much of a body as there is. Bit 0 of the first byte of
/// all: the picture is VP8 and not H.264.
pub fn rtp_payloads(data: &[u8]) {
    read_payloads(data);
}

fn read_payloads(data: &[u8]) -> Told {
    let mut told = Told::default();
    let Some((kind, mut data)) = data.split_first() else { return told };
    let mut pair = Pair::connected(kind & 1 != 0);
    let mut tracks = Tracks::new(pair.now);
    let (mut at, mut numbers) = (0u64, [1000u64, 2000]);
    while let Some((&[kind, step, l0, l1], rest)) = data.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([l0, l1])).min(rest.len()).min(LONGEST_PAYLOAD);
        let (body, rest) = rest.split_at(length);
        data = rest;
        at += u64::from(step);
        let track = usize::from(kind & 1);
        numbers[track] += 1 + u64::from(kind >> 2 & 1);
        pair.send(track, numbers[track], at, kind & 2 != 0, body);
        // What is out of order is waited for.
        let time = if data.is_empty() { Duration::from_secs(1) } else { Duration::from_millis(u64::from(step)) };
        for media in pair.go_on(time) {
            let Some(frame) = Frame::new(&media) else { continue };
            if !told.take(&mut tracks, &frame) {
                return told;
            }
        }
    }
    told
}

/// A publisher that sends packets as they are given to it, and this side's half of its session; datagrams go from one
/// to the other in memory, at a time that is counted.
struct Pair {
    publisher: Rtc,
    here: Rtc,
    tracks: [Mid; 2],
    now: Instant,
    connected: bool,
    media: Vec<MediaData>,
}

impl Pair {
    fn connected(vp8: bool) -> Self {
        let (theirs, ours) = (SocketAddr::from(([127, 0, 0, 1], 1000)), SocketAddr::from(([127, 0, 0, 1], 2000)));
        let crypto = Arc::new(str0m::crypto::from_feature_flags());
        let config = RtcConfig::new().set_crypto_provider(Arc::clone(&crypto)).set_rtp_mode(true).clear_codecs();
        let config = config.enable_vp8(vp8).enable_h264(!vp8).enable_opus(true, false);
        let now = Instant::now();
        let mut publisher = config.build(now);
        let candidate = Candidate::host(theirs, "udp").unwrap_or_else(|e| panic!("a candidate: {e}"));
        publisher.add_local_candidate(candidate);
        let mut change = publisher.sdp_api();
        let tracks = [MediaKind::Audio, MediaKind::Video]
            .map(|kind| change.add_media(kind, Direction::SendOnly, None, None, None));
        let (offer, pending) = change.apply().unwrap_or_else(|| panic!("there is something to offer"));
        let terms = Terms { config: WebRtcConfig::default(), candidates: vec![ours], crypto };
        let agreed = terms.answer(&offer.to_sdp_string()).unwrap_or_else(|_| panic!("what is offered is taken"));
        let answer = SdpAnswer::from_sdp_string(&agreed.answer).unwrap_or_else(|e| panic!("an answer: {e}"));
        publisher.sdp_api().accept_answer(pending, answer).unwrap_or_else(|e| panic!("the answer is taken: {e}"));
        let here = agreed.rtc;
        let mut this = Self { publisher, here, tracks, now, connected: false, media: Vec::new() };
        for _ in 0..1000 {
            this.go_on(Duration::from_millis(10));
            if this.connected {
                return this;
            }
        }
        panic!("they do not connect");
    }

    /// The publisher sends a packet with this payload.
    fn send(&mut self, track: usize, number: u64, millis: u64, last: bool, body: &[u8]) {
        let mid = self.tracks[track];
        let Some(media) = self.publisher.media(mid) else { return };
        let Some(pt) = media.remote_pts().first().copied() else { return };
        let ticks = millis * [48, 90][track];
        let packet = RtpWrite::new(pt, number.into(), ticks as u32, self.now, body).marker(last);
        if let Some(stream) = self.publisher.direct_api().stream_tx_by_mid(mid, None) {
            stream.write_rtp(packet);
        }
    }

    /// Lets so much time pass, and returns the frames that arrive.
    fn go_on(&mut self, time: Duration) -> Vec<MediaData> {
        let end = self.now + time;
        loop {
            let next = self.exchange();
            if next > end {
                self.now = end;
                break;
            }
            // Some timers are due for a while.
            self.now = next.max(self.now + Duration::from_millis(1)).min(end.max(self.now));
            for rtc in [&mut self.publisher, &mut self.here] {
                rtc.handle_input(Input::Timeout(self.now)).unwrap_or_else(|e| panic!("time passes: {e}"));
            }
            if self.now >= end {
                self.exchange();
                break;
            }
        }
        std::mem::take(&mut self.media)
    }

    /// Carries what both have to send; returns when one of them has something to do.
    fn exchange(&mut self) -> Instant {
        loop {
            let (to_here, theirs) = outputs(&mut self.publisher, &mut self.connected, &mut self.media);
            let (to_there, ours) = outputs(&mut self.here, &mut false, &mut self.media);
            if to_here.is_empty() && to_there.is_empty() {
                return theirs.min(ours);
            }
            for (rtc, datagrams) in [(&mut self.here, to_here), (&mut self.publisher, to_there)] {
                for datagram in datagrams {
                    let Ok(contents) = datagram.contents[..].try_into() else { continue };
                    let (source, destination) = (datagram.source, datagram.destination);
                    let receive = Receive { proto: Protocol::Udp, source, destination, contents };
                    // What a publisher sends may end its session.
                    if rtc.handle_input(Input::Receive(self.now, receive)).is_err() {
                        return self.now + Duration::from_secs(3600);
                    }
                }
            }
        }
    }
}

/// What one of both has to send and to say, and when it has something to do next.
fn outputs(rtc: &mut Rtc, connected: &mut bool, media: &mut Vec<MediaData>) -> (Vec<Transmit>, Instant) {
    let mut datagrams = Vec::new();
    loop {
        match poll(rtc) {
            Ok(Said::Output(Output::Timeout(at))) => return (datagrams, at),
            Ok(Said::Output(Output::Transmit(datagram))) => datagrams.push(datagram),
            Ok(Said::Output(Output::Event(Event::Connected))) => *connected = true,
            Ok(Said::Output(Output::Event(Event::MediaData(data)))) => media.push(data),
            Ok(Said::Output(Output::Event(_)) | Said::NoFrame(_)) => {}
            Err(e) => panic!("no payload ends a session: {e}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fuzzing::replay::seed;
    use crest_core::codec::VideoCodec;

    const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x01, 0x40];
    const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb];
    const SOUND: u8 = 0;
    const PICTURE: u8 = 1;
    const LAST: u8 = 2;
    const LOST: u8 = 4;

    fn packet(kind: u8, step: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, step][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
    }

    fn h264() -> Vec<u8> {
        // All in one (STAP-A), then a picture in two pieces (FU-A).
        let mut together = vec![0x78];
        for unit in [SPS, PPS, &[0x65, 0x88, 0x84, 0x21]] {
            together.extend(u16::try_from(unit.len()).unwrap().to_be_bytes());
            together.extend(unit);
        }
        [
            vec![0],
            packet(PICTURE | LAST, 20, &together),
            packet(SOUND | LAST, 0, &[0xfc, 1, 2]),
            packet(PICTURE, 20, &[0x7c, 0x81, 0x9a, 0x21]),
            packet(PICTURE | LAST, 0, &[0x7c, 0x41, 0x33, 0x44]),
            packet(SOUND | LAST, 0, &[0xfc, 3]),
        ]
        .concat()
    }

    fn vp8() -> Vec<u8> {
        let keyframe = [&[0x10, 0x10, 2, 0, 0x9d, 1, 0x2a, 160, 0, 90, 0][..], &[7; 30]].concat();
        let between = [&[0x10, 0x11][..], &[7; 20]].concat();
        [
            vec![1],
            packet(PICTURE, 20, &keyframe),
            packet(PICTURE | LAST, 0, &[0, 8, 8, 8]),
            packet(SOUND | LAST, 0, &[0xfc, 1]),
            packet(PICTURE | LAST, 20, &between),
            packet(PICTURE | LAST | LOST, 40, &between),
            packet(SOUND | LAST, 0, &[0xfc, 3]),
        ]
        .concat()
    }

    #[test]
    fn packets_that_make_no_frame_end_nothing() {
        // A unit that is longer than what is there, and a descriptor without its payload.
        for (good, bad) in [(h264(), &[0x78, 0, 5, 0x67, 1, 2, 3][..]), (vp8(), &[0x90])] {
            let [kind, rest @ ..] = &good[..] else { panic!("nothing") };
            let input = [&[*kind], &packet(PICTURE | LAST, 20, bad)[..], rest].concat();
            let (told, wanted) = (read_payloads(&input), read_payloads(&good));
            assert_eq!((told.video, told.packets), (wanted.video, wanted.packets));
        }
    }

    #[test]
    fn packets_become_what_they_carry() {
        for (name, input, video, pictures) in
            [("h264", h264(), VideoCodec::H264, 2), ("vp8", vp8(), VideoCodec::Vp8, 3)]
        {
            seed("rtp_payloads", name, &input, rtp_payloads);
            let told = read_payloads(&input);
            assert_eq!((told.video, told.sound, told.packets), (Some(video), true, [pictures, 2]), "{name}");
        }
    }
}
