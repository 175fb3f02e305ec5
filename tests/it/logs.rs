//! What crest writes to its log: lines that a machine can read, with ids, without secrets, and not a
//! flood.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::task::JoinSet;

use crate::broadcast;
use crate::harness::{crest_command, run, wait_for};
use crate::publisher::Publisher;
use crate::receiver::Receiver;
use crate::server::{KEY, Server};

const SOON: Duration = Duration::from_secs(60);

/// What must not be in any log, beside the keys that crest makes: each comes in another way.
const OTHERS: [&str; 8] = [
    "wrong-key-of-the-api",
    "wrong-key-of-a-stream",
    "sk_live_wrongKeyOfAStream",
    "key-in-a-query",
    "user-of-the-hook",
    "password-of-the-hook",
    "token-in-the-path-of-the-hook",
    "token-in-the-query-of-the-hook",
];

/// A whole life of crest: a broadcast with a highlight, chat, a receiver that is there and one that is
/// not, and people who have the wrong key.
struct Life {
    log: String,
    stream: String,
    highlight: String,
    organization: String,
    secrets: Vec<String>,
}

impl Life {
    async fn live(settings: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let server = Server::start_with(folder.path(), settings).await?;
        let made = server.as_operator().post("/v1/organizations", json!({ "name": "the logged" })).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("incomplete: {made}"));
        let (organization, key) = (text(&made["id"])?, text(&made["api_key"])?);
        let api = server.api(Some(&key));
        let receiver = Receiver::register(&api).await?;
        let away = "http://user-of-the-hook:password-of-the-hook@127.0.0.1:9/token-in-the-path-of-the-hook\
                    ?token=token-in-the-query-of-the-hook";
        let away = api.post("/v1/webhooks", json!({ "url": away })).await?;
        let made = api.post("/v1/streams", json!({ "name": "logged", "source": { "kind": "rtmp" } })).await?;
        let (stream, stream_key) = (text(&made["id"])?, text(&made["ingest"]["stream_key"])?);

        let file = broadcast::file().await?;
        for wrong in ["wrong-key-of-a-stream", "sk_live_wrongKeyOfAStream"] {
            let refused = Publisher::ffmpeg(file, &[], &format!("{}/{wrong}", server.rtmp))?.end(SOON).await?;
            ensure!(refused.code != Some(0), "a wrong stream key was accepted");
        }
        for wrong in ["crest_sk_wrong-key-of-the-api", "wrong-key-of-the-api"] {
            let refused = server.api(Some(wrong)).send(Method::GET, "/v1/streams", None).await?;
            ensure!(refused.status == StatusCode::UNAUTHORIZED, "{}", refused.status);
        }
        server.api(None).send(Method::GET, "/v1/streams?api_key=key-in-a-query", None).await?;
        // Pasted where an id belongs.
        api.send(Method::GET, "/v1/streams/sk_live_wrongKeyOfAStream", None).await?;
        api.send(Method::GET, &format!("/v1/streams/{stream_key}"), None).await?;

        let publisher = Publisher::ffmpeg(file, &[], &format!("{}/{stream_key}", server.rtmp))?;
        receiver.wait_for("stream.started", 1, SOON).await?;
        let taken = Publisher::ffmpeg(file, &[], &format!("{}/{stream_key}", server.rtmp))?.end(SOON).await?;
        ensure!(taken.code != Some(0), "two publishers feed one stream");
        let chat = json!({ "messages": [{ "t": 1.0, "user": "ann", "text": "hello" }] });
        api.post(&format!("/v1/streams/{stream}/chat"), chat).await?;
        api.post(&format!("/v1/streams/{stream}/markers"), json!({})).await?;
        let detected = receiver.wait_for("highlight.detected", 1, SOON).await?.data();
        let highlight = text(&detected["id"])?;
        let named = [("x-request-id", "my-request.7")];
        let shown = api.raw(Method::GET, &format!("/v1/highlights/{highlight}"), &named, Vec::new()).await?;
        ensure!(shown.header("x-request-id") == "my-request.7", "{:?}", shown.headers);
        api.post(&format!("/v1/streams/{stream}/stop"), json!({})).await?;
        receiver.wait_for("stream.ended", 1, SOON).await?;
        publisher.end(SOON).await?;
        ensure!(server.terminate(SOON).await?.code() == Some(0), "it did not stop as it should");

