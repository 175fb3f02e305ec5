//! Clusters that cannot be reached or do not let this process in.

use crest_bus::kafka::{self, Password, SaslMechanism, SecurityProtocol};
use crest_core::units::Span;
use crest_core::{Error, Fault};
use std::net::TcpListener;
use std::time::Duration;

use super::Cluster;
use super::broker::{self, Broker};

/// Far more than any of it may take.
const BOUND: Duration = Duration::from_secs(60);

async fn refused(cluster: &Cluster) -> Error {
    let opened = tokio::time::timeout(BOUND, cluster.open_as("one")).await;
    let error = opened.expect("it is known in time").err().expect("it is refused");
    let looked = kafka::check(std::slice::from_ref(&cluster.brokers), cluster.config.clone()).await.unwrap_err();
    assert_eq!((looked.fault, looked.retryable), (error.fault, error.retryable), "{looked}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_may_come() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, named) in
        [(free.to_string(), free.to_string()), ("kafka.invalid:9092".into(), "kafka.invalid".into())]
    {
        let mut cluster = Cluster::on(&address);
        cluster.config.request_timeout = Span::secs(2);
        let error = refused(&cluster).await;
        assert_eq!((error.fault, error.retryable), (Fault::Outside, true), "{error}");
        assert!(error.message.contains("bus.brokers") && error.message.contains(&named), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_says_nothing_is_given_up() {
    // It takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut cluster = Cluster::on(&silent.local_addr().unwrap().to_string());
    cluster.config.request_timeout = Span::secs(2);
    let error = refused(&cluster).await;
    assert_eq!((error.fault, error.retryable), (Fault::Outside, true), "{error}");
    assert!(error.message.contains("bus.brokers"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_name_their_settings() {
    let broker = Broker::start_with(&[("KAFKA_SASL", "crest:secret".to_owned())]);
    let mut cluster = Cluster::on(&broker.address);
    cluster.config.security_protocol = SecurityProtocol::SaslPlaintext;
    cluster.config.username = "crest".to_owned();
    cluster.config.password = Password("secret".to_owned());
    cluster.open_as("one").await.expect("the right ones are taken");

    type Change = fn(&mut kafka::KafkaConfig);
    let wrong: [(Change, &[&str]); 3] = [
        (|c| c.password = Password("wrong".to_owned()), &["bus.kafka.username", "bus.kafka.password"]),
        (|c| c.sasl_mechanism = SaslMechanism::ScramSha512, &["bus.kafka.sasl_mechanism", "SCRAM-SHA-512"]),
        (|c| c.security_protocol = SecurityProtocol::SaslSsl, &["bus.kafka.security_protocol"]),
    ];
    for (change, named) in wrong {
        let mut wrong = Cluster::on(&broker.address);
        wrong.config = cluster.config.clone();
        change(&mut wrong.config);
        let error = refused(&wrong).await;
        assert_eq!((error.fault, error.retryable), (Fault::User, false), "{error}");
        assert!(named.iter().all(|name| error.message.contains(name)), "{error}");
        assert!(!error.message.contains("wrong"), "a password is not shown: {error}");
    }

    // No credentials at all: the broker just hangs up.
    let mut without = Cluster::on(&broker.address);
    without.config.request_timeout = Span::secs(3);
    let error = refused(&without).await;
    assert!(error.message.contains("bus.kafka.security_protocol"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_where_there_is_none_names_the_setting() {
    let mut cluster = Cluster::on(broker::shared());
    cluster.config.security_protocol = SecurityProtocol::Ssl;
    let error = refused(&cluster).await;
    assert_eq!((error.fault, error.retryable), (Fault::User, false), "{error}");
    assert!(error.message.contains("bus.kafka.security_protocol"), "{error}");

    cluster.config.ca_file = Some("/nowhere/ca.pem".into());
    let error = refused(&cluster).await;
    assert_eq!((error.fault, error.retryable), (Fault::User, false), "{error}");
    assert!(error.message.contains("bus.kafka.ca_file"), "{error}");
}
