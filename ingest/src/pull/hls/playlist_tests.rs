#![allow(clippy::unwrap_used)]

use super::*;

fn base() -> Url {
    Url::parse("https://cdn.example/live/index.m3u8?token=1").unwrap()
}

fn master(text: &str, max_height: u32) -> Result<Master, String> {
    match parse(text.as_bytes(), &base(), max_height, None)? {
        Listing::Master(master) => Ok(master),
        Listing::Media(media) => panic!("not a master: {media:?}"),
    }
}

fn media(text: &str) -> Media {
    match parse(text.as_bytes(), &base(), 1080, None).unwrap() {
        Listing::Media(media) => media,
        Listing::Master(master) => panic!("not media: {master:?}"),
    }
}

const VARIANTS: &str = "#EXTM3U\n\
    #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"Deutsch\",URI=\"de.m3u8\"\n\
    #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"English\",DEFAULT=YES,URI=\"en.m3u8\"\n\
    #EXT-X-STREAM-INF:BANDWIDTH=9000000,RESOLUTION=3840x2160,CODECS=\"hvc1.1.6.L150,mp4a.40.2\"\nuhd.m3u8\n\
    #EXT-X-STREAM-INF:BANDWIDTH=7000000,RESOLUTION=1920x1080,CODECS=\"av01.0.08M.08\"\nav1.m3u8\n\
    #EXT-X-STREAM-INF:BANDWIDTH=6000000,RESOLUTION=1920x1080,AUDIO=\"a\"\nhd.m3u8\n\
    #EXT-X-STREAM-INF:BANDWIDTH=800000,RESOLUTION=640x360\nsmall.m3u8\n\
    #EXT-X-STREAM-INF:BANDWIDTH=99000000\nsound.m3u8\n\
    #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=500000,RESOLUTION=1920x1080,URI=\"keys.m3u8\"\n";

#[test]
fn the_best_variant_that_can_be_read_is_taken_with_its_sound() {
    let url = |path: &str| Url::parse(&format!("https://cdn.example/live/{path}")).unwrap();
    let hd = Master { main: url("hd.m3u8"), audio: Some(url("en.m3u8")), within: None };
    assert_eq!(master(VARIANTS, 1080), Ok(hd));
    assert_eq!(master(VARIANTS, 4320).unwrap().main, url("uhd.m3u8"));
    assert_eq!(master(VARIANTS, 480).unwrap(), Master { main: url("small.m3u8"), audio: None, within: None });
    let tall = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=1280x720\nonly.m3u8\n";
    assert_eq!(master(tall, 480).unwrap().main, url("only.m3u8"), "better than nothing");
    let none = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"vp09.00\"\nonly.m3u8\n";
    assert!(master(none, 1080).unwrap_err().contains("H.264"));
}

#[test]
fn of_variants_with_the_same_picture_the_one_whose_sound_is_read_is_taken() {
    let variant = |group: &str, height: u32, bandwidth: u32, sound: &str| {
        let of = format!("BANDWIDTH={bandwidth},RESOLUTION=16x{height},CODECS=\"avc1.640028,{sound}\"");
        format!("#EXT-X-STREAM-INF:{of},AUDIO=\"{group}\"\n{height}-{group}.m3u8\n")
    };
    let chosen = |variants: &[String], max_height| {
        let group =
            |name: &str| format!("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{name}\",NAME=\"n\",URI=\"{name}.m3u8\"\n");
        let groups = ["aac", "other"].map(group).concat();
        let master = master(&format!("#EXTM3U\n{groups}{}", variants.concat()), max_height).unwrap();
        [master.main, master.audio.unwrap()].map(|url| url.path().trim_start_matches("/live/").to_owned())
    };
    for other in ["ac-3", "ec-3", "ac-4.02.01.00", "mp4a.a5", "mp4a.A6", "dtsc", "fLaC", "Opus", "mp4a.40.34"] {
        let both = |height| [variant("aac", height, 2000, "mp4a.40.2"), variant("other", height, 3000, other)];
        let all = [both(1080), both(720)].concat();
        assert_eq!(chosen(&all, 1080), ["1080-aac.m3u8", "aac.m3u8"], "{other}");
        assert_eq!(chosen(&all, 480), ["720-aac.m3u8", "aac.m3u8"], "{other}: of those that are too large, too");
        let without = [variant("aac", 720, 2000, "mp4a.40.5"), variant("other", 1080, 3000, other)];
        assert_eq!(chosen(&without, 1080), ["1080-other.m3u8", "other.m3u8"], "{other}: the picture comes first");
    }
    let two = [variant("aac", 720, 2000, "mp4a.40.2"), variant("other", 720, 3000, "mp4a.40.5")];
    assert_eq!(chosen(&two, 1080), ["720-other.m3u8", "other.m3u8"], "the better of two that are read");
}

