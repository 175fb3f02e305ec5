//! A crest that runs is no obstacle.

use anyhow::Result;
use std::time::Duration;

use super::{Patient, picture};
use crate::harness::run;
use crate::server::Server;

#[test]
fn a_crest_that_runs_on_the_same_directory_is_said_and_is_not_wrong() -> Result<()> {
    run(async {
        let patient = Patient::new()?;
        let server = Server::start(patient.folder()).await?;
        let address = |url: &str| {
            url.trim_start_matches("http://").trim_start_matches("rtmp://").trim_end_matches("/live").to_owned()
        };
        let patient = patient.with("CREST_HTTP__LISTEN", address(&server.http));
        let patient = patient.with("CREST_RTMP__LISTEN", address(&server.rtmp));
        let said = patient.ask().await?;
        said.well()?;
        said.ok("bus", "in use by crest (process ")?;
        said.ok("http-port", "crest listens there")?;
        said.ok("rtmp-port", "crest listens there")?;
        said.ok("database", "of this version, whole")?;

        // The same ports for another directory are taken.
        let elsewhere = patient.folder().join("elsewhere").display().to_string();
        let patient = patient.with("CREST_DATA_DIR", elsewhere);
        patient.ask().await?.wrong("http-port", "is taken by crest (process ", "kill ")
    })
}

#[test]
fn what_a_crest_leaves_is_looked_at_without_touching_it_after_a_stop_and_after_a_kill() -> Result<()> {
    run(async {
        let patient = Patient::new()?;
        let server = Server::start(patient.folder()).await?;
        server.kill().await?;
        untouched(&patient).await?;

        let server = Server::start(patient.folder()).await?;
        server.terminate(Duration::from_secs(20)).await?;
        untouched(&patient).await
    })
}

async fn untouched(patient: &Patient) -> Result<()> {
    let before = picture(patient.folder())?;
    let said = patient.ask().await?;
    said.well()?;
    said.ok("bus", "a copy of it opens")?;
    said.ok("database", "of this version, whole")?;
    let after = picture(patient.folder())?;
    let changed: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).map(|(a, _)| &a.0).collect();
    assert!(changed.is_empty() && before.len() == after.len(), "the doctor changed {changed:?}");
    Ok(())
}
