//! HTTP requests that are none, bodies that are no JSON, connections that say nothing.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::ANSWER;
use super::stage::Stage;
use crate::harness::run;
use crate::server::{KEY, Server};

/// A connection without a library.
struct Raw(TcpStream);

impl Raw {
    async fn connect(server: &Server) -> Result<Self> {
        Ok(Self(TcpStream::connect(server.http.trim_start_matches("http://")).await?))
    }

    /// Sends what the server may no longer want to read.
    async fn shout(&mut self, bytes: &[u8]) {
        let _ = tokio::time::timeout(ANSWER, self.0.write_all(bytes)).await;
    }

    /// Everything that the server says until it closes.
    async fn rest(mut self) -> Result<String> {
        let mut said = Vec::new();
        let read = async {
            let mut more = [0; 4096];
            // A reset is an end too.
            while let Ok(count @ 1..) = self.0.read(&mut more).await {
                said.extend_from_slice(more.get(..count).unwrap_or_default());
            }
        };
        tokio::time::timeout(ANSWER, read).await.context("the server keeps the connection open")?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

/// A request's head, with the key and this line besides.
fn head(method: &str, path: &str, line: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: crest\r\nAuthorization: Bearer {KEY}\r\n{line}\r\n\r\n").into_bytes()
}

async fn answers(server: &Server) -> Result<()> {
    server.api(None).get("/healthz").await.map(drop)
}

#[test]
fn bodies_that_make_no_sense_are_refused_with_a_reason() -> Result<()> {
    run(async {
        let stage = Stage::set(&[("CREST_API__BODY_TIMEOUT", "2s")]).await?;
        let chat = format!("/v1/streams/{}/chat", stage.healthy());
        let nothing = stage.api.post(&chat, json!({ "messages": [] })).await?;
        assert_eq!(nothing, json!({ "accepted": 0 }), "an empty batch is none");
        let message = |text: &str| format!(r#"{{"messages":[{{"t":0.1,"user":"a","text":"{text}"}}]}}"#).into_bytes();
        let with = |key: &str, value: &str| {
            format!(r#"{{"messages":[{{"t":0.1,"user":"a","text":"b"}}],"{key}":{value}}}"#).into_bytes()
        };
        let at = |time: &str| format!(r#"{{"messages":[{{"t":{time},"user":"a","text":"b"}}]}}"#).into_bytes();
        let invalid = [br#"{"messages":[{"t":0.1,"user":"a","text":""#.as_slice(), &[0xff, 0xfe], b"\"}]}"].concat();
        let cases: [(&str, Vec<u8>, u16, &str); 12] = [
            ("a message of 1 MB", message(&"x".repeat(1_000_000)), 422, "invalid_message"),
            ("more than a body may have", message(&"x".repeat(1 << 20)), 413, "body_too_large"),
            ("invalid UTF-8", invalid, 400, "invalid_json"),
            ("arrays in arrays", with("x", &"[".repeat(100_000)), 422, "invalid_body"),
            (
                "arrays in arrays, where a list is expected",
                "{\"messages\":".bytes().chain([b'['; 100_000]).collect(),
                422,
                "invalid_body",
            ),
            ("a number beyond all numbers", at("1e999"), 400, "invalid_json"),
            ("no number", at("NaN"), 400, "invalid_json"),
            ("a time before all times", at("-1e300"), 422, "invalid_message"),
            ("a time after all times", at("1e300"), 422, "invalid_message"),
            (
                "more messages than there may be",
                format!(r#"{{"messages":[{}]}}"#, vec![r#"{"t":0,"user":"a","text":"b"}"#; 1001].join(","))
                    .into_bytes(),
                422,
                "too_many_messages",
            ),
            ("a list", b"[]".to_vec(), 422, "invalid_body"),
            ("nothing", Vec::new(), 400, "invalid_json"),
        ];
        for (what, body, status, code) in cases {
            let answer = stage.api.raw(Method::POST, &chat, &[("content-type", "application/json")], body).await;
            let answer = answer.with_context(|| what.to_owned())?;
            let problem = answer.json();
            ensure!(
                answer.status == status && problem["code"] == code,
                "{what}: {} {problem}, not {status} {code}",
                answer.status
            );
            ensure!(
                problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()),
                "{what}: no reason in {problem}"
            );
        }
        let untold = stage.api.raw(Method::POST, &chat, &[], message("x")).await?;
        assert_eq!(untold.json()["code"], "unsupported_media_type");

        // A body that breaks off, and one that comes byte by byte.
        let announced = head("POST", &chat, "Content-Type: application/json\r\nContent-Length: 100");
        let mut short = Raw::connect(&stage.server).await?;
        short.shout(&[&announced[..], b"{\"messages\""].concat()).await;
        short.0.shutdown().await?;
        let said = short.rest().await?;
        ensure!(said.is_empty() || said.contains("bad_request"), "{said}");
        let mut slow = Raw::connect(&stage.server).await?;
        slow.shout(&[&announced[..], b"{"].concat()).await;
        let said = slow.rest().await?;
        ensure!(said.contains("408") && said.contains("body_timeout"), "{said}");

        let counted = stage.metric("crest_chat_messages_accepted_total", "").await?;
        ensure!(counted == 0.0, "{counted} messages of garbage were accepted");
        stage.unharmed().await
    })
}

#[test]
fn requests_that_are_none_are_refused() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let server = Server::start_with(folder.path(), &[("CREST_HTTP__IDLE", "2s")]).await?;
        let noise: Vec<u8> = (0..100_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let long = head("GET", &format!("/{}", "a".repeat(1 << 20)), "X: y");
        let many = head("GET", "/healthz", &"X: y\r\n".repeat(10_000));
        let cases: [(&str, Vec<u8>, &[&str]); 8] = [
            ("noise", noise, &["400"]),
            ("a TLS client", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, b'\r', b'\n', b'\r', b'\n'], &["400"]),
            ("a request line of 1 MB", long, &["414", "431"]),
            ("ten thousand headers", many, &["431"]),
            ("a path that is not UTF-8", head("GET", "/v1/streams/%ff%fe", "X: y"), &["404", "400"]),
            (
                "raw bytes in a path",
                [b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: crest\r\n\r\n".as_slice()].concat(),
                &["400", "401"],
            ),
            (
                "a key that is not text",
                b"GET /v1/streams HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n".to_vec(),
                &["401"],
            ),
            ("a negative length", head("POST", "/v1/streams", "Content-Length: -1"), &["400"]),
        ];
        for (what, bytes, statuses) in cases {
            let mut raw = Raw::connect(&server).await?;
            raw.shout(&bytes).await;
            let said = raw.rest().await.with_context(|| what.to_owned())?;
            let expected = |status: &&str| said.starts_with(&format!("HTTP/1.1 {status} "));
            ensure!(statuses.iter().any(expected), "{what}: {said:?}");
            answers(&server).await.with_context(|| format!("after {what}"))?;
        }
        // What follows a good request on its connection does not spoil its answer.
        let mut raw = Raw::connect(&server).await?;
        raw.shout(&[head("GET", "/healthz", "X: y"), b"\0\x01garbage\r\n\r\n".to_vec()].concat()).await;
        let said = raw.rest().await?;
        ensure!(said.starts_with("HTTP/1.1 200 ") && said.contains("HTTP/1.1 400 "), "{said}");
        // A head that never ends is cut off, whether it begins or not.
        for begin in ["", "GET /healthz HTTP/1.1\r\nX-"] {
            let mut slow = Raw::connect(&server).await?;
            slow.shout(begin.as_bytes()).await;
            slow.rest().await.with_context(|| format!("after {begin:?}"))?;
        }
        answers(&server).await?;
        no_panic(folder.path())
    })
}

#[test]
fn a_thousand_idle_connections_lock_nobody_out() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let settings = [("CREST_HTTP__IDLE", "10m"), ("CREST_HTTP__MAX_CONNECTIONS", "100")];
        let server = Server::start_with(folder.path(), &settings).await?;
        let descriptors = || -> Result<usize> { Ok(std::fs::read_dir(format!("/proc/{}/fd", server.pid()))?.count()) };
        let before = descriptors()?;
        let mut idle = Vec::new();
        for index in 0..1000 {
            let mut raw = Raw::connect(&server).await?;
            if index % 2 == 0 {
                raw.shout(b"GET /healthz HTTP/1.1\r\n").await;
            }
            idle.push(raw);
        }
        for _ in 0..20 {
            answers(&server).await?;
        }
        let now = descriptors()?;
        ensure!(now < before + 120, "{before} descriptors before, {now} with a hundred connections allowed");
        // The first was sent away, the last is still served.
        ensure!(idle.remove(0).rest().await?.is_empty(), "an answer to half a request");
        let mut last = idle.pop().context("no connection")?;
        last.shout(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        ensure!(last.rest().await?.starts_with("HTTP/1.1 200 "), "the newest connection is not served");
        // They do not hold up the end either.
        let status = server.terminate(Duration::from_secs(30)).await?;
        ensure!(status.success(), "{status}");
        no_panic(folder.path())
    })
}

fn no_panic(folder: &Path) -> Result<()> {
    let log = std::fs::read_to_string(folder.join("serve.log"))?;
    let panic = log.lines().find(|line| line.contains("panicked"));
    ensure!(panic.is_none(), "{}", panic.unwrap_or_default());
    Ok(())
}
