//! `crest process` with files that are none, that break off or are damaged, and chat that is no chat: an
//! error that says what to do and exit code 1, or a result; never a panic, never half a clip.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::broadcast;
use crate::harness::{Said, crest, crest_command, decodes_silently, run, signal, succeed, wait_for};

async fn process(input: Option<&Path>, chat: Option<&Path>, out: &Path) -> Result<Said> {
    let mut args = vec!["process".into()];
    args.extend(input.map(Into::into));
    args.extend(["--out".into(), out.as_os_str().to_owned()]);
    if let Some(chat) = chat {
        args.extend(["--chat".into(), chat.as_os_str().to_owned()]);
    }
    let said = crest(args).await?;
    ensure!(!said.err.contains("panicked"), "{}", said.err);
    Ok(said)
}

/// An error that names the file, on one line and without a panic.
async fn refused(input: Option<&Path>, chat: Option<&Path>, out: &Path, words: &[&str]) -> Result<()> {
    let said = process(input, chat, out).await?;
    let name = input.or(chat).and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    ensure!(said.code == Some(1), "{name}: {said:?}");
    for word in words.iter().chain([&&*name]) {
        ensure!(said.err.contains(word), "{name}: {:?} does not say {word:?}", said.err);
    }
    ensure!(!out.join("highlights.json").exists(), "{name}: a result beside the error");
    ensure!(!out.join(".segments").exists(), "{name}: work is left behind");
    Ok(())
}

/// A result whose clips are whole; returns how many seconds were read, and what was noted.
async fn processed(input: &Path, out: &Path) -> Result<(f64, String)> {
    let said = process(Some(input), None, out).await?;
    ensure!(said.code == Some(0), "{}: {said:?}", input.display());
    ensure!(!out.join(".segments").exists(), "work is left behind");
    let report: Value = serde_json::from_slice(&std::fs::read(out.join("highlights.json"))?)?;
    for highlight in report["highlights"].as_array().into_iter().flatten() {
        if let Some(clip) = highlight["clip"].as_str() {
            ensure!(out.join(clip).is_file(), "{clip} is not there");
        }
    }
    Ok((report["duration_s"].as_f64().context("no duration")?, said.err))
}

/// The broadcast in another container.
async fn remuxed(folder: &Path, name: &str, options: &[&str]) -> Result<PathBuf> {
    let (from, to) = (broadcast::file().await?.display().to_string(), folder.join(name));
    let target = to.display().to_string();
    let args = ["-nostdin", "-v", "error", "-i", &from, "-c", "copy"].into_iter().chain(options.iter().copied());
    succeed("ffmpeg", args.chain([target.as_str()])).await?;
    Ok(to)
}

/// The first part of a file.
fn cut(file: &Path, share: f64, to: &Path) -> Result<()> {
    let bytes = std::fs::read(file)?;
    let length = (bytes.len() as f64 * share) as usize;
    Ok(std::fs::write(to, bytes.get(..length).context("a share of a file")?)?)
}

#[test]
fn what_is_no_recording_is_refused() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let (out, path) = (folder.path().join("out"), |name: &str| folder.path().join(name));
        std::fs::write(path("empty.mp4"), [])?;
        std::fs::write(
            path("noise.mp4"),
            (0..1_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>(),
        )?;
        std::fs::create_dir(path("folder.mp4"))?;
        std::fs::write(
            path("picture.png"),
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde",
        )?;
        for name in ["empty.mp4", "noise.mp4", "folder.mp4", "picture.png"] {
            refused(Some(&path(name)), None, &out, &[]).await?;
        }
        // The index of an MP4 stands at its end unless it was made for the web.
        let moov_last = path("moov-last.mp4");
        cut(broadcast::file().await?, 0.6, &moov_last)?;
        refused(Some(&moov_last), None, &out, &[]).await
    })
}

