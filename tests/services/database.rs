//! A database that a test has to itself, owned by a role that is nothing but its owner.

use std::io::{Error, Result};
use std::process::Command;

use super::own_name;

/// The database. Dropping it removes it with its role.
#[derive(Debug)]
pub struct Database {
    /// `postgres://role:password@host:port/database`, as crest is to be run.
    pub url: String,
    /// Role and database.
    pub name: String,
    admin: String,
}

impl Database {
    /// Creates one on the server that all tests share.
    pub fn new() -> Result<Self> {
        Self::on(super::postgres()?)
    }

    /// Creates one on the server with this address, the administrator's.
    pub fn on(admin: &str) -> Result<Self> {
        let name = own_name();
        let host = admin.rsplit('@').next().and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let url = format!("postgres://{name}:{name}@{host}/{name}");
        psql(admin, &format!("CREATE ROLE {name} LOGIN PASSWORD '{name}'"))?;
        psql(admin, &format!("CREATE DATABASE {name} OWNER {name}"))?;
        Ok(Self { url, name, admin: admin.to_owned() })
    }

    /// The address of the database with the administrator, who sees everything.
    pub fn as_admin(&self) -> String {
        let server = self.admin.rsplit_once('/').map_or(self.admin.as_str(), |(server, _)| server);
        format!("{server}/{}", self.name)
    }

    /// The address of the database through another port of this machine, such as a proxy's.
    pub fn through(&self, port: u16) -> String {
        format!("postgres://{0}:{0}@127.0.0.1:{port}/{0}", self.name)
    }

    /// What a statement answers, as the owner: columns separated by `|`, a line per row.
    pub fn ask(&self, statement: &str) -> Result<String> {
        psql(&self.url, statement)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = psql(&self.admin, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        let _ = psql(&self.admin, &format!("DROP ROLE IF EXISTS {}", self.name));
    }
}

/// Runs a statement with PostgreSQL's own client.
fn psql(url: &str, statement: &str) -> Result<String> {
    let mut command = Command::new("psql");
    command.arg(url).args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]);
    let output = command.output().map_err(|error| {
        Error::other(format!("psql cannot be started; `make setup` installs what the tests need: {error}"))
    })?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(Error::other(format!("{statement}: {}", String::from_utf8_lossy(&output.stderr)))),
    }
}
