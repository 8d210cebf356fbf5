//! A plan without what the policy does not permit.
//!
//! A replacement is several steps, and to stop a container that cannot be created again would be worse than to leave it. So
//! with a step that is not permitted, all steps that depend on it or that it depends on are left out.

use std::collections::BTreeSet;

use super::permit::Gate;
use crate::{
    api::{condition::ConditionType, reason::Reason},
    plan::steps::{Plan, Problem, Verdict},
};

/// Removes what is not permitted from a plan, and adds the problems of it.
pub fn restrain(plan: &mut Plan, gate: &Gate<'_>) {
    let mut refused = BTreeSet::new();
    let mut problems: Vec<Problem> = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        if let Err(problem) = gate.permit(&step.action) {
            refused.insert(index);
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
    let left_out = connected(plan, refused);
    plan.leave_out(&left_out);
    let frozen = gate.standing.and_then(|standing| standing.problem.as_ref());
    if let Some(frozen) = frozen {
        // Images are for containers that are not created, or are what the policy does not allow.
        let wanted = !plan.pulls.is_empty() || !plan.proofs.is_empty() || !plan.imports.is_empty();
        plan.pulls.clear();
        plan.proofs.clear();
        plan.imports.clear();
        plan.forgets = false;
        if (wanted || plan.problems.iter().any(|p| p.reason == frozen.reason)) && !problems.contains(frozen) {
            problems.push(frozen.clone());
        }
    }
    problems.append(&mut plan.problems);
    plan.problems = problems;
}

/// Returns the steps that depend on one of these, or that one of these depends on, directly or not.
fn connected(plan: &Plan, from: BTreeSet<usize>) -> BTreeSet<usize> {
    let (mut found, mut open) = (from.clone(), Vec::from_iter(from));
    while let Some(next) = open.pop() {
        let before = plan.steps[next].after.iter().copied();
        let after = plan.steps.iter().enumerate().filter(|(_, step)| step.after.contains(&next));
        let near: Vec<usize> = before.chain(after.map(|(index, _)| index)).collect();
        open.extend(near.into_iter().filter(|index| found.insert(*index)));
    }
    found
}

/// Reports whether a problem is due to the policy.
pub fn is_of_policy(problem: &Problem) -> bool {
    let reasons = [Reason::PolicyViolation, Reason::NoPolicy, Reason::PolicyInvalid];
    problem.condition == ConditionType::Accepted
        && problem.verdict == Verdict::Stalls
        && reasons.contains(&problem.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_of_the_policy_by_its_condition_verdict_and_reason() {
        let accepted = |reason| Problem::stalls(ConditionType::Accepted, reason, "x");
        for (reason, of_policy) in [
            (Reason::PolicyViolation, true),
            (Reason::NoPolicy, true),
            (Reason::PolicyInvalid, true),
            (Reason::InternalError, false),
        ] {
            assert_eq!(is_of_policy(&accepted(reason)), of_policy, "{reason}");
        }
        let audited = Problem { verdict: Verdict::Waits, ..accepted(Reason::PolicyViolation) };
        let elsewhere = Problem::stalls(ConditionType::ImagesReady, Reason::PolicyViolation, "x");
        assert!(!is_of_policy(&audited) && !is_of_policy(&elsewhere));
    }
}
