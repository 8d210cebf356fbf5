//! The next step towards a hub that runs as wanted. Each step follows from what exists alone, so an interrupted `up` is
//! completed by the next one.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    desired::Wanted,
    manifests::{self, Installation},
    observed::{Answer, Api, Observed},
    step::{Next, Step, Target},
};
use crate::{
    api::names,
    docker::{
        engine::{ContainerDetail, State},
        spec::{ContainerSpec, FileSpec},
    },
    k3s::versions::{self, Version},
};

/// Host ports for the API of a hub if the user names none: outside of the ports that the operator allocates, and of those
/// from which systems choose. Docker could choose one, but would choose another one at each start.
const PORTS: std::ops::RangeInclusive<u16> = 16443..=16542;
/// Restarts after which a container that exits is not waited for any longer.
const RESTARTS: u32 = 5;

/// Either what has been looked for, or what comes next before it can be there.
type Found<T> = Result<T, Box<Next>>;

/// Returns what comes next.
pub fn next(wanted: &Wanted, installation: &Installation, observed: &Observed) -> Next {
    match all(wanted, installation, observed) {
        Ok(()) => Next::Done,
        Err(next) => *next,
    }
}

/// Returns the number of restarts of both containers, by ID.
pub fn restarts(observed: &Observed) -> BTreeMap<String, u32> {
    both(observed).map(|d| (d.container.id.clone(), d.started_again)).collect()
}

/// Returns the container that has exited again and again since it had these numbers of restarts. An operator that has
/// been without its hub for long has many, and works as soon as the hub does.
pub fn failing<'a>(observed: &'a Observed, before: &BTreeMap<String, u32>) -> Option<&'a ContainerDetail> {
    let since = |d: &ContainerDetail| {
        let before = before.get(&d.container.id).copied().unwrap_or(d.started_again);
        d.started_again.saturating_sub(before)
    };
    both(observed).find(|d| d.container.state == State::Restarting && since(d) >= RESTARTS)
}

fn both(observed: &Observed) -> impl Iterator<Item = &ContainerDetail> {
    [&observed.host.server, &observed.host.operator].into_iter().flatten()
}

/// Returns the host port of the API of a hub that is complete.
pub fn port(server: &ContainerDetail) -> Option<u16> {
    server.wanted_ports.first().map(|port| port.host_port)
}

fn all(wanted: &Wanted, installation: &Installation, observed: &Observed) -> Found<()> {
    nothing_foreign(wanted, observed)?;
    let server_image = image(observed, &wanted.image)?;
    let operator_image = image(observed, &wanted.operator_image)?;
    if observed.host.volume.is_none() {
        return step(Step::CreateVolume(wanted.volume()));
    }
    let Some(network) = observed.host.networks.first() else {
        return step(Step::CreateNetwork(wanted.network()));
    };
    let port = choose_port(wanted, observed)?;
    let spec = wanted.server(port, server_image, &network.id);
    let server = server(&spec, &network.id, observed)?;
    let answer = answers(observed)?;
    applied(installation, answer, server)?;
    let Some(token) = &answer.token else {
        return wait("waiting for the operator's token");
    };
    let Some(credentials) = &answer.credentials else {
        return wait("waiting for the kubeconfig of the hub");
    };
    let file = wanted.operator_kubeconfig(token, credentials);
    let spec = wanted.operator(operator_image, &network.id);
    let operator = operator(&spec, &network.id, file, observed)?;
    leads(operator, answer)
}

fn step<T>(step: Step) -> Found<T> {
    Err(Box::new(Next::Step(step)))
}

fn wait<T>(what: impl Into<String>) -> Found<T> {
    Err(Box::new(Next::Wait(what.into())))
}

fn refused<T>(why: String) -> Found<T> {
    Err(Box::new(Next::Refused(why)))
}

/// Nothing is created as long as something else has one of the names.
fn nothing_foreign(wanted: &Wanted, observed: &Observed) -> Found<()> {
    let host = &observed.host;
    let containers = [&host.server, &host.operator].into_iter().flatten().map(|d| &d.container);
    let containers = containers.map(|c| ("container", &c.name, &c.labels));
    let networks = host.networks.iter().map(|n| ("network", &n.name, &n.labels));
    let volumes = host.volume.iter().map(|v| ("volume", &v.name, &v.labels));
    match containers.chain(networks).chain(volumes).find(|(.., labels)| !wanted.names.owns(labels)) {
        None => Ok(()),
        Some((kind, name, _)) => refused(format!(
            "a {kind} named {name} exists that no hub of this name owns: it is not changed; remove or rename it, or \
             choose another name for the hub with --name"
        )),
    }
}

/// Returns the ID of an image.
fn image<'a>(observed: &'a Observed, reference: &str) -> Found<&'a str> {
    match observed.host.images.get(reference) {
        Some(id) => Ok(id),
        None => step(Step::Pull(reference.to_owned())),
    }
}

/// Returns the given host port, that of the existing container, or a free one.
fn choose_port(wanted: &Wanted, observed: &Observed) -> Found<u16> {
    let taken = &observed.taken_ports;
    if let Some(given) = wanted.api_port {
        if !taken.contains(&given) {
            return Ok(given);
        }
        return refused(format!(
            "port {given} of 127.0.0.1 is in use on the Docker host; stop what uses it, or choose another with --api-port"
        ));
    }
    let present = observed.host.server.as_ref().and_then(port).filter(|port| *port != 0);
    let free = |port: &u16| !taken.contains(port) && !observed.host.used_ports.contains(port);
    match present.filter(|port| !taken.contains(port)).or_else(|| PORTS.clone().find(free)) {
        Some(port) => Ok(port),
        None => refused(format!(
            "all ports of 127.0.0.1 from {} to {} are in use on the Docker host; choose another with --api-port",
            PORTS.start(),
            PORTS.end()
        )),
    }
}