#[test]
fn an_audio_rendition_is_chosen_by_its_number() {
    let text = "#EXTM3U\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"s\",NAME=\"de\",URI=\"de.m3u8\"\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"s\",NAME=\"en\",DEFAULT=YES,URI=\"en.m3u8\"\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"other\",NAME=\"fr\",URI=\"fr.m3u8\"\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"s\",NAME=\"within\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"s\"\nv.m3u8\n";
    let chosen = |track| match parse(text.as_bytes(), &base(), 1080, track) {
        Ok(Listing::Master(master)) => (master.audio.map(|url| url.path().to_owned()), master.within),
        other => panic!("{other:?}"),
    };
    let apart = |name: &str| (Some(format!("/live/{name}")), None);
    assert_eq!(chosen(None), apart("en.m3u8"));
    assert_eq!(chosen(Some(0)), apart("de.m3u8"));
    assert_eq!(chosen(Some(1)), apart("en.m3u8"));
    assert_eq!(chosen(Some(2)), (None, None), "it is in the variant itself");
    assert_eq!(chosen(Some(3)), (None, Some(3)), "it may be a track of the variant");
}

#[test]
fn pieces_carry_what_was_said_before_them() {
    let media = media(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:41\n#EXT-X-DISCONTINUITY-SEQUENCE:7\n#EXT-X-MAP:URI=\"init.mp4\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:00.500Z\n#EXTINF:4.000,live\n#EXT-X-BYTERANGE:100@20\nall.mp4\n\
         #EXTINF:4.000,live\n#EXT-X-BYTERANGE:50\nall.mp4\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init2.mp4\",BYTERANGE=\"9@1\"\n\
         #EXTINF:2.5,\n/other/c.m4s?x=1\n",
    );
    assert!(!media.over);
    assert_eq!(media.target, Duration::from_secs(4));
    let [a, b, c] = media.pieces.as_slice() else { panic!("{:?}", media.pieces) };
    assert_eq!((a.sequence, b.sequence, c.sequence), (41, 42, 43));
    let range = |piece: &Piece| piece.whole.as_ref().unwrap().range;
    assert_eq!((range(a), range(b)), (Some(Range { start: 20, length: 100 }), Some(Range { start: 120, length: 50 })));
    assert_eq!(a.map, b.map);
    assert_eq!(
        c.map.as_ref().map(|map| (map.at.url.path(), map.at.range)),
        Some(("/live/init2.mp4", Some(Range { start: 1, length: 9 })))
    );
    assert_eq!((a.discontinuity, b.discontinuity, c.discontinuity), (false, false, true));
    assert_eq!((a.timeline, b.timeline, c.timeline), (7, 7, 8), "those that have left the playlist count too");
    assert_eq!(c.whole.as_ref().unwrap().url.as_str(), "https://cdn.example/other/c.m4s?x=1");
    let at = |text: &str| WallTime::parse(text);
    assert_eq!(a.at, at("2026-11-21T10:00:00.500Z"));
    assert_eq!(c.at, at("2026-11-21T10:00:08.500Z"), "counted on from what was said last");
}

#[test]
fn a_recording_says_that_it_is_whole() {
    let text = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\na.ts\n#EXT-X-ENDLIST\n";
    assert!(media(text).over);
}

