//! Leader election: a Lease prevents a second operator from managing the same Docker Engine.
//!
//! A process that cannot renew its Lease stops before another one may start: it gives up one renewal interval before
//! the Lease expires. This assumes that the clocks of both processes differ by less than that, since a Lease contains
//! wall-clock times.

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

/// Duration of a Lease after a renewal.
const LEASE: Duration = Duration::from_secs(15);
/// Interval of renewals.
const RENEW: Duration = Duration::from_secs(5);
/// Interval of attempts by a standby, and after an error.
const RETRY: Duration = Duration::from_secs(2);
/// Timeout of a call: a renewal has [`LEASE`] - 2 * [`RENEW`], in which one without a response is read and tried again.
const CALL: Duration = Duration::from_secs(3);

/// Error for a Lease that this process no longer holds.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Lost {
    /// Another process holds it.
    #[error("Lease {lease} was acquired by {by}")]
    Taken {
        /// Name of the Lease.
        lease: String,
        /// New holder.
        by: String,
    },
    /// The API server was unreachable for too long, so another process may acquire it at any moment.
    #[error("Lease {lease} could not be renewed in time")]
    Late {
        /// Name of the Lease.
        lease: String,
    },
}

/// A candidate for a Lease.
#[derive(Clone)]
pub struct Elector {
    api: Api<Lease>,
    name: String,
    me: String,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

enum Outcome {
    /// The Lease as it was written.
    Mine(Box<Lease>),
    Theirs(String),
    /// Another client wrote meanwhile. Reading again shows who.
    Raced,
    /// There was no response to a write of this spec, which may have taken effect.
    Unanswered(Box<LeaseSpec>),
}

/// A write without a response.
struct Sent {
    /// Time before the request.
    at: Instant,
    /// What was to be written.
    spec: Box<LeaseSpec>,
}

/// A renewal.
struct Renewal {
    /// Time before the request.
    at: Instant,
    /// The Lease as it was written.
    lease: Box<Lease>,
}

impl Elector {
    /// Creates a candidate for the Lease `namespace/name`. `me` must be unique among processes, and should stay the
    /// same for a process that restarts in its Pod, which then reacquires its Lease immediately.
    pub fn new(client: Client, namespace: &str, name: &str, me: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            me: me.to_owned(),
            clock: Arc::new(Timestamp::now),
        }
    }

    /// Waits for the Lease, runs `work` while holding it, and releases it, so that the next process starts immediately.
    ///
    /// Returns `None` if `stop` is cancelled before the Lease is acquired. Afterwards `work` must end itself on `stop`;
    /// the Lease is held until it does. If the Lease is lost, `work` is dropped and `stop` is cancelled for the tasks
    /// that it started.
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
        tracing::info!(lease = self.name, holder = self.me, "acquired the Lease; this process is the leader");
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

    /// Acquires the Lease.
    async fn acquire(&self, on_role: &impl Fn(Role)) -> Renewal {
        let mut logged = None;
        loop {
            let at = Instant::now();
            match self.attempt(None).await {
                Ok(Outcome::Mine(lease)) => return Renewal { at, lease },
                Ok(Outcome::Theirs(holder)) => {
                    on_role(Role::Standby);
                    if logged.as_ref() != Some(&holder) {
                        tracing::info!(lease = self.name, %holder, "waiting for the Lease, which another process \
                            holds");
                        logged = Some(holder);
                    }
                }
                Ok(Outcome::Raced) => continue,
                Ok(Outcome::Unanswered(_)) => {
                    tracing::warn!(lease = self.name, error = unanswered(), "cannot acquire the Lease");
                }
                Err(error) => tracing::warn!(lease = self.name, error, "cannot acquire the Lease"),
            }
            sleep(RETRY).await;
        }
    }

    /// Renews the Lease until that fails.
    async fn keep(&self, mut last: Renewal) -> Lost {
        loop {
            let Renewal { at, lease } = last;
            sleep_until(at + RENEW).await;
            match timeout_at(at + LEASE - RENEW, self.renew(lease)).await {
                Ok(Ok(renewal)) => last = renewal,
                Ok(Err(by)) => return Lost::Taken { lease: self.name.clone(), by },
                Err(_) => return Lost::Late { lease: self.name.clone() },
            }
        }
    }

