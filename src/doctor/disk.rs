//! The volume that the data directory is on: room, and whether it is fit for it.

use crest_ingest::{Limits, RetentionConfig};
use std::path::{Path, PathBuf};

use super::finding::{Finding, as_root, quoted, size};

const CHECK: &str = "disk";
/// Free entries for files under which the volume is as good as full.
const FILES: u64 = 1000;
/// File systems on which locks and shared memory, which the database needs, are not to be relied on.
const REMOTE: [&str; 9] = ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "afs", "ceph", "fuse.glusterfs"];

/// What the kernel says of a volume.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Bytes free for us.
    pub free: u64,
    /// All bytes.
    pub size: u64,
    /// Free entries for files; `None` where the file system does not count them.
    pub files: Option<u64>,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// Where it is mounted.
    pub mounted: PathBuf,
    /// Its file system.
    pub kind: String,
}

/// Asks the kernel.
pub fn look(path: &Path) -> std::io::Result<Volume> {
    let volume = rustix::fs::statvfs(path)?;
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let (mounted, kind) = mount_of(&table, &path.canonicalize()?);
    Ok(Volume {
        free: volume.f_bavail.saturating_mul(volume.f_frsize),
        size: volume.f_blocks.saturating_mul(volume.f_frsize),
        files: (volume.f_files > 0).then_some(volume.f_favail),
        read_only: volume.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        mounted,
        kind,
    })
}

/// The mount point and file system of a path, out of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn mount_of(table: &str, path: &Path) -> (PathBuf, String) {
    let mounts = table.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?.replace("\\040", " ");
        path.starts_with(&point).then(|| (PathBuf::from(point), right.split(' ').next().unwrap_or("").to_owned()))
    });
    // A later mount hides an earlier one at the same place.
    mounts.max_by_key(|(point, _)| point.components().count()).unwrap_or_else(|| ("/".into(), String::new()))
}

/// Compares it with what the configuration wants.
pub fn judge(volume: &Volume, folder: &Path, config: &RetentionConfig) -> Finding {
    let limits = Limits::of(config, crest_ingest::Volume { bytes: volume.size, free: volume.free });
    let free = size(volume.free);
    let place = volume.mounted.display();
    let largest = format!("du -xh --max-depth=2 {} | sort -h | tail -n 20", quoted(&volume.mounted));
    if volume.read_only {
        return Finding::wrong(
            CHECK,
            format!("{place} is read-only; crest has to write to {}", folder.display()),
            format!(
                "{}    # first `dmesg | tail` for the reason: after an error of the disk the kernel does this itself",
                as_root(format_args!("mount -o remount,rw {}", quoted(&volume.mounted)))
            ),
        );
    }
    if volume.files.is_some_and(|files| files < FILES) {
        return Finding::wrong(
            CHECK,
            format!("{place} has room for {} more files only", volume.files.unwrap_or(0)),
            format!("du -x --inodes --max-depth=2 {} | sort -n | tail -n 20", quoted(&volume.mounted)),
        );
    }
    if volume.free < limits.reserve {
        return Finding::wrong(
            CHECK,
            format!(
                "{free} free on {place}, and {} are kept in reserve: media is not stored and new feeds are refused",
                size(limits.reserve)
            ),
            format!("{largest}    # make room{}", or_less("RESERVE", volume.free / 2)),
        );
    }
    if volume.free < limits.free_space {
        return Finding::note(
            CHECK,
            format!(
                "{free} free on {place}, and {} are to be left free: the oldest stored media is removed early",
                size(limits.free_space)
            ),
            format!("{largest}    # make room{}", or_less("FREE_SPACE", volume.free / 2)),
        );
    }
    if REMOTE.contains(&volume.kind.as_str()) {
        return Finding::note(
            CHECK,
            format!("{place} is {}: the database's locks are not to be relied on over a network", volume.kind),
            "export CREST_DATA_DIR=/var/lib/crest    # or another folder on a disk of this machine",
        );
    }
    if volume.kind == "tmpfs" {
        return Finding::note(
            CHECK,
            format!("{free} free on {place}, which is in memory: all is gone at the next start of the machine"),
            "export CREST_DATA_DIR=/var/lib/crest    # or another folder on a disk",
        );
    }
    Finding::ok(CHECK, format!("{free} free on {place}; {} are to be left free", size(limits.free_space)))
}

/// The other way: to want less, as far as there is a little.
fn or_less(key: &str, bytes: u64) -> String {
    match bytes {
        0..1_000_000 => String::new(),
        1_000_000..1_000_000_000 => format!("; or: export CREST_RETENTION__{key}={}MB", bytes / 1_000_000),
        _ => format!("; or: export CREST_RETENTION__{key}={}GB", bytes / 1_000_000_000),
    }
}