#[test]
fn a_broadcast_that_keeps_all_is_live_until_it_ends() {
    let event = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXTINF:6,\na.ts\n";
    let (goes_on, ended) = (media(event), media(&format!("{event}#EXT-X-ENDLIST\n")));
    assert!(!goes_on.over);
    assert!(ended.over);
}

#[test]
fn advertisements_and_keys_are_seen() {
    let media = media(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n\
         #EXT-X-DATERANGE:ID=\"ad\",CLASS=\"twitch-stitched-ad\",START-DATE=\"2026-11-21T10:00:02Z\",DURATION=4\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:00Z\n#EXTINF:2,live\na.ts\n\
         #EXTINF:2,Amazon|1\nb.ts\n#EXTINF:2,Amazon|1\nc.ts\n#EXTINF:2,live\nd.ts\n\
         #EXT-X-CUE-OUT:30\n#EXTINF:2,\ne.ts\n#EXTINF:2,\nf.ts\n#EXT-X-CUE-IN\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:2,\ng.ts\n#EXTINF:2,\nh.ts\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:2,\ni.ts\n",
    );
    let ads: Vec<_> = media.pieces.iter().map(|piece| piece.ad).collect();
    assert_eq!(ads, [false, true, true, false, false, false, false, false, false]);
    let left: Vec<_> = media.pieces.iter().map(|piece| piece.break_left).collect();
    assert_eq!(left[3..7], [None, Some(30.0), Some(28.0), Some(0.0)]);
    let encrypted: Vec<_> = media.pieces[6..].iter().map(|piece| piece.encryption.is_some()).collect();
    assert_eq!(encrypted, [true, true, false]);
}

