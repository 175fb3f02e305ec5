//! What other machines have: a PostgreSQL database, a Kafka cluster, an S3 bucket. Each is asked as a start
//! would ask it, and nothing that crest or anybody else keeps there is changed.

use crest_core::{Error, Fault};
use crest_store::check::Schema;
use crest_store::{DatabaseConfig, Served};
use std::time::Duration;

use super::finding::Finding;
use crate::config::{BusConfig, Config};

/// How long a service may take to answer.
const LIMIT: Duration = Duration::from_secs(20);

/// The database that `database.url` names.
pub async fn database(config: &DatabaseConfig) -> Finding {
    const CHECK: &str = "database";
    let another = "export CREST_DATABASE__URL=postgres://user:password@host:5432/database";
    match within(crest_store::examine(config)).await {
        Err(error) => failed(CHECK, &error, another),
        Ok(served) => judge(CHECK, &served),
    }
}

fn judge(check: &'static str, served: &Served) -> Finding {
    let Served { place, version, schema, lasting } = served;
    let server = format!("PostgreSQL {version} at {place}");
    let another = "# point database.url at another database";
    match schema {
        Schema::Newer(schema) => Finding::wrong(
            check,
            format!("{server} is of a newer crest (schema {schema}); this one leaves it alone and does not start"),
            format!("# start the newer crest, or restore a backup from before it; or: {another}"),
        ),
        Schema::Different(schema) => Finding::wrong(
            check,
            format!("{server}: its schema {schema} is of a crest built from other sources; this one does not start"),
            format!("# start the crest that wrote it; or: {another}"),
        ),
        Schema::Foreign => Finding::wrong(check, format!("{server} holds something else"), another),
        Schema::Older(steps) => Finding::note(
            check,
            format!("{server} is of an older crest; the next start brings it up to date ({steps} to do)"),
            "# back it up before: pg_dump --format=custom",
        ),
        _ if !lasting => Finding::note(
            check,
            format!("{server}: synchronous_commit is off for this role; crest switches it on for its own connections"),
            "# ALTER ROLE .. RESET synchronous_commit",
        ),
        Schema::Empty => Finding::ok(check, format!("{server} is empty; the next start fills it")),
        Schema::Current => Finding::ok(check, format!("{server} is of this version")),
    }
}

/// The Kafka cluster that `bus.brokers` names.
pub async fn bus(config: &BusConfig) -> Finding {
    const CHECK: &str = "bus";
    let brokers = config.brokers.join(", ");
    match within(crest_bus::kafka::check(&config.brokers, config.kafka.clone())).await {
        Err(error) => failed(CHECK, &error, "export CREST_BUS__BROKERS=host:9092"),
        Ok(found) => {
            let Some(differs) = found.mismatches.first() else {
                let made = match found.missing.len() {
                    0 => String::new(),
                    missing => format!("; {missing} are missing, the next start makes them"),
                };
                return Finding::ok(
                    CHECK,
                    format!("Kafka at {brokers} answers; {} topics are there{made}", found.there),
                );
            };
            let more = match found.mismatches.len() {
                1 => String::new(),
                more => format!(" (and {} more)", more - 1),
            };
            Finding::note(
                CHECK,
                format!("Kafka at {brokers} answers; {differs}{more}; it is used as it is"),
                format!(
                    "# kafka-configs.sh --alter --topic {} --add-config {}={}    # or leave it",
                    differs.topic, differs.setting, differs.wanted
                ),
            )
        }
    }
}

/// The bucket that `storage.url` names: a small object is put there, read and removed.
pub async fn storage(config: &Config) -> Finding {
    const CHECK: &str = "storage";
    let shown = config.storage.url.as_deref().unwrap_or_default();
    let tried = async {
        let objects = crest_store::objects::open(&config.storage, &config.data_dir)?;
        crest_store::objects::try_out(&objects).await
    };
    match within(tried).await {
        Ok(()) => Finding::ok(CHECK, format!("{shown} takes objects, gives them back and removes them")),
        Err(error) => failed(
            CHECK,
            &error,
            "export CREST_STORAGE__ACCESS_KEY_ID=... CREST_STORAGE__SECRET_ACCESS_KEY=...    # or storage.url, \
             storage.endpoint",
        ),
    }
}

async fn within<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let silent = || Error::outside(format!("no answer within {} s", LIMIT.as_secs()));
    tokio::time::timeout(LIMIT, asked).await.unwrap_or_else(|_| Err(silent()))
}

/// What passes by itself is waited for at a start; all the same, crest does not work until then.
fn failed(check: &'static str, error: &Error, mend: &str) -> Finding {
    let waits = if error.retryable { "; `crest serve` waits for it" } else { "" };
    let mend = match error.fault {
        Fault::Full => "# make room there",
        _ => mend,
    };
    Finding::wrong(check, format!("{}{waits}", error.message), mend)
}