#[test]
fn a_recording_that_breaks_off_or_is_damaged_is_used_as_far_as_it_goes() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let containers: [(&str, &[&str]); 4] = [
            ("web.mp4", &["-movflags", "+faststart"]),
            ("pieces.mp4", &["-movflags", "+frag_keyframe+empty_moov"]),
            ("a.mkv", &[]),
            ("a.ts", &[]),
        ];
        for (name, options) in containers {
            let whole = remuxed(folder.path(), name, options).await?;
            let out = folder.path().join(format!("out-{name}"));
            let broken = folder.path().join(format!("cut-{name}"));
            cut(&whole, 0.6, &broken)?;
            let (duration, note) = processed(&broken, &out).await.with_context(|| name.to_owned())?;
            ensure!((30.0..65.0).contains(&duration), "{name}: {duration} s");
            if matches!(name, "web.mp4" | "a.mkv") {
                ensure!(note.contains("the file ends after"), "{name}: {note:?} does not say that it broke off");
            }
        }
        // Bits that flipped here and there, in the middle of packets.
        let whole = remuxed(folder.path(), "flipped.mkv", &[]).await?;
        let mut bytes = std::fs::read(&whole)?;
        let length = bytes.len();
        for at in (length / 4..length * 3 / 4).step_by(5003) {
            bytes[at] ^= 0x55;
        }
        std::fs::write(&whole, bytes)?;
        let (duration, _) = processed(&whole, &folder.path().join("out-flipped")).await?;
        ensure!(duration > 50.0, "{duration} s of a damaged file");
        Ok(())
    })
}

#[test]
fn chat_that_is_none_is_refused_by_its_line() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let out = folder.path().join("out");
        let good = br#"{"t": 1, "user": "a", "text": "b"}"#.as_slice();
        let line = |bytes: &[u8]| [good, b"\n", bytes, b"\n"].concat();
        let cases: [(&str, Vec<u8>, &str); 8] = [
            ("utf8.jsonl", line(b"{\"t\": 1, \"user\": \"\xff\xfe\", \"text\": \"b\"}"), "not UTF-8"),
            ("long.jsonl", line(&[b'x'; 100_000_000]), "longer than"),
            ("open.jsonl", line(br#"{"t": 1, "user": "a", "text": "#), "expected {\"t\": seconds"),
            ("deep.jsonl", line("[".repeat(100_000).as_bytes()), "expected {\"t\": seconds"),
            ("nan.jsonl", line(br#"{"t": NaN, "user": "a", "text": "b"}"#), "expected {\"t\": seconds"),
            ("huge.jsonl", line(br#"{"t": 1e999, "user": "a", "text": "b"}"#), "out of range"),
            ("future.jsonl", line(br#"{"t": 1e9, "user": "a", "text": "b"}"#), "must be seconds from the start"),
            ("past.jsonl", line(br#"{"t": -5, "user": "a", "text": "b"}"#), "must be seconds from the start"),
        ];
        for (name, bytes, reason) in cases {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes)?;
            refused(None, Some(&path), &out, &["line 2", reason]).await?;
        }
        // Times in any order are no fault, and the last of them is three months after the first.
        let path = folder.path().join("order.jsonl");
        std::fs::write(&path, [good, b"\n{\"t\": 9e6, \"user\": \"a\", \"text\": \"b\"}\n", good].concat())?;
        let said = process(None, Some(&path), &out).await?;
        ensure!(said.code == Some(0), "{said:?}");
        Ok(())
    })
}

#[test]
fn a_run_that_is_stopped_leaves_nothing_that_misleads() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let (out, clips) = (folder.path().join("out"), folder.path().join("out/clips"));
        let input = broadcast::file().await?;
        for phase in [".segments", "clips"] {
            let mut child = crest_command()
                .args(["process".as_ref(), input.as_os_str(), "--out".as_ref(), out.as_os_str()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()?;
            let pid = child.id().context("it has ended already")?;
            let begun = out.join(phase);
            let question = || async { Ok(begun.exists().then_some(())) };
            wait_for("the run to begin", Duration::from_secs(60), question).await?;
            signal("TERM", pid).await?;
            let status = tokio::time::timeout(Duration::from_secs(60), child.wait()).await.context("it hangs")??;
            // A signal that comes while the last file is written stops nothing: then the result is whole.
            let whole = out.join("highlights.json").exists();
            ensure!(whole || !status.success(), "it ended well without a result");
            ensure!(!whole || phase == "clips", "a result of half a run");
            for file in ["report.html", "signals.parquet"] {
                ensure!(!whole || out.join(file).exists(), "a result without {file}");
            }
            std::fs::remove_file(out.join("highlights.json")).or_else(|e| match e.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(e),
            })?;
            for entry in std::fs::read_dir(&clips).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.extension().is_some_and(|extension| extension == "mp4") {
                    decodes_silently(&path).await?;
                }
            }
        }
        // The next run into the same folder is as if nothing had been.
        processed(input, &out).await.map(drop)
    })
}
