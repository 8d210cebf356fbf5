//! Status from the observed state: pure, and complete each time, since server-side apply removes omitted fields.

mod cluster;
mod effective;
mod host_policy;
mod placement;
mod policy;
mod pool;
mod pools;
mod registry;
pub mod series;
mod stopped;
mod surroundings;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

pub use crate::api::condition::Moment;
pub use cluster::{ClusterView, cluster, cluster_blocked};
pub use effective::effective;
pub use host_policy::{PolicyObject, PolicyView, host_policy};
pub use placement::{is_placed, placed, placement_ignored, without_placed};
pub use policy::policy_violation;
pub use pool::{ClaimView, cluster_claim, cluster_pool};
pub use registry::{RegistryView, registry, registry_blocked, still_used};
pub use stopped::{StoppedView, stopped};

use crate::{
    api::{
        condition::{self, ConditionType, Status},
        reason::Reason,
    },
    plan::steps::{Problem, Verdict},
};

/// Sets all conditions of an object from its problems. The conditions from the type `unknown` on cannot be evaluated,
/// since the plan did not get that far.
fn judge(
    conditions: &mut Vec<Condition>,
    all: &[ConditionType],
    problems: &[Problem],
    unknown: Option<ConditionType>,
    moment: Moment,
) {
    judge_each(conditions, all, problems, unknown, moment);
    sum_up(conditions, all, problems, moment);
}

/// Sets the conditions that `Ready` summarizes.
fn judge_each(
    conditions: &mut Vec<Condition>,
    all: &[ConditionType],
    problems: &[Problem],
    unknown: Option<ConditionType>,
    moment: Moment,
) {
    let cut = unknown.and_then(|u| all.iter().position(|t| *t == u)).unwrap_or(all.len());
    for (index, type_) in all.iter().copied().enumerate() {
        let mut own = problems.iter().filter(|p| p.condition == type_);
        // Problems that need user intervention come first: the others usually follow from them.
        let failing = || own.clone().find(|p| p.verdict != Verdict::Unknown);
        let worst = own.clone().find(|p| p.stalled()).or_else(failing).or_else(|| own.next());
        match worst {
            Some(p) => {
                let status = if p.verdict == Verdict::Unknown { Status::Unknown } else { Status::False };
                condition::set(conditions, type_, (status, p.reason, &p.message), moment)
            }
            None if index >= cut => {
                let message = "not evaluated yet: an earlier condition is not met";
                condition::set(conditions, type_, (Status::Unknown, Reason::Pending, message), moment)
            }
            None => condition::set(conditions, type_, (Status::True, good(type_), ""), moment),
        };
    }
}

/// Sets `Ready`, `Reconciling`, `Stalled` and `Paused`.
fn sum_up(conditions: &mut Vec<Condition>, all: &[ConditionType], problems: &[Problem], moment: Moment) {
    let stalled = all.iter().find_map(|t| problems.iter().find(|p| p.condition == *t && p.stalled()));
    // A False condition is more specific than an Unknown one, which usually follows from it.
    let mut unmet = all.iter().filter_map(|t| condition::get(conditions, *t)).filter(|c| c.status != "True");
    let failing = unmet.clone().find(|c| c.status == "False").or_else(|| unmet.next()).cloned();
    let elsewhere = problems.iter().find(|p| !all.contains(&p.condition));
    let (status, reason, message) = match (stalled, failing, elsewhere) {
        (Some(p), ..) => (Status::False, p.reason, p.message.clone()),
        (None, Some(c), _) => (Status::False, Reason::parse(&c.reason).unwrap_or(Reason::Pending), c.message),
        (None, None, Some(p)) => (Status::False, p.reason, p.message.clone()),
        (None, None, None) => (Status::True, Reason::Ready, String::new()),
    };
    condition::set(conditions, ConditionType::Ready, (status, reason, &message), moment);
    let ready = status == Status::True;
    if stalled.is_some() {
        condition::set(conditions, ConditionType::Reconciling, (false, Reason::Settled, ""), moment);
        condition::set(conditions, ConditionType::Stalled, (true, reason, &message), moment);
    } else {
        let (why, what) =
            if ready { (Reason::Settled, String::new()) } else { (Reason::Progressing, message) };
        condition::set(conditions, ConditionType::Reconciling, (!ready, why, &what), moment);
        condition::set(conditions, ConditionType::Stalled, (false, Reason::NotStalled, ""), moment);
    }
    condition::set(conditions, ConditionType::Paused, (false, Reason::NotPaused, ""), moment);
}

