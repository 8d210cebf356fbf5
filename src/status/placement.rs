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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::condition::Status;

    fn moment(second: i64) -> Moment {
        Moment { generation: 3, now: Timestamp::from_second(second).unwrap() }
    }

    fn decision(scheduled: Option<bool>, reachable: Option<bool>) -> Decision {
        let told = |met| Told { met, reason: Reason::Scheduled, message: "why".into() };
        let (scheduled, reachable) = (scheduled.map(told), reachable.map(told));
        Decision { act: None, host: None, scheduled, reachable }
    }

    fn rows(conditions: &[Condition]) -> Vec<String> {
        conditions.iter().map(|c| format!("{} {} {}", c.type_, c.status, c.message)).collect()
    }

    #[test]
    fn the_controller_writes_its_two_conditions_and_no_others() {
        let mut before = Vec::new();
        condition::set(&mut before, ConditionType::Ready, (true, Reason::Ready, ""), moment(1));
        let conditions = placed(&before, &decision(Some(true), Some(false)), moment(1));
        assert_eq!(rows(&conditions), ["Scheduled True why", "HostReachable False why"]);
        before.extend(conditions);
        assert_eq!(before.iter().map(is_placed).collect::<Vec<_>>(), [false, true, true]);
        let later = placed(&before, &decision(Some(true), None), moment(2));
        assert_eq!(rows(&later), ["Scheduled True why"], "an object without a host");
        assert_eq!(later[0].last_transition_time, before[1].last_transition_time, "it is the same");
        without_placed(&mut before);
        assert_eq!(rows(&before), ["Ready True "]);
    }

    #[test]
    fn a_placement_that_is_not_heeded_is_told_while_there_is_one() {
        let mut conditions = Vec::new();
        for type_ in [ConditionType::Ready, ConditionType::HostReachable] {
            condition::set(&mut conditions, type_, (Status::True, Reason::Ready, ""), moment(1));
        }
        let others = conditions.clone();
        placement_ignored(&mut conditions, true, moment(2));
        let told = condition::get(&conditions, ConditionType::Scheduled).unwrap();
        assert_eq!((told.status.as_str(), told.reason.as_str()), ("False", "PlacementIgnored"));
        placement_ignored(&mut conditions, false, moment(3));
        assert_eq!(conditions, others);
        // What another installation told stays.
        condition::set(&mut conditions, ConditionType::Scheduled, (true, Reason::Scheduled, ""), moment(4));
        let others = conditions.clone();
        placement_ignored(&mut conditions, false, moment(5));
        assert_eq!(conditions, others);
    }
}
