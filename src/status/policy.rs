//! The condition `PolicyViolation` of LocalClusters and Registries.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::Moment;
use crate::{
    api::{
        condition::{self, ConditionType},
        reason::Reason,
    },
    plan::{
        policy::{restrain::is_of_policy, standing::Standing},
        steps::Problem,
    },
};

/// Sets the condition. An object that runs as before stays Ready with it: only what its policy keeps from being made is a
/// problem of the object. A step that the policy does not permit shows in Accepted. `stops_at` is the time at which the policy
/// stops the cluster.
pub fn policy_violation(
    conditions: &mut Vec<Condition>,
    (standing, stops_at): (&Standing, Option<Timestamp>),
    moment: Moment,
) {
    let type_ = ConditionType::PolicyViolation;
    let problem = standing.problem.as_ref().filter(|p| is_of_policy(p)).cloned();
    match problem.or_else(|| accepted(conditions)).or_else(|| standing.audited.clone()) {
        Some(problem) => {
            let message = match stops_at {
                Some(time) => format!("the cluster is stopped from {time} on; {}", problem.message),
                None => problem.message,
            };
            condition::set(conditions, type_, (true, problem.reason, &message), moment);
        }
        None if condition::get(conditions, type_).is_some() => {
            condition::set(conditions, type_, (false, Reason::Accepted, ""), moment);
        }
        None => {}
    }
}

/// Returns the problem of the policy that Accepted reports.
fn accepted(conditions: &[Condition]) -> Option<Problem> {
    let accepted = condition::get(conditions, ConditionType::Accepted).filter(|c| c.status == "False")?;
    let reason = Reason::parse(&accepted.reason)?;
    let problem = Problem::stalls(ConditionType::Accepted, reason, accepted.message.clone());
    is_of_policy(&problem).then_some(problem)
}
