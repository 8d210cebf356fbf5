//! Status from what was seen: pure, and complete each time, since server-side apply drops what is not sent.

mod cluster;
mod registry;
mod stopped;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

pub use cluster::{ClusterView, cluster, cluster_blocked, host_url, network_url};
pub use registry::{RegistryView, in_use, registry, registry_blocked};
pub use stopped::stopped;

use crate::{
    api::condition::{self, Status, reasons, types},
    plan::steps::{Problem, Verdict},
};

/// When and for which generation a status is made.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The object's generation.
    pub generation: i64,
    /// The time.
    pub now: Timestamp,
}

/// Sets all conditions of an object of which the problems are known. `unknown`: the conditions from this type on
/// can't be judged, since the plan did not get that far.
fn judge(
    conditions: &mut Vec<Condition>,
    all: &[&'static str],
    problems: &[Problem],
    unknown: Option<&str>,
    moment: Moment,
) {
    judge_each(conditions, all, problems, unknown, moment);
    sum_up(conditions, all, problems, moment);
}

/// Sets the conditions that `Ready` sums up.
fn judge_each(
    conditions: &mut Vec<Condition>,
    all: &[&'static str],
    problems: &[Problem],
    unknown: Option<&str>,
    moment: Moment,
) {
    let Moment { generation, now } = moment;
    let cut = unknown.and_then(|u| all.iter().position(|t| *t == u)).unwrap_or(all.len());
    for (index, type_) in all.iter().enumerate() {
        let mut own = problems.iter().filter(|p| p.condition == *type_);
        // What needs a person is said first: the rest mostly follows from it.
        let failing = || own.clone().find(|p| p.verdict != Verdict::Unknown);
        let worst = own.clone().find(|p| p.stalled()).or_else(failing).or_else(|| own.next());
        match worst {
            Some(p) => {
                let status = if p.verdict == Verdict::Unknown { Status::Unknown } else { Status::False };
                condition::set(conditions, type_, status, p.reason, &p.message, generation, now)
            }
            None if index >= cut => {
                let message = "not judged until what it depends on is done";
                condition::set(conditions, type_, Status::Unknown, reasons::PENDING, message, generation, now)
            }
            None => condition::set(conditions, type_, Status::True, good(type_), "", generation, now),
        };
    }
}

/// Sets `Ready`, and what tells whether something goes on.
fn sum_up(conditions: &mut Vec<Condition>, all: &[&'static str], problems: &[Problem], moment: Moment) {
    let Moment { generation, now } = moment;
    let stalled = all.iter().find_map(|t| problems.iter().find(|p| p.condition == *t && p.stalled()));
    // What fails says more than what can't be judged, mostly because of it.
    let mut unmet = all.iter().filter_map(|t| condition::get(conditions, t)).filter(|c| c.status != "True");
    let failing = unmet.clone().find(|c| c.status == "False").or_else(|| unmet.next()).cloned();
    let elsewhere = problems.iter().find(|p| !all.contains(&p.condition));
    let (status, reason, message) = match (stalled, failing, elsewhere) {
        (Some(p), ..) => (Status::False, p.reason.to_owned(), p.message.clone()),
        (None, Some(c), _) => (Status::False, c.reason, c.message),
        (None, None, Some(p)) => (Status::False, p.reason.to_owned(), p.message.clone()),
        (None, None, None) => (Status::True, reasons::READY.to_owned(), String::new()),
    };
    condition::set(conditions, types::READY, status, &reason, &message, generation, now);
    let ready = status == Status::True;
    if stalled.is_some() {
        condition::set(conditions, types::RECONCILING, false, reasons::SETTLED, "", generation, now);
        condition::set(conditions, types::STALLED, true, &reason, &message, generation, now);
    } else {
        let (why, what) =
            if ready { (reasons::SETTLED, String::new()) } else { (reasons::PROGRESSING, message) };
        condition::set(conditions, types::RECONCILING, !ready, why, &what, generation, now);
        condition::set(conditions, types::STALLED, false, reasons::NOT_STALLED, "", generation, now);
    }
    condition::set(conditions, types::PAUSED, false, reasons::NOT_PAUSED, "", generation, now);
}

/// The reason of a condition that holds.
fn good(type_: &str) -> &'static str {
    match type_ {
        types::ACCEPTED => reasons::ACCEPTED,
        types::RESOLVED_REFS => reasons::RESOLVED,
        types::DOCKER_REACHABLE | types::REACHABLE => reasons::REACHABLE,
        _ => reasons::READY,
    }
}

/// Says of an object that the operator itself failed on it, at a place in its code. All else stays as it was.
pub fn broken(conditions: &mut Vec<Condition>, place: &str, minutes: u64, moment: Moment) {
    let Moment { generation, now } = moment;
    let message = format!(
        "the operator failed on this object at {place}, which is a bug: report it with the operator's log. Other objects \
         are not affected; this one is tried again every {minutes} minutes, and at once when its spec changes"
    );
    for (type_, status) in [(types::READY, false), (types::STALLED, true)] {
        condition::set(conditions, type_, status, reasons::INTERNAL_ERROR, &message, generation, now);
    }
    condition::set(conditions, types::RECONCILING, false, reasons::SETTLED, "", generation, now);
}

/// Says of an object that it is paused. Nobody looks at it, so that nothing is known to hold any more: who waits for
/// `Ready` waits until the object is looked at again. The generation stays that of the last look.
pub fn paused(conditions: &mut Vec<Condition>, moment: Moment) {
    let Moment { generation, now } = moment;
    let message = "not observed while the annotation localcluster.dev/paused is true; remove it to resume";
    let held =
        conditions.iter().filter(|c| c.type_ == types::READY || is_judged(&c.type_)).map(|c| c.type_.clone());
    for type_ in held.collect::<Vec<_>>() {
        condition::set(conditions, &type_, Status::Unknown, reasons::PAUSED, message, generation, now);
    }
    let message =
        "the annotation localcluster.dev/paused keeps the operator from changing anything, deletion included";
    condition::set(conditions, types::PAUSED, true, reasons::PAUSED, message, generation, now);
    condition::set(conditions, types::RECONCILING, false, reasons::PAUSED, "", generation, now);
    condition::set(conditions, types::STALLED, false, reasons::PAUSED, "", generation, now);
}

/// Whether a condition of this type is part of `Ready`.
fn is_judged(type_: &str) -> bool {
    cluster::CLUSTER.contains(&type_) || registry::REGISTRY.contains(&type_)
}
