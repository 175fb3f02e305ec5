//! A real PostgreSQL for tests, and databases of their own for them. Tests of other crates use it, too.
#![allow(dead_code)]

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A server, and its administrator's address.
#[derive(Debug, Clone)]
pub struct Server {
    pub admin: String,
    /// The script's folder, where this process started it.
    folder: Option<PathBuf>,
}

fn script() -> PathBuf {
    // Beside the crate that is tested, whichever it is.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = manifest.ancestors().map(|folder| folder.join("deploy/dev/postgres")).find(|script| script.is_file());
    found.expect("deploy/dev/postgres is not in this repository")
}

/// A name that no other process and no other call has.
fn unused(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    format!("{prefix}_{}_{now:x}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Server {
    /// The one that all tests share: `CREST_TEST_POSTGRES`, or one that ends with this process.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| match std::env::var("CREST_TEST_POSTGRES") {
            Ok(admin) if !admin.is_empty() => Server { admin, folder: None },
            _ => Server::start(),
        })
    }

    /// One of its own, which may be stopped.
    pub fn start() -> Server {
        let folder = std::env::temp_dir().join(unused("crest-postgres"));
        let said = Self::run("start", &folder);
        let admin = said.lines().find_map(|line| line.strip_prefix("url=")).expect("no url").to_owned();
        Server { admin, folder: Some(folder) }
    }

    /// Stops it; what it keeps stays.
    pub fn stop(&self) {
        Self::run("stop", self.folder.as_deref().expect("one of its own"));
    }

    /// Starts it again, at the same address.
    pub fn start_again(&self) {
        Self::run("start", self.folder.as_deref().expect("one of its own"));
    }

    /// Ends it as a crash does: what is under way stays as it is, and is made good at the next start.
    pub fn crash(&self) {
        let folder = self.folder.as_deref().expect("one of its own");
        let pid = std::fs::read_to_string(folder.join("pid")).unwrap();
        let pid = pid.split_whitespace().next().unwrap();
        assert!(Command::new("kill").args(["-s", "QUIT", pid]).status().unwrap().success());
        self.stop();
    }

    /// From now on it lets nobody in who does not encrypt, and it cannot.
    pub async fn allow_encrypted_only(&self) {
        let folder = self.folder.as_deref().expect("one of its own");
        std::fs::write(folder.join("data/pg_hba.conf"), "hostssl all all all scram-sha-256\n").unwrap();
        sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut self.admin().await).await.unwrap();
        while PgConnection::connect(&self.admin).await.is_ok() {}
    }

    fn run(what: &str, folder: &Path) -> String {
        let mut command = Command::new(script());
        command.arg(what).arg(folder).env("CREST_DEV_WITH_PID", std::process::id().to_string());
        let output = command.output().unwrap();
        assert!(output.status.success(), "postgres {what}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn port(&self) -> u16 {
        PgConnectOptions::from_str(&self.admin).unwrap().get_port()
    }

    /// A connection of the administrator.
    pub async fn admin(&self) -> PgConnection {
        PgConnection::connect(&self.admin).await.unwrap()
    }

    /// An empty database that an ordinary role owns.
    pub async fn database(&self) -> Owned {
        let name = unused("crest");
        let role = format!("CREATE ROLE {name} LOGIN PASSWORD '{name}'");
        let database = format!("CREATE DATABASE {name} OWNER {name} TEMPLATE template0 ENCODING 'UTF8'");
        let mut admin = self.admin().await;
        for statement in [role, database] {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
        }
        let host = PgConnectOptions::from_str(&self.admin).unwrap();
        let url = format!("postgres://{name}:{name}@{}:{}/{name}", host.get_host(), host.get_port());
        Owned { url, name, server: self.clone() }
    }
}

/// A database of a test; it goes when this is dropped.
pub struct Owned {
    /// As crest is given it.
    pub url: String,
    pub name: String,
    pub server: Server,
}

impl Owned {
    /// The address by way of another port of this machine.
    pub fn through(&self, port: u16) -> String {
        format!("postgres://{0}:{0}@127.0.0.1:{port}/{0}?sslmode=disable", self.name)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let (admin, name) = (self.server.admin.clone(), self.name.clone());
        let remove = async move {
            // A server that a test has stopped goes with all it has.
            let Ok(mut admin) = PgConnection::connect(&admin).await else { return };
            for statement in [format!("DROP DATABASE {name} WITH (FORCE)"), format!("DROP ROLE {name}")] {
                let _ = sqlx::query(AssertSqlSafe(statement)).execute(&mut admin).await;
            }
        };
        let removing = std::thread::spawn(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(remove);
        });
        let _ = removing.join();
    }
}
