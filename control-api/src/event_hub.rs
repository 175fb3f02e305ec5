//! Who listens to whose events: bounds their number, and wakes them when there is something new.
//!
//! One task asks the store for all of them, and only while there are any: what it costs does not grow
//! with the number of streams of one tenant, and events that another process commits are seen as well.

use crest_core::OrganizationId;
use crest_core::store::SharedStore;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

use crate::codes::Code;
use crate::config::ApiConfig;
use crate::problem::Problem;

/// The listeners of one server. Clones share them.
#[derive(Clone)]
pub struct EventHub(Arc<Inner>);

struct Inner {
    store: SharedStore,
    poll: Duration,
    max_in_all: u32,
    max_of_one: u32,
    listening: Mutex<Listening>,
}

#[derive(Default)]
struct Listening {
    tenants: HashMap<OrganizationId, Listened>,
    in_all: u32,
    /// Whether the task runs that looks for new events.
    watched: bool,
}

struct Listened {
    listeners: u32,
    last: watch::Sender<u64>,
}

/// One listener's place. Dropping it gives the place back.
pub struct Listener {
    hub: EventHub,
    organization: OrganizationId,
    last: watch::Receiver<u64>,
}

impl EventHub {
    /// Without listeners.
    pub fn new(store: SharedStore, config: &ApiConfig) -> Self {
        Self(Arc::new(Inner {
            store,
            poll: config.event_poll.0,
            max_in_all: config.max_event_streams,
            max_of_one: config.max_organization_event_streams,
            listening: Mutex::default(),
        }))
    }

    /// Takes a place, if there is one left.
    pub fn listen(&self, organization: &OrganizationId) -> Result<Listener, Problem> {
        let mut listening = self.listening();
        let own = listening.tenants.get(organization).map_or(0, |tenant| tenant.listeners);
        if own >= self.0.max_of_one {
            let text = format!("An organization may have {own} event streams open; close one.");
            return Err(Problem::new(Code::TooManyEventStreams, text));
        }
        if listening.in_all >= self.0.max_in_all {
            let text = "The server has as many event streams open as it may; try again later.";
            return Err(Problem::new(Code::TooManyEventStreams, text));
        }
        listening.in_all += 1;
        let tenant = listening
            .tenants
            .entry(organization.clone())
            .or_insert_with(|| Listened { listeners: 0, last: watch::Sender::new(0) });
        tenant.listeners += 1;
        let last = tenant.last.subscribe();
        if !std::mem::replace(&mut listening.watched, true) {
            tokio::spawn(watch(self.clone()));
        }
        metrics::gauge!("crest_event_streams").set(f64::from(listening.in_all));
        Ok(Listener { hub: self.clone(), organization: organization.clone(), last })
    }

    fn listening(&self) -> MutexGuard<'_, Listening> {
        self.0.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Notes that everything which is in the store now is about to be read.
    pub fn about_to_read(&mut self) {
        self.last.mark_unchanged();
    }

    /// Waits for events that were committed since.
    pub async fn more(&mut self) {
        if self.last.changed().await.is_err() {
            // Nobody will ever tell: the sender lives as long as this listener.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listening = self.hub.listening();
        listening.in_all = listening.in_all.saturating_sub(1);
        let left = listening.tenants.get_mut(&self.organization).map_or(0, |tenant| {
            tenant.listeners = tenant.listeners.saturating_sub(1);
            tenant.listeners
        });
        if left == 0 {
            listening.tenants.remove(&self.organization);
        }
        metrics::gauge!("crest_event_streams").set(f64::from(listening.in_all));
    }
}

/// Looks for new events until nobody listens.
async fn watch(hub: EventHub) {
    let mut failing = false;
    loop {
        tokio::time::sleep(hub.0.poll).await;
        let organizations: Vec<_> = {
            let mut listening = hub.listening();
            if listening.tenants.is_empty() {
                listening.watched = false;
                return;
            }
            listening.tenants.keys().cloned().collect()
        };
        match hub.0.store.last_positions(&organizations).await {
            Ok(positions) => {
                failing = false;
                let listening = hub.listening();
                for (organization, position) in positions {
                    if let Some(tenant) = listening.tenants.get(&organization) {
                        tenant.last.send_if_modified(|last| std::mem::replace(last, position) != position);
                    }
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "new events cannot be looked for; event streams wait");
                }
            }
        }
    }
}
