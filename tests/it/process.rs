//! `crest process`: a recording, chat, or both, as fast as they can be read.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::broadcast::{self, MOMENTS};
use crate::harness::{Said, crest, decodes_silently, probe, run};

/// Every file below a folder, by its path relative to it.
fn files(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder)?.to_owned(), std::fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

async fn process(input: Option<&Path>, chat: Option<&Path>, out: &Path) -> Result<Said> {
    let mut args = vec!["process".into()];
    args.extend(input.map(Into::into));
    args.extend(["--out".into(), out.as_os_str().to_owned()]);
    if let Some(chat) = chat {
        args.extend(["--chat".into(), chat.as_os_str().to_owned()]);
    }
    crest(args).await
}

fn highlights(out: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(out.join("highlights.json")).context("no highlights.json")?)?)
}

/// Chat of ten minutes: somebody writes every four seconds, and everybody at once from 300 s on.
fn chat(path: &Path) -> Result<()> {
    let line = |t: f64, user: usize| json!({ "t": t, "user": format!("u{user}"), "text": "well" }).to_string();
    let mut lines: Vec<String> = (0..150).map(|i| line(i as f64 * 4.0, i % 7)).collect();
    lines.extend((0..200).map(|i| line(300.0 + i as f64 * 0.04, 100 + i)));
    Ok(std::fs::write(path, lines.join("\n") + "\n")?)
}

#[test]
fn a_recording_yields_playable_clips_and_the_same_bytes_twice() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        let input = broadcast::file().await?;
        for out in [&first, &second] {
            let said = process(Some(input), None, out).await?;
            assert_eq!(said.code, Some(0), "{}", said.err);
        }
        let (one, two) = (files(&first)?, files(&second)?);
        assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
        for (name, bytes) in &one {
            assert!(two[name] == *bytes, "{} differs from run to run", name.display());
        }
        for name in ["highlights.json", "signals.parquet", "report.html"] {
            assert!(one.contains_key(Path::new(name)), "no {name}");
        }
        assert!(one[Path::new("signals.parquet")].starts_with(b"PAR1"));

        let report = highlights(&first)?;
        let duration = report["duration_s"].as_f64().unwrap_or_default();
        assert!((duration - broadcast::LENGTH).abs() < 0.5, "{duration}");
        let found = report["highlights"].as_array().context("no highlights")?;
        let candidates = report["candidates"].as_array().context("no candidates")?;
        assert_eq!(found.len(), MOMENTS.len(), "{found:#?}");
        let html = String::from_utf8_lossy(&one[Path::new("report.html")]).into_owned();
        for (highlight, (from, to)) in found.iter().zip(MOMENTS) {
            let at = |name: &str| highlight[name].as_f64().unwrap_or(f64::NAN);
            assert!((from - 2.0..to + 2.0).contains(&at("peak_s")), "{highlight:#}");
            assert!(at("start_s") < to && at("end_s") > from && at("end_s") <= duration, "{highlight:#}");
            assert!(candidates.iter().any(|c| c["peak_s"] == highlight["peak_s"]), "the chosen are candidates too");
            let clip = highlight["clip"].as_str().context("no clip")?;
            let thumbnail = highlight["thumbnail"].as_str().context("no thumbnail")?;
            let clip = first.join(clip);
            // Self-contained: the page can be sent to somebody.
            assert!(
                html.contains(&STANDARD.encode(std::fs::read(&clip)?)),
                "report.html does not hold {}",
                clip.display()
            );
            decodes_silently(&clip).await?;
            assert_eq!(probe(&clip, "v:0", "stream=codec_name").await?, "h264");
            assert_eq!(probe(&clip, "a:0", "stream=codec_name").await?, "aac");
            let length: f64 = probe(&clip, "v:0", "stream=duration").await?.parse()?;
            assert!(length + 0.1 >= at("end_s") - at("start_s"), "{length} s are shorter than the highlight");
            decodes_silently(&first.join(thumbnail)).await?;
        }
        Ok(())
    })
}

