//! Servers that hang. While nobody has answered for as long as a Node may be NotReady, each server is asked from inside
//! of it: what keeps the operator from a cluster's API need not be the cluster's.

use futures::future::join_all;
use tokio::time::timeout;

use super::{context::Context, times};
use crate::{
    child::state::Child,
    docker::engine::State,
    plan::{observed::Observed, owner::Owner, validate::Valid},
    time::after,
};

/// Asks a server for its own API. `--request-timeout` bounds what a process that is stopped would never answer.
const ASK: [&str; 6] = ["k3s", "kubectl", "get", "--raw", "/readyz", "--request-timeout=5s"];
/// What a shell's exit codes say of a command that is not there, or can't be run.
const NOT_ASKED: [i64; 2] = [126, 127];

/// Notes since when the API has not answered, and finds the servers that hang when that is long enough ago.
pub async fn observe(ctx: &Context, owner: &Owner, valid: &Valid, observed: &mut Observed) {
    let Child::Unreachable(_) = observed.child else { return ctx.memory.answered(&owner.uid) };
    let now = (ctx.now)();
    let since = ctx.memory.silent_since(&owner.uid, now);
    if ctx.settings.node_repair_after.is_none_or(|patience| now < after(since, patience)) {
        return;
    }
    let command = ASK.map(String::from);
    let servers = observed.own.values().filter(|d| {
        d.container.state == State::Running && valid.names.parse_server(&d.container.name).is_some()
    });
    let asked = servers.map(async |d| {
        let hangs = match timeout(times::SERVER_ANSWER, ctx.engine.exec(&d.container.id, &command)).await {
            Ok(Ok(ended)) => ended.code != 0 && !NOT_ASKED.contains(&ended.code),
            Ok(Err(_)) => false,
            Err(_) => true,
        };
        hangs.then(|| (d.container.name.clone(), since))
    });
    observed.hung = join_all(asked).await.into_iter().flatten().collect();
}
