//! `crest listen`: an organization's events on a machine that nobody can reach.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::broadcast;
use crate::harness::{crest, run, wait_for};
use crate::listening::{LIMIT, Listening, Local, kinds, without_gap};
use crate::publisher::Publisher;
use crate::receiver::{Received, Receiver};
use crate::scene::Place;
use crate::server::{Api, KEY, Server};
use crate::site::Site;
use crate::verifiers::verdicts;

/// Something that happens: a stream is made and ended. Answers its id.
async fn something(api: &Api) -> Result<String> {
    let made = api.post("/v1/streams", json!({ "name": "short", "source": { "kind": "rtmp" } })).await?;
    let id = made["id"].as_str().context("no id")?.to_owned();
    api.post(&format!("/v1/streams/{id}/stop"), json!({})).await?;
    Ok(id)
}

/// The streams that events are about.
fn streams(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["data"]["stream_id"].as_str()).collect()
}

#[test]
fn what_webhooks_tell_of_a_broadcast_is_printed_and_forwarded_and_strangers_hear_nothing() -> Result<()> {
    run(async {
        let home = tempfile::tempdir()?;
        let server = Server::shared().await?;
        let (api, key) = server.tenant_with_key().await?;
        let (stranger, strange_key) = server.tenant_with_key().await?;
        let webhook = Receiver::register(&api).await?;
        let local = Local::start(0).await?;
        let at = ["--url", &server.http, "--format", "json"];
        let forward = [&at[..], &["--forward", &local.url]].concat();
        let listening = Listening::connected(home.path(), &key, &forward).await?;
        let strange = Listening::connected(home.path(), &strange_key, &at).await?;
        let only =
            Listening::connected(home.path(), &key, &[&at[..], &["--types", "highlight.ready"]].concat()).await?;

        let made = api.post("/v1/streams", json!({ "name": "heard", "source": { "kind": "rtmp" } })).await?;
        let stream = made["id"].as_str().context("no id")?;
        let url = format!("{}/{}", server.rtmp, made["ingest"]["stream_key"].as_str().context("no key")?);
        // Up to the end of the first moment.
        let publisher = Publisher::ffmpeg(broadcast::file().await?, &["-t", "48"], &url)?;
        listening.wait_for_type("stream.started", 1).await?;
        listening.wait_for_type("highlight.detected", 1).await?;
        publisher.end(Duration::from_secs(120)).await?;
        listening.wait_for_type("highlight.ready", 1).await?;
        api.post(&format!("/v1/streams/{stream}/stop"), json!({})).await?;
        listening.wait_for_type("stream.ended", 1).await?;
        webhook.wait_for("stream.ended", 1, LIMIT).await?;

        // Event by event the same, but for the endpoint's own count, which begins at the same event here.
        let printed = listening.events();
        without_gap(&printed)?;
        let bodies: Vec<Value> = webhook.received().iter().map(Received::json).collect();
        let without_id =
            |event: &Value| json!({"type": event["type"], "timestamp": event["timestamp"], "data": event["data"]});
        assert_eq!(printed.iter().map(without_id).collect::<Vec<_>>(), bodies);
        let taken = local.wait_for(printed.len()).await?;
        assert_eq!(taken.iter().map(Received::json).collect::<Vec<_>>(), bodies);

        // The forwarded ones verify, with the secret that was printed and with no other.
        let note = listening.wait_for_note("signed with").await?;
        let secret = note.split_whitespace().last().context("no secret")?;
        assert!(secret.starts_with("whsec_"), "{note}");
        assert!(verdicts(secret, &taken).await?.all(true));
        assert!(verdicts(&webhook.secret, &taken).await?.all(false));
        let ids: BTreeSet<&str> = taken.iter().map(|r| r.header("webhook-id")).collect();
        assert_eq!(ids.len(), taken.len());

        // Strangers hear their own alone, and who asks for one type gets that one.
        let own = something(&stranger).await?;
        strange.wait_for(1).await?;
        assert_eq!(streams(&strange.events()), [own.as_str()]);
        assert_eq!(kinds(&only.events()), ["highlight.ready"]);
        Ok(())
    })
}