#[test]
fn chat_alone_is_an_input_too() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let (input, out) = (folder.path().join("chat.jsonl"), folder.path().join("out"));
        chat(&input)?;
        let said = process(None, Some(&input), &out).await?;
        assert_eq!(said.code, Some(0), "{}", said.err);
        let report = highlights(&out)?;
        let found = report["highlights"].as_array().context("no highlights")?;
        assert_eq!(found.len(), 1, "{found:#?}");
        // Corrected for the lag of viewers: the moment lies before what was written about it.
        let peak = found[0]["peak_s"].as_f64().unwrap_or_default();
        assert!((285.0..310.0).contains(&peak), "{peak}");
        assert!(found[0]["clip"].is_null() && found[0]["thumbnail"].is_null(), "{found:#?}");
        Ok(())
    })
}

#[test]
fn a_file_with_only_sound_or_only_picture_is_processed() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        for (name, without) in [("sound.mp4", "-vn"), ("picture.mp4", "-an")] {
            let (input, out) = (folder.path().join(name), folder.path().join(without));
            let source = broadcast::file().await?.display().to_string();
            let target = input.display().to_string();
            let args = ["-nostdin", "-v", "error", "-i", &source, "-c", "copy", without, &target];
            crate::harness::succeed("ffmpeg", args).await?;
            let said = process(Some(&input), None, &out).await?;
            assert_eq!(said.code, Some(0), "{name}: {}", said.err);
            let report = highlights(&out)?;
            assert_eq!(report["highlights"].as_array().map(Vec::len), Some(MOMENTS.len()), "{name}: {report:#}");
        }
        Ok(())
    })
}

#[test]
fn recordings_in_other_codecs_have_the_same_moments_and_clips() -> Result<()> {
    let cases = [
        ("vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 300k -c:a libopus", "vp9", "opus"),
        ("av1.mp4", "-c:v libsvtav1 -preset 12 -c:a aac", "av1", "aac"),
        ("mp3.mkv", "-c:v libx264 -preset ultrafast -c:a libmp3lame", "h264", "mp3"),
    ];
    run(async {
        let folder = tempfile::tempdir()?;
        for (name, options, video, audio) in cases {
            let (input, out) = (folder.path().join(name), folder.path().join(format!("{name}-out")));
            let source = broadcast::file().await?.display().to_string();
            let target = input.display().to_string();
            let mut args = vec!["-nostdin", "-v", "error", "-i", &source, "-vf", "scale=256:144,fps=15", "-g", "30"];
            args.extend(options.split(' '));
            args.push(&target);
            crate::harness::succeed("ffmpeg", args).await?;
            let said = process(Some(&input), None, &out).await?;
            assert_eq!(said.code, Some(0), "{name}: {}", said.err);
            let report = highlights(&out)?;
            let duration = report["duration_s"].as_f64().unwrap_or_default();
            assert!((duration - broadcast::LENGTH).abs() < 0.5, "{name}: {duration}");
            let found = report["highlights"].as_array().context("no highlights")?;
            assert_eq!(found.len(), MOMENTS.len(), "{name}: {found:#?}");
            for (highlight, (from, to)) in found.iter().zip(MOMENTS) {
                let peak = highlight["peak_s"].as_f64().unwrap_or(f64::NAN);
                assert!((from - 2.0..to + 2.0).contains(&peak), "{name}: {highlight:#}");
                let clip = out.join(highlight["clip"].as_str().context("no clip")?);
                decodes_silently(&clip).await.context(name)?;
                assert_eq!(probe(&clip, "v:0", "stream=codec_name").await?, video);
                assert_eq!(probe(&clip, "a:0", "stream=codec_name").await?, audio);
                decodes_silently(&out.join(highlight["thumbnail"].as_str().context("no thumbnail")?)).await?;
            }
        }
        Ok(())
    })
}

/// The loudest sample of a file's sound, in dB below full scale; silence is below -80.
async fn loudest(file: &Path) -> Result<f64> {
    let input = file.display().to_string();
    let args = ["-nostdin", "-hide_banner", "-i", &input, "-map", "0:a", "-af", "volumedetect", "-f", "null", "-"];
    let said = crate::harness::succeed("ffmpeg", args).await?.err;
    let told = said.lines().find_map(|line| line.split("max_volume: ").nth(1)?.strip_suffix(" dB"));
    Ok(told.with_context(|| format!("no volume: {said}"))?.parse()?)
}

