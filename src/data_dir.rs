//! The data directory: made for its owner alone, held by one process, of a format this build knows.
//! All of that is settled before anything in it is opened.
//!
//! Small files say so: `LOCK`, which the process that uses the directory holds (the kernel lets
//! go of it however that process ends) and which names it, and `VERSION`, the number of the format.
//! The database and the bus have versions of their own inside; this one is about the whole: which
//! files there are and where they lie. A third one, `instance`, names the process that the directory
//! belongs to among those that share a database; it is made once, and a copy of the directory must not
//! take it along.

use anyhow::{Context, bail};
use crest_core::instance::InstanceId;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// What brings a directory from one format to the next: the first from 1 to 2, and so on. Each must
/// do no harm when it runs again, for a crash may come before its success is noted.
const STEPS: &[Step] = &[];
type Step = fn(&Path) -> anyhow::Result<()>;

const VERSION: &str = "VERSION";
const INSTANCE: &str = "instance";
/// Held by the process that uses the directory.
pub const LOCK: &str = "LOCK";
/// A directory without `VERSION` is of this format: the first releases wrote none.
const FIRST: u32 = 1;
/// How long an earlier process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(1);

/// A data directory that is ours until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    /// Names this process, before and after its restarts.
    pub instance: InstanceId,
    _lock: File,
}

/// Creates the directory where it is missing, takes it for this process alone and brings it to the
/// format of this build. The error says what to do; a directory of another process or of a newer
/// version is left as it is.
pub fn open(path: &Path) -> anyhow::Result<DataDir> {
    open_with(path, STEPS)
}

/// Whether this build can work with the directory; the error is the one [`open`] would give. Changes nothing.
pub fn check_format(path: &Path) -> anyhow::Result<()> {
    format_of(path, FIRST + u32::try_from(STEPS.len())?).map(drop)
}

fn open_with(path: &Path, steps: &[Step]) -> anyhow::Result<DataDir> {
    let newest = FIRST + u32::try_from(steps.len())?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("CREST_DATA_DIR: cannot create the data directory {}", path.display()))?;
    // Before the lock file is made, and again when nobody else can change it.
    format_of(path, newest)?;
    let lock = lock(path)?;
    let found = format_of(path, newest)?.unwrap_or(FIRST);
    for (from, step) in (FIRST..).zip(steps).skip_while(|(from, _)| *from < found) {
        tracing::info!(from, to = from + 1, "the data directory is brought to the format of this version");
        step(path).with_context(|| {
            format!(
                "the data directory {} could not be brought from format {from} to {}; mend what is named here and \
                 start again",
                path.display(),
                from + 1
            )
        })?;
        write_format(path, from + 1)?;
    }
    if !path.join(VERSION).exists() {
        write_format(path, newest)?;
    }
    Ok(DataDir { instance: instance(path)?, _lock: lock })
}

