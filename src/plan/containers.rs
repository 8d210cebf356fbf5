//! Convergence of a single container, shared by nodes, load balancers and registries.

mod existing;
mod files;
mod networks;
mod site;

use existing::Existing;
pub use existing::{GRACE, Standing};
pub use files::outdated;
use networks::connect_all;
pub use networks::right_place;
pub use site::{Site, condition_of, pull_failed, pull_queued};

use super::{
    hash,
    owner::taken,
    steps::{Action, Plan, Repair, Target},
};
use crate::{
    api::{names, reason::Reason},
    docker::{
        engine::{ContainerDetail, State},
        spec::ContainerSpec,
    },
};

impl Site<'_> {
    /// Plans the convergence of a container, except for its replacement. `before` contains the steps that precede its
    /// creation or first start. `hold` delays the first start.
    pub fn converge(
        &self,
        plan: &mut Plan,
        spec: &ContainerSpec,
        before: &[usize],
        hold: Option<(Reason, String)>,
    ) -> Standing {
        if let Some(detail) = self.own(&spec.name) {
            if outdated(self.observed, detail, spec, self.network) {
                return Standing::Outdated;
            }
            if hold.is_none() && self.lost_its_network(detail) {
                if !self.has_image(plan, spec) {
                    return Standing::Blocked;
                }
                return self.replace(plan, spec, before, "a failed start took it off its network");
            }
            return Existing { site: self, spec, detail }.converge(plan, before, hold);
        }
        if let Some(foreign) = self.foreign(&spec.name) {
            let message = taken(self.owner, "container", &spec.name, &foreign.id, &foreign.labels);
            plan.stalls(condition_of(spec.role), Reason::NameConflict, message);
            return Standing::Blocked;
        }
        if !self.has_image(plan, spec) {
            return Standing::Blocked;
        }
        let next = plan.steps.len();
        let created = self.create(plan, spec, before, "it did not exist");
        plan.mark_repair(next, Repair::Recreate);
        self.finish(plan, spec, created, hold)
    }

    /// Plans that an outdated container runs whose replacement has to wait, if it ran before.
    pub fn run_outdated(&self, plan: &mut Plan, spec: &ContainerSpec) -> Standing {
        let existing = self.own(&spec.name).map(|detail| Existing { site: self, spec, detail });
        existing.and_then(|existing| existing.run_as_it_is(plan)).unwrap_or(Standing::Outdated)
    }

    /// Reports whether a container was taken off its network by a start that failed, for example since a port was in use:
    /// Docker 29 starts it without any network later, and publishes nothing (moby#51758). One that has run on a network
    /// of its own is connected again instead.
    fn lost_its_network(&self, detail: &ContainerDetail) -> bool {
        detail.has_no_network
            && matches!(detail.container.state, State::Created | State::Exited | State::Running)
            && (detail.started_at.is_none() || self.network.is_none())
    }

    /// Plans the creation of a container after `after`. The content of its volumes is observed before files are
    /// uploaded.
    pub fn make(&self, plan: &mut Plan, spec: &ContainerSpec, after: &[usize], why: &str) -> usize {
        let mut spec = spec.clone();
        spec.labels.insert(names::SPEC_HASH.into(), hash::of(&spec, self.network));
        plan.waits(condition_of(spec.role), Reason::Creating, format!("creating {}", spec.name));
        let network = self.network.map(str::to_owned);
        plan.step(Action::CreateContainer { spec: Box::new(spec), network }, after, why)
    }

    /// Plans the creation of a container with its files, after `after`.
    pub fn create(&self, plan: &mut Plan, spec: &ContainerSpec, after: &[usize], why: &str) -> usize {
        let mut made = self.make(plan, spec, after, why);
        let container = Target::new(spec);
        for one_of in spec.expects.clone() {
            made = plan.step(Action::Expect { container: container.clone(), one_of }, &[made], "");
        }
        if spec.files.is_empty() {
            return made;
        }
        plan.step(Action::Upload { container, files: spec.files.clone() }, &[made], "")
    }

    /// Plans the connections and the first start of a container that the step `created` completes. `hold` delays the
    /// start.
    pub fn finish(
        &self,
        plan: &mut Plan,
        spec: &ContainerSpec,
        created: usize,
        hold: Option<(Reason, String)>,
    ) -> Standing {
        let container = Target::new(spec);
        let ready = connect_all(plan, &container, self.further.to_vec(), Some(created), "");
        if let Some((reason, message)) = hold {
            plan.waits(condition_of(spec.role), reason, message);
            return Standing::Blocked;
        }
        Standing::Changing(plan.step(Action::Start { container }, ready.as_slice(), ""))
    }

    /// Plans the replacement of a container by one with another spec, on the same volumes and address, after `after`.
    /// The new image must be present.
    pub fn replace(&self, plan: &mut Plan, spec: &ContainerSpec, after: &[usize], why: &str) -> Standing {
        let Some(detail) = self.own(&spec.name) else { return Standing::Blocked };
        let old = Existing { site: self, spec, detail };
        let stopped = old.stop(plan, after);
        let removed = plan.step(Action::RemoveContainer { container: old.target() }, &[stopped], "");
        let created = self.create(plan, spec, &[removed], why);
        self.finish(plan, spec, created, None)
    }
}

#[cfg(test)]
mod tests;
