//! Findings about the data directory and the volume it is on.

use anyhow::Result;
use std::os::unix::fs::PermissionsExt;

use super::{Patient, is_root, picture};
use crate::harness::run;

#[test]
fn a_machine_where_crest_never_ran_is_well_and_stays_as_it_is() -> Result<()> {
    run(async {
        let patient = Patient::new()?;
        let before = picture(patient.folder())?;
        let said = patient.ask().await?;
        said.well()?;
        said.ok("data-directory", "is not there yet")?;
        for check in ["configuration", "storage", "database", "bus", "http-port", "rtmp-port", "descriptors", "disk"] {
            said.find(check)?;
        }
        assert_eq!(picture(patient.folder())?, before);
        Ok(())
    })
}

#[test]
fn a_data_directory_that_cannot_be_written_is_wrong() -> Result<()> {
    run(async {
        let patient = Patient::new()?;
        std::fs::write(patient.data(), "a file in its place")?;
        patient.ask().await?.wrong("data-directory", "not a folder", "mv ")?;
        std::fs::remove_file(patient.data())?;

        // Root may write everywhere; without this capability it is asked like everybody else.
        let nobody = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"];
        let patient = if is_root() { patient.under(&nobody) } else { patient };
        std::fs::create_dir(patient.data())?;
        std::fs::set_permissions(patient.data(), PermissionsExt::from_mode(0o500))?;
        let before = picture(patient.folder())?;
        patient.ask().await?.wrong("data-directory", "permission denied", "chmod -R u+rwX")?;
        assert_eq!(picture(patient.folder())?, before);
        let below = patient.data().join("below").display().to_string();
        let said = patient.with("CREST_DATA_DIR", below).ask().await?;
        said.wrong("data-directory", "is not there and cannot be made", "install -d -m 700")
    })
}

#[test]
fn folders_of_stored_media_that_cannot_be_used_are_wrong() -> Result<()> {
    run(async {
        let patient = Patient::new()?;
        std::fs::create_dir(patient.data())?;
        std::fs::set_permissions(patient.data(), PermissionsExt::from_mode(0o700))?;
        std::fs::create_dir(patient.data().join("media"))?;
        patient.ask().await?.ok("storage", "are kept in")?;
        std::fs::write(patient.data().join("clips"), "")?;
        patient.ask().await?.wrong("storage", "clips is not a folder", "mv ")
    })
}

#[test]
fn a_data_directory_that_others_can_read_is_wrong_and_the_command_mends_it() -> Result<()> {
    run(async {
        let patient = Patient::new()?;
        // Others get to the folder itself, not only to one above it.
        let data = patient.folder().to_owned();
        let patient = patient.with("CREST_DATA_DIR", data.display().to_string());
        std::fs::set_permissions(&data, PermissionsExt::from_mode(0o755))?;
        let said = patient.ask().await?;
        said.wrong("permissions", "mode 755", "chmod 700 ")?;
        mend(&said, "permissions")?;
        patient.ask().await?.ok("permissions", "yours alone (mode 700)")?;

        let database = data.join("crest.db");
        std::fs::write(&database, "")?;
        std::fs::set_permissions(&database, PermissionsExt::from_mode(0o644))?;
        let said = patient.ask().await?;
        said.wrong("permissions", "keys and secrets", "chmod 600 ")?;
        mend(&said, "permissions")?;
        patient.ask().await?.well()
    })
}

#[test]
fn a_data_directory_of_another_user_is_named() -> Result<()> {
    run(async {
        let patient = Patient::new()?;
        if is_root() {
            std::fs::create_dir(patient.data())?;
            std::os::unix::fs::chown(patient.data(), Some(12345), None)?;
            return patient.ask().await?.note("permissions", "belongs to user 12345", "setpriv --reuid 12345");
        }
        patient.with("CREST_DATA_DIR", "/usr/share").ask().await?.wrong("permissions", "belongs to user 0", "chown")
    })
}

#[test]
fn a_disk_that_is_read_only_full_or_nearly_is_told_apart() -> Result<()> {
    run(async {
        let patient = Patient::new()?;
        std::fs::create_dir(patient.data())?;
        let data = patient.data().display().to_string();
        let mount = format!("mount -t tmpfs -o size=16m,mode=700 none {data}");
        let fill = |megabytes: u32| format!("head -c {megabytes}000000 /dev/zero > {data}/filler");

        let patient = patient.after_mounting(&mount);
        patient.ask().await?.note("disk", "in memory", "CREST_DATA_DIR=")?;
        let patient = patient.after_mounting(&format!("{mount}; {}", fill(12)));
        patient.ask().await?.note("disk", "the oldest stored media is removed early", "du -xh")?;
        let patient = patient.after_mounting(&format!("{mount}; {}", fill(16)));
        let said = patient.ask().await?;
        said.wrong("disk", "media is not stored and new feeds are refused", "make room")?;
        let patient = patient.after_mounting(&format!("{mount}; {} || true", fill(20)));
        patient.ask().await?.wrong("data-directory", "no space left", "make room")?;
        let patient = patient.after_mounting(&format!("{mount}; mount -o remount,ro {data}"));
        let said = patient.ask().await?;
        said.wrong("disk", "is read-only", "mount -o remount,rw ")?;
        said.wrong("data-directory", "read-only", "see the check 'disk'")?;
        let patient = patient.after_mounting(&format!("mount -t tmpfs -o nr_inodes=100,mode=700 none {data}"));
        patient.ask().await?.wrong("disk", "more files only", "du -x --inodes")
    })
}

/// Runs the command that is offered.
fn mend(said: &super::Said, check: &str) -> Result<()> {
    let command = said.find(check)?["mend"].as_str().unwrap_or_default().to_owned();
    let status = std::process::Command::new("sh").args(["-c", &command]).status()?;
    anyhow::ensure!(status.success(), "{command}");
    Ok(())
}