        let mut secrets = vec![KEY.to_owned(), key, stream_key, receiver.secret.clone(), text(&away["secret"])?];
        secrets.extend(OTHERS.map(str::to_owned));
        let log = std::fs::read_to_string(folder.path().join("serve.log"))?;
        Ok(Self { log, stream, highlight, organization, secrets })
    }

    /// Insists that no secret is in the log, nor any that was made up.
    fn keeps_secrets(&self) {
        for secret in &self.secrets {
            // Of a key that crest made the prefix alone may be shown.
            let body = secret.rsplit('_').next().unwrap_or(secret);
            let told = self.log.lines().find(|line| line.contains(body));
            assert_eq!(told, None, "the log tells {secret}");
        }
    }
}

/// Lines as JSON, each with what every line has.
fn parsed(log: &str) -> Result<Vec<Value>> {
    let parse = |line: &str| {
        let json: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        let at = json["timestamp"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        let level = json["level"].as_str().is_some_and(|l| ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&l));
        let texts = json["target"].is_string() && json["message"].is_string();
        ensure!(at.is_some() && level && texts, "incomplete: {line}");
        Ok(json)
    };
    log.lines().map(parse).collect()
}

#[test]
fn every_line_is_json_with_ids_and_without_secrets_at_the_highest_level() -> Result<()> {
    run(async {
        let settings = [("CREST_LOG__FORMAT", "json"), ("CREST_LOG__LEVEL", "trace"), ("GST_DEBUG", "3")];
        let life = Life::live(&settings).await?;
        let lines = parsed(&life.log)?;
        let libraries = lines.iter().filter(|l| l["level"] == "TRACE" && !l["target"].to_string().contains("crest"));
        assert!(libraries.count() > 10, "the libraries were not asked for their details");
        life.keeps_secrets();

        let ours = |l: &&Value| l["target"].as_str().is_some_and(|t| t.starts_with("crest"));
        let mentions =
            |l: &Value, id: &str| l.as_object().is_some_and(|o| o.values().any(|v| v.to_string().contains(id)));
        for (name, id) in [("stream_id", &life.stream), ("highlight_id", &life.highlight)] {
            let about: Vec<&Value> = lines.iter().filter(ours).filter(|l| mentions(l, id)).collect();
            assert!(about.len() >= 3, "{about:#?}");
            for line in about {
                assert_eq!(line[name], *id, "{line:#}");
            }
        }
        let with = |message: &str| lines.iter().filter(|l| l["message"] == message).collect::<Vec<_>>();
        for message in ["media arrives", "a session begins", "the session is over", "highlight decided"] {
            let found = with(message);
            assert!(!found.is_empty(), "{message}");
            for line in found {
                assert_eq!((&line["stream_id"], &line["session"]), (&json!(life.stream), &json!(1)), "{line:#}");
            }
        }
        let refused = with("an RTMP publisher was refused");
        assert_eq!(refused.iter().filter(|l| l["stream_id"] == life.stream.as_str()).count(), 1, "{refused:#?}");
        let untaken = with("a webhook was not taken; trying again");
        assert!(untaken.iter().any(|l| l["webhook_id"].is_string() && l["endpoint_id"].is_string()), "{untaken:#?}");
        let requests = with("request");
        let chat = requests.iter().find(|l| l["route"] == "/v1/streams/{id}/chat").context("no line of the chat")?;
        assert_eq!((&chat["method"], &chat["status"]), (&json!("POST"), &json!(202)), "{chat:#}");
        assert_eq!(chat["path"], format!("/v1/streams/{}/chat", life.stream));
        assert_eq!(chat["organization_id"], life.organization);
        assert!(chat["ms"].is_u64(), "{chat:#}");
        let named = requests.iter().filter(|l| l["request_id"] == "my-request.7");
        assert_eq!(named.filter(|l| l["highlight_id"] == life.highlight.as_str()).count(), 1);
        Ok(())
    })
}

#[test]
fn text_keeps_secrets_too_and_tells_ids() -> Result<()> {
    run(async {
        let settings = [("CREST_LOG__FORMAT", "text"), ("CREST_LOG__LEVEL", "trace")];
        let life = Life::live(&settings).await?;
        life.keeps_secrets();
        for line in life.log.lines() {
            let (at, rest) = line.split_once(' ').with_context(|| format!("not a line: {line}"))?;
            assert!(at.parse::<Timestamp>().is_ok(), "{line}");
            assert!(rest.contains(": "), "{line}");
        }
        for expected in [format!("stream_id={}", life.stream), format!("highlight_id={}", life.highlight)] {
            assert!(life.log.contains(&expected), "no {expected}");
        }
        Ok(())
    })
}

