//! One writer: the Lease that keeps a second operator from driving the same Docker Engine.
//!
//! A process that can't renew stops before another may start: it gives up a whole renewal before its Lease ends. This
//! trusts the clocks of two processes to differ by less than that, since a Lease holds times of day.

use std::{future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::server::Role;

/// How long a Lease holds after a renewal.
const LEASE: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(5);
/// How often a standby looks, and how long after an error it is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How long a call may take.
const CALL: Duration = Duration::from_secs(5);

/// The Lease is no longer this process's.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Lost {
    /// Another process has it.
    #[error("the Lease {lease} was taken by {by}")]
    Taken {
        /// The Lease.
        lease: String,
        /// Its new holder.
        by: String,
    },
    /// The API server could not be reached for too long, so another may take it any moment.
    #[error("the Lease {lease} could not be renewed in time")]
    Late {
        /// The Lease.
        lease: String,
    },
}

/// A contender for a Lease.
#[derive(Clone)]
pub struct Elector {
    api: Api<Lease>,
    name: String,
    me: String,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

enum Outcome {
    Mine,
    Theirs(String),
    /// Somebody wrote between reading and writing. Reading again tells who.
    Raced,
}

impl Elector {
    /// For the Lease `namespace/name`. `me` must be another's name in every process, and should be the same for one
    /// that comes back from a crash in its Pod: it has its Lease back at once.
    pub fn new(client: Client, namespace: &str, name: &str, me: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            me: me.to_owned(),
            clock: Arc::new(Timestamp::now),
        }
    }

    /// Waits for the Lease, does `work` while holding it, and gives it back, so that the next one starts at once.
    ///
    /// `None` when `stop` came before the Lease. After that `work` is to end by `stop` itself; until it does the
    /// Lease is kept. When the Lease is lost `work` is dropped and `stop` is cancelled, for the tasks it started.
    pub async fn lead<T, F: Future<Output = T>>(
        &self,
        stop: &CancellationToken,
        on_role: impl Fn(Role),
        work: impl FnOnce() -> F,
    ) -> Result<Option<T>, Lost> {
        let won = tokio::select! {
            won = self.acquire(&on_role) => won,
            () = stop.cancelled() => return Ok(None),
        };
        tracing::info!(lease = self.name, holder = self.me, "this process leads");
        on_role(Role::Leader);
        let done = tokio::select! {
            biased;
            lost = self.keep(won) => Err(lost),
            done = work() => Ok(Some(done)),
        };
        match &done {
            Ok(_) => self.release().await,
            Err(_) => stop.cancel(),
        }
        done
    }

    /// The moment from which the Lease holds.
    async fn acquire(&self, on_role: &impl Fn(Role)) -> Instant {
        let mut told = None;
        loop {
            let asked = Instant::now();
            match self.attempt().await {
                Ok(Outcome::Mine) => return asked,
                Ok(Outcome::Theirs(holder)) => {
                    on_role(Role::Standby);
                    if told.as_ref() != Some(&holder) {
                        tracing::info!(lease = self.name, %holder, "waiting for the Lease");
                        told = Some(holder);
                    }
                }
                Ok(Outcome::Raced) => continue,
                Err(error) => tracing::warn!(lease = self.name, error, "can't ask for the Lease"),
            }
            sleep(RETRY).await;
        }
    }

    /// Renews until that fails.
    async fn keep(&self, mut renewed: Instant) -> Lost {
        loop {
            sleep_until(renewed + RENEW).await;
            match timeout_at(renewed + LEASE - RENEW, self.renew()).await {
                Ok(Ok(at)) => renewed = at,
                Ok(Err(by)) => return Lost::Taken { lease: self.name.clone(), by },
                Err(_) => return Lost::Late { lease: self.name.clone() },
            }
        }
    }

    /// Ends with a renewal or with the name of another holder.
    async fn renew(&self) -> Result<Instant, String> {
        loop {
            let asked = Instant::now();
            match self.attempt().await {
                Ok(Outcome::Mine) => return Ok(asked),
                Ok(Outcome::Theirs(holder)) => return Err(holder),
                Ok(Outcome::Raced) => {}
                Err(error) => {
                    tracing::warn!(lease = self.name, error, "can't renew the Lease");
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn attempt(&self) -> Result<Outcome, String> {
        let found = self.call(self.api.get_opt(&self.name)).await?.map_err(|e| e.to_string())?;
        let current = found.as_ref().and_then(|lease| lease.spec.as_ref());
        let Some(spec) = next_spec(current, &self.me, LEASE.as_secs() as i32, (self.clock)()) else {
            return Ok(Outcome::Theirs(current.and_then(|c| c.holder_identity.clone()).unwrap_or_default()));
        };
        self.write(found, spec).await
    }

    /// Writes a Lease over the one that was found, and over no other.
    async fn write(&self, found: Option<Lease>, spec: LeaseSpec) -> Result<Outcome, String> {
        let written = match found {
            Some(mut lease) => {
                lease.spec = Some(spec);
                self.call(self.api.replace(&self.name, &PostParams::default(), &lease)).await?
            }
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(spec) };
                self.call(self.api.create(&PostParams::default(), &lease)).await?
            }
        };
        match written {
            Ok(_) => Ok(Outcome::Mine),
            // 404: it was deleted in between.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Outcome::Raced),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Leaves the Lease without a holder, if it is this process's. Failing is no harm: it ends by itself.
    async fn release(&self) {
        let released = async {
            let found = self.call(self.api.get_opt(&self.name)).await?.map_err(|e| e.to_string())?;
            let spec = found.as_ref().and_then(|lease| lease.spec.as_ref());
            match spec.and_then(|current| released_spec(current, &self.me, (self.clock)())) {
                Some(spec) => self.write(found, spec).await.map(drop),
                None => Ok(()),
            }
        };
        match released.await {
            Ok(()) => tracing::info!(lease = self.name, "the Lease is free"),
            Err::<_, String>(error) => tracing::warn!(lease = self.name, error, "can't give the Lease back"),
        }
    }

    async fn call<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<kube::Result<T>, String> {
        timeout(CALL, call).await.map_err(|_| format!("no answer within {} s", CALL.as_secs()))
    }
}

/// What `me` is to write for holding the Lease for `seconds` from `now` on; `None` while another holds it.
pub fn next_spec(current: Option<&LeaseSpec>, me: &str, seconds: i32, now: Timestamp) -> Option<LeaseSpec> {
    let current = current.cloned().unwrap_or_default();
    let holder = current.holder_identity.as_deref().filter(|holder| !holder.is_empty());
    let mine = holder == Some(me);
    if holder.is_some() && !mine && !expired(&current, now) {
        return None;
    }
    Some(LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: Some(seconds),
        acquire_time: if mine { current.acquire_time } else { Some(MicroTime(now)) },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(current.lease_transitions.unwrap_or(0) + i32::from(!mine)),
        ..current
    })
}

/// The Lease without its holder; `None` when that is not `me`.
fn released_spec(current: &LeaseSpec, me: &str, now: Timestamp) -> Option<LeaseSpec> {
    (current.holder_identity.as_deref() == Some(me)).then(|| LeaseSpec {
        holder_identity: None,
        renew_time: Some(MicroTime(now)),
        ..current.clone()
    })
}

/// Whether a Lease has ended. One that does not say until when never began.
fn expired(lease: &LeaseSpec, now: Timestamp) -> bool {
    match (&lease.renew_time, lease.lease_duration_seconds) {
        (Some(renewed), Some(seconds)) => now.duration_since(renewed.0).as_secs() >= i64::from(seconds),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