/// The name of the process that the directory belongs to; drawn where there is none yet.
fn instance(path: &Path) -> anyhow::Result<InstanceId> {
    let file = path.join(INSTANCE);
    match fs::read_to_string(&file) {
        Ok(text) => {
            let mut words = text.split_whitespace();
            let (name, place) = (words.next().unwrap_or_default(), words.next());
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if !name.starts_with(InstanceId::PREFIX) || name.len() > 64 || !name.chars().all(plain) {
                bail!("{} does not name an instance; remove it, and another name is drawn", file.display());
            }
            if place.is_some_and(|place| inode(&file).is_some_and(|now| now != place)) {
                tracing::warn!(
                    file = %file.display(),
                    "the data directory is a copy of another one; this process gets a name of its own"
                );
                return draw(path);
            }
            Ok(InstanceId::from_raw(name))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => draw(path),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Draws a name and keeps it, with the number of the file that it is kept in: in a copy of the directory that
/// is another one, and two processes must not have one name.
fn draw(path: &Path) -> anyhow::Result<InstanceId> {
    let (drawn, file) = (InstanceId::draw(), path.join(INSTANCE));
    write_whole(path, INSTANCE, drawn.as_str())?;
    if let Some(number) = inode(&file) {
        // Added, and not renamed into its place like the rest: that would be another file.
        let added = File::options().append(true).open(&file).and_then(|mut f| writeln!(f, "{number}"));
        added.with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(drawn)
}

/// The number of a file on its volume.
fn inode(file: &Path) -> Option<String> {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(file).ok()?).to_string().into()
}

/// The directory's format; `None` where it says none. Refuses what this build must not touch.
fn format_of(path: &Path, newest: u32) -> anyhow::Result<Option<u32>> {
    let file = path.join(VERSION);
    let mut text = String::new();
    // A number fits in far less; whatever else is there is not read to its end.
    match File::open(&file).and_then(|file| file.take(64).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
    match text.trim().parse::<u32>() {
        Ok(found) if (FIRST..=newest).contains(&found) => Ok(Some(found)),
        Ok(found) if found > newest => bail!(
            "the data directory {} was written by a newer version of crest (format {found}, this one knows up to \
             {newest}); start that version, or set CREST_DATA_DIR to a copy from before the upgrade",
            path.display()
        ),
        _ => bail!(
            "{} does not say which format the data directory has: {text:?} is not a number from {FIRST} to {newest}; \
             restore the file from a backup (this version writes {newest})",
            file.display()
        ),
    }
}

fn write_format(path: &Path, format: u32) -> anyhow::Result<()> {
    write_whole(path, VERSION, &format.to_string())
}

/// A line in a file of its own: whole or not at all, and on the disk.
fn write_whole(path: &Path, name: &str, line: &str) -> anyhow::Result<()> {
    let (file, part) = (path.join(name), path.join(format!("{name}.part")));
    let write = || -> std::io::Result<()> {
        let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        out.write_all(format!("{line}\n").as_bytes())?;
        out.sync_all()?;
        fs::rename(&part, &file)?;
        File::open(path)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}; check free space and permissions", file.display()))
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let name = path.join(LOCK);
    let failed = || format!("cannot lock {}; check permissions and that the file system knows locks", name.display());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .with_context(failed)?;
    let end = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            // The kernel may still be clearing up after one that was killed.
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = file.take(32).read_to_string(&mut pid);
                let pid = pid.trim().parse::<u32>().map_or_else(|_| String::new(), |pid| format!(" (pid {pid})"));
                bail!(
                    "the data directory {} is in use by crest{pid}; stop that one, or set CREST_DATA_DIR to another \
                     directory",
                    path.display()
                )
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
        }
    }
    let named = file.set_len(0).and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
    named.with_context(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(dir: &Path) -> String {
        fs::read_to_string(dir.join(VERSION)).unwrap_or_default()
    }

    fn names(dir: &Path) -> anyhow::Result<Vec<String>> {
        let names = fs::read_dir(dir)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<anyhow::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn refusal(dir: &Path, steps: &[Step]) -> String {
        open_with(dir, steps).map_or_else(|error| format!("{error:#}"), |_| "it was opened".to_owned())
    }

    #[test]
    fn a_process_keeps_its_name_and_a_copy_of_its_directory_gets_another() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (first, copy) = (folder.path().join("first"), folder.path().join("copy"));
        fs::create_dir_all(&first)?;
        fs::create_dir_all(&copy)?;
        let name = instance(&first)?;
        assert_eq!(instance(&first)?, name);
        fs::copy(first.join(INSTANCE), copy.join(INSTANCE))?;
        let other = instance(&copy)?;
        assert_ne!(other, name);
        assert_eq!((instance(&copy)?, instance(&first)?), (other, name));
        Ok(())
    }

    #[test]
    fn a_new_directory_says_its_format_and_one_from_before_is_taken_for_the_first() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let fresh = folder.path().join("a/b");
        open(&fresh)?;
        assert_eq!(says(&fresh), "1\n");
        fs::remove_file(fresh.join(VERSION))?;
        fs::write(fresh.join("crest.db"), "rows")?;
        open(&fresh)?;
        assert_eq!(says(&fresh), "1\n");
        Ok(())
    }

    #[test]
    fn an_older_one_is_brought_up_step_by_step_and_goes_on_where_a_step_failed() -> anyhow::Result<()> {
        let steps: &[Step] = &[
            |dir| Ok(fs::write(dir.join("two"), "")?),
            |dir| Ok(fs::rename(dir.join("two"), dir.join(fs::read_to_string(dir.join("name"))?))?),
        ];
        let folder = tempfile::tempdir()?;
        let dir = folder.path();
        let refused = refusal(dir, steps);
        assert!(refused.contains("from format 2 to 3"), "{refused}");
        assert_eq!(says(dir), "2\n", "the first step is done");
        fs::write(dir.join("name"), "three")?;
        open_with(dir, steps)?;
        assert_eq!((says(dir).as_str(), dir.join("three").exists()), ("3\n", true));
        open_with(dir, steps)?;
        Ok(())
    }

    #[test]
    fn a_newer_one_and_one_that_cannot_be_read_are_left_as_they_are() -> anyhow::Result<()> {
        for (text, reason) in [("2\n", "newer version"), ("one", "not a number"), ("0", "not a number"), ("", "not a")]
        {
            let folder = tempfile::tempdir()?;
            fs::write(folder.path().join(VERSION), text)?;
            let refused = refusal(folder.path(), STEPS);
            assert!(refused.contains(reason), "{text:?}: {refused}");
            assert_eq!(says(folder.path()), text);
            assert_eq!(names(folder.path())?, [VERSION]);
        }
        Ok(())
    }

    #[test]
    fn one_process_at_a_time_and_the_other_is_named() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let first = open(folder.path())?;
        let refused = refusal(folder.path(), STEPS);
        assert!(refused.contains(&format!("in use by crest (pid {})", std::process::id())), "{refused}");
        let name = first.instance.clone();
        drop(first);
        assert_eq!(open(folder.path())?.instance, name, "it keeps its name");
        Ok(())
    }

    #[test]
    fn each_directory_has_a_name_of_its_own_and_one_that_cannot_be_read_is_not_replaced() -> anyhow::Result<()> {
        let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
        assert_ne!(open(one.path())?.instance, open(other.path())?.instance);
        for wrong in ["", "ins_a/b", "host7"] {
            fs::write(one.path().join(INSTANCE), wrong)?;
            let refused = refusal(one.path(), STEPS);
            assert!(refused.contains("does not name an instance"), "{wrong:?}: {refused}");
        }
        Ok(())
    }
}
