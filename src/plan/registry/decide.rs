//! The decision about a Registry, in the order in which a reconcile learns of it: the desired state, then the steps. All
//! of it is pure.

use super::{Desired, Inputs, desired, plan};
use crate::{
    api::{RegistryStatus, registry::GarbageCollectionStatus},
    docker::error::Error,
    plan::{
        failures::{self, Consequence},
        refused::Refused,
        steps::{Action, Plan, Problem},
    },
};

/// The desired state of a Registry and the problems found on the way.
pub struct Wanted {
    /// The desired state.
    pub desired: Desired,
    problems: Vec<Problem>,
}

/// The decision about a Registry.
pub struct Decision {
    /// The steps, and why the object is not as desired.
    pub plan: Plan,
    /// The result of a garbage collection, which is written before the steps remove its container.
    pub collected: Option<GarbageCollectionStatus>,
}

impl Inputs<'_> {
    /// Computes the desired state. Fails with the problems that stand in the way.
    pub fn desire(&self) -> Result<Wanted, Vec<Problem>> {
        let mut plan = Plan::default();
        match desired(&mut plan, self) {
            Some(desired) => Ok(Wanted { desired, problems: plan.problems }),
            None => Err(plan.problems),
        }
    }

    /// Plans the way from what exists to what is desired.
    pub fn decide(&self, wanted: &Wanted) -> Decision {
        let mut decided = Plan { problems: wanted.problems.clone(), ..Plan::default() };
        let collected = plan(&mut decided, &wanted.desired, self);
        Decision { plan: decided, collected }
    }

    /// Returns what a step means that Docker failed. `previous` is the status that was written last.
    pub fn docker_failed(
        &self,
        (action, error): (&Action, &Error),
        desired: &Desired,
        previous: &RegistryStatus,
        refused: &mut Refused,
    ) -> Consequence {
        if refused.of_registry(error, self.valid, desired.host_port, previous) {
            return Consequence::ChosenAgain;
        }
        failures::docker(action, error, None).map_or(Consequence::OutOfDate, Consequence::Problem)
    }
}

impl Decision {
    /// Reports whether the status is written before the steps are executed. The result of a garbage collection is
    /// recorded first, since the steps remove its container.
    pub fn is_written_first(&self, previous: &RegistryStatus, generation: i64) -> bool {
        let RegistryStatus { observed_generation, conditions, .. } = previous;
        self.plan.outdates(generation, *observed_generation, conditions) || self.collected.is_some()
    }
}
