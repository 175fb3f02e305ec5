//! Which roles run in a process.

use std::collections::BTreeSet;
use std::fmt;

use crate::usage::Usage;

/// A part of crest's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Takes feeds.
    Ingest,
    /// Makes signals of samples and chat.
    Analyze,
    /// Makes decisions of signals.
    Fuse,
    /// Cuts clips and sends webhooks.
    Deliver,
    /// Serves the API.
    Api,
}

impl Role {
    const EVERY: [Role; 5] = [Role::Ingest, Role::Analyze, Role::Fuse, Role::Deliver, Role::Api];

    const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Analyze => "analyze",
            Self::Fuse => "fuse",
            Self::Deliver => "deliver",
            Self::Api => "api",
        }
    }
}

/// The roles of one process; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(BTreeSet<Role>);

impl Roles {
    /// `all`, or names with commas in between.
    pub fn parse(text: &str) -> Result<Self, Usage> {
        if text.trim() == "all" {
            return Ok(Self(Role::EVERY.into()));
        }
        let named = |name: &str| {
            Role::EVERY.into_iter().find(|role| role.name() == name.trim()).ok_or_else(|| {
                let names = Role::EVERY.map(Role::name).join(", ");
                Usage(format!("--roles {text}: '{}' is no role; write all, or a list of {names}", name.trim()))
            })
        };
        text.split(',').map(named).collect::<Result<_, _>>().map(Self)
    }

    /// Whether none is missing.
    pub fn all(&self) -> bool {
        self.0.len() == Role::EVERY.len()
    }

    /// Whether it is one of them.
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Whether one of these is among them.
    pub fn has_any(&self, roles: &[Role]) -> bool {
        roles.iter().any(|role| self.has(*role))
    }
}

/// As `--roles` takes them.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.all() {
            return f.write_str("all");
        }
        let names: Vec<_> = self.0.iter().map(|role| role.name()).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_as_written_in_any_order() {
        let shown = |text: &str| Roles::parse(text).unwrap().to_string();
        assert_eq!(shown("all"), "all");
        assert_eq!(shown("api,deliver,fuse,analyze,ingest"), "all");
        assert_eq!(shown(" api , ingest,api"), "ingest,api");
        let api = Roles::parse("api").unwrap();
        assert!(api.has(Role::Api) && !api.has(Role::Ingest) && !api.all());
        assert!(api.has_any(&[Role::Ingest, Role::Api]) && !api.has_any(&[Role::Fuse]));
        for wrong in ["", "every", "ingest,", "all,api", "ingest;api", "Ingest"] {
            let refused = Roles::parse(wrong).unwrap_err().to_string();
            assert!(refused.contains("ingest, analyze, fuse, deliver, api"), "{wrong}: {refused}");
        }
    }
}
