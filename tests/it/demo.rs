//! What `crest demo --bus kafka` says where it cannot begin. How it goes is seen by running it: it takes minutes.

use anyhow::{Result, ensure};
use std::process::Stdio;

use crate::harness::{crest_command, run};

async fn demo(args: &[&str], settings: &[(&str, &str)]) -> Result<(Option<i32>, String)> {
    let out = tempfile::tempdir()?;
    let mut command = crest_command();
    command.args(["demo", "--out"]).arg(out.path()).args(args).envs(settings.iter().copied());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[test]
fn services_are_named_all_or_none() -> Result<()> {
    run(async {
        let database = ("CREST_DATABASE__URL", "postgres://crest:s3cret@127.0.0.1:1/crest");
        let (code, said) = demo(&["--bus", "kafka"], &[database]).await?;
        ensure!(code == Some(2), "{code:?}: {said}");
        for key in ["database.url", "bus.brokers", "storage.url"] {
            ensure!(said.contains(key), "{key} is not named: {said}");
        }
        ensure!(!said.contains("s3cret"), "{said}");
        Ok(())
    })
}

#[test]
fn a_configuration_of_services_needs_several_processes() -> Result<()> {
    run(async {
        let (code, said) = demo(&["--config", "/nowhere/crest.toml"], &[]).await?;
        ensure!(code == Some(2) && said.contains("--bus kafka"), "{code:?}: {said}");
        Ok(())
    })
}

#[test]
fn services_that_are_not_installed_are_named_with_what_installs_them() -> Result<()> {
    run(async {
        let (code, said) = demo(&["--bus", "kafka"], &[("CREST_DEV_HOME", "/nowhere")]).await?;
        ensure!(code == Some(1) && said.contains("make setup"), "{code:?}: {said}");
        Ok(())
    })
}
