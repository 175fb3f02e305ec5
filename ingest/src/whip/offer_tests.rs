#![allow(clippy::unwrap_used)]

use super::*;
use axum::response::IntoResponse;
use std::net::{IpAddr, Ipv4Addr};

const OPUS: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:0\na=sendonly\na=rtpmap:111 opus/48000/2\n";
const VP8: &str = "96 VP8/90000";
const VP9: &str = "98 VP9/90000";
const H264: &str = "102 H264/90000\na=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";

fn video(mid: &str, codecs: &[&str]) -> String {
    let numbers: Vec<_> = codecs.iter().map(|codec| codec.split(' ').next().unwrap()).collect();
    let maps: String = codecs.iter().map(|codec| format!("a=rtpmap:{codec}\n")).collect();
    format!("m=video 9 UDP/TLS/RTP/SAVPF {}\na=mid:{mid}\na=sendonly\n{maps}", numbers.join(" "))
}

/// An offer with these media sections, all over one transport.
fn offer(sections: &[&str]) -> String {
    let mids: Vec<_> = (0..sections.len()).map(|mid| mid.to_string()).collect();
    let fingerprint = ["AB"; 32].join(":");
    let transport = format!(
        "a=rtcp-mux\na=ice-ufrag:publisher\na=ice-pwd:aPasswordOfTheOffererOfThis\na=setup:actpass\n\
         a=fingerprint:sha-256 {fingerprint}\n"
    );
    let head = format!("v=0\no=- 1 2 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE {}\n", mids.join(" "));
    let body: String = sections.iter().map(|section| format!("{section}c=IN IP4 0.0.0.0\n{transport}")).collect();
    let text = (head + &body).replace('\n', "\r\n");
    reorder(&text)
}

/// Moves each connection line behind its media line, where it belongs.
fn reorder(text: &str) -> String {
    let connection = "c=IN IP4 0.0.0.0\r\n";
    text.replace(connection, "")
        .split_inclusive("\r\n")
        .map(|line| if line.starts_with("m=") { format!("{line}{connection}") } else { line.to_owned() })
        .collect()
}

fn terms() -> Terms {
    let public = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 8189);
    let crypto = Arc::new(str0m::crypto::from_feature_flags());
    Terms { config: WebRtcConfig::default(), candidates: vec![public], crypto }
}

fn refused(offer: &str) -> (u16, String) {
    let problem = terms().answer(offer).err().unwrap();
    let detail = problem.detail().to_owned();
    (problem.into_response().status().as_u16(), detail)
}

#[test]
fn the_answer_takes_what_is_offered_and_says_where() {
    let agreed = terms().answer(&offer(&[OPUS, &video("1", &[VP8, H264])])).unwrap();
    let answer = &agreed.answer;
    assert!(answer.contains("a=candidate:") && answer.contains(" 192.0.2.7 8189 typ host"), "{answer}");
    assert!(answer.contains("a=ice-lite\r\n"), "{answer}");
    assert!(answer.contains("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n") && answer.contains("a=recvonly"), "{answer}");
    assert!(answer.contains(&format!("a=ice-ufrag:{}\r\n", agreed.ufrag)), "{answer}");
    assert_eq!((agreed.publisher_ufrag.as_str(), agreed.video), ("publisher", Some("1".into())));
}

#[test]
fn the_picture_comes_as_h264_where_it_can() {
    let answer = |codecs: &[&str]| terms().answer(&offer(&[OPUS, &video("1", codecs)])).unwrap().answer;
    for codecs in [&[VP8, H264][..], &[H264]] {
        let answer = answer(codecs);
        assert!(answer.contains("a=rtpmap:102 H264/90000") && !answer.contains("VP8"), "{answer}");
        assert!(answer.contains("profile-level-id=42e034"), "level 5.2: {answer}");
        assert!(answer.contains("a=rtcp-fb:102 nack pli") && answer.contains("a=rtcp-fb:102 nack\r\n"), "{answer}");
    }
    let vp8 = answer(&[VP9, VP8]);
    assert!(vp8.contains("a=rtpmap:96 VP8/90000") && !vp8.contains("VP9"), "{vp8}");
}

#[test]
fn sound_alone_and_picture_alone_are_taken() {
    assert_eq!(terms().answer(&offer(&[OPUS])).unwrap().video, None);
    assert_eq!(terms().answer(&offer(&[&video("0", &[H264])])).unwrap().video, Some("0".into()));
}

#[test]
fn who_offers_to_receive_as_well_is_told_that_nothing_comes() {
    let both = offer(&[OPUS]).replace("a=sendonly", "a=sendrecv");
    let answer = terms().answer(&both).unwrap().answer;
    assert!(answer.contains("a=recvonly") && !answer.contains("sendrecv"), "{answer}");
}

#[test]
fn what_has_no_codec_in_common_is_not_acceptable() {
    let (status, detail) = refused(&offer(&[OPUS, &video("1", &[VP9])]));
    assert!(status == 406 && detail.contains("H.264") && detail.contains("VP8"), "{status} {detail}");
    let g722 = OPUS.replace("111", "9").replace("opus/48000/2", "G722/8000");
    let (status, detail) = refused(&offer(&[&g722, &video("1", &[H264])]));
    assert!(status == 406 && detail.contains("Opus"), "{status} {detail}");
}

#[test]
fn what_is_no_offer_or_asks_for_more_is_refused() {
    let h264 = video("1", &[H264]);
    let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:1\na=sctp-port:5000\n";
    let cases = [
        ("hello".to_owned(), 400),
        (String::new(), 400),
        (offer(&[]), 400),
        (offer(&[OPUS]).replace("a=fingerprint", "a=footprint"), 400),
        (offer(&[&h264.replace("mid:1", "mid:0"), &h264]), 422),
        (offer(&[OPUS, data]), 422),
        (offer(&[OPUS]).replace("a=sendonly", "a=recvonly"), 422),
        (offer(&[&format!("{h264}a=rid:h send\na=rid:l send\na=simulcast:send h;l\n")]), 422),
    ];
    for (text, expected) in cases {
        let (status, detail) = refused(&text);
        assert_eq!(status, expected, "{detail} of {text}");
    }
}