    /// Returns the renewal or the name of another holder. `written` is the Lease as this process wrote it last: as long as
    /// no other process writes, it need not be read. After a write without a response, it is read at once: a write that took
    /// effect is as good as one with a response, and there is little time for another one.
    async fn renew(&self, written: Box<Lease>) -> Result<Renewal, String> {
        let (mut known, mut sent) = (Some(written), None);
        loop {
            let at = Instant::now();
            if let Some(sent) = sent.take() {
                match self.took_effect(sent).await {
                    Ok(Some(renewal)) => return Ok(renewal),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(lease = self.name, error, "cannot read the Lease"),
                }
            }
            match self.attempt(known.take()).await {
                Ok(Outcome::Mine(lease)) => return Ok(Renewal { at, lease }),
                Ok(Outcome::Theirs(holder)) => return Err(holder),
                Ok(Outcome::Raced) => {}
                Ok(Outcome::Unanswered(spec)) => {
                    tracing::warn!(lease = self.name, error = unanswered(), "cannot renew the Lease");
                    sent = Some(Sent { at, spec });
                }
                Err(error) => {
                    tracing::warn!(lease = self.name, error, "cannot renew the Lease");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Returns the renewal if a write without a response took effect.
    async fn took_effect(&self, Sent { at, spec }: Sent) -> Result<Option<Renewal>, String> {
        let found = self.call(self.api.get_opt(&self.name)).await?.map_err(|e| e.to_string())?;
        let lease = found.filter(|lease| lease.spec.as_ref().is_some_and(|found| is_same(found, &spec)));
        Ok(lease.map(|lease| Renewal { at, lease: Box::new(lease) }))
    }

    /// Acquires or renews the Lease, which is read unless it is known.
    async fn attempt(&self, known: Option<Box<Lease>>) -> Result<Outcome, String> {
        let found = match known {
            Some(lease) => Some(*lease),
            None => self.call(self.api.get_opt(&self.name)).await?.map_err(|e| e.to_string())?,
        };
        let current = found.as_ref().and_then(|lease| lease.spec.as_ref());
        let Some(spec) = next_spec(current, &self.me, LEASE.as_secs() as i32, (self.clock)()) else {
            return Ok(Outcome::Theirs(current.and_then(|c| c.holder_identity.clone()).unwrap_or_default()));
        };
        self.write(found, spec).await
    }

    /// Replaces this version of the Lease, and no other.
    async fn write(&self, found: Option<Lease>, spec: LeaseSpec) -> Result<Outcome, String> {
        let exists = found.is_some();
        let sent = Box::new(spec.clone());
        let written = match found {
            Some(mut lease) => {
                lease.spec = Some(spec);
                self.call(self.api.replace(&self.name, &PostParams::default(), &lease)).await
            }
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(spec) };
                self.call(self.api.create(&PostParams::default(), &lease)).await
            }
        };
        let Ok(written) = written else { return Ok(Outcome::Unanswered(sent)) };
        match written {
            Ok(lease) => Ok(Outcome::Mine(Box::new(lease))),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Outcome::Raced),
            // It was deleted in the meantime. A Lease that is created instead lacks its namespace.
            Err(kube::Error::Api(status)) if status.code == 404 && exists => Ok(Outcome::Raced),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Releases the Lease if this process holds it. Failure is harmless: it expires.
    async fn release(&self) {
        let released = async {
            let found = self.call(self.api.get_opt(&self.name)).await?.map_err(|e| e.to_string())?;
            let spec = found.as_ref().and_then(|lease| lease.spec.as_ref());
            match spec.and_then(|current| released_spec(current, &self.me, (self.clock)())) {
                Some(spec) => match self.write(found, spec).await? {
                    Outcome::Unanswered(_) => Err(unanswered()),
                    Outcome::Mine(_) | Outcome::Theirs(_) | Outcome::Raced => Ok(()),
                },
                None => Ok(()),
            }
        };
        match released.await {
            Ok(()) => tracing::info!(lease = self.name, "released the Lease"),
            Err::<_, String>(error) => tracing::warn!(lease = self.name, error, "cannot release the Lease"),
        }
    }

    async fn call<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<kube::Result<T>, String> {
        timeout(CALL, call).await.map_err(|_| unanswered())
    }
}

fn unanswered() -> String {
    format!("no response within {}s", CALL.as_secs())
}

/// Reports whether a Lease has the spec that was written. A [`MicroTime`] has microseconds once it was written.
fn is_same(found: &LeaseSpec, written: &LeaseSpec) -> bool {
    let renewed = |spec: &LeaseSpec| spec.renew_time.as_ref().map(|time| time.0.as_microsecond());
    found.holder_identity == written.holder_identity && renewed(found) == renewed(written)
}

/// Returns the spec with which `me` holds the Lease for `seconds` from `now` on; `None` while another process holds it.
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

/// Returns the spec without its holder; `None` if the holder is not `me`.
fn released_spec(current: &LeaseSpec, me: &str, now: Timestamp) -> Option<LeaseSpec> {
    (current.holder_identity.as_deref() == Some(me)).then(|| LeaseSpec {
        holder_identity: None,
        renew_time: Some(MicroTime(now)),
        ..current.clone()
    })
}

/// Reports whether a Lease has expired. One without an end never started.
fn expired(lease: &LeaseSpec, now: Timestamp) -> bool {
    match (&lease.renew_time, lease.lease_duration_seconds) {
        (Some(renewed), Some(seconds)) => now.duration_since(renewed.0).as_secs() >= i64::from(seconds),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
