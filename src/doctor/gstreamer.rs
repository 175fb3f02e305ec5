//! GStreamer, its elements, and ffmpeg.

use crest_media::elements::{NEEDED, Needed, Registry, registry};
use std::path::PathBuf;

use super::finding::{Finding, as_root, quoted};

/// The version that crest is built and tested with.
const VERSION: (u32, u32) = (1, 22);
/// The checks, one for each Debian package.
const CHECKS: [(&str, &str); 5] = [
    ("gstreamer-core", "libgstreamer1.0-0"),
    ("gstreamer-base", "gstreamer1.0-plugins-base"),
    ("gstreamer-good", "gstreamer1.0-plugins-good"),
    ("gstreamer-bad", "gstreamer1.0-plugins-bad"),
    ("gstreamer-libav", "gstreamer1.0-libav"),
];
/// Variables that make GStreamer look for its plugins elsewhere, and there alone.
const ELSEWHERE: [&str; 2] = ["GST_PLUGIN_SYSTEM_PATH_1_0", "GST_PLUGIN_SYSTEM_PATH"];

/// Asks GStreamer's registry for everything that crest uses.
pub fn gstreamer() -> Vec<Finding> {
    match registry() {
        Ok(registry) => judge(&registry, ELSEWHERE.into_iter().find(|name| std::env::var_os(name).is_some())),
        Err(error) => {
            let mend = as_root("apt-get install libgstreamer1.0-0 gstreamer1.0-plugins-base");
            vec![Finding::wrong("gstreamer", error.to_string(), mend)]
        }
    }
}

/// `elsewhere` is the variable that leads GStreamer away from where packages put plugins.
fn judge(registry: &Registry, elsewhere: Option<&str>) -> Vec<Finding> {
    let (major, minor, micro) = registry.version;
    let mut findings = vec![if (major, minor) < VERSION {
        Finding::wrong(
            "gstreamer",
            format!("version {major}.{minor}.{micro}; crest needs {}.{} or newer", VERSION.0, VERSION.1),
            "# a newer system: Debian 12, Ubuntu 24.04, or newer",
        )
    } else {
        Finding::ok("gstreamer", format!("version {major}.{minor}.{micro}"))
    }];
    for (check, package) in CHECKS {
        let missing: Vec<&Needed> = registry.missing.iter().copied().filter(|n| n.package == package).collect();
        if missing.is_empty() {
            let names: Vec<&str> = NEEDED.iter().filter(|n| n.package == package).map(|n| n.name).collect();
            findings.push(Finding::ok(check, names.join(", ")));
            continue;
        }
        let lost: Vec<String> = missing.iter().map(|n| format!("{} ({})", n.name, n.purpose)).collect();
        let message = format!("missing: {}", lost.join(", "));
        let mut mend = as_root(format_args!("apt-get install {package}"));
        if let Some(variable) = elsewhere {
            mend = format!("unset {variable}    # GStreamer looks there alone; if that is meant: {mend}");
        }
        let all_optional = missing.iter().all(|n| n.optional);
        findings.push(if all_optional {
            Finding::note(check, message, mend)
        } else {
            Finding::wrong(check, message, mend)
        });
    }
    if !registry.unloadable.is_empty() && !registry.missing.is_empty() {
        let files: Vec<String> = registry.unloadable.iter().map(|file| file.display().to_string()).collect();
        let first = registry.unloadable.first().map(|file| quoted(file)).unwrap_or_default();
        findings.push(Finding::note(
            "gstreamer-files",
            format!("these plugins are there and cannot be loaded: {}", files.join(", ")),
            format!("ldd {first} | grep 'not found'    # then: rm -r ~/.cache/gstreamer-1.0"),
        ));
    }
    findings
}

/// ffmpeg, for `crest demo` alone.
pub fn ffmpeg() -> Finding {
    match program("ffmpeg") {
        Some(path) => Finding::ok("ffmpeg", format!("{} (for crest demo alone)", path.display())),
        None => Finding::note("ffmpeg", "not installed; crest demo alone needs it", as_root("apt-get install ffmpeg")),
    }
}

/// Where a program is, as a shell finds it.
fn program(name: &str) -> Option<PathBuf> {
    use rustix::fs::{Access, access};
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok())
}
