//! What is left of an object on a host that it is not to run on.

use crate::plan::{
    containers::GRACE,
    local_cluster,
    observed::Host,
    orphans,
    owner::Owner,
    steps::{Action, Plan, Target},
};

/// Plans the stop of everything that runs of an object, for the reason `why`.
pub fn stop(plan: &mut Plan, owner: &Owner, host: &Host, why: &str) {
    for container in host.containers.iter().filter(|c| owner.owns(&c.labels) && c.state.is_up()) {
        let stop = Action::Stop { container: Target::of(container), grace: GRACE };
        plan.step(stop, &[], why);
    }
}

/// Plans the removal of an object that is bound to another host: first it is stopped. Its volumes stay if it is Sticky.
pub fn remove(plan: &mut Plan, owner: &Owner, host: &Host, keeps_data: bool) {
    stop(plan, owner, host, "the object is bound to another Docker host");
    if !plan.steps.is_empty() {
        return;
    }
    if keeps_data {
        local_cluster::teardown(plan, owner, host, |_| true);
    } else {
        orphans::remove(plan, owner, host);
    }
}
