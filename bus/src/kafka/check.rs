//! Looks at a cluster without changing it: whether it can be reached, and its topics used.

use std::sync::Arc;

use crest_core::Result;
use crest_core::instance::InstanceId;

use super::cluster::Cluster;
use super::config::KafkaConfig;
use super::producer::Durable;
use super::topics::{self, Found, Mismatch};

/// What a look at a cluster came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Topics that are there.
    pub there: usize,
    /// Names of those that crest would make.
    pub missing: Vec<String>,
    /// Where topics are not what crest would have made of them.
    pub mismatches: Vec<Mismatch>,
}

/// Connects to the cluster and looks at its topics. Must be called within a Tokio runtime.
///
/// Fails with the error that opening the bus would give.
pub async fn check(brokers: &[String], config: KafkaConfig) -> Result<Checked> {
    let cluster = Cluster::new(brokers, config, &InstanceId::from_raw("doctor"))?;
    let client = Arc::new(Durable::new(&cluster)?);
    super::reach(&cluster, &client).await?;
    let wanted = topics::wanted(&cluster);
    let Found { missing, mismatches } = topics::look(&cluster, &wanted).await?;
    let missing: Vec<String> = missing.into_iter().map(|topic| topic.name).collect();
    Ok(Checked { there: wanted.len() - missing.len(), missing, mismatches })
}
