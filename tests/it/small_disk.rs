//! A small file system of a test's own, which it can fill to the last byte: a tmpfs. Mounting takes
//! root; without it the test runs itself again in a namespace where it is root.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

const NAME: &str = "crest-small-disk-";

/// The file system, mounted on `data` in a folder of its own. Dropping it unmounts it.
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one of `bytes`.
    pub fn mount(bytes: u64) -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        forget_earlier_runs();
        let name = format!("{NAME}{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let disk = Self { folder: std::env::temp_dir().join(name) };
        fs::create_dir_all(disk.data())?;
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs"])
            .arg(disk.data()))?;
        Ok(disk)
    }

    /// The folder that the file system is mounted in, itself on another one.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The root of the file system.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Fills it with a file of this name, up to `leave` free bytes.
    pub fn fill(&self, name: &str, leave: u64) -> io::Result<()> {
        let mut file = File::options().create(true).append(true).open(self.data().join(name))?;
        loop {
            let over = self.free()?.saturating_sub(leave);
            let block = vec![b'x'; usize::try_from(over.min(1 << 20)).unwrap_or(0)];
            match file.write_all(&block) {
                Ok(()) if block.is_empty() => return Ok(()),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Free bytes, in whole pages as the file system gives them out.
    pub fn free(&self) -> io::Result<u64> {
        let out = run(Command::new("stat").args(["-f", "-c", "%a %S"]).arg(self.data()))?;
        let numbers: Vec<u64> = out.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        Ok(numbers.iter().product())
    }

    /// Removes what filled it.
    pub fn clear(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.data().join(name))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.folder);
    }
}

/// Whether this process may mount. Where it may not, the test is run to its end by a process that may,
/// and there is nothing left to do; a machine that allows neither is an error.
pub fn may_mount(test: &str) -> io::Result<bool> {
    if fs::metadata("/proc/self")?.uid() == 0 {
        return Ok(true);
    }
    let mut again = Command::new("unshare");
    again.args(["--user", "--map-root-user", "--mount", "--"]).arg(std::env::current_exe()?);
    run(again.args(["--exact", test, "--nocapture"])).map_err(|error| {
        io::Error::other(format!("run as root, or allow user namespaces, for a file system of the test's own: {error}"))
    })?;
    Ok(false)
}

fn run(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(said(&output.stdout)),
        false => Err(io::Error::other(format!("{command:?}: {}{}", said(&output.stdout), said(&output.stderr)))),
    }
}

/// Lazily: a process that has just been killed may still have a file open.
fn unmount(folder: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(folder.join("data")).output();
    let _ = fs::remove_dir_all(folder);
}

/// What a test that was killed left mounted.
fn forget_earlier_runs() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(NAME).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            unmount(&entry.path());
        }
    }
}
