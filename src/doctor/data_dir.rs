//! The data directory: whether it can be written, whose it is, who else can read it.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::finding::{Finding, as_root, quoted};

const PLACE: &str = "data-directory";
const OWNER: &str = "permissions";

/// What is at the path of the data directory.
#[derive(Debug)]
pub struct Place {
    /// As it was configured.
    pub path: PathBuf,
    /// Whether it is there.
    pub there: bool,
    /// It, or the nearest folder above it that is there.
    pub nearest: PathBuf,
    /// Something on the way that is not a folder.
    pub blocked: Option<PathBuf>,
}

/// Looks where the data directory is, or would be made.
pub fn look(path: &Path) -> std::io::Result<Place> {
    let absolute = std::path::absolute(path)?;
    let mut place = Place { path: path.to_owned(), there: false, nearest: absolute.clone(), blocked: None };
    for folder in absolute.ancestors() {
        match folder.metadata() {
            Ok(found) if found.is_dir() => {
                place.nearest = folder.to_owned();
                place.there = folder == absolute;
                return Ok(place);
            }
            Ok(_) => place.blocked = Some(folder.to_owned()),
            // A link to nowhere is in the way as well; whoever makes folders does not follow it.
            Err(_) if folder.is_symlink() => place.blocked = Some(folder.to_owned()),
            Err(_) => {}
        }
    }
    Ok(place)
}

/// Whether a folder takes files: one without a name is written and is gone again with this call.
/// File systems that have no such files are asked for permission only.
pub fn probe(folder: &Path) -> std::io::Result<()> {
    use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
    use rustix::io::Errno;
    match rustix::fs::open(folder, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR) {
        Ok(file) => {
            let mut file = std::fs::File::from(file);
            file.write_all(&[1; 4096])?;
            file.sync_data()
        }
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {
            Ok(rustix::fs::accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether crest can keep its things there.
pub fn writable(place: &Place) -> Finding {
    let shown = place.path.display();
    let another = "export CREST_DATA_DIR=\"$HOME/crest-data\"";
    if let Some(blocked) = &place.blocked {
        return Finding::wrong(
            PLACE,
            format!("{} is in the way: it is not a folder", blocked.display()),
            format!("mv {0} {0}.old    # or: {another}", quoted(blocked)),
        );
    }
    match (probe(&place.nearest), place.there) {
        (Ok(()), true) => Finding::ok(PLACE, format!("{shown} is there and can be written")),
        (Ok(()), false) => Finding::ok(PLACE, format!("{shown} is not there yet; the first start makes it")),
        (Err(error), there) => {
            let cannot = if there { "cannot be written" } else { "is not there and cannot be made" };
            let user = rustix::process::geteuid().as_raw();
            let mend = match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "# make room; see the check 'disk'".to_owned(),
                ErrorKind::ReadOnlyFilesystem => format!("# see the check 'disk'; or: {another}"),
                _ if there => format!(
                    "{}    # or: {another}",
                    as_root(format_args!("chown -R {user} {0} && chmod -R u+rwX {0}", quoted(&place.path)))
                ),
                _ => format!(
                    "{}    # or: {another}",
                    as_root(format_args!("install -d -m 700 -o {user} {}", quoted(&place.path)))
                ),
            };
            let reason = error.to_string();
            let reason = reason.split(" (os error").next().unwrap_or_default().to_lowercase();
            Finding::wrong(PLACE, format!("{shown} {cannot}: {reason} ({})", place.nearest.display()), mend)
        }
    }
}

/// It is of a format that this build does not work with.
pub fn format(error: &anyhow::Error) -> Finding {
    Finding::wrong(PLACE, format!("{error:#}"), "crest --version    # or: export CREST_DATA_DIR=\"$HOME/crest-data\"")
}

/// Whose it is, and who else gets in.
pub fn permissions(place: &Place) -> Option<Finding> {
    let folder = place.there.then(|| place.path.metadata().ok()).flatten()?;
    let file = place.path.join("crest.db").metadata().ok();
    let shown = place.path.display();
    let me = rustix::process::geteuid();
    let theirs = [Some(&folder), file.as_ref()].into_iter().flatten().find(|entry| entry.uid() != me.as_raw());
    if let Some(other) = theirs {
        let owner = other.uid();
        return Some(match me.is_root() {
            true => Finding::note(
                OWNER,
                format!("{shown} belongs to user {owner}; what root makes in it, that user cannot write"),
                format!("setpriv --reuid {owner} --clear-groups crest doctor    # and `crest serve` in the same way"),
            ),
            false => Finding::wrong(
                OWNER,
                format!("{shown} belongs to user {owner}, and you are user {}", me.as_raw()),
                format!(
                    "sudo chown -R {} {}    # or as that user: sudo -u '#{owner}' crest doctor",
                    me.as_raw(),
                    quoted(&place.path)
                ),
            ),
        });
    }
    if folder.mode() & 0o007 != 0 && reachable(&place.nearest) {
        return Some(Finding::wrong(
            OWNER,
            format!("{shown} is open to everybody on this machine (mode {:o}): it holds chat and media", bits(&folder)),
            format!("chmod 700 {}", quoted(&place.path)),
        ));
    }
    let file = file.filter(|file| file.mode() & 0o077 != 0);
    if let Some(file) = file {
        return Some(Finding::wrong(
            OWNER,
            format!("{shown}/crest.db is open to others (mode {:o}): it holds keys and secrets", bits(&file)),
            format!("chmod 600 {}*", quoted(&place.path.join("crest.db"))),
        ));
    }
    Some(Finding::ok(OWNER, format!("{shown} is yours alone (mode {:o})", bits(&folder))))
}

fn bits(entry: &std::fs::Metadata) -> u32 {
    entry.permissions().mode() & 0o777
}

/// Whether everybody can walk to the folder.
fn reachable(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return true };
    folder.ancestors().skip(1).all(|above| above.metadata().is_ok_and(|above| above.mode() & 0o001 != 0))
}

/// The folders of stored media, clips and thumbnails.
pub fn storage(place: &Place) -> Finding {
    const CHECK: &str = "storage";
    for name in ["media", "clips"] {
        let folder = place.path.join(name);
        let (problem, mend) = match folder.metadata() {
            Err(_) => continue,
            Ok(found) if !found.is_dir() => ("is not a folder".to_owned(), format!("mv {0} {0}.old", quoted(&folder))),
            Ok(_) => match probe(&folder) {
                Ok(()) => continue,
                Err(error) => (
                    format!("cannot be written: {error}"),
                    as_root(format_args!(
                        "chown -R {} {1} && chmod -R u+rwX {1}",
                        rustix::process::geteuid().as_raw(),
                        quoted(&folder)
                    )),
                ),
            },
        };
        return Finding::wrong(CHECK, format!("{} {problem}", folder.display()), mend);
    }
    Finding::ok(CHECK, format!("media and clips are kept in {}", place.path.display()))
}
