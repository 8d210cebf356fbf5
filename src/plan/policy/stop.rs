//! The stop of clusters that violate their policy, after a grace period.

use jiff::{SignedDuration, Timestamp};

use super::{standing::Standing, term::Term};
use crate::api::{
    LocalClusterStatus,
    condition::{self, ConditionType},
    reason::Reason,
};

/// Returns the grace period of a cluster that its policy stops. `status` is the last one.
pub fn grace(status: &LocalClusterStatus, standing: &Standing, now: Timestamp) -> Option<Term> {
    let recorded = recorded(status);
    if standing.is_unknown() {
        return recorded;
    }
    let violates = standing.problem.as_ref().is_some_and(|p| p.reason == Reason::PolicyViolation);
    let length = standing.rules.stop_after.filter(|_| violates)?;
    Some(Term::of(recorded, length, (now, now)))
}

/// Returns the grace period that a status records.
fn recorded(status: &LocalClusterStatus) -> Option<Term> {
    let violation = status.violation.as_ref()?;
    let (since, end) = (violation.since.0, violation.stops_at.0);
    let length: SignedDuration = end.duration_since(since);
    (!length.is_negative()).then_some(Term { since, length })
}

/// Returns why the policy stops a cluster now; `None` if it runs as its spec says. Only what was recorded before stops
/// it, and while the policy is unknown, what runs is not stopped, and what is stopped does not start.
pub fn cause(status: &LocalClusterStatus, standing: &Standing, now: Timestamp) -> Option<String> {
    let over = recorded(status).filter(|grace| grace.end().is_some_and(|end| end <= now))?;
    if standing.is_unknown() {
        let stopped = condition::get(&status.conditions, ConditionType::Stopped);
        let stopped = stopped.is_some_and(|c| c.reason == Reason::PolicyViolation.as_str());
        return stopped.then(|| "its HostPolicy stopped it, and is not known now".to_owned());
    }
    let policy = standing.policy.as_deref().unwrap_or_default();
    (grace(status, standing, now) == Some(over))
        .then(|| format!("the HostPolicy {policy} stops clusters that violate it"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::{
        api::{condition::Moment, local_cluster::ViolationStatus},
        plan::policy::{parse, rules::Violation},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn standing(rules: &str, violates: bool) -> Standing {
        let spec = serde_saphyr::from_str(&format!("{{namespaceSelector: {{}}, {rules}}}")).unwrap();
        let policies = [parse::policy("teams", &spec)];
        let standing = Standing::of(&policies, ("team-a", Some(&Default::default())), Default::default());
        let violations = [Violation::new("spec.image x", "nodes.images", "none")];
        standing.judged(if violates { &violations } else { &[] })
    }

    fn after(status: &LocalClusterStatus, standing: &Standing, now: i64) -> LocalClusterStatus {
        let violation = grace(status, standing, at(now)).and_then(|grace| {
            Some(ViolationStatus { since: Time(grace.since), stops_at: Time(grace.end()?) })
        });
        LocalClusterStatus { violation, ..status.clone() }
    }

    #[test]
    fn it_is_stopped_when_the_recorded_time_is_over_and_no_earlier() {
        let (stop, none) = (standing("onViolation: Stop, grace: 1h", true), LocalClusterStatus::default());
        let begun = after(&none, &stop, 1000);
        let stops = |status: &LocalClusterStatus, standing: &Standing, now| cause(status, standing, at(now));
        assert_eq!((stops(&none, &stop, 99_000), stops(&begun, &stop, 4599)), (None, None));
        assert!(stops(&begun, &stop, 4600).unwrap().contains("HostPolicy teams stops"));
        // A policy that keeps, allows or waits longer does not.
        let longer = standing("onViolation: Stop, grace: 2h", true);
        let (keep, allows) = (standing("grace: 1h", true), standing("onViolation: Stop, grace: 1h", false));
        for (standing, recorded) in [(&longer, Some(8200)), (&keep, None), (&allows, None)] {
            assert_eq!(stops(&begun, standing, 4600), None);
            let next = after(&begun, standing, 4600).violation;
            assert_eq!(next.map(|v| v.stops_at.0.as_second()), recorded);
        }
        // A shorter grace begins again.
        let shorter =
            after(&after(&none, &longer, 1000), &standing("onViolation: Stop, grace: 10m", true), 5000);
        assert_eq!(shorter.violation.unwrap().stops_at.0.as_second(), 5600);
    }

    #[test]
    fn what_is_unknown_neither_stops_nor_starts_it() {
        let stop = standing("onViolation: Stop, grace: 1h", true);
        let mut status = after(&LocalClusterStatus::default(), &stop, 1000);
        let invalid = standing("onViolation: Stop, quota: {memory: much}", false);
        let gone = Standing::of(&[], ("team-a", None), Default::default());
        for unknown in [&invalid, &gone] {
            assert_eq!(after(&status, unknown, 9000), status);
            assert_eq!(cause(&status, unknown, at(9000)), None);
        }
        let stopped = (true, Reason::PolicyViolation, "");
        let moment = Moment { generation: 1, now: at(5000) };
        condition::set(&mut status.conditions, ConditionType::Stopped, stopped, moment);
        for unknown in [&invalid, &gone] {
            assert!(cause(&status, unknown, at(9000)).is_some());
        }
        // Without any policy, nothing says that it is stopped.
        let labels = Default::default();
        let without = Standing::of(&[], ("team-a", Some(&labels)), Default::default());
        assert_eq!(
            (cause(&status, &without, at(9000)), after(&status, &without, 9000).violation),
            (None, None)
        );
    }
}