/// Returns the container of the K3s server, which runs.
fn server<'a>(spec: &ContainerSpec, network: &str, observed: &'a Observed) -> Found<&'a ContainerDetail> {
    let Some(detail) = &observed.host.server else { return create(spec, network) };
    if let Some(why) = differs(spec, network, detail) {
        no_downgrade(spec, detail)?;
        return remove(detail, why);
    }
    runs(detail)?;
    Ok(detail)
}

/// Returns the container of the operator, which runs with this kubeconfig.
fn operator<'a>(
    spec: &ContainerSpec,
    network: &str,
    file: FileSpec,
    observed: &'a Observed,
) -> Found<&'a ContainerDetail> {
    let Some(detail) = &observed.host.operator else { return create(spec, network) };
    if let Some(why) = differs(spec, network, detail) {
        return remove(detail, why);
    }
    if observed.given.as_ref() != Some(&file.content) {
        if detail.container.state.is_up() {
            return remove(detail, "its kubeconfig is not that of the hub".to_owned());
        }
        return step(Step::WriteFile { container: detail.container.id.clone(), file });
    }
    runs(detail)?;
    Ok(detail)
}

fn create<T>(spec: &ContainerSpec, network: &str) -> Found<T> {
    step(Step::CreateContainer { spec: Box::new(spec.clone()), network: network.to_owned() })
}

fn remove<T>(detail: &ContainerDetail, why: String) -> Found<T> {
    step(Step::RemoveContainer { target: target(detail), stop: true, why })
}

fn target(detail: &ContainerDetail) -> Target {
    Target { id: detail.container.id.clone(), name: detail.container.name.clone() }
}

/// Returns what of a container is not as wanted and can only be changed by replacing it.
fn differs(spec: &ContainerSpec, network: &str, detail: &ContainerDetail) -> Option<String> {
    let container = &detail.container;
    if container.state == State::Dead {
        return Some("Docker has removed it partially".to_owned());
    }
    if container.labels.get(names::SPEC_HASH) != spec.labels.get(names::SPEC_HASH) {
        return Some(match port(detail).zip(spec.ports.first()) {
            _ if container.image != spec.image => {
                format!("its image changes from {} to {}", container.image, spec.image)
            }
            Some((old, new)) if old != new.host_port => {
                format!("its port changes from {old} to {}", new.host_port)
            }
            _ => "its settings, its image or its network have changed".to_owned(),
        });
    }
    if !container.networks.contains_key(network) {
        return Some("it is not connected to its network".to_owned());
    }
    (!detail.restarts()).then(|| "its restart policy has been changed".to_owned())
}

/// K3s cannot read data that a later version has written.
fn no_downgrade(spec: &ContainerSpec, detail: &ContainerDetail) -> Found<()> {
    let version = |image: &str| Version::parse(&versions::of_image(image)?);
    match version(&detail.container.image).zip(version(&spec.image)) {
        Some((old, new)) if new < old => refused(format!(
            "the hub runs K3s {old}, and K3s cannot go back to {new}; use a version of this program that is not older, or \
             --image {}",
            detail.container.image
        )),
        _ => Ok(()),
    }
}

fn runs(detail: &ContainerDetail) -> Found<()> {
    let name = &detail.container.name;
    match detail.container.state {
        State::Running => Ok(()),
        State::Created | State::Exited | State::Dead => step(Step::Start(target(detail))),
        State::Paused => step(Step::Unpause(target(detail))),
        State::Restarting => {
            wait(format!("waiting for container {name}, which exited and is restarted by Docker"))
        }
        State::Removing => wait(format!("waiting until container {name} is removed")),
    }
}

fn answers(observed: &Observed) -> Found<&Answer> {
    match &observed.api {
        Api::Answers(answer) => Ok(answer),
        Api::Away | Api::Silent(_) => wait("waiting for the API of the hub"),
    }
}

/// Everything is in the API that the operator needs.
fn applied(installation: &Installation, answer: &Answer, server: &ContainerDetail) -> Found<()> {
    let apply = |what, manifest| {
        let hub = server.container.id.clone();
        step(Step::Apply { hub, what, manifest })
    };
    if !installation.keys.is_subset(&answer.applied) {
        return apply("definitions and permissions", installation.manifest());
    }
    let served: BTreeSet<_> = installation.definitions.difference(&answer.established).collect();
    if !served.is_empty() {
        return wait("waiting until the API serves LocalClusters and Registries");
    }
    match (answer.initialized, answer.has_policy) {
        (true, _) => Ok(()),
        (false, false) => {
            apply("a HostPolicy that allows everything in namespace default", manifests::policy())
        }
        (false, true) => apply("the mark that the hub has had its HostPolicy", manifests::initialized()),
    }
}

/// The operator works: it has renewed its Lease since it was started.
fn leads(operator: &ContainerDetail, answer: &Answer) -> Found<()> {
    let renewed =
        answer.leader.as_ref().filter(|(holder, _)| *holder == operator.hostname).map(|(_, at)| *at);
    if renewed.is_some() && renewed >= operator.started_at {
        return Ok(());
    }
    wait("waiting for the operator")
}

#[cfg(test)]
mod tests;
