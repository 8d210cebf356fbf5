//! Steps that are left out of a plan.

use std::collections::BTreeSet;

use super::{Plan, Step};

impl Plan {
    /// Removes the steps with these indices, which include all that depend on them, and renumbers the others.
    pub fn leave_out(&mut self, left_out: &BTreeSet<usize>) {
        let number = |index: usize| index - left_out.range(..index).count();
        let steps = std::mem::take(&mut self.steps).into_iter().enumerate();
        let kept = steps.filter(|(index, _)| !left_out.contains(index));
        let renumbered =
            kept.map(|(_, step)| Step { after: step.after.iter().map(|a| number(*a)).collect(), ..step });
        self.steps = renumbered.collect();
    }
}
