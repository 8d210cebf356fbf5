//! Host ports that the engine failed to bind. They are remembered, and tried again at intervals: whether a port is free
//! can only be determined by binding it. This makes a write part of an observation: a container that exists for a moment,
//! since the plan needs the result.

use std::collections::BTreeSet;

use super::context::Context;
use crate::{
    docker::spec::{ContainerSpec, PortBinding, RestartPolicy, Role},
    plan::{
        cluster::image_of,
        desired::{Allocation, Binding},
        observed::Host,
        owner::Owner,
        ports,
        subject::Subject,
        validate::Valid,
    },
};

/// Returns the ports that the engine failed to bind, without those that are free by now.
pub async fn observe(
    ctx: &Context,
    subject: &Subject<'_>,
    allocation: &Allocation,
    observed: &Host,
) -> BTreeSet<Binding> {
    let Subject { valid, owner, previous, frozen, .. } = *subject;
    let name = helper(valid);
    if let Some(left) = observed.own_named(&name) {
        // The operator was killed while it existed. It may occupy these ports.
        drop(ctx.engine.remove_container(&left.container.id).await);
    }
    // Ports that the spec no longer uses are not tried.
    let mut taken = ctx.memory.taken(&owner.uid, || ports::remembered(previous));
    let wanted = ports::wanted(valid, allocation);
    taken.retain(|binding| wanted.contains(binding));
    // A policy that freezes the object may not allow them.
    if frozen.is_none() && !taken.is_empty() && ctx.memory.try_ports(&owner.uid) {
        taken = still_taken(ctx, owner, &name, &image(ctx, valid, observed), taken).await;
    }
    ctx.memory.set_taken(&owner.uid, taken.clone());
    taken
}

/// Records ports that the engine failed to bind, so that the next plan leaves them out.
pub fn note(ctx: &Context, owner: &Owner, refused: BTreeSet<Binding>) {
    let mut taken = ctx.memory.taken(&owner.uid, BTreeSet::new);
    taken.extend(refused);
    ctx.memory.set_taken(&owner.uid, taken);
    // They have just been tried.
    ctx.memory.try_ports(&owner.uid);
}

fn helper(valid: &Valid) -> String {
    format!("{}-ports", valid.names.load_balancer())
}

fn image(ctx: &Context, valid: &Valid, observed: &Host) -> String {
    image_of(observed, &valid.names.load_balancer())
        .unwrap_or_else(|| ctx.settings.load_balancer_image.clone())
}

/// Tries to bind these ports with a temporary container, so that the load balancer is not put at risk, and returns those
/// that are still occupied.
async fn still_taken(
    ctx: &Context,
    owner: &Owner,
    name: &str,
    image: &str,
    taken: BTreeSet<Binding>,
) -> BTreeSet<Binding> {
    let mut wanted = taken.clone();
    // Each error names one port.
    while !wanted.is_empty() {
        let mut spec = ContainerSpec::bare(name, Role::LoadBalancer, image);
        spec.labels = owner.labels();
        spec.restart_policy = RestartPolicy::No;
        spec.ports = wanted
            .iter()
            .enumerate()
            .map(|(i, (protocol, ip, port))| PortBinding {
                host_ip: ip.to_string(),
                host_port: *port,
                port: u16::try_from(i + 1).unwrap_or(u16::MAX),
                protocol: protocol.docker().to_owned(),
            })
            .collect();
        let Ok(id) = ctx.engine.create_container(&spec, None).await else { return taken };
        let started = ctx.engine.start(&id).await;
        if ctx.engine.remove_container(&id).await.is_err() {
            return taken;
        }
        let Err(error) = started else { break };
        let refused = ports::named(&error, wanted.clone());
        if refused.is_empty() {
            return taken;
        }
        wanted.retain(|binding| !refused.contains(binding));
    }
    taken.difference(&wanted).copied().collect()
}
