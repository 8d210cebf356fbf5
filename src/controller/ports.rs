//! What the engine said of host ports is remembered, and tried again from time to time: only by binding a port can it
//! be told whether it is free.

use std::collections::BTreeSet;

use super::context::Context;
use crate::{
    docker::spec::{ContainerSpec, PortBinding, RestartPolicy, Role},
    plan::{
        cluster::image_of,
        desired::{Allocation, Binding},
        observed::Observed,
        owner::Owner,
        ports,
        subject::Subject,
        validate::Valid,
    },
};

/// The ports that the engine would not bind, those that are tried again in vain included.
pub async fn observe(
    ctx: &Context,
    subject: &Subject<'_>,
    allocation: &Allocation,
    observed: &Observed,
) -> BTreeSet<Binding> {
    let Subject { valid, owner, previous, .. } = *subject;
    let name = helper(valid);
    if let Some(left) = observed.own_named(&name) {
        // Of a process that ended in between. It may hold the very ports that are missing.
        drop(ctx.engine.remove_container(&left.container.id).await);
    }
    // Those that are no longer wanted are nobody's concern.
    let mut taken = ctx.memory.taken(&owner.uid, || ports::remembered(previous));
    let wanted = ports::wanted(valid, allocation);
    taken.retain(|binding| wanted.contains(binding));
    if !taken.is_empty() && ctx.memory.try_ports(&owner.uid) {
        taken = still_taken(ctx, owner, &name, &image(ctx, valid, observed), taken).await;
    }
    ctx.memory.set_taken(&owner.uid, taken.clone());
    taken
}

/// Notes the ports that the engine would not bind, so that the next plan does without them.
pub fn note(ctx: &Context, owner: &Owner, refused: BTreeSet<Binding>) {
    let mut taken = ctx.memory.taken(&owner.uid, BTreeSet::new);
    taken.extend(refused);
    ctx.memory.set_taken(&owner.uid, taken);
    // They were tried just now.
    ctx.memory.try_ports(&owner.uid);
}

fn helper(valid: &Valid) -> String {
    format!("{}-ports", valid.names.load_balancer())
}

fn image(ctx: &Context, valid: &Valid, observed: &Observed) -> String {
    image_of(observed, &valid.names.load_balancer())
        .unwrap_or_else(|| ctx.settings.load_balancer_image.clone())
}

/// Those of the ports that can't be bound still, by a container that is there for a moment. The load balancer itself
/// is not risked for it.
async fn still_taken(
    ctx: &Context,
    owner: &Owner,
    name: &str,
    image: &str,
    taken: BTreeSet<Binding>,
) -> BTreeSet<Binding> {
    let mut wanted = taken.clone();
    // Each answer names one port.
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
