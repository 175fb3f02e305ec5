//! Brokers for tests: one that all share, and brokers of their own for tests that break them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// The script that starts brokers.
fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/dev/kafka")
}

/// The value of `key` in lines of `key=value`.
fn value(lines: &str, key: &str) -> String {
    let found = lines.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {key} in {lines}")).to_owned()
}

/// A broker of this test's own, with its data. Both go with it.
pub struct Broker {
    folder: TempDir,
    pub address: String,
}

impl Broker {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With what the script takes from the environment.
    pub fn start_with(settings: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = run("start", folder.path(), settings);
        Self { folder, address: value(&address, "brokers") }
    }

    /// Stops it; its data stay.
    pub fn stop(&self) {
        run("stop", self.folder.path(), &[]);
    }

    /// Sends it a signal: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).unwrap();
        let pid = pid.split_whitespace().next().unwrap();
        assert!(Command::new("kill").args([&format!("-{name}"), pid]).status().unwrap().success());
    }

    /// Starts it again, at the same address.
    pub fn start_again(&self) {
        assert_eq!(value(&run("start", self.folder.path(), &[]), "brokers"), self.address);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(what: &str, folder: &Path, settings: &[(&str, String)]) -> String {
    let output = Command::new(script())
        .arg(what)
        .arg(folder)
        // What `make test` starts for all is not meant.
        .env_remove("KAFKA_PORT")
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .env("CREST_DEV_WITH_PID", std::process::id().to_string())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "deploy/dev/kafka {what}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The address of the broker that all tests share.
pub fn shared() -> &'static str {
    static SHARED: OnceLock<String> = OnceLock::new();
    SHARED.get_or_init(|| match std::env::var("CREST_TEST_KAFKA") {
        Ok(address) => address,
        Err(_) => {
            // It goes when this process does.
            let folder = std::env::temp_dir().join(format!("crest-test-kafka-{}", std::process::id()));
            value(&run("start", &folder, &[]), "brokers")
        }
    })
}
