//! HLS, recorded and live, as ffmpeg cuts it.

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use crest_core::Session;
use crest_core::chat::ChatMessage;
use serde_json::json;
use std::time::Duration;
use tokio::process::Command;

use super::origin::{self, LENGTH, Mood, Origin};
use super::stage::{SOON, Stage};
use crate::harness::{run, wait_for};
use crate::ledger::logs::Logs;
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::stored::{self, span};

/// Of a recording, so much may be missing at its ends: what cannot be decoded without what was before.
const ENDS: f64 = 0.5;

#[test]
fn a_recording_is_stored_whole_whatever_its_pieces_are() -> Result<()> {
    run(async {
        let (origin, stage, source) = (Origin::start().await?, Stage::set(&[]).await?, origin::source().await?);
        let fmp4 = ["-hls_segment_type", "fmp4"];
        let one_file = ["-hls_segment_type", "fmp4", "-hls_flags", "single_file", "-hls_fmp4_init_filename", "one.mp4"];
        let apart = [
            "-map",
            "0:v",
            "-map",
            "0:a",
            "-hls_segment_type",
            "fmp4",
            "-var_stream_map",
            "v:0,agroup:s a:0,agroup:s",
            "-master_pl_name",
            "apart.m3u8",
            "-hls_fmp4_init_filename",
            "init-%v.mp4",
        ];
        origin::cut(source, &origin.path("ts.m3u8"), &[]).await?;
        origin::cut(source, &origin.path("fmp4.m3u8"), &fmp4).await?;
        origin::cut(source, &origin.path("one.m3u8"), &one_file).await?;
        origin::cut(source, &origin.path("apart-%v.m3u8"), &apart).await?;
        let (receiver, mut streams) = (Receiver::register(&stage.api).await?, Vec::new());
        for name in ["ts", "fmp4", "one", "apart"] {
            streams.push((name, stage.pull(&origin.url(&format!("{name}.m3u8"))).await?));
        }
        for (name, stream) in streams {
            let shown = stage.until_state(&stream, "ended").await?;
            assert_eq!(shown["state_reason"], "the recording is over", "{name}");
            assert_eq!(shown["session"], 1, "{name}");
            let (video, audio) = (stage.times(&stream, "v").await?, stage.times(&stream, "a").await?);
            ensure!(video.len() >= 345 && span(&video) > LENGTH - ENDS, "{name}: {} frames", video.len());
            ensure!(span(&audio) > LENGTH - ENDS, "{name}: {} s of sound", span(&audio));
            let offset =
                video.iter().copied().fold(f64::MAX, f64::min) - audio.iter().copied().fold(f64::MAX, f64::min);
            ensure!(offset.abs() < 0.1, "{name}: picture and sound begin {offset} s apart");
        }
        receiver.wait_for("stream.ended", 4, SOON).await?;
        ensure!(!receiver.kinds().contains(&"stream.interrupted".to_owned()), "the end is no interruption");
        Ok(())
    })
}

