//! The programs that find out where a page's broadcast is.

use crest_ingest::ResolverConfig;
use std::path::Path;

use super::finding::{Finding, as_root};

const CHECK: &str = "resolvers";

/// Looks for each program in `PATH`. One that is missing is missed only by who pulls from its sites.
pub fn resolvers(resolvers: &[ResolverConfig]) -> Vec<Finding> {
    resolvers.iter().map(resolver).collect()
}

fn resolver(resolver: &ResolverConfig) -> Finding {
    let sites = resolver.domains.join(", ");
    let Some(name) = resolver.command.first() else {
        return Finding::wrong(
            CHECK,
            format!("{sites}: pull.resolvers names no command"),
            "# name one in pull.resolvers",
        );
    };
    if is_there(name) {
        return Finding::ok(CHECK, format!("{sites}: {name}"));
    }
    if name.contains('/') {
        let missing = format!("{sites}: there is no {name}; streams from there cannot be pulled");
        return Finding::note(CHECK, missing, "# correct its command in pull.resolvers");
    }
    Finding::note(
        CHECK,
        format!("{sites}: {name} is not installed; streams from there cannot be pulled"),
        format!("{}    # or, for a newer one: pipx install {name}", as_root(format_args!("apt-get install {name}"))),
    )
}

fn is_there(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    name.contains('/') && Path::new(name).is_file()
        || std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}
