//! Findings about the machine: programs and libraries, ports, limits, the clock, the configuration.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use super::Patient;
use crate::harness::run;

#[test]
fn plugins_that_are_missing_are_named_with_what_they_are_for_and_their_package() -> Result<()> {
    run(async {
        let patient = Patient::new()?;
        let plugins = patient.folder().join("plugins");
        std::fs::create_dir(&plugins)?;
        std::fs::write(plugins.join("libgstbroken.so"), "not a library")?;
        let (plugins, registry) =
            (plugins.display().to_string(), patient.folder().join("registry").display().to_string());
        let patient = patient.with("GST_PLUGIN_SYSTEM_PATH_1_0", &plugins).with("GST_REGISTRY", registry);
        let said = patient.ask().await?;
        said.ok("gstreamer", "version 1.")?;
        said.wrong("gstreamer-libav", "avdec_h264 (H.264 pictures)", "apt-get install gstreamer1.0-libav")?;
        said.wrong("gstreamer-libav", "avdec_aac (AAC sound)", "unset GST_PLUGIN_SYSTEM_PATH_1_0")?;
        said.wrong("gstreamer-base", "typefindfunctions", "gstreamer1.0-plugins-base")?;
        said.wrong("gstreamer-good", "qtdemux (MP4 files)", "gstreamer1.0-plugins-good")?;
        said.wrong("gstreamer-bad", "h264parse", "gstreamer1.0-plugins-bad")?;
        said.wrong("gstreamer-core", "filesrc", "libgstreamer1.0-0")?;
        said.note("gstreamer-files", "libgstbroken.so", "ldd")
    })
}

#[test]
fn onnx_runtime_and_ffmpeg_are_notes_and_never_wrong() -> Result<()> {
    run(async {
        let patient = Patient::new()?;
        let empty = patient.folder().join("empty");
        std::fs::create_dir(&empty)?;
        // Without PATH there is neither ffmpeg nor a Python to ask for its package.
        let patient = patient.with("PATH", empty.display().to_string());
        let said = patient.ask().await?;
        said.well()?;
        said.note("ffmpeg", "not installed", "apt-get install ffmpeg")?;
        said.note("resolvers", "twitch.tv: streamlink is not installed", "apt-get install streamlink")?;
        let names_it =
            |finding: &&Value| finding["message"].as_str().is_some_and(|words| words.contains("yt-dlp is not"));
        let finding = said.findings.iter().find(names_it).context("yt-dlp is not missed")?;
        let mend = finding["mend"].as_str().unwrap_or_default();
        ensure!(mend.contains("apt-get install yt-dlp") && mend.contains("pipx install yt-dlp"), "{finding}");
        ensure!(finding["message"].as_str().is_some_and(|words| words.contains("youtube.com")), "{finding}");

        let patient = patient.with("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so");
        let said = patient.ask().await?;
        said.well()?;
        said.note("onnxruntime", "/nowhere/libonnxruntime.so, which is not there", "unset ORT_DYLIB_PATH")?;
        let library = patient.folder().join("libonnxruntime.so.1.23");
        std::fs::write(&library, "text")?;
        let patient = patient.with("ORT_DYLIB_PATH", library.display().to_string());
        patient.ask().await?.note("onnxruntime", "not a shared library", "unset ORT_DYLIB_PATH")?;
        std::fs::write(&library, b"\x7fELF and so on")?;
        std::fs::write(patient.folder().join("libonnxruntime_providers_cuda.so"), "")?;
        patient.ask().await?.ok("onnxruntime", "named by ORT_DYLIB_PATH; providers: cpu, cuda;")?;

        let folder = patient.folder().display().to_string();
        let patient = patient.with("ORT_DYLIB_PATH", "").with("LD_LIBRARY_PATH", folder);
        patient.ask().await?.ok("onnxruntime", "found by the loader")
    })
}

#[test]
fn onnx_runtime_in_the_python_package_is_found_with_what_leads_crest_to_it() -> Result<()> {
    run(async {
        let patient = Patient::new()?;
        let package = patient.folder().join("onnxruntime");
        std::fs::create_dir_all(package.join("capi"))?;
        std::fs::write(package.join("__init__.py"), "raise RuntimeError('it is asked for, not imported')")?;
        std::fs::write(package.join("capi/libonnxruntime.so.1.23.0"), b"\x7fELF and so on")?;
        let folder = patient.folder().display().to_string();
        let mend = format!("export ORT_DYLIB_PATH={folder}/onnxruntime/capi/libonnxruntime.so.1.23.0");
        patient.with("PYTHONPATH", &folder).ask().await?.note("onnxruntime", "in the Python package", &mend)
    })
}