#[test]
fn a_segment_that_its_server_does_not_have_is_known() {
    let media =
        media("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXT-X-GAP\n#EXTINF:2,\nb.ts\n#EXTINF:2,\nc.ts\n");
    assert_eq!(media.pieces.iter().map(|piece| piece.gap).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn what_is_no_playlist_is_told() {
    for wrong in ["", "<html></html>", "GIF89a", "#EXTINF:2,\na.ts\n"] {
        assert!(parse(wrong.as_bytes(), &base(), 1080, None).is_err(), "{wrong}");
    }
}

#[test]
fn a_playlist_does_not_grow_in_memory() {
    let pieces = |count: usize| "#EXTINF:1,\na\n".repeat(count);
    let long = "x".repeat(1 << 20);
    let map = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MAP:URI=\"{long}\"\n{}", pieces(1000));
    let key = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-KEY:METHOD=AES-128,URI=\"{long}\"\n{}", pieces(1000));
    for bomb in [map, key] {
        assert!(parse(bomb.as_bytes(), &base(), 1080, None).is_err_and(|why| why.contains("too long")));
    }
    let endless = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n{}", pieces(150_000));
    assert!(parse(endless.as_bytes(), &base(), 1080, None).is_err_and(|why| why.contains("lines")));
    // A day, with a date for each piece.
    let dated = "#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:00Z\n#EXTINF:2,\na.ts\n".repeat(43_200);
    assert_eq!(media(&format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n{dated}")).pieces.len(), 43_200);
}

#[test]
fn what_a_playlist_says_of_keys_is_read() {
    let media = media(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:5\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"/k1\",IV=0x2a\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:2,\na.m4s\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"https://keys.example/k2\"\n#EXTINF:2,\nb.m4s\n\
         #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://x\",KEYFORMAT=\"com.apple.streamingkeydelivery\"\n#EXTINF:2,\nc.m4s\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"k\",KEYFORMAT=\"com.example\"\n#EXTINF:2,\nd.m4s\n",
    );
    let aes = |url: &str, iv: Option<u128>| {
        Some(Encryption::Aes128 { key: Url::parse(url).unwrap(), iv: iv.map(u128::to_be_bytes) })
    };
    let [a, b, c, d] = media.pieces.as_slice() else { panic!("{:?}", media.pieces) };
    assert_eq!(a.encryption, aes("https://cdn.example/k1", Some(42)));
    assert_eq!(a.map.as_ref().unwrap().encryption, a.encryption);
    assert_eq!(b.encryption, aes("https://keys.example/k2", None));
    assert_eq!(b.map, a.map, "another key does not make it another header");
    assert_eq!(c.encryption, Some(Encryption::Other("SAMPLE-AES".to_owned())));
    assert_eq!(d.encryption, Some(Encryption::Other("AES-128".to_owned())), "a key in another format");
    let wrong = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0xzz\n#EXTINF:2,\na.ts\n";
    assert!(parse(wrong.as_bytes(), &base(), 1080, None).unwrap_err().contains("initialization vector"));
}

const LOW_LATENCY: &str = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:4\n\
    #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5,CAN-SKIP-UNTIL=24\n#EXT-X-PART-INF:PART-TARGET=0.5\n\
    #EXT-X-MEDIA-SEQUENCE:10\n#EXT-X-MAP:URI=\"init.mp4\"\n\
    #EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:00Z\n#EXTINF:1,\na.mp4\n\
    #EXT-X-PART:DURATION=0.5,URI=\"b.mp4\",BYTERANGE=\"100@0\",INDEPENDENT=YES\n\
    #EXT-X-PART:DURATION=0.5,URI=\"b.mp4\",BYTERANGE=\"50\"\n#EXTINF:1,\nb.mp4\n\
    #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init2.mp4\"\n\
    #EXT-X-PART:DURATION=0.5,URI=\"c0.mp4\",INDEPENDENT=YES\n#EXT-X-PART:DURATION=0.4,URI=\"c1.mp4\",GAP=YES\n\
    #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"c2.mp4\"\n";

#[test]
fn a_segment_that_is_being_made_is_listed_by_its_parts() {
    let media = media(LOW_LATENCY);
    let low = media.low_latency.unwrap();
    assert_eq!((low.part_target.as_millis(), low.hold_back.as_millis(), low.in_parts), (500, 1500, true));
    let [a, b, c] = media.pieces.as_slice() else { panic!("{:?}", media.pieces) };
    assert_eq!((a.parts.len(), b.parts.len(), c.parts.len()), (0, 2, 2));
    let ranges: Vec<_> = b.parts.iter().map(|part| part.at.range.unwrap()).collect();
    assert_eq!(ranges, [Range { start: 0, length: 100 }, Range { start: 100, length: 50 }]);
    assert_eq!((a.whole.is_some(), b.whole.is_some(), c.whole.is_some()), (true, true, false));
    // What stands before its parts holds for it.
    assert!(c.discontinuity && c.sequence == 12 && c.at == WallTime::parse("2026-11-21T10:00:02Z"));
    assert_eq!(c.map.as_ref().unwrap().at.url.path(), "/live/init2.mp4");
    assert_eq!(c.parts.iter().map(|part| part.gap).collect::<Vec<_>>(), [false, true]);
    assert_eq!(media.hint.unwrap().url.path(), "/live/c2.mp4");
}

#[test]
fn parts_are_taken_only_where_the_server_waits_and_nothing_is_encrypted() {
    let cannot = media(&LOW_LATENCY.replace("CAN-BLOCK-RELOAD=YES,", ""));
    assert!(cannot.low_latency.is_none() && cannot.pieces.len() == 2, "{cannot:?}");
    let ended = media(&format!("{LOW_LATENCY}#EXTINF:1,\nc.mp4\n#EXT-X-ENDLIST\n"));
    let parts: Vec<_> = ended.pieces.iter().map(|piece| piece.parts.len()).collect();
    assert!(ended.over && parts == [0, 2, 2], "what was begun in parts is ended in parts: {parts:?}");
    let key = "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXT-X-MAP:URI=\"init.mp4\"";
    let encrypted = media(&LOW_LATENCY.replace("#EXT-X-MAP:URI=\"init.mp4\"", key));
    assert!(!encrypted.low_latency.unwrap().in_parts && encrypted.pieces.len() == 2);
    let bomb = format!("{LOW_LATENCY}{}", "#EXT-X-PART:DURATION=1,URI=\"p\"\n".repeat(5000));
    assert!(parse(bomb.as_bytes(), &base(), 1080, None).unwrap_err().contains("parts"));
}
