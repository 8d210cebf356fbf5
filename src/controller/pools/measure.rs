//! How long claims take until they are Ready, for metrics.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::api::LocalClusterClaim;

/// Age up to which a claim is new: the time of its creation is in whole seconds.
const NEW: Duration = Duration::from_secs(2);

/// Claims by UID: since when they wait. Without a time, they were Ready once, or somebody else has looked at them before.
#[derive(Default)]
pub(super) struct Waits(Mutex<HashMap<String, Option<Instant>>>);

impl Waits {
    /// Notes the claims that exist.
    pub(super) fn see<'a>(&self, claims: impl Iterator<Item = &'a LocalClusterClaim>, now: Timestamp) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *known);
        for claim in claims {
            let uid = claim.metadata.uid.clone().unwrap_or_default();
            let since = before.remove(&uid).unwrap_or_else(|| since(claim, now));
            known.insert(uid, since);
        }
    }

    /// Returns how long a claim took that is Ready now, the first time.
    pub(super) fn took(&self, claim: &LocalClusterClaim) -> Option<Duration> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(known.get_mut(claim.metadata.uid.as_deref()?)?.take()?.elapsed())
    }
}

fn since(claim: &LocalClusterClaim, now: Timestamp) -> Option<Instant> {
    let created = claim.metadata.creation_timestamp.as_ref().filter(|_| claim.status.is_none())?;
    let age = Duration::try_from(now.duration_since(created.0)).unwrap_or_default();
    Instant::now().checked_sub(if age > NEW { age } else { Duration::ZERO })
}
