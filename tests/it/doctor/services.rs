//! Kafka, PostgreSQL and S3, where crest is to run on them.

use anyhow::{Context, Result};

use super::Patient;
use crate::harness::run;
use crate::services::{Home, free_address};

fn patient(home: &Home) -> Result<Patient> {
    let with = |patient: Patient, (key, value): (String, String)| patient.with(&key, value);
    Ok(home.settings().into_iter().fold(Patient::new()?, with))
}

#[test]
fn services_that_answer_are_well_and_stay_as_they_are() -> Result<()> {
    run(async {
        let home = Home::new()?;
        for _ in 0..2 {
            // Nothing was made the first time.
            let said = patient(&home)?.ask().await?;
            said.well()?;
            said.ok("database", "is empty; the next start fills it")?;
            said.ok("bus", "10 are missing, the next start makes them")?;
            said.ok("storage", "takes objects, gives them back and removes them")?;
        }
        Ok(())
    })
}

#[test]
fn services_that_do_not_are_wrong_and_their_settings_are_named_without_secrets() -> Result<()> {
    run(async {
        const WRONG: &str = "open-sesame-of-the-wrong-cave";
        let home = Home::new()?;
        let nobody = free_address()?;
        let said = patient(&home)?.with("CREST_BUS__BROKERS", &nobody);
        said.ask().await?.wrong("bus", "bus.brokers", "CREST_BUS__BROKERS")?;

        let gone = home.database.url.replacen(home.database.url.rsplit('@').next().context("no address")?, &nobody, 1);
        let said = patient(&home)?.with("CREST_DATABASE__URL", format!("{gone}/crest")).ask().await?;
        said.wrong("database", "`crest serve` waits for it", "CREST_DATABASE__URL")?;
        let stranger = home.database.url.replacen(&format!(":{}@", home.database.name), &format!(":{WRONG}@"), 1);
        let said = patient(&home)?.with("CREST_DATABASE__URL", stranger).ask().await?;
        said.wrong("database", "refuses these credentials", "CREST_DATABASE__URL")?;
        assert!(!format!("{said:?}").contains(WRONG), "{said:?}");
        let said = patient(&home)?.with("CREST_DATABASE__URL", home.database.as_admin()).ask().await?;
        said.wrong("database", "superuser", "CREST_DATABASE__URL")?;

        let said = patient(&home)?.with("CREST_STORAGE__SECRET_ACCESS_KEY", WRONG).ask().await?;
        said.wrong("storage", "storage.secret_access_key", "CREST_STORAGE__SECRET_ACCESS_KEY")?;
        assert!(!format!("{said:?}").contains(WRONG), "{said:?}");
        let said = patient(&home)?.with("CREST_STORAGE__URL", "s3://there-is-no-such-bucket").ask().await?;
        said.wrong("storage", "storage.url", "storage.url")
    })
}