#[test]
fn of_two_audio_tracks_the_chosen_one_is_heard_and_clipped() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        // Silence first, and then the broadcast's own sound.
        let (input, source) = (folder.path().join("two.mp4"), broadcast::file().await?.display().to_string());
        let target = input.display().to_string();
        let silence = ["-f", "lavfi", "-i", "anullsrc=r=32000:cl=mono"];
        let tracks = ["-map", "0:v", "-map", "1:a", "-map", "0:a", "-c:v", "copy", "-c:a", "aac", "-shortest"];
        let args = ["-nostdin", "-v", "error", "-i", &source];
        let args = args.into_iter().chain(silence).chain(tracks).chain([target.as_str()]);
        crate::harness::succeed("ffmpeg", args).await?;
        for (track, rate, heard) in [(None, "32000", false), (Some("1"), "48000", true), (Some("2"), "", false)] {
            let out = folder.path().join(format!("track-{track:?}"));
            let mut args = vec!["process".into(), input.clone().into_os_string()];
            args.extend(["--out".into(), out.clone().into_os_string()]);
            args.extend(track.into_iter().flat_map(|track| ["--audio-track".into(), track.into()]));
            let said = crest(args).await?;
            assert_eq!(said.code, Some(0), "{track:?}: {}", said.err);
            let missing = "note: there is no audio track 2, counted from 0, but 2 that can be read: no sound is taken";
            assert_eq!(said.err.contains(missing), rate.is_empty(), "{track:?}: {}", said.err);
            let report = highlights(&out)?;
            let found = report["highlights"].as_array().context("no highlights")?;
            assert_eq!(found.len(), MOMENTS.len(), "{track:?}: {found:#?}");
            for highlight in found {
                // The moments are seen, too: what is heard adds to them only where it is the track that is taken.
                let factors = highlight["factors"].as_array().context("no factors")?;
                let of_sound = |factor: &Value| {
                    let signal = factor["signal"].as_str().unwrap_or_default();
                    signal.starts_with("audio_") && factor["contribution"].as_f64() > Some(0.0)
                };
                assert_eq!(factors.iter().any(of_sound), heard, "{track:?}: {highlight:#}");
                let clip = out.join(highlight["clip"].as_str().context("no clip")?);
                decodes_silently(&clip).await?;
                assert_eq!(probe(&clip, "a", "stream=sample_rate").await?, rate, "{track:?}");
                if !rate.is_empty() {
                    assert_eq!(loudest(&clip).await? > -20.0, heard, "{track:?}");
                }
            }
        }
        Ok(())
    })
}

#[test]
fn what_cannot_be_processed_is_told() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let out = folder.path().join("out");
        let text = folder.path().join("notes.txt");
        std::fs::write(&text, "not a recording\n".repeat(100))?;
        let said = process(Some(&text), None, &out).await?;
        assert_eq!(said.code, Some(1), "{}", said.err);
        assert!(said.err.contains("notes.txt"), "{}", said.err);
        let said = process(Some(&folder.path().join("nowhere.mp4")), None, &out).await?;
        assert_eq!(said.code, Some(1), "{}", said.err);
        assert!(said.err.contains("nowhere.mp4"), "{}", said.err);
        let said = process(None, None, &out).await?;
        assert_eq!(said.code, Some(2), "{}", said.err);
        assert!(said.err.contains("nothing to process"), "{}", said.err);
        let wrong = folder.path().join("wrong.jsonl");
        std::fs::write(&wrong, "{\"t\": 1, \"user\": \"a\", \"text\": \"b\"}\nhello\n")?;
        let said = process(None, Some(&wrong), &out).await?;
        assert!(said.code.is_some_and(|code| code != 0), "{}", said.err);
        assert!(said.err.contains("line 2"), "{}", said.err);
        Ok(())
    })
}
