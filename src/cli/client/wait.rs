//! Waiting until a cluster is as its spec desires.

use std::{io, time::Duration};

use clap::Args;
use tokio::time::{Instant, sleep};

use super::{
    management::Management,
    progress::{self, Outcome, Progress},
};
use crate::{
    api::{
        LocalCluster, Registry,
        condition::{self, ConditionType},
    },
    cli::{Failure, Result, paint::Paint},
    plan::expiry,
};

/// Time between two looks at an object.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long an object must need its user before waiting ends: the operator may not have seen yet what the user did just
/// before, as the creation of a HostPolicy or a Secret.
pub(super) const STALLED: Duration = Duration::from_secs(3);

/// Whether and how long to wait.
#[derive(Args, Clone, Debug)]
pub struct Wait {
    /// Waits until it is done; --wait=false returns at once
    #[arg(
        long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    pub wait: bool,
    /// Longest time to wait, such as 5m or 90s
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = duration)]
    pub timeout: Duration,
}

/// Parses a duration as the API writes it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = expiry::parse(text).and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| "it is not a duration; write hours, minutes and seconds, such as 5m or 1h30m".into())
}

impl Wait {
    /// Returns the time limit as kubectl reads it.
    pub fn seconds(&self) -> String {
        format!("{}s", self.timeout.as_secs())
    }

    /// Waits until a cluster is as its spec desires, and tells each phase. Returns the cluster and how long it took.
    pub async fn until_desired(
        &self,
        management: &Management,
        name: &str,
    ) -> Result<(LocalCluster, Duration)> {
        let began = Instant::now();
        let mut progress = Progress::new(Paint::of(&io::stderr()));
        let mut stalled: Option<Instant> = None;
        loop {
            let Some(cluster) = management.find::<LocalCluster>(name).await? else {
                return Err(Failure::NotReady(format!(
                    "{name} is gone: somebody deleted it in the meantime; create it again"
                )));
            };
            let (lines, outcome) = progress.look(&cluster);
            for line in lines {
                eprintln!("[{:>3}s] {line}", began.elapsed().as_secs());
            }
            let needs_user = matches!(outcome, Outcome::NeedsUser(_));
            let since = *stalled.get_or_insert_with(Instant::now);
            stalled = needs_user.then_some(since);
            match outcome {
                Outcome::Done => {
                    for warning in progress::warnings(&cluster) {
                        eprintln!("warning: {warning}");
                    }
                    return Ok((cluster, began.elapsed()));
                }
                Outcome::NeedsUser(why) if since.elapsed() >= STALLED || began.elapsed() >= self.timeout => {
                    return Err(Failure::NotReady(format!(
                        "{name} cannot become as desired: {why}; see `localcluster status {name}`"
                    )));
                }
                Outcome::Waits(why) if began.elapsed() >= self.timeout => {
                    return Err(Failure::NotReady(format!(
                        "{name} is not as desired after {}: {why}; see `localcluster status {name}`, or wait longer \
                         with --timeout",
                        self.seconds()
                    )));
                }
                Outcome::NeedsUser(_) | Outcome::Waits(_) => sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Waits until a Registry is Ready.
    pub async fn until_registry(&self, management: &Management, name: &str) -> Result {
        let began = Instant::now();
        loop {
            let registry = management.find::<Registry>(name).await?;
            let status = registry.as_ref().and_then(|registry| {
                let status = registry.status.as_ref()?;
                (status.observed_generation == registry.metadata.generation).then_some(status)
            });
            let ready = status.and_then(|status| condition::get(&status.conditions, ConditionType::Ready));
            if ready.is_some_and(|ready| ready.status == "True") {
                eprintln!("Registry {name} is Ready after {} s", began.elapsed().as_secs());
                return Ok(());
            }
            if began.elapsed() >= self.timeout {
                let why = ready.map_or_else(
                    || "no operator has processed it; check that one runs".to_owned(),
                    |ready| progress::sentence(&ready.reason, &ready.message),
                );
                return Err(Failure::NotReady(format!(
                    "the Registry {name} is not Ready after {}: {why}; see `kubectl describe registry {name}`, or wait \
                     longer with --timeout",
                    self.seconds()
                )));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until an object is gone.
    pub async fn until_gone(&self, management: &Management, name: &str, uid: Option<&str>) -> Result {
        let began = Instant::now();
        loop {
            let found = management.find::<LocalCluster>(name).await?;
            let Some(found) = found.filter(|found| found.metadata.uid.as_deref() == uid) else {
                return Ok(());
            };
            if began.elapsed() >= self.timeout {
                let ready = found
                    .status
                    .as_ref()
                    .and_then(|status| condition::get(&status.conditions, ConditionType::Ready));
                let why = ready.map_or_else(
                    || "no operator has processed its deletion; check that one runs".to_owned(),
                    |ready| progress::sentence(&ready.reason, &ready.message),
                );
                return Err(Failure::NotReady(format!(
                    "{name} still exists after {}: {why}; its deletion goes on, see `localcluster status {name}`",
                    self.seconds()
                )));
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_the_api() {
        assert_eq!(duration("1h1m1s"), Ok(Duration::from_secs(3661)));
        for bad in ["5", "5 minutes", "0s", ""] {
            assert!(duration(bad).unwrap_err().contains("such as 5m"), "{bad}");
        }
    }
}