#[test]
fn a_port_that_is_taken_is_named_with_who_has_it_and_a_way_out() -> Result<()> {
    run(async {
        let (http, rtmp) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("0.0.0.0:0")?);
        let (http, rtmp) = (http.local_addr().map(|a| (a, http))?, rtmp.local_addr().map(|a| (a, rtmp))?);
        let patient = Patient::new()?.with("CREST_HTTP__LISTEN", http.0.to_string());
        let patient = patient.with("CREST_RTMP__LISTEN", format!("127.0.0.1:{}", rtmp.0.port()));
        let said = patient.ask().await?;
        let (me, kill) = (format!("(process {})", std::process::id()), format!("kill {}", std::process::id()));
        said.wrong("http-port", &format!("http.listen {} is taken by ", http.0), &kill)?;
        said.wrong("http-port", &me, "export CREST_HTTP__LISTEN=127.0.0.1:")?;
        said.wrong("rtmp-port", &me, "export CREST_RTMP__LISTEN=127.0.0.1:")?;

        // What it offers instead is free.
        let mend = said.find("http-port")?["mend"].as_str().context("no mend")?.to_owned();
        let (_, other) = mend.split_once("CREST_HTTP__LISTEN=").context("no other port")?;
        patient.with("CREST_HTTP__LISTEN", other.trim()).ask().await?.ok("http-port", "is free")?;
        drop((http, rtmp));
        Ok(())
    })
}

#[test]
fn addresses_that_cannot_be_listened_on_are_told_apart() -> Result<()> {
    run(async {
        // Of the block that is kept for examples: no machine has it.
        let patient = Patient::new()?.with("CREST_HTTP__LISTEN", "192.0.2.1:8080");
        patient.ask().await?.wrong("http-port", "does not have that address", "CREST_HTTP__LISTEN=0.0.0.0:8080")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let patient = patient.with("CREST_HTTP__LISTEN", format!("127.0.0.1:{port}"));
        let patient = patient.with("CREST_RTMP__LISTEN", format!("0.0.0.0:{port}"));
        patient.ask().await?.wrong("rtmp-port", "the same port", "CREST_RTMP__LISTEN=")
    })
}

#[test]
fn a_limit_of_open_files_that_the_connections_may_exceed_is_wrong() -> Result<()> {
    run(async {
        let patient = Patient::new()?.under(&["prlimit", "--nofile=300"]);
        patient.ask().await?.wrong("descriptors", "may have 300 files open", "LimitNOFILE=2048")?;
        let mut fewer = patient;
        for protocol in ["RTMP", "SRT", "HTTP"] {
            fewer = fewer.with(&format!("CREST_{protocol}__MAX_CONNECTIONS"), "1");
        }
        fewer.under(&["prlimit", "--nofile=600"]).ask().await?.ok("descriptors", "600 files")
    })
}

#[test]
fn a_clock_that_nobody_keeps_is_a_note_and_one_that_was_put_back_is_wrong() -> Result<()> {
    run(async {
        let patient = Patient::new()?;
        let ask = patient.folder().join("timedatectl");
        let path = format!("{}:{}", patient.folder().display(), std::env::var("PATH")?);
        let patient = patient.with("PATH", path);
        for (answer, kept) in [("yes", true), ("no", false)] {
            std::fs::write(&ask, format!("#!/bin/sh\necho {answer}\n"))?;
            std::fs::set_permissions(&ask, PermissionsExt::from_mode(0o755))?;
            let said = patient.ask().await?;
            match kept {
                true => said.ok("clock", "kept by a time server")?,
                false => said.note("clock", "not kept by a time server", "timedatectl set-ntp true")?,
            }
        }
        std::fs::create_dir(patient.data())?;
        let database = std::fs::File::create(patient.data().join("crest.db"))?;
        database.set_modified(SystemTime::now() + Duration::from_secs(24 * 3600))?;
        patient.ask().await?.wrong("clock", "it was put back", "timedatectl set-ntp true")
    })
}

#[test]
fn a_configuration_that_cannot_be_used_is_shown_and_is_wrong_usage() -> Result<()> {
    run(async {
        let patient = Patient::new()?;
        let said = patient.ask().await?;
        said.well()?;
        let file = patient.folder().join("crest.toml");
        std::fs::write(&file, "[http]\nlistne = 1\n")?;
        let nowhere = patient.folder().join("nowhere.toml");
        for (path, problem, mend) in [(&file, "listne", "crest.toml"), (&nowhere, "nowhere.toml", "ls -l")] {
            let said = patient.ask_with(&["--config".as_ref(), path.as_os_str()]).await?;
            assert_eq!(said.code, Some(2), "{said:?}");
            said.has("configuration", "wrong", problem, mend)?;
            said.ok("gstreamer-libav", "avdec_h264").context("what does not depend on it is looked at")?;
            assert!(said.find("database").is_err(), "{said:?}");
        }
        std::fs::write(&file, "[bus]\nbrokers = [\"a:9092\"]\n")?;
        let said = patient.ask_with(&["--config".as_ref(), file.as_os_str()]).await?;
        said.note("configuration", "bus.brokers is set", "crest.toml")?;
        let brokers = patient.with("CREST_BUS__BROKERS", "a:9092").ask().await?;
        brokers.note("configuration", "bus.brokers is set", "unset CREST_BUS__BROKERS")?;
        brokers.well()
    })
}
