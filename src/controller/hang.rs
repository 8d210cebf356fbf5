//! Hanging servers. If the API has not responded for as long as a Node may be NotReady, each server is checked from
//! inside its container, because the cause may be the connection and not the cluster.

use futures::future::join_all;

use super::{context::Context, times};
use crate::{
    child::state::Child,
    docker::{engine::State, error::Error},
    plan::{observed::Reached, owner::Owner, validate::Valid},
    time::after,
};

/// Checks a server's own API. `--request-timeout` limits the request to a stopped process.
const ASK: [&str; 6] = ["k3s", "kubectl", "get", "--raw", "/readyz", "--request-timeout=5s"];
/// Exit codes of a shell for a command that is missing or not executable.
const NOT_ASKED: [i64; 2] = [126, 127];

/// Records since when the API does not respond, and finds the hanging servers after the permitted time.
pub async fn observe(ctx: &Context, owner: &Owner, valid: &Valid, observed: &mut Reached) {
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
        let hangs = match ctx.engine.exec_within(&d.container.id, &command, times::SERVER_ANSWER).await {
            Ok(ended) => ended.code != 0 && !NOT_ASKED.contains(&ended.code),
            Err(error) => matches!(error, Error::Timeout(_)),
        };
        hangs.then(|| (d.container.name.clone(), since))
    });
    observed.hung = join_all(asked).await.into_iter().flatten().collect();
}
