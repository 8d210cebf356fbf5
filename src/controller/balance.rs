//! Observes the nodes that published ports lead to or will lead to.

use futures::future::join_all;

use super::{context::Context, sizes, times};
use crate::{
    docker::engine::Result,
    k3s::{
        kube_proxy::{self, ProbeResult},
        load_balancer,
    },
    plan::{
        balance::{beyond, to_be_asked},
        desired::Allocation,
        observed::{Balance, Reached},
        validate::Valid,
    },
};

/// Reads the current targets and checks the candidates.
pub async fn observe(
    ctx: &Context,
    valid: &Valid,
    allocation: &Allocation,
    observed: &mut Reached,
) -> Result<()> {
    if valid.ports.is_empty() || valid.stopped {
        return Ok(());
    }
    let name = valid.names.load_balancer();
    let balancer = observed.own_named(&name);
    if let Some(balancer) = balancer.filter(|d| d.started_at.is_some()) {
        let config = ctx.files.read(balancer, load_balancer::CONFIG_FILE, sizes::CONTENT).await?;
        let placed = load_balancer::placed(&String::from_utf8_lossy(&config.unwrap_or_default()));
        observed.balance = Balance { placed, ..Balance::default() };
    }
    let asked = to_be_asked(observed, valid, allocation);
    if kube_proxy::is_disabled(&valid.servers.args) {
        observed.balance.probed = asked.into_iter().map(|name| (name, ProbeResult::Answers)).collect();
        return Ok(());
    }
    let flannel = kube_proxy::is_flannel(&valid.servers.args);
    let own = observed.own.values().filter(|d| asked.contains(&d.container.name));
    let probed = own.map(async |d| {
        let beyond = if flannel { beyond(observed, &d.container.name) } else { Vec::new() };
        let command = kube_proxy::ask(&beyond);
        let probed = match ctx.engine.exec_within(&d.container.id, &command, times::NODE_ANSWER).await {
            Ok(ended) => kube_proxy::evaluate(ended.code, &ended.stdout),
            Err(_) => ProbeResult::Unsure,
        };
        (d.container.name.clone(), probed)
    });
    let probed = join_all(probed).await.into_iter().collect();
    observed.balance.probed = probed;
    Ok(())
}