#[test]
fn the_operators_key_is_hidden_whatever_it_looks_like() -> Result<()> {
    const OWN: &str = "correct-horse-battery";
    run(async {
        let folder = tempfile::tempdir()?;
        let server = Server::start_with(folder.path(), &[("CREST_BOOTSTRAP_KEY", OWN)]).await?;
        let answer = server.api(Some(OWN)).send(Method::GET, &format!("/v1/streams/{OWN}"), None).await?;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(server.terminate(SOON).await?.code(), Some(0));
        let log = std::fs::read_to_string(folder.path().join("serve.log"))?;
        assert!(log.contains("path=/v1/streams/… status=404"), "{log}");
        assert!(!log.contains(OWN), "{log}");
        Ok(())
    })
}

/// A hundred such requests after each other, from twenty clients at a time.
async fn flood(server: &Server, key: &str, path: &'static str, status: StatusCode) -> Result<()> {
    let mut clients = JoinSet::new();
    for _ in 0..20 {
        let api = server.api(Some(key));
        clients.spawn(async move {
            for _ in 0..100 {
                let answer = api.send(Method::GET, path, None).await?;
                ensure!(answer.status == status, "{path}: {}", answer.status);
            }
            Ok(())
        });
    }
    clients.join_all().await.into_iter().collect()
}

#[test]
fn a_cause_that_repeats_is_one_line_a_second_and_every_time_is_counted() -> Result<()> {
    const COUNT: u64 = 2000;
    run(async {
        let folder = tempfile::tempdir()?;
        let server = Server::start_with(folder.path(), &[("CREST_LOG__FORMAT", "json")]).await?;
        let made = server.as_operator().post("/v1/organizations", json!({ "name": "the loud" })).await?;
        let key = made["api_key"].as_str().context("no key")?;
        tokio::try_join!(
            flood(&server, "crest_sk_wrong", "/v1/streams", StatusCode::UNAUTHORIZED),
            flood(&server, key, "/v1/streams", StatusCode::OK),
            flood(&server, key, "/v1/highlights/none", StatusCode::NOT_FOUND),
        )?;
        // A life that is quiet afterwards: the rest is told without another request.
        let path = folder.path().join("serve.log");
        let told = || async {
            let lines = parsed(&std::fs::read_to_string(&path)?)?;
            Ok([401, 200, 404].iter().all(|s| times(&of(&lines, *s)) == COUNT).then_some(lines))
        };
        let lines = wait_for("every request to be counted", SOON, told).await?;
        for status in [401, 200, 404] {
            let of = of(&lines, status);
            let at = |line: &Value| line["timestamp"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
            let first = of.first().and_then(|l| at(l)).context("no line")?;
            let last = of.last().and_then(|l| at(l)).context("no line")?;
            // One at once, then one for each second, and one for what was held back last.
            let seconds = last.duration_since(first).as_secs() + 3;
            assert!(i64::try_from(of.len())? <= seconds, "{} lines in {seconds} s", of.len());
        }
        assert_eq!(server.terminate(SOON).await?.code(), Some(0));
        Ok(())
    })
}

/// The lines of requests to the flooded paths that were answered so.
fn of(lines: &[Value], status: u64) -> Vec<&Value> {
    let flooded = |l: &&Value| l["method"] == "GET" && l["path"].as_str().is_some_and(|p| p.starts_with("/v1/"));
    lines.iter().filter(|l| l["message"] == "request" && l["status"] == status).filter(flooded).collect()
}

/// How often what these lines tell happened.
fn times(lines: &[&Value]) -> u64 {
    lines.iter().map(|line| 1 + line["repeated"].as_u64().unwrap_or(0)).sum()
}

#[test]
fn the_last_words_have_the_format_of_the_log() -> Result<()> {
    run(async {
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = taken.local_addr()?.to_string();
        for format in ["json", "text"] {
            let folder = tempfile::tempdir()?;
            let mut command = crest_command();
            let command = command
                .arg("serve")
                .env("CREST_DATA_DIR", folder.path())
                .env("CREST_HTTP__LISTEN", &address)
                .env("CREST_LOG__FORMAT", format)
                .stdin(Stdio::null())
                .kill_on_drop(true);
            let ended = tokio::time::timeout(SOON, command.output()).await??;
            let said = String::from_utf8(ended.stderr)?;
            assert_eq!(ended.status.code(), Some(1), "{said}");
            let last = said.lines().last().context("it said nothing")?;
            assert!(last.contains("http.listen"), "{last}");
            match format {
                "json" => assert_eq!(parsed(&said)?.last().context("no line")?["level"], "ERROR"),
                _ => assert!(last.starts_with("crest: "), "{last}"),
            }
        }
        Ok(())
    })
}