/// Returns the reason of a condition that is met.
fn good(type_: ConditionType) -> Reason {
    match type_ {
        ConditionType::Accepted => Reason::Accepted,
        ConditionType::ResolvedRefs => Reason::Resolved,
        ConditionType::DockerReachable | ConditionType::Reachable => Reason::Reachable,
        _ => Reason::Ready,
    }
}

/// Sets the conditions of an object that the operator failed to process, with the place in its code. All others stay
/// unchanged.
pub fn broken(conditions: &mut Vec<Condition>, place: &str, minutes: u64, moment: Moment) {
    let message = format!(
        "the operator failed to process this object at {place}: this is a bug; report it with the log of the \
         operator. Other objects are not affected; this one is retried every {minutes} minutes, and when its spec \
         changes"
    );
    for (type_, status) in [(ConditionType::Ready, false), (ConditionType::Stalled, true)] {
        condition::set(conditions, type_, (status, Reason::InternalError, &message), moment);
    }
    condition::set(conditions, ConditionType::Reconciling, (false, Reason::Settled, ""), moment);
}

/// Sets the conditions of a paused object. It is not observed, so no condition is known to be met: clients that wait
/// for `Ready` wait until it is observed again. The observed generation stays unchanged.
pub fn paused(conditions: &mut Vec<Condition>, moment: Moment) {
    let message = "not observed while the annotation localcluster.dev/paused is true; remove it to resume";
    let judged = |c: &Condition| {
        let is_observed = |t: &ConditionType| {
            matches!(t, ConditionType::StorageFull | ConditionType::UpstreamReady)
                || is_stage(*t)
                || surroundings::TYPES.contains(t)
        };
        ConditionType::parse(&c.type_).filter(is_observed)
    };
    for type_ in conditions.iter().filter_map(judged).collect::<Vec<_>>() {
        condition::set(conditions, type_, (Status::Unknown, Reason::Paused, message), moment);
    }
    let message =
        "reconciliation is paused by the annotation localcluster.dev/paused: nothing is changed or deleted";
    condition::set(conditions, ConditionType::Paused, (true, Reason::Paused, message), moment);
    condition::set(conditions, ConditionType::Reconciling, (false, Reason::Paused, ""), moment);
    condition::set(conditions, ConditionType::Stalled, (false, Reason::Paused, ""), moment);
}

/// Returns the reason that `kubectl get` shows: why the object is paused or stopped, or else the reason of `Ready`.
pub fn shown_reason(conditions: &[Condition]) -> Option<&str> {
    let holds = |type_| condition::is_true(conditions, type_).then_some(type_);
    let shown = holds(ConditionType::Paused).unwrap_or(ConditionType::Ready);
    let reason =
        condition::get(conditions, shown).or_else(|| condition::get(conditions, ConditionType::Stopped));
    reason.map(|c| c.reason.as_str())
}

/// Reports whether a condition of this type is a stage of the creation of an object.
pub fn is_stage(type_: ConditionType) -> bool {
    type_ == ConditionType::Ready || is_judged(type_)
}

/// Reports whether a condition of this type is part of `Ready`.
fn is_judged(type_: ConditionType) -> bool {
    cluster::CLUSTER.contains(&type_) || registry::REGISTRY.contains(&type_)
}

#[cfg(test)]
mod tests;
