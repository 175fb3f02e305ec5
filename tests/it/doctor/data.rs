//! Findings about what crest has stored: the database, the bus, the format.

use anyhow::{Context, Result};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use super::{Patient, Said, picture, sql};
use crate::harness::{run, succeed};
use crate::server::Server;

/// A data directory that a crest has made, used and closed.
struct Used(tempfile::TempDir);

impl Used {
    async fn make() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let server = Server::start(folder.path()).await?;
        server.terminate(Duration::from_secs(20)).await?;
        Ok(Self(folder))
    }

    /// What is said of a copy that was changed, which is looked at and left as it is.
    async fn after(&self, change: impl AsyncFnOnce(&Path) -> Result<()>) -> Result<Said> {
        let patient = Patient::new()?;
        succeed("cp", ["-a".as_ref(), self.0.path().join("data").as_os_str(), patient.data().as_os_str()]).await?;
        change(&patient.data()).await?;
        let before = picture(patient.folder())?;
        let said = patient.ask().await?;
        assert!(picture(patient.folder())? == before, "the doctor changed something");
        Ok(said)
    }
}

/// Overwrites part of a file.
fn overwrite(file: &Path, at: u64, bytes: &[u8]) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open(file).with_context(|| file.display().to_string())?;
    file.seek(SeekFrom::Start(at))?;
    Ok(file.write_all(bytes)?)
}

#[test]
fn a_database_of_another_version_is_told_apart() -> Result<()> {
    run(async {
        let used = Used::make().await?;
        let said = used.after(async |_| Ok(())).await?;
        said.well()?;
        said.ok("database", "of this version, whole")?;

        let insert = "INSERT INTO _sqlx_migrations SELECT 9999, description, installed_on, success, checksum, \
                      execution_time FROM _sqlx_migrations LIMIT 1";
        let said = used.after(async |data| sql(&data.join("crest.db"), insert).await).await?;
        said.wrong("database", "of a newer crest (schema 9999)", "backup")?;

        let delete = "DELETE FROM _sqlx_migrations WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)";
        let said = used.after(async |data| sql(&data.join("crest.db"), delete).await).await?;
        said.note("database", "of an older crest", "cp -a ")?;
        said.well()?;

        let change = "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 1";
        let said = used.after(async |data| sql(&data.join("crest.db"), change).await).await?;
        said.wrong("database", "built from other sources", "CREST_DATA_DIR")?;

        let foreign = async |data: &Path| {
            remove_database(data)?;
            sql(&data.join("crest.db"), "CREATE TABLE recipes (name TEXT)").await?;
            Ok(std::fs::set_permissions(data.join("crest.db"), std::os::unix::fs::PermissionsExt::from_mode(0o600))?)
        };
        used.after(foreign).await?.wrong("database", "something else", "CREST_DATA_DIR")
    })
}

#[test]
fn a_damaged_database_is_found_wherever_the_damage_is() -> Result<()> {
    run(async {
        let used = Used::make().await?;
        let header = async |data: &Path| {
            settle(data).await?;
            overwrite(&data.join("crest.db"), 0, &[7; 64])
        };
        used.after(header).await?.wrong("database", "damaged: file is not a database", "from a backup")?;
        // One table's page, beside which everything can be read.
        let middle = async |data: &Path| {
            settle(data).await?;
            const ROOT: &str = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                print(*c.execute(\"SELECT rootpage FROM sqlite_schema WHERE name = 'organizations'\").fetchone())";
            let file = data.join("crest.db");
            let page = succeed("python3", ["-c".as_ref(), ROOT.as_ref(), file.as_os_str()]).await?;
            let page: u64 = page.text().trim().parse()?;
            // The pointer to its only row.
            overwrite(&file, (page - 1) * 4096 + 8, &[0xff; 2])
        };
        used.after(middle).await?.wrong("database", "damaged: ", "cp -a ")?;
        let cut = async |data: &Path| {
            settle(data).await?;
            let file = std::fs::OpenOptions::new().write(true).open(data.join("crest.db"))?;
            Ok(file.set_len(file.metadata()?.len() / 2)?)
        };
        used.after(cut).await?.wrong("database", "damaged: ", "from a backup")
    })
}

#[test]
fn what_is_in_the_database_s_log_alone_is_seen() -> Result<()> {
    run(async {
        let used = Used::make().await?;
        // The log holds a migration that the file does not: a copy made while the writer has it open.
        let pending = async |data: &Path| {
            const SCRIPT: &str = "import os, shutil, sqlite3, sys; d = sys.argv[1]; \
                c = sqlite3.connect(d + '/crest.db'); c.execute('PRAGMA journal_mode=WAL'); \
                c.execute(\"INSERT INTO _sqlx_migrations SELECT 9999, description, installed_on, success, checksum, \
                execution_time FROM _sqlx_migrations LIMIT 1\"); c.commit(); \
                shutil.copytree(d, d + '.copy'); c.close(); shutil.rmtree(d); os.rename(d + '.copy', d)";
            succeed("python3", ["-c".as_ref(), SCRIPT.as_ref(), data.as_os_str()]).await?;
            anyhow::ensure!(data.join("crest.db-wal").metadata()?.len() > 0);
            Ok(())
        };
        used.after(pending).await?.wrong("database", "of a newer crest (schema 9999)", "backup")
    })
}

#[test]
fn a_bus_that_does_not_open_is_wrong_and_one_that_was_cut_is_not() -> Result<()> {
    run(async {
        let used = Used::make().await?;
        let said = used.after(async |data| overwrite(&data.join("bus/version"), 0, b"FJL\x09")).await?;
        said.wrong("bus", "format this build does not read", "backup")?;
        said.find("bus")?["message"]
            .as_str()
            .filter(|text| text.contains("data/bus"))
            .context("it names the bus itself, not the copy that was tried")?;
        let table = async |data: &Path| {
            let mut tables: Vec<_> = std::fs::read_dir(data.join("bus/keyspaces/0/tables"))?.flatten().collect();
            tables.sort_by_key(std::fs::DirEntry::file_name);
            let table = tables.last().context("no table")?.path();
            let file = std::fs::OpenOptions::new().write(true).open(table)?;
            Ok(file.set_len(8)?)
        };
        used.after(table).await?.wrong("bus", "cannot open the bus", "backup")?;
        let journal = async |data: &Path| {
            let journal = std::fs::read_dir(data.join("bus"))?.flatten().map(|entry| entry.path());
            let journal = journal.filter(|path| path.extension().is_some_and(|e| e == "jnl")).max().context("none")?;
            // A whole batch behind bytes that are none.
            overwrite(&journal, 0, &[&[9; 40][..], b"FJL\x03"].concat())
        };
        used.after(journal).await?.note("bus", "its journal is damaged", "cp -a ")
    })
}

#[test]
fn a_data_directory_of_a_newer_format_is_wrong() -> Result<()> {
    run(async {
        let used = Used::make().await?;
        let said = used.after(async |data| Ok(std::fs::write(data.join("VERSION"), "99\n")?)).await?;
        said.wrong("data-directory", "written by a newer version of crest", "CREST_DATA_DIR")
    })
}

fn remove_database(data: &Path) -> Result<()> {
    for name in ["crest.db", "crest.db-wal", "crest.db-shm"] {
        match std::fs::remove_file(data.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Brings what is in the log into the file.
async fn settle(data: &Path) -> Result<()> {
    sql(&data.join("crest.db"), "PRAGMA wal_checkpoint(TRUNCATE)").await
}