#[test]
fn nothing_is_missed_and_nothing_comes_twice_while_the_server_is_killed_and_started() -> Result<()> {
    run(async {
        let home = tempfile::tempdir()?;
        let site = Site::new(&[])?;
        site.start(&[]).await?;
        let api = site.api();
        let local = Local::start(0).await?;
        let url = site.address();
        let listening =
            Listening::connected(home.path(), KEY, &["--url", &url, "--format", "json", "--forward", &local.url])
                .await?;
        // Things happen all the time; what was answered has happened.
        let (happen, happened) = (api.clone(), std::sync::Arc::new(std::sync::Mutex::new(Vec::new())));
        let kept = happened.clone();
        let happening = tokio::spawn(async move {
            loop {
                match something(&happen).await {
                    Ok(id) => kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(id),
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        let count = || happened.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len();
        for round in 1..=3 {
            let back = || async { Ok((listening.connections() >= round).then_some(())) };
            wait_for("the listener to come back", LIMIT, back).await.with_context(|| listening.notes())?;
            let before = count();
            let more = || async { Ok((count() >= before + 10).then_some(())) };
            wait_for("things to happen", LIMIT, more).await.with_context(|| site.log())?;
            site.kill_and_start().await?;
        }
        happening.abort();
        let _ = happening.await;
        let last = something(&api).await?;
        let heard = || async { Ok(streams(&listening.events()).contains(&last.as_str()).then_some(())) };
        wait_for("the last event", LIMIT, heard).await.with_context(|| listening.notes())?;

        let events = listening.events();
        without_gap(&events)?;
        let told: BTreeSet<&str> = streams(&events).into_iter().collect();
        assert_eq!(told.len(), events.len(), "no stream has ended twice");
        let happened = happened.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let missing: Vec<_> = happened.iter().filter(|id| !told.contains(id.as_str())).collect();
        assert!(missing.is_empty(), "answered, and not heard of: {missing:?}");
        let taken = local.wait_for(events.len()).await?;
        let forwarded: Vec<Value> = taken.iter().map(Received::json).collect();
        without_gap(&forwarded)?;
        assert!(listening.connections() >= 4, "it came back after each kill: {}", listening.notes());
        site.terminate().await.map(drop)
    })
}

#[test]
fn a_receiver_that_fails_for_a_while_gets_everything_in_order_under_the_same_ids() -> Result<()> {
    run(async {
        let home = tempfile::tempdir()?;
        let server = Server::shared().await?;
        let (api, key) = server.tenant_with_key().await?;
        let local = Local::start(3).await?;
        let at = ["--url", &server.http, "--format", "json", "--forward", &local.url];
        let mut listening = Listening::connected(home.path(), &key, &at).await?;
        let mut happened = Vec::new();
        for _ in 0..4 {
            happened.push(something(&api).await?);
        }
        let note = listening.wait_for_note("could not be forwarded").await?;
        assert!(note.contains("500") && note.contains("trying again in"), "{note}");
        local.wait_for(4).await?;
        listening.wait_for(4).await?;
        assert_eq!(streams(&listening.events()), happened);
        let taken: Vec<Value> = local.taken().iter().map(Received::json).collect();
        assert_eq!(streams(&taken), happened);
        for refused in local.refused() {
            assert_eq!(refused.header("webhook-id"), local.taken()[0].header("webhook-id"));
            assert_eq!(refused.body, local.taken()[0].body);
        }
        assert_eq!(local.refused().len(), 3);

        // Broken off while one is refused, it begins with that one when it is told where to go on.
        local.refuse(usize::MAX);
        let late = something(&api).await?;
        let tried = || async { Ok((local.refused().len() > 3).then_some(())) };
        wait_for("the fifth to be tried", LIMIT, tried).await?;
        assert_eq!(listening.interrupt().await?.code(), Some(0), "{}", listening.notes());
        let note = listening.wait_for_note("--after").await?;
        let cursor = note.split_whitespace().last().context("no cursor")?.to_owned();
        let refused = local.refused();
        local.refuse(0);
        let _again = Listening::connected(home.path(), &key, &[&at[..], &["--after", &cursor]].concat()).await?;
        let fifth = local.wait_for(5).await?;
        assert_eq!(fifth[4].data()["stream_id"], late);
        assert_eq!(fifth[4].header("webhook-id"), refused[3].header("webhook-id"), "the same in another run");
        Ok(())
    })
}

#[test]
fn the_secret_is_made_once_and_kept_for_its_owner_alone() -> Result<()> {
    run(async {
        let home = tempfile::tempdir()?;
        let server = Server::shared().await?;
        let (api, key) = server.tenant_with_key().await?;
        let local = Local::start(0).await?;
        let at = ["--url", &server.http, "--forward", &local.url];
        let mut secrets = Vec::new();
        for _ in 0..2 {
            let mut listening = Listening::connected(home.path(), &key, &at).await?;
            let note = listening.wait_for_note("signed with").await?;
            secrets.push(note.split_whitespace().last().context("no secret")?.to_owned());
            assert_eq!(listening.interrupt().await?.code(), Some(0));
        }
        assert_eq!(secrets[0], secrets[1]);
        let files: Vec<_> = std::fs::read_dir(home.path().join("crest"))?.collect::<std::io::Result<_>>()?;
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].metadata()?.permissions().mode() & 0o777, 0o600);

        let given = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let _listening = Listening::connected(home.path(), &key, &[&at[..], &["--secret", given]].concat()).await?;
        something(&api).await?;
        let taken = local.wait_for(1).await?;
        assert!(verdicts(given, &taken).await?.all(true));
        assert!(verdicts(&secrets[0], &taken).await?.all(false));
        Ok(())
    })
}

#[test]
fn a_line_for_people_says_what_happened_where() -> Result<()> {
    run(async {
        let home = tempfile::tempdir()?;
        let server = Server::shared().await?;
        let (api, key) = server.tenant_with_key().await?;
        let listening = Listening::connected(home.path(), &key, &["--url", &server.http]).await?;
        let stream = something(&api).await?;
        listening.wait_for(1).await?;
        let line = listening.printed().remove(0);
        for part in ["stream.ended", &stream, &format!("{}/v1/streams/{stream}", server.http)] {
            assert!(line.contains(part), "{line}");
        }
        Ok(())
    })
}

#[test]
fn a_server_that_comes_late_is_waited_for() -> Result<()> {
    run(async {
        let home = tempfile::tempdir()?;
        let site = Site::new(&[])?;
        let mut listening =
            Listening::start(home.path(), KEY, &["--url", &site.address(), "--format", "json", "--after", "0"])?;
        let note = listening.wait_for_note("cannot be reached").await?;
        assert!(note.contains("trying again in"), "{note}");
        site.start(&[]).await?;
        let first = something(&site.api()).await?;
        listening.wait_for(1).await?;
        assert_eq!(streams(&listening.events()), [first.as_str()]);
        // SIGTERM ends the server though somebody listens.
        site.stop().await?;
        listening.wait_for_note("the server ended the stream").await?;
        assert_eq!(listening.interrupt().await?.code(), Some(0));
        Ok(())
    })
}

#[test]
fn what_cannot_work_ends_with_a_reason() -> Result<()> {
    run(async {
        let server = Server::shared().await?;
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let unused = format!("http://{}", taken.local_addr()?);
        let url = server.http.as_str();
        let cases: [(&[&str], i32, &str); 9] = [
            (&["--url", url, "--key", "crest_sk_wrong"], 1, "does not accept the API key"),
            (&["--url", &format!("{url}/elsewhere"), "--key", KEY], 1, "has no event stream"),
            (&["--url", &unused], 2, "CREST_API_KEY"),
            (&["--url", "crest.example", "--key", KEY], 2, "--url"),
            (&["--url", url, "--key", KEY, "--forward", "ftp://x"], 2, "--forward"),
            (&["--url", url, "--key", KEY, "--secret", "whsec_AAAA"], 2, "--forward"),
            (&["--url", url, "--key", KEY, "--forward", &unused, "--secret", "password"], 2, "--secret"),
            (&["--url", url, "--key", KEY, "--types", "goal"], 2, "'goal'"),
            (&["--url", url, "--key", KEY, "--after", "999999-evt_x"], 2, "--after"),
        ];
        for (args, code, text) in cases {
            let said = crest(["listen"].iter().chain(args)).await?;
            ensure!(said.code == Some(code), "{args:?} ended with {:?}: {}", said.code, said.err);
            ensure!(said.err.contains(text), "{args:?}: {}", said.err);
            ensure!(said.out.is_empty(), "{args:?}: {}", said.text());
            ensure!(!said.err.contains(KEY), "a key is shown: {}", said.err);
        }
        Ok(())
    })
}