#[test]
fn a_live_playlist_is_followed_through_the_failures_of_its_server() -> Result<()> {
    run(async {
        let (origin, stage) = (Origin::start().await?, Stage::set(&[]).await?);
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(origin::source().await?);
        ffmpeg.args(["-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "6"]);
        ffmpeg.args(["-hls_flags", "delete_segments+program_date_time+temp_file"]).arg(origin.path("live.m3u8"));
        let encoder = Publisher::start(ffmpeg)?;
        // Asked for before it is there.
        let stream = stage.pull(&origin.url("live.m3u8")).await?;
        stage.until_state(&stream, "live").await?;
        stage.stored(&stream, 3.0).await?;
        for status in [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, StatusCode::SERVICE_UNAVAILABLE] {
            origin.set(Mood::Fails(status));
            let interrupted = stage.until_state(&stream, "interrupted").await?;
            let why = interrupted["state_reason"].as_str().unwrap_or_default();
            assert!(why.contains(status.as_str()), "{status}: {interrupted}");
            let before = span(&stage.times(&stream, "v").await?);
            origin.set(Mood::Serves);
            let back = stage.until_state(&stream, "live").await?;
            assert_eq!(back["session"], 1, "{status}: the timeline went on, and so does the session");
            stage.stored(&stream, before + 3.0).await.with_context(|| status.to_string())?;
        }
        stage.stored(&stream, 12.0).await?;
        let video = stage.times(&stream, "v").await?;
        let twice = video.len()
            - video.iter().map(|time| (time * 1000.0).round() as i64).collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!(twice, 0, "no frame is stored twice");
        encoder.kill().await?;
        stage.api.post(&format!("/v1/streams/{stream}/stop"), serde_json::json!({})).await?;
        let stopped = stage.shown(&stream).await?;
        assert_eq!((&stopped["state"], &stopped["state_reason"]), (&"ended".into(), &"stopped".into()));
        Ok(())
    })
}

#[test]
fn a_broadcast_outlasts_what_would_be_wrong_for_good_at_its_beginning() -> Result<()> {
    run(async {
        let (origin, stage) = (Origin::start().await?, Stage::set(&[("CREST_PULL__PATIENCE", "20s")]).await?);
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(origin::source().await?);
        ffmpeg.args(["-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "6"]);
        ffmpeg.args(["-hls_flags", "delete_segments+temp_file"]).arg(origin.path("live.m3u8"));
        let encoder = Publisher::start(ffmpeg)?;
        let stream = stage.pull(&origin.url("live.m3u8")).await?;
        stage.until_state(&stream, "live").await?;
        stage.stored(&stream, 3.0).await?;
        let moods = [
            (Mood::Excuses, "holds no video"),
            (Mood::RedirectsForEver, "redirects"),
            (Mood::RedirectsTo("http://10.1.2.3/".to_owned()), "private"),
        ];
        for (mood, why) in moods {
            origin.set(mood);
            let says =
                |shown: &serde_json::Value| shown["state_reason"].as_str().is_some_and(|said| said.contains(why));
            stage.until(&stream, why, |shown| shown["state"] == "interrupted" && says(shown)).await?;
            let before = span(&stage.times(&stream, "v").await?);
            origin.set(Mood::Serves);
            stage.until_state(&stream, "live").await?;
            stage.stored(&stream, before + 2.0).await.context(why)?;
        }
        // What stays wrong is the reason in the end, and not that nothing came.
        origin.set(Mood::Excuses);
        let failed = stage.until_state(&stream, "failed").await?;
        let said = failed["state_reason"].as_str().unwrap_or_default();
        ensure!(said.contains("holds no video") && said.contains("pull.patience"), "{failed}");
        encoder.kill().await
    })
}

#[test]
fn what_is_said_at_a_time_of_the_playlist_lands_where_it_was_recorded() -> Result<()> {
    run(async {
        let (origin, stage) = (Origin::start().await?, Stage::set(&[]).await?);
        // A broadcast that is a minute behind the present: only its first piece says so, or each of them.
        let began = jiff::Timestamp::now() - Duration::from_secs(60);
        let time = |seconds: u32| {
            let at = began + Duration::from_secs(seconds.into());
            format!("#EXT-X-PROGRAM-DATE-TIME:{at:.3}\n#EXTINF")
        };
        let near = |t: f64| (t - 2.5).abs() < 0.005;
        let cases: [(&str, u32, &[&str]); 2] = [("once", 2, &[]), ("each", 1, &["-an", "-hls_time", "1"])];
        for (name, seconds, options) in cases {
            let file = format!("{name}.m3u8");
            origin::cut(origin::source().await?, &origin.path(&file), options).await?;
            let listed = std::fs::read_to_string(origin.path(&file))?;
            let live = listed.replace("#EXT-X-ENDLIST\n", "").replace("#EXT-X-PLAYLIST-TYPE:VOD\n", "");
            let pieces: Vec<_> = live.split("#EXTINF").collect();
            ensure!(pieces.len() == 1 + 12 / seconds as usize, "{live}");
            let dated = (0..).zip(&pieces).skip(1).map(|(number, piece)| match name {
                "once" if number > 1 => format!("#EXTINF{piece}"),
                _ => time((number - 1) * seconds) + piece,
            });
            origin.write(&file, &(pieces[0].to_owned() + &dated.collect::<String>()))?;
            let stream = stage.pull(&origin.url(&file)).await?;
            stage.until_state(&stream, "live").await?;
            // It is begun three pieces before its end.
            let at = (began + Duration::from_millis(12_000 - 3000 * u64::from(seconds) + 2500)).to_string();
            let mark = stage.api.post(&format!("/v1/streams/{stream}/markers"), json!({ "at": at })).await?;
            ensure!(mark["t"].as_f64().is_some_and(near), "{name}: {mark}");
            let said = json!({ "messages": [{ "at": at, "user": "ana", "text": name }] });
            stage.api.post(&format!("/v1/streams/{stream}/chat"), said).await?;
        }
        let data = stage.server.data.clone();
        ensure!(stage.server.terminate(SOON).await?.success(), "crest did not stop in order");
        let logs = Logs::embedded(&data).await?;
        assert_eq!(logs.chat.len(), cases.len());
        for record in &logs.chat {
            let message = ChatMessage::decode(&record.payload)?;
            ensure!(message.session == Session::new(1) && near(message.at.secs_f64()), "{message:?}");
        }
        Ok(())
    })
}

#[test]
fn what_is_unlike_before_goes_on_and_advertisements_are_left_out() -> Result<()> {
    run(async {
        let (origin, stage, source) = (Origin::start().await?, Stage::set(&[]).await?, origin::source().await?);
        let (ad, other) = (origin.path("ad.mp4"), origin.path("other.mp4"));
        origin::encode(&ad, "160x90", 4.0).await?;
        origin::encode(&other, "480x270", 4.0).await?;
        let named = |name: &str| origin.path(name).display().to_string();
        for (file, name) in [(source, "main"), (ad.as_path(), "ad"), (other.as_path(), "other")] {
            let pieces = named(&format!("{name}%d.ts"));
            origin::cut(file, &origin.path(&format!("{name}.m3u8")), &["-hls_segment_filename", &pieces]).await?;
        }
        let piece = |name: &str| format!("#EXTINF:2.0,\n{name}.ts\n");
        let playlist = [
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n".to_owned(),
            piece("main0") + &piece("main1"),
            "#EXT-X-CUE-OUT:4\n#EXT-X-DISCONTINUITY\n".to_owned() + &piece("ad0") + &piece("ad1"),
            "#EXT-X-CUE-IN\n#EXT-X-DISCONTINUITY\n".to_owned() + &piece("main2"),
            "#EXT-X-DISCONTINUITY\n".to_owned() + &piece("other0") + &piece("other1"),
            // Gone from the server before it could be fetched.
            piece("missing"),
            "#EXT-X-DISCONTINUITY\n".to_owned() + &piece("main0") + "#EXT-X-ENDLIST\n",
        ];
        origin.write("stitched.m3u8", &playlist.concat())?;
        let stream = stage.pull(&origin.url("stitched.m3u8")).await?;
        let shown = stage.until_state(&stream, "ended").await?;
        assert_eq!(shown["session"], 1);
        let mut sizes = Vec::new();
        for segment in stored::segments(&stage.server.data, &stream) {
            sizes.push(crate::harness::probe(&segment, "v", "stream=width").await?);
        }
        sizes.dedup();
        assert_eq!(sizes, ["320", "480", "320"], "in order, and without the advertisement");
        let video = stage.times(&stream, "v").await?;
        let frames = 30 * 12;
        ensure!(video.len().abs_diff(frames) < 20, "{} frames of about {frames}", video.len());
        assert!(stage.api.counter("crest_pull_ad_segments_total").await? >= 2.0);
        Ok(())
    })
}

#[test]
fn after_a_long_advertisement_the_broadcast_lies_where_it_was_recorded() -> Result<()> {
    run(async {
        let (origin, stage) = (Origin::start().await?, Stage::set(&[]).await?);
        let pieces = origin.path("main%d.ts").display().to_string();
        origin::cut(origin::source().await?, &origin.path("main.m3u8"), &["-hls_segment_filename", &pieces]).await?;
        let piece = |name: &str| format!("#EXTINF:2.0,\n{name}.ts\n");
        let began = jiff::Timestamp::now() - Duration::from_secs(120);
        let head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n";
        let before = format!("{head}#EXT-X-PROGRAM-DATE-TIME:{began:.3}\n{}{}", piece("main0"), piece("main1"));
        origin.write("live.m3u8", &before)?;
        let stream = stage.pull(&origin.url("live.m3u8")).await?;
        stage.stored(&stream, 2.0).await?;
        // Forty seconds of advertisements, of which nothing is there; behind them the file goes on.
        let cue = "#EXT-X-CUE-OUT:40\n#EXT-X-DISCONTINUITY\n".to_owned();
        let rest = format!("#EXT-X-DISCONTINUITY\n{}{}#EXT-X-ENDLIST\n", piece("main2"), piece("main3"));
        origin.write("live.m3u8", &(before + &cue + &piece("ad").repeat(20) + &rest))?;
        let shown = stage.until_state(&stream, "ended").await?;
        assert_eq!(shown["session"], 1, "{shown}");
        for kind in ["v", "a"] {
            let mut times = stage.times(&stream, kind).await?;
            times.sort_by(f64::total_cmp);
            let gap = times.iter().zip(times.iter().skip(1)).map(|(one, next)| next - one).fold(0.0, f64::max);
            ensure!((gap - 40.0).abs() < 0.2, "{kind}: a gap of {gap} s");
            ensure!((span(&times) - 48.0).abs() < 0.2, "{kind}: {} s", span(&times));
        }
        ensure!(stage.api.counter("crest_pull_ad_segments_total").await? >= 20.0);
        Ok(())
    })
}

#[test]
fn advertisements_that_date_ranges_name_are_not_even_fetched() -> Result<()> {
    run(async {
        let (origin, stage, source) = (Origin::start().await?, Stage::set(&[]).await?, origin::source().await?);
        let ad = origin.path("ad.mp4");
        origin::encode(&ad, "160x90", 4.0).await?;
        for (file, name) in [(source, "main"), (ad.as_path(), "ad")] {
            let pieces = origin.path(&format!("{name}%d.ts")).display().to_string();
            origin::cut(file, &origin.path(&format!("{name}.m3u8")), &["-hls_segment_filename", &pieces]).await?;
        }
        // The way Twitch says it: no tag stands at the advertisement itself, its time alone tells.
        let range = |class: &str, more: &str| {
            format!(
                "#EXT-X-DATERANGE:ID=\"{class}-1\",CLASS=\"{class}\",START-DATE=\"2026-11-21T10:00:04.000Z\",{more}\n"
            )
        };
        let playlist = |class: &str| {
            let pieces = ["main0", "main1", "-ad0", "ad1", "-main2", "main3"].map(|name| {
                let turn = if name.starts_with('-') { "#EXT-X-DISCONTINUITY\n" } else { "" };
                format!("{turn}#EXTINF:2.0,\n{}.ts\n", name.trim_start_matches('-'))
            });
            let head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXT-X-PLAYLIST-TYPE:VOD\n";
            let ranges = range("twitch-session", "END-ON-NEXT=YES") + &range(class, "DURATION=4.0");
            let begins = "#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:00.000Z\n";
            [head, &ranges, begins, &pieces.concat(), "#EXT-X-ENDLIST\n"].concat()
        };
        // The second is the same without an advertisement: all of it counts.
        for (class, sizes, seconds) in
            [("twitch-stitched-ad", &["320"][..], 8), ("twitch-trigger", &["320", "160", "320"], 12)]
        {
            origin.write(&format!("{class}.m3u8"), &playlist(class))?;
            let before = (asked(&origin, "ad"), stage.api.counter("crest_pull_ad_segments_total").await?);
            let stream = stage.pull(&origin.url(&format!("{class}.m3u8"))).await?;
            let shown = stage.until_state(&stream, "ended").await?;
            assert_eq!(shown["session"], 1, "{class}");
            let mut stored = Vec::new();
            for segment in stored::segments(&stage.server.data, &stream) {
                stored.push(crate::harness::probe(&segment, "v", "stream=width").await?);
            }
            stored.dedup();
            assert_eq!(stored, sizes, "{class}");
            let video = stage.times(&stream, "v").await?;
            ensure!(video.len().abs_diff(30 * seconds) < 20, "{class}: {} frames of {seconds} s", video.len());
            // Of what was not fetched nothing can be decided on.
            let fetched = asked(&origin, "ad") - before.0;
            let left_out = stage.api.counter("crest_pull_ad_segments_total").await? - before.1;
            assert_eq!((fetched, left_out), if seconds == 8 { (0, 2.0) } else { (2, 0.0) }, "{class}");
        }
        Ok(())
    })
}

/// How many segments of this name were asked for.
fn asked(origin: &Origin, name: &str) -> usize {
    origin.asked().iter().filter(|path| path.starts_with(&format!("/{name}")) && path.ends_with(".ts")).count()
}

#[test]
fn picture_and_sound_apart_agree_on_discontinuities_although_one_has_left_one_of_the_lists() -> Result<()> {
    run(async {
        let (origin, stage, source) = (Origin::start().await?, Stage::set(&[]).await?, origin::source().await?);
        let other = origin.path("other.mp4");
        origin::encode(&other, "480x270", 4.0).await?;
        for (file, name) in [(source, "main"), (other.as_path(), "other")] {
            let pieces = origin.path(&format!("{name}-%v-%d.ts")).display().to_string();
            let map = ["-map", "0:v", "-map", "0:a", "-var_stream_map", "v:0,agroup:s a:0,agroup:s"];
            let options: Vec<_> = map.into_iter().chain(["-hls_segment_filename", pieces.as_str()]).collect();
            origin::cut(file, &origin.path(&format!("{name}-%v.m3u8")), &options).await?;
        }
        let pieces = |name: &str, track: u32| {
            (0..2).map(|number| format!("#EXTINF:2.0,\n{name}-{track}-{number}.ts\n")).collect::<String>()
        };
        let head = |passed: u32| {
            format!("#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:3\n#EXT-X-DISCONTINUITY-SEQUENCE:{passed}\n")
        };
        let (turn, end) = ("#EXT-X-DISCONTINUITY\n", "#EXT-X-ENDLIST\n");
        let picture = [&head(1), &pieces("other", 0), turn, &pieces("main", 0), end].concat();
        let sound = [&head(0), turn, &pieces("other", 1), turn, &pieces("main", 1), end].concat();
        origin.write("picture.m3u8", &picture)?;
        origin.write("sound.m3u8", &sound)?;
        origin.write(
            "apart.m3u8",
            "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"s\",NAME=\"s\",DEFAULT=YES,URI=\"sound.m3u8\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=480x270,AUDIO=\"s\"\npicture.m3u8\n",
        )?;
        let stream = stage.pull(&origin.url("apart.m3u8")).await?;
        stage.until_state(&stream, "ended").await?;
        let (video, audio) = (stage.times(&stream, "v").await?, stage.times(&stream, "a").await?);
        let ends = |times: &[f64]| times.iter().fold((f64::MAX, f64::MIN), |(a, b), t| (a.min(*t), b.max(*t)));
        let (video, audio) = (ends(&video), ends(&audio));
        ensure!((video.0 - audio.0).abs() < 0.1, "the picture begins at {}, the sound at {}", video.0, audio.0);
        ensure!((video.1 - audio.1).abs() < 0.3, "the picture ends at {}, the sound at {}", video.1, audio.1);
        ensure!((7.5..8.5).contains(&video.1), "it ends at {}", video.1);
        Ok(())
    })
}

#[test]
fn a_discontinuity_that_only_the_picture_lists_does_not_hold_it_up() -> Result<()> {
    run(async {
        // All of what is live from its beginning, with a playlist that does not go on: who waits waits for ever.
        let (origin, stage) = (Origin::start().await?, Stage::set(&[("CREST_PULL__LIVE_SEGMENTS", "100")]).await?);
        let pieces = origin.path("piece-%v-%d.ts").display().to_string();
        let map = ["-map", "0:v", "-map", "0:a", "-var_stream_map", "v:0,agroup:s a:0,agroup:s"];
        let options: Vec<_> = map.into_iter().chain(["-hls_segment_filename", pieces.as_str()]).collect();
        origin::cut(origin::source().await?, &origin.path("piece-%v.m3u8"), &options).await?;
        let list = |track: u32, turn: Option<u32>| {
            let piece = |number: u32| {
                let turn = if turn == Some(number) { "#EXT-X-DISCONTINUITY\n" } else { "" };
                format!("{turn}#EXTINF:2.0,\npiece-{track}-{number}.ts\n")
            };
            let head = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:2\n";
            head.to_owned() + &(0..6).map(piece).collect::<String>()
        };
        for (name, picture, sound) in [("picture", Some(1), None), ("sound", None, Some(1))] {
            origin.write(&format!("{name}-0.m3u8"), &list(0, picture))?;
            origin.write(&format!("{name}-1.m3u8"), &list(1, sound))?;
            let master = format!(
                "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"s\",NAME=\"s\",DEFAULT=YES,URI=\"{name}-1.m3u8\"\n\
                 #EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=320x180,AUDIO=\"s\"\n{name}-0.m3u8\n"
            );
            origin.write(&format!("{name}.m3u8"), &master)?;
            let stream = stage.pull(&origin.url(&format!("{name}.m3u8"))).await?;
            stage.until_state(&stream, "live").await?;
            // The last piece is held back until another one comes.
            stage.stored(&stream, LENGTH - 3.0).await.context(name)?;
            let (video, audio) = (stage.times(&stream, "v").await?, stage.times(&stream, "a").await?);
            ensure!(span(&audio) > LENGTH - 3.0, "{name}: {} s of sound", span(&audio));
            let first = |times: &[f64]| times.iter().copied().fold(f64::MAX, f64::min);
            let apart = first(&video) - first(&audio);
            ensure!(apart.abs() < 0.1, "{name}: picture and sound begin {apart} s apart");
            let mut shown = video.clone();
            shown.sort_by(f64::total_cmp);
            let gap = shown.iter().zip(shown.iter().skip(1)).map(|(one, next)| next - one).fold(0.0, f64::max);
            ensure!(gap < 0.2, "{name}: {gap} s are missing");
            assert_eq!(stage.shown(&stream).await?["session"], 1, "{name}");
        }
        Ok(())
    })
}

#[test]
fn a_broadcast_that_was_over_before_it_was_asked_for_is_taken_as_a_recording() -> Result<()> {
    run(async {
        let (origin, stage) = (Origin::start().await?, Stage::set(&[]).await?);
        origin::cut(origin::source().await?, &origin.path("over.m3u8"), &[]).await?;
        let listed = std::fs::read_to_string(origin.path("over.m3u8"))?;
        // As a live playlist stays behind: its first pieces have gone, and nothing says that it is a recording.
        let first = listed.find("#EXTINF").context("no piece")?;
        let third = listed.match_indices("#EXTINF").nth(2).context("too few pieces")?.0;
        let head = listed[..first].replace("#EXT-X-PLAYLIST-TYPE:VOD\n", "");
        let left = head.replace("#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-MEDIA-SEQUENCE:2") + &listed[third..];
        ensure!(left.contains("#EXT-X-ENDLIST") && left.contains("SEQUENCE:2\n"), "{left}");
        origin.write("over.m3u8", &left)?;
        // One that lists nothing is over as well.
        origin.write("empty.m3u8", &(head + "#EXT-X-ENDLIST\n"))?;
        let (over, empty) = (stage.pull(&origin.url("over.m3u8")).await?, stage.pull(&origin.url("empty.m3u8")).await?);
        let shown = stage.until_state(&over, "ended").await?;
        assert_eq!((&shown["state_reason"], &shown["session"]), (&"the recording is over".into(), &1.into()));
        let video = stage.times(&over, "v").await?;
        ensure!(span(&video) > LENGTH - 4.0 - ENDS, "{} s", span(&video));
        let shown = stage.until_state(&empty, "failed").await?;
        assert_eq!(shown["state_reason"], "there is no media in it");
        Ok(())
    })
}

#[test]
fn a_broadcast_that_keeps_all_is_begun_near_its_end() -> Result<()> {
    run(async {
        let (origin, stage) = (Origin::start().await?, Stage::set(&[]).await?);
        origin::cut(origin::source().await?, &origin.path("event.m3u8"), &["-hls_playlist_type", "event"]).await?;
        let listed = std::fs::read_to_string(origin.path("event.m3u8"))?;
        ensure!(listed.contains("EVENT") && listed.matches("#EXTINF").count() == 6, "{listed}");
        origin.write("event.m3u8", &listed.replace("#EXT-X-ENDLIST\n", ""))?;
        let stream = stage.pull(&origin.url("event.m3u8")).await?;
        // Three of its six pieces; the last is held back until another one comes.
        stage.stored(&stream, 3.5).await?;
        origin.write("event.m3u8", &listed)?;
        let shown = stage.until_state(&stream, "ended").await?;
        assert_eq!(shown["state_reason"], "the broadcast is over");
        let video = stage.times(&stream, "v").await?;
        ensure!(span(&video) > 6.0 - ENDS && span(&video) < 6.0 + ENDS, "{} s", span(&video));
        assert_eq!(asked(&origin, "event"), 3, "those before are not fetched");
        Ok(())
    })
}

#[test]
fn a_stopped_stream_is_left_alone() -> Result<()> {
    run(async {
        let (origin, stage) = (Origin::start().await?, Stage::set(&[]).await?);
        let stream = stage.pull(&origin.url("never.m3u8")).await?;
        let waiting = stage.until(&stream, "a reason", |shown| shown["state_reason"].is_string()).await?;
        assert_eq!(waiting["state"], "created");
        assert!(waiting["state_reason"].as_str().is_some_and(|why| why.contains("404")), "{waiting}");
        stage.api.post(&format!("/v1/streams/{stream}/stop"), serde_json::json!({})).await?;
        let failures = stage.api.counter("crest_pull_failures_total").await?;
        // Long enough for several more tries, if there were any.
        let none = wait_for("another try", Duration::from_secs(2), || async {
            Ok((stage.api.counter("crest_pull_failures_total").await? > failures).then_some(()))
        });
        assert!(none.await.is_err(), "it is tried no more");
        assert_eq!(stage.shown(&stream).await?["state"], "ended");
        Ok(())
    })
}
