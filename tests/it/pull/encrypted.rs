//! HLS that is encrypted with AES-128: by ffmpeg itself, and by OpenSSL where ffmpeg cannot (keys that change, MP4).

use anyhow::{Context, Result, ensure};
use std::path::Path;

use super::origin::{self, LENGTH, Origin};
use super::stage::Stage;
use crate::harness::{run, succeed};
use crate::stored::span;

const KEYS: [[u8; 16]; 2] = [*b"the first of two", *b"the second of 2!"];

/// Encrypts a file in place, as RFC 8216 says.
async fn encrypt(file: &Path, key: [u8; 16], vector: u128) -> Result<()> {
    let (from, to) = (file.to_str().context("no text")?, file.with_extension("encrypted"));
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let (vector, out) = (format!("{vector:032x}"), to.to_str().context("no text")?);
    succeed("openssl", ["enc", "-aes-128-cbc", "-K", &key, "-iv", &vector, "-in", from, "-out", out]).await?;
    Ok(std::fs::rename(to, file)?)
}

#[test]
fn encrypted_recordings_are_stored_whole_whoever_encrypted_them() -> Result<()> {
    run(async {
        let (origin, stage, source) = (Origin::start().await?, Stage::set(&[]).await?, origin::source().await?);
        for (name, key) in ["k1", "k2"].iter().zip(KEYS) {
            std::fs::write(origin.path(name), key)?;
        }
        // By ffmpeg, with a vector that it writes into the playlist.
        let info = origin.path("info");
        std::fs::write(&info, format!("k1\n{}\n{}\n", origin.path("k1").display(), "0123456789abcdef".repeat(2)))?;
        origin::cut(source, &origin.path("own.m3u8"), &["-hls_key_info_file", info.to_str().context("no text")?])
            .await?;

        // Another key from the third segment on, and no vector: it is the segment's number.
        origin::cut(source, &origin.path("turn.m3u8"), &["-start_number", "7"]).await?;
        for number in 7..13 {
            encrypt(&origin.path(&format!("turn{number}.ts")), KEYS[usize::from(number > 8)], number).await?;
        }
        let plain = std::fs::read_to_string(origin.path("turn.m3u8"))?;
        let key = |name: &str| format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{name}\"\n#EXTINF");
        let turned = plain.replacen("#EXTINF", &key("k1"), 1);
        let (before, after) = turned.split_once("turn8.ts\n").context("no eighth segment")?;
        origin.write("turn.m3u8", &format!("{before}turn8.ts\n{}", after.replacen("#EXTINF", &key("k2"), 1)))?;

        // Fragmented MP4, its header encrypted along and in the clear.
        for (name, header) in [("whole", true), ("body", false)] {
            let init = format!("{name}-init.mp4");
            let options = ["-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", &init];
            origin::cut(source, &origin.path(&format!("{name}.m3u8")), &options).await?;
            for number in 0..6 {
                encrypt(&origin.path(&format!("{name}{number}.m4s")), KEYS[0], 42).await?;
            }
            if header {
                encrypt(&origin.path(&init), KEYS[0], 42).await?;
            }
            let plain = std::fs::read_to_string(origin.path(&format!("{name}.m3u8")))?;
            let key = format!("#EXT-X-KEY:METHOD=AES-128,URI=\"k1\",IV={:#034x}\n#EXT-X-MAP", 42);
            origin.write(&format!("{name}.m3u8"), &plain.replacen("#EXT-X-MAP", &key, 1))?;
        }
        let mut streams = Vec::new();
        for name in ["own", "turn", "whole", "body"] {
            streams.push((name, stage.pull(&origin.url(&format!("{name}.m3u8"))).await?));
        }
        for (name, stream) in streams {
            let shown = stage.until_state(&stream, "ended").await?;
            assert_eq!(
                (&shown["state_reason"], &shown["session"]),
                (&"the recording is over".into(), &1.into()),
                "{name}"
            );
            let (video, audio) = (stage.times(&stream, "v").await?, stage.times(&stream, "a").await?);
            ensure!(video.len() >= 345 && span(&video) > LENGTH - 0.5, "{name}: {} frames", video.len());
            ensure!(span(&audio) > LENGTH - 0.5, "{name}: {} s of sound", span(&audio));
        }
        Ok(())
    })
}

#[test]
fn media_that_cannot_be_decrypted_say_why() -> Result<()> {
    run(async {
        let (origin, stage) = (Origin::start().await?, Stage::set(&[("CREST_PULL__PATIENCE", "2s")]).await?);
        origin::cut(origin::source().await?, &origin.path("a.m3u8"), &[]).await?;
        for number in 0..6 {
            encrypt(&origin.path(&format!("a{number}.ts")), KEYS[0], number).await?;
        }
        std::fs::write(origin.path("wrong"), KEYS[1])?;
        std::fs::write(origin.path("long"), [0; 17])?;
        let plain = std::fs::read_to_string(origin.path("a.m3u8"))?;
        let cases = [
            ("METHOD=AES-128,URI=\"wrong\"", "its key does not fit"),
            ("METHOD=AES-128,URI=\"long\"", "more than 16 bytes"),
            ("METHOD=AES-128,URI=\"absent\"", "404"),
            ("METHOD=AES-128,URI=\"http://10.1.2.3/key\"", "private"),
            ("METHOD=SAMPLE-AES,URI=\"wrong\"", "SAMPLE-AES"),
        ];
        for (number, (key, why)) in cases.into_iter().enumerate() {
            let name = format!("case{number}.m3u8");
            origin.write(&name, &plain.replacen("#EXTINF", &format!("#EXT-X-KEY:{key}\n#EXTINF"), 1))?;
            let stream = stage.pull(&origin.url(&name)).await?;
            let shown = stage.until_state(&stream, "failed").await?;
            ensure!(shown["state_reason"].as_str().is_some_and(|reason| reason.contains(why)), "{key}: {shown}");
        }
        Ok(())
    })
}
