//! ONNX Runtime. This version of crest does without it, so nothing here is ever wrong.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

use super::finding::Finding;

const CHECK: &str = "onnxruntime";
/// What the library's file is called, with or without a version behind it.
const LIBRARY: &str = "libonnxruntime.so";
/// Folders where the loader looks, beside those in its cache.
const FOLDERS: [&str; 4] = ["/usr/local/lib", "/usr/lib", "/lib", "/opt/onnxruntime/lib"];
/// How long Python may take to say where its package is.
const ASK: Duration = Duration::from_secs(10);
/// Asks without importing: that would take seconds.
const WHEEL: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); print(s.origin if s else '')";

/// Looks where `ORT_DYLIB_PATH` says, where the loader looks, and in the Python package.
pub async fn onnxruntime() -> Finding {
    let unused = "this version of crest does not use it yet";
    if let Some(named) = std::env::var_os("ORT_DYLIB_PATH").filter(|v| !v.is_empty()).map(PathBuf::from) {
        let problem = if !named.is_file() {
            "which is not there"
        } else if !is_library(&named) {
            "which is not a shared library"
        } else {
            return found(&named, "named by ORT_DYLIB_PATH");
        };
        return Finding::note(
            CHECK,
            format!("ORT_DYLIB_PATH names {}, {problem}; {unused}", named.display()),
            "unset ORT_DYLIB_PATH    # or the path of libonnxruntime.so",
        );
    }
    if let Some(path) = by_loader() {
        return found(&path, "found by the loader");
    }
    if let Some(path) = by_wheel().await {
        return Finding::note(
            CHECK,
            format!("{} in the Python package, where the loader does not look; {unused}", path.display()),
            format!("export ORT_DYLIB_PATH={}", super::finding::quoted(&path)),
        );
    }
    Finding::note(
        CHECK,
        format!("not installed; {unused}"),
        "pip install onnxruntime    # with an NVIDIA GPU: pip install onnxruntime-gpu",
    )
}

fn found(path: &Path, how: &str) -> Finding {
    let providers = providers(path.parent().unwrap_or(Path::new("/")));
    Finding::ok(CHECK, format!("{}, {how}; providers: {providers}; not used by this version", path.display()))
}

/// The providers that come as libraries of their own beside the main one.
fn providers(folder: &Path) -> String {
    let mut names = vec!["cpu".to_owned()];
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let name = file.strip_prefix("libonnxruntime_providers_").and_then(|rest| rest.split('.').next());
        names.extend(name.filter(|name| *name != "shared").map(str::to_owned));
    }
    names.sort();
    names.dedup();
    names.join(", ")
}

fn by_loader() -> Option<PathBuf> {
    let set = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = std::env::split_paths(&set).filter(|folder| folder.is_absolute());
    let mut folders = folders.chain(FOLDERS.map(PathBuf::from));
    folders.find_map(|folder| in_folder(&folder)).or_else(|| {
        // The cache holds the paths as texts that end with a zero (ld.so(8)).
        let cache = std::fs::read("/etc/ld.so.cache").ok()?;
        let mut texts = cache.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok());
        texts.find(|text| text.starts_with('/') && named_so(Path::new(text))).map(PathBuf::from).filter(|p| p.is_file())
    })
}

async fn by_wheel() -> Option<PathBuf> {
    let mut ask = Command::new("python3");
    ask.args(["-c", WHEEL]).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let answer = tokio::time::timeout(ASK, ask.output()).await.ok()?.ok()?;
    let origin = String::from_utf8(answer.stdout).ok()?;
    in_folder(&Path::new(origin.trim()).parent()?.join("capi"))
}

fn in_folder(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    entries.filter(|path| named_so(path) && is_library(path)).min()
}

fn named_so(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.strip_prefix(LIBRARY).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether a file begins as shared libraries do.
fn is_library(path: &Path) -> bool {
    let mut head = [0; 4];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == *b"\x7fELF"
}
