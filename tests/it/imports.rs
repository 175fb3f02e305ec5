//! The import rules of docs/architecture.md, over `cargo metadata`.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What each crate may use of crest's own: `core` first, then the foundations, then the stages.
const MAY_USE: [(&str, &[&str]); 10] = [
    ("crest-core", &[]),
    ("crest-bus", &["crest-core"]),
    ("crest-store", &["crest-core"]),
    ("crest-media", &["crest-core"]),
    ("crest-analyzers", &["crest-core"]),
    ("crest-fusion", &["crest-core"]),
    ("crest-ingest", &["crest-core", "crest-bus", "crest-store", "crest-media"]),
    ("crest-sinks", &["crest-core", "crest-bus", "crest-store", "crest-media"]),
    ("crest-control-api", &["crest-core", "crest-bus", "crest-store", "crest-media"]),
    (
        "crest",
        &[
            "crest-core",
            "crest-bus",
            "crest-store",
            "crest-media",
            "crest-analyzers",
            "crest-fusion",
            "crest-ingest",
            "crest-sinks",
            "crest-control-api",
        ],
    ),
];

/// Crates that one of crest's alone may use.
const RESERVED: [(&str, &str); 3] = [("gstreamer", "crest-media"), ("str0m", "crest-ingest"), ("fjall", "crest-bus")];

/// Each of crest's crates and what it depends on, whatever for (tests and build scripts too).
fn dependencies() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let of = |package: &Value| package["dependencies"].as_array().into_iter().flatten().map(name).collect();
    Ok(packages.iter().map(|package| (name(package), of(package))).collect())
}

#[test]
fn stages_meet_in_core_and_never_import_each_other() -> Result<()> {
    let all = dependencies()?;
    let known: BTreeSet<_> = MAY_USE.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(all.keys().cloned().collect::<BTreeSet<_>>(), known, "a new crate needs its place in the import rules");
    for (name, allowed) in MAY_USE {
        let own: BTreeSet<_> = all[name].iter().filter(|d| known.contains(*d)).map(String::as_str).collect();
        let allowed: BTreeSet<_> = allowed.iter().copied().collect();
        let wrong: Vec<_> = own.difference(&allowed).collect();
        assert!(wrong.is_empty(), "{name} must not use {wrong:?}: see docs/architecture.md");
    }
    Ok(())
}

#[test]
fn what_is_reserved_is_used_in_one_crate() -> Result<()> {
    for (name, dependencies) in dependencies()? {
        for (reserved, owner) in RESERVED {
            let used = dependencies.iter().any(|d| d == reserved || d.starts_with(&format!("{reserved}-")));
            assert!(!used || name == owner, "{name} uses {reserved}, which belongs to {owner}");
        }
    }
    Ok(())
}
