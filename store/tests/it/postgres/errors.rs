//! What goes wrong with a server, and what the store says of it: whether a person has to mend it or it
//! passes, with the setting's name and never with the password.

use crest_core::store::{Streams, Tenants};
use crest_core::units::Span;
use crest_core::{Error, Fault, StreamId};
use crest_store::{DatabaseConfig, PostgresStore};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::proxy::{Fate, Proxy};
use super::server::Server;
use super::world::{NOW, World, instance, stream_of};
use super::{Home, count};

const PASSWORD: &str = "hunter2";

/// What opening a database at `rest` of an address says.
async fn opening(rest: &str) -> Error {
    let config = DatabaseConfig { url: Some(format!("postgres://{rest}")), ..DatabaseConfig::default() };
    let error = PostgresStore::open(&config).await.unwrap_err();
    assert!(error.message.contains("database.url"), "{error}");
    assert!(!error.message.contains(PASSWORD), "{error}");
    error
}

fn mended_by_a_person(error: &Error) -> bool {
    (error.fault, error.retryable) == (Fault::User, false)
}

fn passes(error: &Error) -> bool {
    (error.fault, error.retryable) == (Fault::Outside, true)
}

#[tokio::test]
async fn what_a_person_has_to_mend_says_so() {
    let home = Home::new().await;
    let (name, port) = (&home.database.name, Server::shared().port());
    for (rest, says) in [
        (format!("{name}:{PASSWORD}@127.0.0.1:{port}/{name}"), "credentials"),
        (format!("nobody:{PASSWORD}@127.0.0.1:{port}/{name}"), "credentials"),
        (format!("{name}:{name}@127.0.0.1:{port}/nowhere"), "no such database"),
        (format!("{name}:{name}@127.0.0.1:{port}/{name}?sslmode=require"), "sslmode"),
        (format!("{name}:{PASSWORD}@127.0.0.1:{port}/{name}?sslmode=perhaps"), "cannot be read"),
        (format!("{name}:{PASSWORD}@127.0.0.1:99999/{name}"), "cannot be read"),
    ] {
        let error = opening(&rest).await;
        assert!(mended_by_a_person(&error) && error.message.contains(says), "{rest}: {error}");
    }
    for url in ["", "mysql://a:hunter2@b/c", "sqlite://crest.db", "127.0.0.1:5432"] {
        let config = DatabaseConfig { url: Some(url.to_owned()), ..DatabaseConfig::default() };
        let error = PostgresStore::open(&config).await.unwrap_err();
        assert!(mended_by_a_person(&error) && error.message.contains("database.url"), "{url}: {error}");
        assert!(!error.message.contains(PASSWORD), "{error}");
    }
}

#[tokio::test]
async fn something_else_at_that_port_is_told_from_postgresql() {
    for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", "-ERR unknown command\r\n", "SSH-2.0-OpenSSH_9.2\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let _ = client.write_all(answer.as_bytes()).await;
                // As long as the client wants to talk.
                let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
            }
        });
        let error = opening(&format!("crest:{PASSWORD}@127.0.0.1:{port}/crest")).await;
        assert!(mended_by_a_person(&error), "{answer}: {error}");
    }
}

