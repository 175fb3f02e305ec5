//! The embedded bus: who has it, and whether it opens.

use crest_bus::BusConfig;
use crest_bus::check;
use std::path::Path;

use super::finding::{Finding, as_root, quoted};
use super::{Running, scratch};

const CHECK: &str = "bus";

/// Looks at the bus in `data_dir`, and leaves it as it is.
pub fn bus(data_dir: &Path, config: &BusConfig, running: &Running) -> Finding {
    let dir = data_dir.join("bus");
    match running {
        Running::As(crest) => return Finding::ok(CHECK, format!("embedded, in use by {crest}")),
        Running::Somebody => return Finding::ok(CHECK, "embedded, in use by a crest that does not show to this user"),
        Running::No => {}
    }
    if !dir.exists() {
        return Finding::ok(CHECK, "embedded; none yet, the first start makes it");
    }
    let bytes = match check::bytes_to_copy(&dir) {
        Ok(bytes) => bytes,
        Err(error) => {
            let user = rustix::process::geteuid().as_raw();
            let mend = as_root(format_args!("chown -R {user} {0} && chmod -R u+rwX {0}", quoted(&dir)));
            return Finding::wrong(CHECK, format!("{} cannot be read: {error}", dir.display()), mend);
        }
    };
    let tried = scratch::folder(bytes).map(|folder| check::opens(&dir, folder.path(), config.clone()));
    match tried {
        Ok(Ok(true)) => Finding::ok(CHECK, "embedded; a copy of it opens"),
        Ok(Ok(false)) => Finding::note(
            CHECK,
            "embedded; its journal is damaged, as a loss of power or a failing disk leaves it. The next start goes on \
             before the damage and puts what follows aside",
            format!(
                "cp -a {0} {0}.backup    # before the next start, to have what is put aside in full",
                quoted(data_dir)
            ),
        ),
        Ok(Err(error)) => Finding::wrong(CHECK, error.message, format!("# restore {} from a backup", quoted(data_dir))),
        Err(reason) => Finding::note(
            CHECK,
            format!("embedded; not tried: {reason}"),
            "TMPDIR=/var/tmp crest doctor    # or another folder with more room",
        ),
    }
}
