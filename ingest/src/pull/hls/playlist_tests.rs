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
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:41\n#EXT-X-MAP:URI=\"init.mp4\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:00.500Z\n#EXTINF:4.000,live\n#EXT-X-BYTERANGE:100@20\nall.mp4\n\
         #EXTINF:4.000,live\n#EXT-X-BYTERANGE:50\nall.mp4\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init2.mp4\",BYTERANGE=\"9@1\"\n\
         #EXTINF:2.5,\n/other/c.m4s?x=1\n",
    );
    assert!(!media.over && !media.recorded);
    assert_eq!(media.target, Duration::from_secs(4));
    let [a, b, c] = media.pieces.as_slice() else { panic!("{:?}", media.pieces) };
    assert_eq!((a.sequence, b.sequence, c.sequence), (41, 42, 43));
    assert_eq!((a.range, b.range), (Some(Range { start: 20, length: 100 }), Some(Range { start: 120, length: 50 })));
    assert_eq!(a.map, b.map);
    assert_eq!(
        c.map.as_ref().map(|(url, range)| (url.path(), *range)),
        Some(("/live/init2.mp4", Some(Range { start: 1, length: 9 })))
    );
    assert_eq!((a.discontinuity, b.discontinuity, c.discontinuity), (false, false, true));
    assert_eq!(c.url.as_str(), "https://cdn.example/other/c.m4s?x=1");
    let at = |text: &str| WallTime::parse(text);
    assert_eq!(a.at, at("2026-11-21T10:00:00.500Z"));
    assert_eq!(c.at, at("2026-11-21T10:00:08.500Z"), "counted on from what was said last");
}

#[test]
fn a_recording_says_that_it_is_whole() {
    let text = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\na.ts\n#EXT-X-ENDLIST\n";
    assert!(media(text).over && media(text).recorded);
    let event = media("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXTINF:6,\na.ts\n");
    assert!(!event.over && event.recorded);
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
    let cues: Vec<_> = media.pieces.iter().map(|piece| piece.cue).collect();
    assert_eq!(cues[4..7], [Some(Cue::Out), None, Some(Cue::In)]);
    let encrypted: Vec<_> = media.pieces[6..].iter().map(|piece| piece.encrypted.as_deref()).collect();
    assert_eq!(encrypted, [Some("AES-128"), Some("AES-128"), None]);
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
    let key = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-KEY:METHOD={long},IV=0\n{}", pieces(1000));
    for bomb in [map, key] {
        assert!(parse(bomb.as_bytes(), &base(), 1080, None).is_err_and(|why| why.contains("too long")));
    }
    let endless = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n{}", pieces(150_000));
    assert!(parse(endless.as_bytes(), &base(), 1080, None).is_err_and(|why| why.contains("lines")));
    // A day, with a date for each piece.
    let dated = "#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:00Z\n#EXTINF:2,\na.ts\n".repeat(43_200);
    assert_eq!(media(&format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n{dated}")).pieces.len(), 43_200);
}
