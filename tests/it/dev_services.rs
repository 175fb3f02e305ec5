//! The services of `deploy/dev/`, as developers and all other tests rely on them.

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{own_file, run, wait_for};
use crate::services::{Database, Kind, Own, own_name};

/// Runs a tool that comes with the broker.
fn tool(broker: &Own, class: &str, args: &[&str]) -> Result<String> {
    let mut command = Command::new(own_file("../../deploy/dev/kafka"));
    command.args(["run", &format!("org.apache.kafka.tools.{class}"), "--bootstrap-server", &broker.told("brokers")]);
    let output = command.args(args).stdin(Stdio::null()).output()?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "{class}: {}{}", said(&output.stdout), said(&output.stderr));
    Ok(said(&output.stdout))
}

#[test]
fn a_broker_that_is_killed_comes_back_with_its_records_at_the_same_address() -> Result<()> {
    run(async {
        let broker = Own::start_new(Kind::Kafka, &[]).await?;
        tool(&broker, "TopicCommand", &["--create", "--topic", "kept", "--partitions", "2"])?;
        let much = ["--num-records", "1000", "--record-size", "100", "--throughput", "-1"];
        tool(&broker, "ProducerPerformance", &[&["--topic", "kept"], &much[..]].concat())?;
        for again in ["killed", "stopped"] {
            match again {
                "killed" => broker.kill().await?,
                _ => broker.stop().await?,
            }
            broker.start().await?;
            let read = tool(&broker, "ConsumerPerformance", &["--topic", "kept", "--num-records", "1000"])?;
            let row = read.lines().last().context("it says nothing")?;
            ensure!(row.split(", ").nth(4) == Some("1000"), "when it was {again}: {read}");
        }
        Ok(())
    })
}

#[test]
fn a_database_server_that_is_killed_comes_back_with_its_rows_at_the_same_address() -> Result<()> {
    run(async {
        let server = Own::start_new(Kind::Postgres, &[]).await?;
        let database = Database::on(&server.told("url"))?;
        database.ask("CREATE TABLE kept (a int); INSERT INTO kept VALUES (7)")?;
        for _ in 0..2 {
            server.kill().await?;
            server.start().await?;
            ensure!(database.ask("SELECT a FROM kept")? == "7");
        }
        server.abort().await?;
        server.start().await?;
        let role = database.ask("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")?;
        ensure!(role == "f|f", "the role is bound by row-level security: {role}");
        let wrong = database.url.replacen(&format!(":{}@", database.name), ":wrong@", 1);
        let refused = Command::new("psql").args([&wrong, "-c", "SELECT 1"]).stdin(Stdio::null()).output()?;
        ensure!(!refused.status.success(), "any password is good enough");
        Ok(())
    })
}

#[test]
fn object_storage_refuses_who_does_not_sign() -> Result<()> {
    run(async {
        let storage = Own::start_new(Kind::S3, &[]).await?;
        let url = format!("{}/crest/secret", storage.s3().endpoint);
        std::fs::write(storage.folder().join("data/crest/secret"), "kept")?;
        for again in [false, true] {
            if again {
                storage.kill().await?;
                storage.start().await?;
            }
            let plain = reqwest::Client::new().get(&url).send().await?;
            ensure!(plain.status() == StatusCode::FORBIDDEN, "without a signature: {}", plain.status());
            let date = "20200101T000000Z";
            let signed = format!(
                "{url}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=crest%2F20200101%2Fus-east-1%2Fs3%2Faws4_request\
                 &X-Amz-Date={date}&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature={}",
                "0".repeat(64)
            );
            let forged = reqwest::Client::new().get(&signed).send().await?;
            ensure!(forged.status() == StatusCode::FORBIDDEN, "with a forged one: {}", forged.status());
        }
        Ok(())
    })
}

#[test]
fn what_is_started_with_a_process_is_gone_with_it() -> Result<()> {
    run(async {
        let scripts = own_file("../../deploy/dev").canonicalize()?;
        let mut owner = Command::new("sleep").arg("1000").spawn()?;
        for script in ["kafka", "postgres", "s3"] {
            let folder = std::env::temp_dir().join(format!("crest-{}", own_name()));
            let of = |what: &str| {
                let mut command = Command::new(scripts.join(script));
                command.arg(what).arg(&folder).env("CREST_DEV_WITH_PID", owner.id().to_string());
                command.output().with_context(|| format!("{script} {what}"))
            };
            let (first, second) = (of("start")?, of("start")?);
            ensure!(first.status.success() && second.status.success(), "{script}: {first:?} {second:?}");
            ensure!(first.stdout == second.stdout, "starting twice is starting once: {first:?} {second:?}");
            let pid: u32 =
                std::fs::read_to_string(folder.join("pid"))?.split(' ').next().unwrap_or_default().parse()?;
            owner.kill()?;
            owner.wait()?;
            let gone =
                || async { Ok((!folder.exists() && !Path::new(&format!("/proc/{pid}")).exists()).then_some(())) };
            wait_for(&format!("{script} to go"), Duration::from_secs(60), gone).await?;
            owner = Command::new("sleep").arg("1000").spawn()?;
        }
        owner.kill()?;
        owner.wait()?;
        Ok(())
    })
}
