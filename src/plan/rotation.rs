//! Rotation of the join token of an existing cluster: the server rotates it with K3s, and then all nodes are replaced
//! one at a time, since each reads its token only at start.

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

/// Rotates the token of K3s to the one in the file, and removes the file. Tokens are only in files and shell
/// variables: the command that engines report contains none. If the response to an earlier rotation was lost, it has
/// already succeeded. Everything except `rm` is a shell builtin: the image of K3s contains few programs.
const SCRIPT: &str = concat!(
    "cd /etc/rancher/k3s; IFS= read -r new <token.new; IFS= read -r old <token; [ -n \"$new\" ] && ",
    "{ k3s token rotate --token \"$old\" --new-token \"$new\" || ",
    "{ IFS= read -r has </var/lib/rancher/k3s/server/token; [ \"${has##*::server:}\" = \"$new\" ]; }; } && ",
    "rm token.new"
);

/// Plans the rotation of the token after all other changes: a cluster with other problems may not survive it.
pub fn plan(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>) {
    let (Some(next), Some(server)) = (&inputs.refs.next_token, desired.servers.first()) else { return };
    let running = inputs
        .observed
        .own
        .values()
        .find(|d| d.container.name == server.container.name && d.container.state == State::Running);
    // A host port that is in use does not delay it.
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
