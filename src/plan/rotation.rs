//! Another join token for a cluster that has one: the server exchanges it by K3s's own means, and then all nodes are
//! replaced one at a time, since each reads its token only when it starts.

use super::{
    desired::Desired,
    inputs::Inputs,
    steps::{Action, Plan, Target},
};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    child::state::Child,
    docker::{
        engine::State,
        spec::{FileChange, FileSpec},
    },
    k3s,
};

/// Exchanges the token that K3s has for the one in the file, which is removed then. Tokens are in files and in variables
/// of the shell: what engines tell of a command has none in it. When its answer was lost, it is done already. But for
/// `rm`, the shell does all of it itself: the image of K3s has few programs.
const SCRIPT: &str = concat!(
    "cd /etc/rancher/k3s; IFS= read -r new <token.new; IFS= read -r old <token; [ -n \"$new\" ] && ",
    "{ k3s token rotate --token \"$old\" --new-token \"$new\" || ",
    "{ IFS= read -r has </var/lib/rancher/k3s/server/token; [ \"${has##*::server:}\" = \"$new\" ]; }; } && ",
    "rm token.new"
);

/// Plans the exchange of the token, when everything else is done: a cluster in which something is amiss may not come
/// through it.
pub fn plan(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>) {
    let (Some(next), Some(server)) = (&inputs.refs.next_token, desired.servers.first()) else { return };
    let running = inputs
        .observed
        .own
        .values()
        .find(|d| d.container.name == server.container.name && d.container.state == State::Running);
    // A host port that somebody else has is no reason to wait.
    let settled = plan.steps.is_empty()
        && plan.problems.iter().all(|p| p.condition == ConditionType::LoadBalancerReady)
        && matches!(inputs.observed.child, Child::Reachable(_));
    let condition = ConditionType::ControlPlaneReady;
    let (Some(running), true) = (running, settled) else {
        plan.waits(
            condition,
            Reason::Updating,
            "waiting for all other changes to complete before rotating the join token",
        );
        return;
    };
    let container = Target::of(&running.container);
    let file = FileSpec {
        path: k3s::NEXT_TOKEN_FILE.into(),
        mode: 0o600,
        content: next.clone(),
        change: FileChange::Keep,
    };
    let upload = plan.step(Action::Upload { container: container.clone(), files: vec![file] }, &[], "");
    let command = ["sh", "-c", SCRIPT].map(str::to_owned).to_vec();
    plan.step(Action::Exec { container, command }, &[upload], "the value in the token Secret changed");
    plan.waits(condition, Reason::Updating, "rotating the join token");
}
