//! Observes the nodes that published ports lead to or will lead to.

use futures::future::join_all;
use tokio::time::timeout;

use super::{context::Context, times};
use crate::{
    docker::engine::Result,
    k3s::{
        kube_proxy::{self, Report},
        load_balancer,
    },
    plan::{
        balance::{beyond, to_be_asked},
        desired::Allocation,
        observed::{Balance, Observed},
        validate::Valid,
    },
};

/// Reads the current targets and checks the candidates.
pub async fn observe(
    ctx: &Context,
    valid: &Valid,
    allocation: &Allocation,
    observed: &mut Observed,
) -> Result<()> {
    if valid.ports.is_empty() || valid.stopped {
        return Ok(());
    }
    let name = valid.names.load_balancer();
    let balancer = observed.own_named(&name);
    if let Some(balancer) = balancer.filter(|d| d.started_at.is_some()) {
        let config = ctx.files.read(balancer, load_balancer::CONFIG_FILE).await?.unwrap_or_default();
        let placed = load_balancer::placed(&String::from_utf8_lossy(&config));
        observed.balance = Balance { placed, ..Balance::default() };
    }
    let asked = to_be_asked(observed, valid, allocation.addresses);
    if kube_proxy::is_disabled(&valid.servers.args) {
        observed.balance.reports = asked.into_iter().map(|name| (name, Report::Answers)).collect();
        return Ok(());
    }
    let flannel = kube_proxy::is_flannel(&valid.servers.args);
    let own = observed.own.values().filter(|d| asked.contains(&d.container.name));
    let reports = own.map(async |d| {
        let beyond = if flannel { beyond(observed, &d.container.name) } else { Vec::new() };
        let command = kube_proxy::ask(&beyond);
        let report = match timeout(times::NODE_ANSWER, ctx.engine.exec(&d.container.id, &command)).await {
            Ok(Ok(ended)) => kube_proxy::report(ended.code, &ended.stdout),
            Ok(Err(_)) | Err(_) => Report::Unsure,
        };
        (d.container.name.clone(), report)
    });
    let reports = join_all(reports).await.into_iter().collect();
    observed.balance.reports = reports;
    Ok(())
}