#[tokio::test]
async fn what_passes_says_so() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (hangs, breaks) = (silent.local_addr().unwrap().port(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let broken = breaks.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = breaks.accept().await {
            drop(client);
        }
    });
    for place in [
        format!("127.0.0.1:{closed}"),
        "no.such.host.invalid:5432".to_owned(),
        format!("127.0.0.1:{hangs}"),
        format!("127.0.0.1:{broken}"),
    ] {
        let error = opening(&format!("crest:{PASSWORD}@{place}/crest")).await;
        assert!(passes(&error) && error.message.contains(&place), "{place}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_wants_encryption_says_what_to_append() {
    let server = Server::start();
    let owned = server.database().await;
    server.allow_encrypted_only().await;
    let rest = owned.url.strip_prefix("postgres://").unwrap();
    let error = opening(&format!("{rest}?sslmode=disable")).await;
    assert!(mended_by_a_person(&error) && error.message.contains("sslmode=require"), "{error}");
}

#[tokio::test]
async fn a_server_that_goes_away_is_waited_for_and_found_again() {
    let server = Server::start();
    let home = Home { database: server.database().await };
    let config = DatabaseConfig { acquire_timeout: Span::secs(2), ..home.config() };
    let store = PostgresStore::open(&config).await.unwrap();
    let made = store.create_organization("acme", "crest_sk_acme", NOW).await.unwrap();
    // Several connections, so that several are dead afterwards.
    let asked = (0..6).map(|_| store.organization_of_key("crest_sk_acme"));
    futures::future::join_all(asked.collect::<Vec<_>>()).await;
    server.stop();
    for _ in 0..2 {
        let error = store.organization_of_key("crest_sk_acme").await.unwrap_err();
        assert!(passes(&error) && error.message.contains("database.url"), "{error}");
        assert!(!error.message.contains(&format!(":{}@", home.database.name)), "{error}");
    }
    server.start_again();
    assert_eq!(store.organization_of_key("crest_sk_acme").await.unwrap(), Some(made));
    // A restart that nobody met is not noticed at all.
    server.stop();
    server.start_again();
    assert!(store.create_organization("more", "crest_sk_more", NOW).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_neither_answers_nor_goes_away_holds_nobody_up_for_ever() {
    let world = World::new().await;
    let proxy = Proxy::before(Server::shared().port()).await;
    let config = DatabaseConfig {
        url: Some(world.home.database.through(proxy.port)),
        acquire_timeout: Span::secs(3),
        timeout: Span::secs(1),
        max_connections: 2,
        ..DatabaseConfig::default()
    };
    let store = PostgresStore::open(&config).await.unwrap();
    store.stream(&world.organization, &world.stream).await.unwrap();
    proxy.set(Fate::Silence);
    for _ in 0..3 {
        let error = store.stream(&world.organization, &world.stream).await.unwrap_err();
        assert!(passes(&error) && error.message.contains("database.url"), "{error}");
    }
    proxy.set(Fate::Answered);
    assert!(store.stream(&world.organization, &world.stream).await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_locked_by_somebody_who_never_ends_is_not_waited_for_for_ever() {
    let world = World::new().await;
    let config = DatabaseConfig { lock_timeout: Span(Duration::from_millis(200)), ..world.home.config() };
    let store = PostgresStore::open(&config).await.unwrap();
    let mut other = world.home.everybodys().await;
    sqlx::raw_sql("BEGIN; SELECT * FROM streams FOR UPDATE").execute(&mut other).await.unwrap();
    let error = store.start_session(&world.stream, NOW, &instance("two")).await.unwrap_err();
    assert!(passes(&error) && error.message.contains("database.lock_timeout"), "{error}");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    store.start_session(&world.stream, NOW, &instance("two")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_has_no_more_connections_than_it_may() {
    let world = World::new().await;
    world.store.close().await;
    let store = PostgresStore::open(&DatabaseConfig { max_connections: 3, ..world.home.config() }).await.unwrap();
    let calls = (0..60).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.create_organization("tenant", &format!("crest_sk_{n}"), NOW).await })
    });
    let calls: Vec<_> = calls.collect();
    let mut watch = Server::shared().admin().await;
    let used = format!("pg_stat_activity WHERE datname = '{}'", world.home.database.name);
    let mut most = 0;
    while calls.iter().any(|call| !call.is_finished()) {
        most = most.max(count(&mut watch, &used).await);
    }
    assert!((1..=3).contains(&most), "{most}");
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_text_that_the_database_cannot_keep_is_the_callers_fault() {
    let world = World::new().await;
    let mut stream = stream_of(&world.organization, &StreamId::from_raw("str_b"), NOW);
    stream.name = "a\0b".to_owned();
    let error = world.store.create_stream(&stream).await.unwrap_err();
    assert!(mended_by_a_person(&error) && error.message.contains("NUL"), "{error}");
}
