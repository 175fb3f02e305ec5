//! How a reader joins its group, notices that it is not let in, and leaves.

use rdkafka::consumer::{BaseConsumer, Consumer};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tracing::{info, warn};

use crest_core::Result;
use crest_core::bus::Partition;

use super::super::super::cluster::{kib, millis};
use super::super::super::metrics;
use super::super::super::watch::request;
use super::super::context::{Client, Group};
use super::super::members::Seat;
use super::super::state::Shared;
use super::Thread;

impl Thread {
    /// A client that is a member of the group.
    pub(crate) fn connect(shared: &Arc<Shared>, seat: &Seat) -> Result<Client> {
        let (cluster, config) = (&shared.cluster, &shared.cluster.config);
        let mut settings = cluster.settings();
        settings
            .set("group.id", cluster.group(shared.topic, &shared.group))
            .set("group.instance.id", cluster.member(shared.topic, seat.number()))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", millis(config.session_timeout.0))
            .set("heartbeat.interval.ms", millis(config.session_timeout.0 / 4))
            // The thread polls whatever the stage does, and looks itself whether that is stuck.
            .set("max.poll.interval.ms", millis(config.stall_timeout.0.max(config.handover.0 * 2)))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("queued.max.messages.kbytes", kib(config.prefetch_bytes.as_u64() / 2))
            .set("fetch.max.bytes", (config.prefetch_bytes.as_u64() / 4).to_string())
            .set("fetch.message.max.bytes", (config.prefetch_bytes.as_u64() / 4).min(1 << 20).to_string())
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.error.backoff.ms", "100")
            .set("statistics.interval.ms", "5000");
        let mut client: Client = settings
            .create_with_context(Group::new(shared.clone()))
            .map_err(|error| request(cluster, "making a consumer", &error))?;
        let signal = shared.signal.clone();
        client.set_nonempty_callback(move || signal.raise());
        subscribe(&client, shared)?;
        Ok(client)
    }

    /// Why it is better to join anew, with another client. Kafka's library, having lost what it had while the
    /// brokers were silent, was seen to wait for ever for what does not come.
    pub(super) fn kept_out(&mut self, client: &Client) -> Option<String> {
        let cluster = &self.shared.cluster;
        if client.context().inside() || cluster.away.load(Ordering::Relaxed) || self.shared.lock().left {
            self.outside_since = None;
            return None;
        }
        // Members hear of a rebalance with a heartbeat, and have so long to finish what they were handed.
        let patience = cluster.config.session_timeout.0 * 2 + cluster.config.handover.0;
        let since = self.outside_since.get_or_insert_with(Instant::now);
        if since.elapsed() < patience {
            return None;
        }
        self.outside_since = None;
        Some(format!("the brokers answer, and the group has not let this process in for {} s", patience.as_secs()))
    }

    /// Leaves the group when the stage is stuck, joins it again when it goes on.
    pub(super) fn look_at_stage(&mut self, client: &Client) {
        let mut state = self.shared.lock();
        let limit = self.shared.cluster.config.stall_timeout.0;
        let stuck = state.at_work().is_some_and(|at_work| at_work >= limit);
        if stuck && !state.left && !state.partitions.is_empty() {
            state.left = true;
            drop(state);
            warn!(
                topic = self.shared.topic.name(),
                group = self.shared.group,
                "the stage did not ask for more for {} s (bus.kafka.stall_timeout); its partitions go to others",
                limit.as_secs_f32()
            );
            client.unsubscribe();
        } else if !stuck && state.left {
            state.left = false;
            drop(state);
            info!(topic = self.shared.topic.name(), group = self.shared.group, "the stage goes on");
            if let Err(error) = subscribe(client, &self.shared) {
                self.shared.lock().left = true;
                self.tell(error);
            }
        }
    }

    /// Gives up everything; another client begins anew.
    pub(super) fn lose(&mut self, client: Client) {
        let mut state = self.shared.lock();
        let held: Vec<Partition> = state.partitions.keys().copied().collect();
        state.give_up(&held);
        state.gone(&held);
        state.left = false;
        drop(state);
        self.shared.news.notify_one();
        self.reading.clear();
        self.batch.clear();
        self.paused = false;
        // Leaving may take as long as whatever went wrong.
        client.context().retire();
        let leaving = std::thread::Builder::new().name("kafka leaving".to_owned()).spawn(move || drop(client));
        if let Err(error) = leaving {
            warn!("no thread can be made to leave a group: {error}");
        }
    }

    /// The subscription was dropped.
    pub(super) fn close(self, client: Client) {
        client.context().commit_now(&client, None);
        // A member that keeps its name does not leave the group, so that it can come back.
        drop::<BaseConsumer<Group>>(client);
        metrics::over(&self.shared);
        drop(self.seat);
    }
}

fn subscribe(client: &Client, shared: &Shared) -> Result<()> {
    let subscribed = client.subscribe(&[shared.name()]);
    subscribed.map_err(|error| request(&shared.cluster, "subscribing", &error))
}
