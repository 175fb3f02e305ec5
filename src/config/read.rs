//! Reads the configuration file and the environment.

use anyhow::Context;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

use super::{Config, check, secrets};
use crate::telemetry;
use crate::usage::Usage;

/// Reads the file, if one is named, and the environment.
pub fn load(path: Option<&Path>) -> anyhow::Result<Config> {
    let table = match path {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the configuration {}", path.display()))?;
            text.parse::<Table>().map_err(|e| Usage(format!("{} is not TOML: {e}", path.display())))?
        }
        None => Table::new(),
    };
    parse(table, std::env::vars())
}

fn parse(mut table: Table, vars: impl Iterator<Item = (String, String)>) -> anyhow::Result<Config> {
    let (mut data_dir, mut bootstrap_key) = (PathBuf::from("crest-data"), None);
    for (name, value) in vars {
        match name.strip_prefix("CREST_") {
            Some("DATA_DIR") => data_dir = PathBuf::from(value),
            Some("BOOTSTRAP_KEY") => bootstrap_key = Some(value),
            Some(key) if key.contains("__") => set(&mut table, &name, key, &value)?,
            _ => {}
        }
    }
    // Before anything is said about what it holds.
    secrets::hide(&table);
    let mut config: Config = Value::Table(table).try_into().map_err(|e: toml::de::Error| {
        Usage(format!("the configuration is wrong: {}", e.to_string().trim().replace('\n', " ")))
    })?;
    config.data_dir = data_dir;
    // A variable that is set to nothing is none.
    config.database.url = config.database.url.filter(|url| !url.trim().is_empty());
    config.bootstrap_key = bootstrap_key.filter(|key| !key.is_empty());
    config.bootstrap_key.iter().for_each(|key| telemetry::hide(key));
    check::bounds(&config)?;
    Ok(config)
}

/// Keys whose values are lists.
const LISTS: [&str; 4] = ["webhooks.retry", "bus.brokers", "pull.allow", "webrtc.public_ips"];

/// Keys whose values are text, however much they look like a number.
const TEXTS: [&str; 8] = [
    "srt.passphrase",
    "bus.kafka.prefix",
    "bus.kafka.username",
    "bus.kafka.password",
    "database.url",
    "storage.region",
    "storage.access_key_id",
    "storage.secret_access_key",
];

/// Puts one environment override into the table.
fn set(table: &mut Table, name: &str, key: &str, value: &str) -> Result<(), Usage> {
    let path: Vec<String> = key.split("__").map(str::to_lowercase).collect();
    let (last, sections) = path.split_last().ok_or_else(|| Usage(format!("{name} names no key")))?;
    let mut section = table;
    for part in sections {
        let entry = section.entry(part.clone()).or_insert_with(|| Value::Table(Table::new()));
        section = entry.as_table_mut().ok_or_else(|| Usage(format!("{name}: '{part}' is not a section")))?;
    }
    let value = match path.join(".").as_str() {
        key if LISTS.contains(&key) => {
            Value::Array(value.split(',').map(|item| Value::String(item.trim().to_owned())).collect())
        }
        key if TEXTS.contains(&key) => Value::String(value.to_owned()),
        _ => scalar(value),
    };
    section.insert(last.clone(), value);
    Ok(())
}

/// A number or a truth value where the text is one, else the text.
fn scalar(text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>() {
        return Value::Integer(number);
    }
    match text {
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        _ => text.parse::<f64>().map_or_else(|_| Value::String(text.to_owned()), Value::Float),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(vars: &[(&str, &str)]) -> anyhow::Result<Config> {
        parse(Table::new(), vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_environment_overrides_and_other_names_are_ignored() {
        let config = with(&[
            ("CREST_HTTP__LISTEN", "127.0.0.1:0"),
            ("CREST_WEBHOOKS__ALLOW_PRIVATE", "true"),
            ("CREST_WEBHOOKS__RETRY", "1s, 5s,2m"),
            ("CREST_DATA_DIR", "/somewhere"),
            ("CREST_SERVICE_PORT", "ignored"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        assert_eq!(config.http.listen.port(), 0);
        assert!(config.webhooks.allow_private);
        assert_eq!(config.webhooks.retry.len(), 3);
        assert_eq!(config.data_dir, PathBuf::from("/somewhere"));
    }

    #[test]
    fn an_unknown_key_and_a_wrong_value_are_named() {
        let unknown = with(&[("CREST_HTTP__LISTNE", "127.0.0.1:0")]).unwrap_err().to_string();
        assert!(unknown.contains("listne"), "{unknown}");
        let wrong = with(&[("CREST_WEBHOOKS__RETRY", "soon")]).unwrap_err().to_string();
        assert!(wrong.contains("soon"), "{wrong}");
        assert!(with(&[("CREST_BUS__KIND", "pigeon")]).is_err());
        let none = with(&[("CREST_DECODER__WORKERS", "0")]).unwrap_err().to_string();
        assert!(none.contains("decoder.workers"), "{none}");
        assert!(with(&[("CREST_HTTP__PUBLIC_URL", "crest.example")]).is_err());
    }

    #[test]
    fn keys_without_effect_are_named() {
        let config = with(&[("CREST_BUS__BROKERS", "a:9092,b:9092")]).unwrap();
        assert_eq!(config.without_effect(), ["bus.brokers"]);
        let config = with(&[("CREST_BUS__KIND", "kafka"), ("CREST_BUS__BROKERS", "a:9092, b:9092")]).unwrap();
        assert!(config.without_effect().is_empty());
        assert_eq!(config.bus.brokers, ["a:9092", "b:9092"]);
    }

    #[test]
    fn a_password_may_look_like_a_number() {
        let config = with(&[("CREST_BUS__KAFKA__PASSWORD", "0123456")]).unwrap();
        assert_eq!(config.bus.kafka.password.0, "0123456");
    }
}
