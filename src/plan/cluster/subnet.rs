//! The subnet of a cluster, which it keeps for its lifetime: that of its spec, one of `--network-pool`, or by default one
//! that Docker chooses.
//!
//! Only the engine knows the networks of the host: a network that is created without a subnet gets one from the engine's
//! address pools that overlaps no other network of the engine and no network to which the host is attached, such as that
//! of its network card or of a VPN. (Docker does not consider routes through a gateway.) Such a network cannot be the one
//! of the cluster, since
//! Docker accepts a range for unmanaged containers only together with a subnet. So the operator creates a *choice*: a
//! network without a subnet whose label states its purpose. It reads the subnet and removes the choice right before
//! it creates the network of the cluster. If it is killed in between, the label tells what the choice is for.
//!
//! Every cluster asks the engine again, though a choice of Docker's default pools (/16 and /20) has room for many
//! clusters: a route that was added since would not be noticed otherwise. Those pools have about 30 subnets; if they are
//! in use, an administrator has to name others. The network gets the first /24 of the choice, because a small subnet is
//! less likely to overlap a route that is added later, for example by a VPN.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

use super::build::common_labels;
use crate::{
    api::{
        condition::{self, ConditionType},
        names,
        reason::Reason,
    },
    docker::{engine::Network, spec::NetworkSpec},
    plan::{
        addresses,
        observed::Host,
        settings::Settings,
        steps::{Action, Plan, Problem},
        subject::Subject,
        validate::Valid,
    },
};

/// Number of choices that are kept at the same time. Docker chooses the same subnet again after its network was removed,
/// so an unsuitable choice is kept until there is a suitable one.
const CHOICES: usize = 32;
/// Longest prefix of a subnet that has room for a cluster.
const LONGEST: u8 = 25;

/// Returns the subnet of the cluster: that of its network, the one in the spec, the last known one, or a free one.
pub(super) fn allocate(
    plan: &mut Plan,
    subject: &Subject<'_>,
    observed: &Host,
    refused: &BTreeSet<Ipv4Net>,
) -> Option<Ipv4Net> {
    let Subject { valid, settings, .. } = *subject;
    if let Some(subnet) = existing(subject, observed) {
        return Some(subnet);
    }
    let last = last(subject, observed);
    let Some(subnet) = valid.subnet.or(last) else { return free(plan, subject, observed, refused) };
    // A previous subnet of the cluster is always allowed.
    if last != Some(subnet) && !may_choose(plan, subnet, settings) {
        return None;
    }
    is_available(plan, subject, observed, subnet).then_some(subnet)
}

/// Returns the subnet of the cluster's network.
fn existing(subject: &Subject<'_>, observed: &Host) -> Option<Ipv4Net> {
    observed.networks.iter().find(|n| subject.owner.owns_network(n))?.subnets.first().copied()
}

/// Returns the last known subnet of a cluster that lost its network, by its status or its containers.
fn last(subject: &Subject<'_>, observed: &Host) -> Option<Ipv4Net> {
    let reported = subject.previous.network.as_ref().and_then(|n| n.subnet.parse().ok());
    let labelled = || observed.own.values().find_map(|d| d.container.labels.get(names::SUBNET)?.parse().ok());
    reported.or_else(labelled)
}

/// Returns a free subnet of the pool, or the one that Docker chose.
fn free(
    plan: &mut Plan,
    subject: &Subject<'_>,
    observed: &Host,
    refused: &BTreeSet<Ipv4Net>,
) -> Option<Ipv4Net> {
    let Subject { valid, owner, settings, .. } = *subject;
    let Some(pool) = settings.network_pool else {
        let chosen = choices(subject, observed).find_map(|choice| suitable(choice, subject, refused));
        if chosen.is_none() {
            plan.problems.push(unchosen(subject));
        }
        return chosen;
    };
    let free = addresses::free_subnet(pool, &observed.networks, &avoided(subject), refused, &owner.uid);
    if free.is_none() {
        let (reason, message) = exhausted(pool, valid);
        plan.stalls(ConditionType::NetworkReady, reason, message);
    }
    free
}

