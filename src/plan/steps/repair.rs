//! Which steps are repairs: they restore what ran before, and nobody asked for a change.

use super::Plan;

/// A repair of a container, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// It was not running, and is started.
    Start,
    /// It was paused, and is unpaused.
    Unpause,
    /// It was disconnected from its network, and is connected.
    Reconnect,
    /// It did not exist any more, and is created.
    Recreate,
    /// Its node was not Ready, and is restarted.
    Restart,
    /// Its node was not Ready after a restart, and is replaced.
    Replace,
}

impl Repair {
    /// Returns the name for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "Start",
            Self::Unpause => "Unpause",
            Self::Reconnect => "Reconnect",
            Self::Recreate => "Recreate",
            Self::Restart => "Restart",
            Self::Replace => "Replace",
        }
    }
}

impl Plan {
    /// Marks a step as a repair.
    pub fn mark_repair(&mut self, step: usize, repair: Repair) -> usize {
        self.steps[step].repair = Some(repair);
        step
    }

    /// Removes the marks from steps that are no repairs, since the object is being created or started. `existed` reports
    /// whether the container with this name existed under the same spec.
    pub fn confirm_repairs(&mut self, resumes: bool, existed: impl Fn(&str) -> bool) {
        for step in &mut self.steps {
            let name = step.action.subject();
            let replaced = || self.repairs.contains_key(name);
            step.repair = step.repair.filter(|repair| match repair {
                Repair::Recreate => !resumes && existed(name) && !replaced(),
                Repair::Start | Repair::Unpause | Repair::Reconnect => !resumes,
                Repair::Restart | Repair::Replace => true,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::plan::steps::{Action, Repairs};

    fn plan() -> Plan {
        let mut plan = Plan::default();
        let marks = [Repair::Start, Repair::Recreate, Repair::Restart];
        for (mark, name) in marks.into_iter().zip(["a", "b", "c"]) {
            let step = plan.step(Action::RemoveVolume { name: name.into() }, &[], "");
            plan.mark_repair(step, mark);
        }
        plan
    }

    fn left(resumes: bool, existed: bool, replaced: bool) -> Vec<&'static str> {
        let mut plan = plan();
        if replaced {
            plan.repairs.insert("b".into(), Repairs { count: 2, last: Timestamp::UNIX_EPOCH });
        }
        plan.confirm_repairs(resumes, |_| existed);
        plan.steps.iter().filter_map(|step| step.repair).map(Repair::name).collect()
    }

    #[test]
    fn what_is_created_or_started_for_the_user_is_no_repair() {
        assert_eq!(left(false, true, false), ["Start", "Recreate", "Restart"]);
        assert_eq!(left(false, false, false), ["Start", "Restart"]);
        assert_eq!(left(true, true, false), ["Restart"]);
        assert_eq!(left(false, true, true), ["Start", "Restart"], "its replacement is counted already");
    }
}
