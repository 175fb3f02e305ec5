//! The database: whose it is, how old, and whether it is whole.

use crest_store::check::{Examined, Schema, examine};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::finding::{Finding, quoted};
use super::{Running, scratch};

const CHECK: &str = "database";
/// How long it may take to read all of it.
const LIMIT: Duration = Duration::from_secs(20);

/// Looks at the database in `data_dir`, and leaves it and the folder as they are.
pub async fn database(data_dir: &Path, running: &Running) -> Finding {
    let file = data_dir.join("crest.db");
    if !file.is_file() {
        return match file.exists() {
            true => Finding::wrong(
                CHECK,
                format!("{} is not a file", file.display()),
                format!("mv {0} {0}.old", quoted(&file)),
            ),
            false => Finding::ok(CHECK, "none yet; the first start makes it"),
        };
    }
    let log = beside(&file, "-wal");
    let pending = log.metadata().is_ok_and(|log| log.len() > 0);
    let examined = match running {
        // Its log is in use: SQLite takes part in it as one more reader.
        Running::As(_) | Running::Somebody => examine(&file, false, LIMIT).await,
        Running::No if !pending => examine(&file, true, LIMIT).await,
        // What is in the log belongs to the database. To read both together SQLite has to write beside them.
        Running::No => match copy(&file, &log) {
            Ok((_folder, copy)) => examine(&copy, false, LIMIT).await,
            Err(reason) => {
                let mend = "TMPDIR=/var/tmp crest doctor    # or another folder with more room";
                return Finding::note(CHECK, format!("not looked into: {reason}"), mend);
            }
        },
    };
    match examined {
        Ok(examined) => judge(&examined, data_dir),
        Err(error) => Finding::wrong(CHECK, error.message, format!("ls -l {}*", quoted(&file))),
    }
}

fn copy(file: &Path, log: &Path) -> Result<(tempfile::TempDir, PathBuf), String> {
    let size = |path: &Path| path.metadata().map_or(0, |found| found.len());
    let folder = scratch::folder(size(file) + size(log))?;
    let to = folder.path().join("crest.db");
    let copied = std::fs::copy(file, &to).and_then(|_| std::fs::copy(log, beside(&to, "-wal")));
    copied.map_err(|error| format!("it cannot be copied: {error}"))?;
    Ok((folder, to))
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn judge(examined: &Examined, data_dir: &Path) -> Finding {
    if let Some(damage) = &examined.damage {
        let mend = format!(
            "cp -a {0} {0}.damaged    # with crest stopped; then put crest.db back from a backup",
            quoted(data_dir)
        );
        return Finding::wrong(CHECK, format!("damaged: {damage}"), mend);
    }
    let another = "export CREST_DATA_DIR=\"$HOME/crest-data\"";
    let whole = if examined.whole { "whole" } else { "too large to be read in full here" };
    match &examined.schema {
        Some(Schema::Current) => Finding::ok(CHECK, format!("of this version, {whole}")),
        Some(Schema::Empty) => Finding::ok(CHECK, "empty; the next start fills it"),
        Some(Schema::Older(steps)) => {
            let steps = if *steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") };
            Finding::note(
                CHECK,
                format!(
                    "of an older crest, {whole}; the next start copies it beside itself and brings it up to date in {steps}"
                ),
                format!(
                    "cp -a {0} {0}.backup    # with crest stopped: an older crest does not go on with a newer one's",
                    quoted(data_dir)
                ),
            )
        }
        Some(Schema::Newer(version)) => Finding::wrong(
            CHECK,
            format!("of a newer crest (schema {version}); this one leaves it alone and does not start"),
            format!("# start the newer crest, or restore a backup from before it; or: {another}"),
        ),
        Some(Schema::Different(version)) => Finding::wrong(
            CHECK,
            format!("its schema {version} is of a crest built from other sources; this one does not start with it"),
            format!("# start the crest that wrote it; or: {another}"),
        ),
        Some(Schema::Foreign) => Finding::wrong(CHECK, "crest.db is a database of something else", another),
        None => Finding::note(CHECK, "too large to be read here", "# ask again when the machine is less busy"),
    }
}
