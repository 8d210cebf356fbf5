//! Status of an object that is placed on one of several Docker hosts, as far as no agent writes it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::Moment;
use crate::{
    api::{
        condition::{self, ConditionType},
        reason::Reason,
    },
    plan::placement::judge::{Decision, Told},
};

/// Conditions that the role `controller` writes.
pub const PLACED: [ConditionType; 2] = [ConditionType::Scheduled, ConditionType::HostReachable];

/// Reports whether the role `controller` writes a condition.
pub fn is_placed(condition: &Condition) -> bool {
    PLACED.iter().any(|type_| condition.type_ == *type_)
}

/// Returns the conditions that the role `controller` writes, after those of the last status.
pub fn placed(previous: &[Condition], decision: &Decision, moment: Moment) -> Vec<Condition> {
    let mut conditions: Vec<Condition> = previous.iter().filter(|c| is_placed(c)).cloned().collect();
    for (type_, told) in PLACED.into_iter().zip([&decision.scheduled, &decision.reachable]) {
        match told {
            Some(Told { met, reason, message }) => {
                condition::set(&mut conditions, type_, (*met, *reason, message), moment);
            }
            None => conditions.retain(|c| c.type_ != type_),
        }
    }
    conditions
}

/// Removes the conditions that the role `controller` writes.
pub fn without_placed(conditions: &mut Vec<Condition>) {
    conditions.retain(|c| !is_placed(c));
}

/// Says of an object that its placement is not heeded, since the operator runs for a single Docker host.
pub fn placement_ignored(conditions: &mut Vec<Condition>, is_placed: bool, moment: Moment) {
    let ignored = Reason::PlacementIgnored;
    if is_placed {
        let message = "spec.placement is not heeded: the operator runs for a single Docker host (--role=all); remove it, or \
             install the operator for several hosts";
        condition::set(conditions, ConditionType::Scheduled, (false, ignored, message), moment);
    } else {
        conditions.retain(|c| c.type_ != ConditionType::Scheduled || c.reason != ignored.as_str());
    }
}
