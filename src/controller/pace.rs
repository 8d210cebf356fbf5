//! Delays of steps without effect. The engine may report success without having done anything, or fail each time in the
//! same way with an event that triggers the next reconciliation immediately. So a step that is planned again right
//! after its execution waits, longer each time, and the status reports it.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::{backoff::delay, execute::Report, times};
use crate::{
    api::{names::ClusterNames, reason::Reason},
    plan::{
        failures,
        steps::{Action, Plan, Problem, Step},
    },
};

/// Number of executions without effect after which the status reports a step.
const TELL: u32 = 3;

/// Executed steps of an object that have had no effect.
#[derive(Default)]
pub struct Pace {
    repeated: Vec<Repeated>,
}

struct Repeated {
    action: Action,
    /// Number of executions.
    times: u32,
    /// Time of the next execution.
    due: Instant,
    /// Problem that its last failure causes.
    problem: Option<Problem>,
    /// Error of its last failure, if any.
    error: Option<String>,
}

impl Pace {
    /// Removes the steps that are not due, with their dependents, from the plan and adds their problems to it. Returns
    /// the time at which the first of them is due.
    pub fn hold(&mut self, plan: &mut Plan, names: Option<&ClusterNames>, now: Instant) -> Option<Instant> {
        let asked = |r: &Repeated| plan.steps.iter().any(|step| step.action == r.action);
        self.repeated.retain(|r| asked(r) || now < r.due + times::REMEMBERED);
        let mut held = BTreeSet::new();
        let mut due: Option<Instant> = None;
        let mut problems = Vec::new();
        for (index, step) in plan.steps.iter().enumerate() {
            let early = self.repeated.iter().find(|r| r.action == step.action && now < r.due);
            if let Some(early) = early {
                due = Some(due.map_or(early.due, |at| at.min(early.due)));
                problems.extend(early.pending_problem(names));
            }
            if early.is_some() || step.after.iter().any(|a| held.contains(a)) {
                held.insert(index);
            }
        }
        // A missing effect is more specific than a change in progress.
        problems.append(&mut plan.problems);
        plan.problems = problems;
        plan.leave_out(&held);
        due
    }

    /// Forgets all steps: the object is as desired, so they had an effect. A container that is killed after that is started
    /// again at once, however often.
    pub fn forget(&mut self) {
        self.repeated.clear();
    }

    /// Records the executed steps, with the problems that their failures cause.
    pub fn note(&mut self, steps: &[Step], report: &Report, failures: &[(usize, Problem)], now: Instant) {
        let done = report.done.iter().map(|index| (*index, None));
        let failed = report.failed.iter().map(|(index, error)| (*index, Some(error.to_string())));
        for (index, error) in done.chain(failed) {
            let action = &steps[index].action;
            let problem = failures.iter().find(|(i, _)| *i == index).map(|(_, p)| p.clone());
            let limits = if matches!(action, Action::Drain { .. }) { times::DRAIN } else { times::NO_EFFECT };
            let known = self.repeated.iter().position(|r| r.action == *action);
            let times = known.map_or(0, |i| self.repeated.swap_remove(i).times);
            self.repeated.push(Repeated {
                action: action.clone(),
                times: times.saturating_add(1),
                due: now + delay(limits, times),
                problem,
                error,
            });
        }
    }
}

impl Repeated {
    /// Returns the problem to report while the step waits.
    fn pending_problem(&self, names: Option<&ClusterNames>) -> Option<Problem> {
        if self.problem.is_some() || self.times < TELL || matches!(self.action, Action::Drain { .. }) {
            return self.problem.clone();
        }
        let (action, every) = (&self.action, times::NO_EFFECT.last.as_secs());
        let message = match &self.error {
            Some(error) => format!("{action} fails each time: {error}; it is tried again every {every} s"),
            None => format!(
                "{action} has no effect, though no error is reported: it is tried again every {every} s; look at the \
                 log of the Docker engine, or of the cluster's API server"
            ),
        };
        Some(Problem::waits(failures::about(action, names), Reason::NoEffect, message))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{api::condition::ConditionType, plan::steps::Target};

    fn start(name: &str) -> Action {
        Action::Start { container: Target { name: name.into(), id: None } }
    }

    fn plan(actions: &[(&str, &[usize])]) -> Plan {
        let mut plan = Plan::default();
        for (name, after) in actions {
            plan.step(start(name), after, "");
        }
        plan
    }

    fn names(plan: &Plan) -> Vec<(&str, &[usize])> {
        plan.steps.iter().map(|s| (s.action.subject(), s.after.as_slice())).collect()
    }

    fn all_done(plan: &Plan) -> Report {
        Report { done: (0..plan.steps.len()).collect(), ..Report::default() }
    }

    #[test]
    fn what_had_no_effect_waits_longer_each_time_with_all_that_depends_on_it() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let asked: &[(&str, &[usize])] = &[("a", &[]), ("b", &[0]), ("c", &[]), ("d", &[1, 2])];
        for (times, wait) in [500, 1000, 2000, 4000, 8000, 15000, 15000].into_iter().enumerate() {
            let mut all = plan(asked);
            assert_eq!(pace.hold(&mut all, None, now), None, "{times}");
            // Only the first one is carried out, and says that it was.
            let report = Report { done: BTreeSet::from([0]), ..Report::default() };
            pace.note(&all.steps, &report, &[], now);
            let mut again = plan(asked);
            let due = now + Duration::from_millis(wait);
            assert_eq!(pace.hold(&mut again, None, due - Duration::from_millis(1)), Some(due));
            assert_eq!(names(&again), [("c", &[][..])]);
            assert_eq!(!again.problems.is_empty(), times >= 2, "{times}: {:?}", again.problems);
            now = due;
        }
    }

    #[test]
    fn what_is_asked_for_again_later_is_done_at_once() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..20 {
            let mut asked = plan(&[("a", &[])]);
            assert_eq!(pace.hold(&mut asked, None, now), None);
            pace.note(&asked.steps, &all_done(&asked), &[], now);
            assert_eq!(pace.hold(&mut plan(&[("b", &[])]), None, now), None);
            now += times::NO_EFFECT.first + times::REMEMBERED;
            assert_eq!(pace.hold(&mut plan(&[("b", &[])]), None, now), None);
        }
    }

    #[test]
    fn steps_that_lead_to_each_other_are_repeated_ones() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let mut done = 0;
        for look in 0..240 {
            let mut asked = plan(if look % 2 == 0 { &[("a", &[])] } else { &[("b", &[])] });
            pace.hold(&mut asked, None, now);
            pace.note(&asked.steps, &all_done(&asked), &[], now);
            done += asked.steps.len();
            now += Duration::from_millis(250);
        }
        assert!(done <= 2 * 9, "{done} in a minute");
    }

    #[test]
    fn a_failure_is_told_for_as_long_as_it_waits() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let asked = plan(&[("a", &[])]);
        let failed = Report {
            failed: vec![(0, super::super::execute::Error::NotMade("a".into()))],
            ..Report::default()
        };
        let problem = Problem::stalls(ConditionType::AgentsReady, Reason::GpuUnavailable, "no GPUs");
        pace.note(&asked.steps, &failed, &[(0, problem.clone())], now);
        let mut again = plan(&[("a", &[])]);
        assert!(pace.hold(&mut again, None, now).is_some());
        assert_eq!((again.steps.len(), again.problems), (0, vec![problem]));
    }
}