/// Returns the problem of a cluster for which Docker has not chosen a subnet yet. If it could not, the reason stays until
/// the next attempt.
fn unchosen(subject: &Subject<'_>) -> Problem {
    let last = condition::get(&subject.previous.conditions, ConditionType::NetworkReady);
    match last.filter(|c| c.reason == Reason::AddressPoolExhausted) {
        Some(last) => {
            Problem::stalls(ConditionType::NetworkReady, Reason::AddressPoolExhausted, last.message.clone())
        }
        None => {
            let message = "waiting for Docker to choose a subnet to which the host has no route";
            Problem::waits(ConditionType::NetworkReady, Reason::Creating, message)
        }
    }
}

/// Plans the steps by which Docker chooses the subnet of a new cluster; none if the cluster has a subnet or a suitable
/// choice. With a problem, the choices are [given back](give_back).
pub fn choose(plan: &mut Plan, subject: &Subject<'_>, observed: &Host, refused: &BTreeSet<Ipv4Net>) {
    let Subject { valid, settings, .. } = *subject;
    let given = settings.network_pool.is_some() || valid.subnet.is_some();
    if given || existing(subject, observed).is_some() || last(subject, observed).is_some() {
        return;
    }
    let choices: Vec<&Network> = choices(subject, observed).collect();
    if choices.iter().any(|choice| suitable(choice, subject, refused).is_some()) {
        return;
    }
    if let Some(message) = unusable(&choices) {
        plan.stalls(ConditionType::NetworkReady, Reason::AddressPoolExhausted, message);
        return;
    }
    let mut labels = common_labels(subject);
    labels.insert(names::SUBNET_CHOICE.into(), "true".into());
    // No cluster has a name with a dot, so this is not the network of another one.
    let name = |number: usize| format!("{}.subnet-{number}", valid.names.network());
    let free = |name: &String| observed.networks.iter().all(|n| n.name != *name);
    let name = (0..).map(name).find(free).expect("there are fewer networks than numbers");
    // Not worth an Event: it exists for a moment.
    plan.step(Action::CreateNetwork(NetworkSpec { name, addressing: None, labels }), &[], "");
}

/// Plans the removal of all choices.
pub fn give_back(plan: &mut Plan, subject: &Subject<'_>, observed: &Host) {
    for choice in choices(subject, observed) {
        plan.step(Action::remove(choice), &[], "");
    }
}

/// Returns the choices of the cluster by name: Docker lists networks in any order.
fn choices<'a>(subject: &Subject<'_>, observed: &'a Host) -> impl Iterator<Item = &'a Network> + use<'a> {
    let owner = subject.owner;
    let own = observed.networks.iter().filter(|n| owner.owns_choice(n));
    own.map(|n| ((&n.name, &n.id), n)).collect::<BTreeMap<_, _>>().into_values()
}

/// Returns the subnet for the cluster in a choice. A choice that overlaps what Docker refused before is left out: Docker
/// does not know everything that it chooses from.
fn suitable(choice: &Network, subject: &Subject<'_>, refused: &BTreeSet<Ipv4Net>) -> Option<Ipv4Net> {
    let block = *choice.subnets.first()?;
    if block.prefix_len() > LONGEST || refused.iter().any(|r| addresses::overlap(*r, block)) {
        return None;
    }
    addresses::free_subnet(block, &[], &avoided(subject), &BTreeSet::new(), "")
}

/// Returns the reason why further choices would not help, and what to do.
fn unusable(choices: &[&Network]) -> Option<String> {
    let small = choices.iter().flat_map(|n| &n.subnets).find(|n| n.prefix_len() > LONGEST);
    if let Some(small) = small {
        return Some(format!(
            "no free subnet: Docker chose {small}, and a cluster needs a /{LONGEST} or larger; set a size of 24 in \
             default-address-pools of the engine's daemon.json, or start the operator with --network-pool"
        ));
    }
    (choices.len() >= CHOICES).then(|| {
        format!(
            "no free subnet: {CHOICES} subnets that Docker chose overlap the Pod or Service network or contain an \
             address that the host needs; change --cluster-cidr or --service-cidr in spec.servers.args, or start the \
             operator with --network-pool"
        )
    })
}

