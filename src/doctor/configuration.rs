//! The configuration itself.

use std::path::Path;

use super::finding::{Finding, quoted};
use crate::config::Config;

const CHECK: &str = "configuration";

/// What it was read from, and which of it has no effect.
pub fn read(path: Option<&Path>, config: &Config) -> Finding {
    let set = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name.strip_prefix("CREST_").is_some_and(|key| key.contains("__") || key == "DATA_DIR")
    });
    let file = path.map_or_else(|| "no file".to_owned(), |path| path.display().to_string());
    let without_effect = config.without_effect();
    if without_effect.is_empty() {
        return Finding::ok(CHECK, format!("{file}, {} from the environment", settings(set.count())));
    }
    let verb = if without_effect.len() == 1 { "is" } else { "are" };
    let names = without_effect.iter().map(|key| format!("CREST_{}", key.replace('.', "__").to_uppercase()));
    let names: Vec<String> = names.filter(|name| std::env::var_os(name).is_some()).collect();
    let mend = match path {
        Some(path) if names.is_empty() => format!("\"${{EDITOR:-nano}}\" {}", quoted(path)),
        _ => format!("unset {}", names.join(" ")),
    };
    Finding::note(
        CHECK,
        format!(
            "{} {verb} set without effect: this version does not have what that configures, or bus.kind makes no use of it",
            without_effect.join(", ")
        ),
        format!("{mend}    # or leave it for a later version"),
    )
}

/// It cannot be used.
pub fn refused(path: Option<&Path>, error: &anyhow::Error) -> Finding {
    let message = format!("{error:#}; what depends on it was not looked at");
    let mend = match path {
        Some(path) if !path.exists() => format!("ls -l {}    # the path is wrong", quoted(path)),
        Some(path) => format!("\"${{EDITOR:-nano}}\" {}    # or the variable: env | grep ^CREST_", quoted(path)),
        None => "env | grep ^CREST_    # correct the variable; README lists the keys".to_owned(),
    };
    Finding::wrong(CHECK, message, mend)
}

fn settings(count: usize) -> String {
    match count {
        0 => "nothing".to_owned(),
        1 => "1 setting".to_owned(),
        many => format!("{many} settings"),
    }
}
