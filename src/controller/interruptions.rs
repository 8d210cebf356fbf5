//! Interruption of passes that wait for the API of a created cluster while the load balancer or a server on the way to it
//! stops. A connection through a container that is gone gets no response, not even a reset, so each request would last
//! until its timeout, and the repair as long.

use std::{collections::BTreeMap, future::pending};

use tokio::sync::broadcast::{self, Receiver, Sender, error::RecvError};

use crate::{api::names, docker::engine::Event};

/// Number of interruptions that a pass may be behind. One that is further behind starts again too.
const BEHIND: usize = 64;

/// Sender of the UIDs of LocalClusters to all passes.
#[derive(Clone)]
pub struct Interruptions(Sender<String>);

impl Default for Interruptions {
    fn default() -> Self {
        Self(broadcast::channel(BEHIND).0)
    }
}

impl Interruptions {
    /// Returns the interruptions from now on.
    pub fn from_now(&self) -> Pending {
        Pending(self.0.subscribe())
    }

    /// Interrupts the pass over the LocalCluster on whose way an event stopped a container with these labels.
    pub fn by(&self, event: &Event, labels: &BTreeMap<String, String>) {
        let stops = event.is_exit() || matches!(event.action.as_str(), "pause" | "disconnect");
        let role = labels.get(names::ROLE).map(String::as_str);
        if let Some(uid) = labels.get(names::UID)
            && stops
            && matches!(role, Some("loadbalancer" | "server"))
        {
            // Nobody listens while no pass is running.
            self.0.send(uid.clone()).ok();
        }
    }
}

/// Interruptions since the beginning of a pass.
pub struct Pending(Receiver<String>);

impl Pending {
    /// Waits until the pass over the LocalCluster with this UID is interrupted.
    pub async fn of(&mut self, uid: &str) {
        loop {
            match self.0.recv().await {
                Ok(interrupted) if interrupted == uid => return,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => pending().await,
            }
        }
    }
}