/// Returns what no subnet of the cluster may overlap besides networks of the engine.
fn avoided(subject: &Subject<'_>) -> Vec<Ipv4Net> {
    let known = subject.settings.known_addresses().into_iter().map(|(ip, _)| Ipv4Net::from(ip));
    subject.valid.networks.all().copied().chain(known).collect()
}

/// Reports whether a given subnet overlaps neither a network of the engine nor one of Pods or Services.
fn is_available(plan: &mut Plan, subject: &Subject<'_>, observed: &Host, subnet: Ipv4Net) -> bool {
    let others = observed.networks.iter().filter(|n| !subject.owner.owns_choice(n));
    if let Some(other) = addresses::overlapping(subnet, others) {
        let other_subnets: Vec<_> = other.subnets.iter().map(ToString::to_string).collect();
        plan.stalls(
            ConditionType::NetworkReady,
            Reason::SubnetConflict,
            format!(
                "subnet {subnet} overlaps {} of the Docker network {}; remove that network, or recreate the cluster \
                 with another spec.network.subnet",
                other_subnets.join(", "),
                other.name
            ),
        );
        return false;
    }
    if let Some(other) = subject.valid.networks.overlapping(subnet) {
        plan.stalls(
            ConditionType::NetworkReady,
            Reason::SubnetConflict,
            format!(
                "subnet {subnet} overlaps {other}, the Pod or Service network in spec.servers.args; change \
                 --cluster-cidr or --service-cidr"
            ),
        );
        return false;
    }
    true
}

/// Returns why no subnet is free and what to do.
fn exhausted(pool: Ipv4Net, valid: &Valid) -> (Reason, String) {
    if let Some(other) = valid.networks.all().find(|n| n.contains(&pool)) {
        let message = format!(
            "no free subnet: {other}, the Pod or Service network in spec.servers.args, covers the network pool \
             {pool}; change --cluster-cidr or --service-cidr, or set spec.network.subnet"
        );
        return (Reason::SubnetConflict, message);
    }
    let message = format!(
        "no free subnet: every /24 of the network pool {pool} is in use; delete a cluster, widen --network-pool, or \
         set spec.network.subnet to a subnet that --allow-subnet allows"
    );
    (Reason::AddressPoolExhausted, message)
}

/// Reports whether a spec may choose this subnet. The host routes it to the cluster, where Pods may respond. It must
/// therefore be in a range that an administrator allows, since Docker does not check the routes of the host
/// (moby/moby#46615).
fn may_choose(plan: &mut Plan, subnet: Ipv4Net, settings: &Settings) -> bool {
    let pool = settings.network_pool;
    if !settings.allowed_subnets.iter().chain(&pool).any(|range| range.contains(&subnet)) {
        let other = pool.map(|pool| format!("with a subnet of {pool} or ")).unwrap_or_default();
        plan.stalls(
            ConditionType::NetworkReady,
            Reason::SubnetNotAllowed,
            format!(
                "subnet {subnet} is not allowed: it is outside the ranges that the operator permits; recreate the \
                 cluster {other}without spec.network.subnet, or have an administrator start the operator with \
                 --allow-subnet={subnet}"
            ),
        );
        return false;
    }
    if let Some((ip, what)) = settings.known_addresses().into_iter().find(|(ip, _)| subnet.contains(ip)) {
        plan.stalls(
            ConditionType::NetworkReady,
            Reason::SubnetConflict,
            format!(
                "subnet {subnet} contains {ip}, the address of {what}, which would become unreachable; recreate the \
                 cluster with another spec.network.subnet"
            ),
        );
        return false;
    }
    true
}
