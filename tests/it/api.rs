//! The API of the real program: problems, keys, tenants, what it says of itself.

use anyhow::{Context, Result};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;

use crate::harness::{crest, run};
use crate::server::{Answer, Api, Server};

/// Insists that an answer is a problem as RFC 9457 has them.
fn is_problem(answer: &Answer, status: StatusCode, code: &str) {
    let body = answer.json();
    assert_eq!((answer.status, body["code"].as_str()), (status, Some(code)), "{body:#}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(body["status"], status.as_u16());
    for member in ["type", "title", "detail"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{body:#}");
    }
}

async fn new_stream(api: &Api) -> Result<String> {
    let made = api.post("/v1/streams", json!({ "name": "mine", "source": { "kind": "rtmp" } })).await?;
    Ok(made["id"].as_str().context("no id")?.to_owned())
}

#[test]
fn every_error_is_a_problem() -> Result<()> {
    run(async {
        let api = Server::shared().await?.tenant().await?;
        is_problem(&api.send(Method::GET, "/nothing/here", None).await?, StatusCode::NOT_FOUND, "path_not_found");
        is_problem(&api.send(Method::GET, "/v1/nothing", None).await?, StatusCode::NOT_FOUND, "path_not_found");
        is_problem(
            &api.send(Method::PUT, "/v1/streams", None).await?,
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
        );
        let json = [("content-type", "application/json")];
        let broken = api.raw(Method::POST, "/v1/streams", &json, b"{\"name\": ".to_vec()).await?;
        is_problem(&broken, StatusCode::BAD_REQUEST, "invalid_json");
        let incomplete = api.send(Method::POST, "/v1/streams", Some(json!({ "name": "no source" }))).await?;
        is_problem(&incomplete, StatusCode::UNPROCESSABLE_ENTITY, "invalid_body");
        let text = api.raw(Method::POST, "/v1/streams", &[("content-type", "text/plain")], b"hello".to_vec()).await?;
        is_problem(&text, StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type");
        // What is not read of a body closes the connection, which nobody else should be using.
        let large = api.raw(Method::POST, "/v1/streams", &json, vec![b' '; 2 << 20]).await?;
        is_problem(&large, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large");
        let cursor = api.send(Method::GET, "/v1/streams?cursor=nonsense", None).await?;
        is_problem(&cursor, StatusCode::BAD_REQUEST, "invalid_cursor");
        Ok(())
    })
}

#[test]
fn the_key_comes_before_everything_else() -> Result<()> {
    run(async {
        let server = Server::shared().await?;
        for key in [None, Some("crest_sk_wrong"), Some("")] {
            let api = server.api(key);
            let json = [("content-type", "application/json")];
            for (method, path) in [
                (Method::GET, "/v1/streams"),
                (Method::POST, "/v1/streams"),
                (Method::GET, "/v1/nothing"),
                (Method::DELETE, "/v1/streams"),
            ] {
                let answer = api.raw(method, path, &json, b"{broken".to_vec()).await?;
                is_problem(&answer, StatusCode::UNAUTHORIZED, "unauthorized");
            }
            for path in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"] {
                assert_eq!(api.send(Method::GET, path, None).await?.status, StatusCode::OK, "{path}");
            }
        }
        Ok(())
    })
}

#[test]
fn what_belongs_to_another_tenant_does_not_exist() -> Result<()> {
    run(async {
        let server = Server::shared().await?;
        let (mine, theirs) = (server.tenant().await?, server.tenant().await?);
        let stream = new_stream(&mine).await?;
        let hook = mine.post("/v1/webhooks", json!({ "url": "http://127.0.0.1:9/" })).await?;
        let hook = hook["id"].as_str().context("no id")?;
        let unknown = "0".repeat(stream.len());
        let ways = [
            (Method::GET, "/v1/streams/{}", None),
            (Method::GET, "/v1/streams/{}/highlights", None),
            (Method::POST, "/v1/streams/{}/stop", Some(json!({}))),
            (Method::POST, "/v1/streams/{}/chat", Some(json!({ "messages": [] }))),
            (Method::POST, "/v1/streams/{}/markers", Some(json!({}))),
        ];
        for (method, path, body) in ways {
            let crossed = theirs.send(method.clone(), &path.replace("{}", &stream), body.clone()).await?;
            is_problem(&crossed, StatusCode::NOT_FOUND, "not_found");
            let never = theirs.send(method, &path.replace("{}", &unknown), body).await?;
            assert_eq!((crossed.status, crossed.json()), (never.status, never.json()));
        }
        for (method, path) in [(Method::GET, "/v1/webhooks/{}/deliveries"), (Method::DELETE, "/v1/webhooks/{}")] {
            is_problem(
                &theirs.send(method, &path.replace("{}", hook), None).await?,
                StatusCode::NOT_FOUND,
                "not_found",
            );
        }
        assert_eq!(theirs.get("/v1/streams").await?["data"], json!([]));
        assert_eq!(theirs.get("/v1/webhooks").await?["data"], json!([]));
        assert_eq!(mine.get(&format!("/v1/streams/{stream}")).await?["state"], "created");
        let refused = mine.send(Method::POST, "/v1/organizations", Some(json!({ "name": "more" }))).await?;
        is_problem(&refused, StatusCode::FORBIDDEN, "operator_only");
        Ok(())
    })
}

#[test]
fn chat_waits_for_the_broadcast() -> Result<()> {
    run(async {
        let api = Server::shared().await?.tenant().await?;
        let path = format!("/v1/streams/{}/chat", new_stream(&api).await?);
        let chat = json!({ "messages": [{ "t": 1.0, "user": "ana", "text": "hello?" }] });
        let early = api.send(Method::POST, &path, Some(chat)).await?;
        is_problem(&early, StatusCode::CONFLICT, "stream_not_live");
        Ok(())
    })
}

#[test]
fn lists_come_in_parts_that_add_up() -> Result<()> {
    run(async {
        let api = Server::shared().await?.tenant().await?;
        let mut made = BTreeSet::new();
        for _ in 0..5 {
            made.insert(new_stream(&api).await?);
        }
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let part = api.get(&format!("/v1/streams?limit=2{cursor}")).await?;
            let data = part["data"].as_array().context("no data")?;
            assert!(!data.is_empty() && data.len() <= 2);
            seen.extend(data.iter().filter_map(|s| s["id"].as_str().map(str::to_owned)));
            let Some(next) = part["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!((seen.len(), seen.into_iter().collect::<BTreeSet<_>>()), (5, made));
        Ok(())
    })
}

#[test]
fn the_api_describes_itself() -> Result<()> {
    run(async {
        let api = Server::shared().await?.api(None);
        let document = api.get("/openapi.json").await?;
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
        let paths = document["paths"].as_object().context("no paths")?;
        for (path, methods) in [
            ("/v1/streams", &["get", "post"][..]),
            ("/v1/streams/{id}", &["get"]),
            ("/v1/streams/{id}/stop", &["post"]),
            ("/v1/streams/{id}/rotate-key", &["post"]),
            ("/v1/streams/{id}/highlights", &["get"]),
            ("/v1/streams/{id}/chat", &["post"]),
            ("/v1/streams/{id}/markers", &["post"]),
            ("/v1/highlights", &["get"]),
            ("/v1/highlights/{id}", &["get"]),
            ("/v1/highlights/{id}/clip", &["get"]),
            ("/v1/highlights/{id}/thumbnail", &["get"]),
            ("/v1/webhooks", &["get", "post"]),
            ("/v1/webhooks/{id}", &["delete"]),
            ("/v1/webhooks/{id}/deliveries", &["get"]),
            ("/v1/organizations", &["post"]),
            ("/healthz", &["get"]),
            ("/readyz", &["get"]),
            ("/metrics", &["get"]),
        ] {
            for method in methods {
                let described = &paths.get(path).with_context(|| format!("{path} is not described"))?[*method];
                assert!(described["operationId"].is_string(), "{method} {path}");
            }
        }
        let printed: Value = serde_json::from_slice(&crest(["openapi"]).await?.out)?;
        assert_eq!(printed["paths"], document["paths"], "`crest openapi` says something else");
        Ok(())
    })
}

#[test]
fn metrics_are_as_prometheus_reads_them() -> Result<()> {
    run(async {
        let server = Server::shared().await?;
        server.tenant().await?;
        let answer = server.api(None).send(Method::GET, "/metrics", None).await?;
        assert!(answer.header("content-type").starts_with("text/plain"));
        let text = String::from_utf8(answer.body)?;
        let counters: Vec<&str> =
            text.lines().filter(|l| l.starts_with("# TYPE crest_") && l.ends_with(" counter")).collect();
        assert!(counters.iter().any(|l| l.contains("http")), "{counters:?}");
        for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let value = line.rsplit(' ').next().unwrap_or_default();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
        assert!(!text.contains(crate::server::KEY));
        Ok(())
    })
}

#[test]
fn wrong_usage_and_a_wrong_configuration_end_with_2() -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("crest.toml");
        std::fs::write(&file, "[http]\nlistne = \"127.0.0.1:0\"\n")?;
        let said = crest(["serve", "--config", &file.display().to_string()]).await?;
        assert_eq!(said.code, Some(2), "{}", said.err);
        assert!(said.err.contains("listne"), "{}", said.err);
        let said = crest(["serve", "--roles", "api"]).await?;
        assert_eq!(said.code, Some(2), "{}", said.err);
        assert_eq!(crest(["no-such-command"]).await?.code, Some(2));
        Ok(())
    })
}
