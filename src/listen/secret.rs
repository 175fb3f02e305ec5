//! What forwarded events are signed with: made on first use, then the same each time, so that a
//! receiver on a laptop is set up once.

use anyhow::{Context, bail};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Larger than any secret.
const MAX_BYTES: usize = 512;

/// Where secrets are kept: `$XDG_CONFIG_HOME/crest`, or `~/.config/crest`.
pub fn folder() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let config = config.context("neither XDG_CONFIG_HOME nor HOME is set; give the secret with --secret")?;
    Ok(config.join("crest"))
}

/// The secret for what `server` (`host:port`) tells `organization`. Two that ask at the same time get
/// the same.
pub fn of(folder: &Path, server: &str, organization: &str) -> anyhow::Result<String> {
    let name = format!("listen-{server}-{organization}.secret");
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    let path = folder.join(name);
    let failed = || format!("cannot keep the signing secret in {}; give one with --secret", path.display());
    if let Some(secret) = kept(&path)? {
        return Ok(secret);
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(failed)?;
    let secret = crest_control_api::webhook_secret()?;
    // Written whole under another name first: nobody reads half of it, and the first one wins.
    static DRAFTS: AtomicU32 = AtomicU32::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = path.with_extension(format!("{}-{number}.draft", std::process::id()));
    let _ = std::fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).with_context(failed)?;
    file.write_all(format!("{secret}\n").as_bytes()).and_then(|()| file.sync_all()).with_context(failed)?;
    let linked = std::fs::hard_link(&draft, &path);
    let _ = std::fs::remove_file(&draft);
    match linked {
        Ok(()) => Ok(secret),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => kept(&path)?.with_context(failed),
        Err(e) => Err(e).with_context(failed),
    }
}

fn kept(path: &Path) -> anyhow::Result<Option<String>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot read the signing secret in {}", path.display())),
    };
    let secret = text.trim();
    if secret.len() > MAX_BYTES || check(secret).is_err() {
        bail!("{} does not hold a signing secret; remove it, and another one is made", path.display());
    }
    Ok(Some(secret.to_owned()))
}

/// Refuses what is not a secret as Standard Webhooks writes them.
pub fn check(secret: &str) -> Result<(), String> {
    let key = secret.strip_prefix("whsec_").filter(|key| !key.is_empty());
    match key.map(|_| standardwebhooks::Webhook::new(secret)) {
        Some(Ok(_)) => Ok(()),
        _ => Err("it must be 'whsec_' and base64 after it, as POST /v1/webhooks makes them".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_made_once_per_server_and_organization_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("deep/crest");
        let secret = of(&folder, "crest.example:443", "org_a").unwrap();
        assert_eq!(check(&secret), Ok(()));
        assert_eq!(of(&folder, "crest.example:443", "org_a").unwrap(), secret);
        assert_ne!(of(&folder, "crest.example:443", "org_b").unwrap(), secret);
        assert_ne!(of(&folder, "[::1]:8080", "org_a").unwrap(), secret);
        let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(files.len(), 3, "{files:?}");
        for file in files {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn two_at_once_agree() {
        let home = tempfile::tempdir().unwrap();
        let asked = || of(home.path(), "crest.example:443", "org_a").unwrap();
        let secrets: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2).map(|_| scope.spawn(asked)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(secrets[0], secrets[1]);
    }

    #[test]
    fn a_spoiled_file_is_named_and_not_replaced() {
        let home = tempfile::tempdir().unwrap();
        let secret = of(home.path(), "h", "org_a").unwrap();
        let path = std::fs::read_dir(home.path()).unwrap().next().unwrap().unwrap().path();
        for spoiled in ["", "whsec_", "whsec_!!", "secret"] {
            std::fs::write(&path, spoiled).unwrap();
            let error = of(home.path(), "h", "org_a").unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
            assert!(!error.contains(&secret));
        }
    }
}
