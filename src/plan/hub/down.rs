//! The next step towards a host without a hub. What belongs to clusters is removed by the operator alone, before it goes.

use std::collections::BTreeSet;

use super::{
    desired::HubNames,
    observed::{Host, Object},
    step::{Next, Step, Target},
};
use crate::docker::engine::{ContainerDetail, State};

/// What happens to the LocalClusters and Registries of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clusters {
    /// The hub stays while there are any.
    Refuse,
    /// They are deleted first.
    Delete,
    /// Their containers keep running without a hub.
    Keep,
}

/// The LocalClusters and Registries of the hub, as far as known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objects {
    /// The hub does not run.
    Unknown,
    /// Its API does not answer, for this reason.
    Silent(String),
    /// All of them.
    Known(BTreeSet<Object>),
}

/// Returns what comes next.
pub fn next(names: &HubNames, clusters: Clusters, host: &Host, objects: &Objects) -> Next {
    let owned = |detail: &&ContainerDetail| names.owns(&detail.container.labels);
    let (server, operator) = (host.server.as_ref().filter(owned), host.operator.as_ref().filter(owned));
    let volume = host.volume.as_ref().filter(|volume| names.owns(&volume.labels));
    if clusters != Clusters::Keep
        && (server.is_some() || volume.is_some())
        && let Some(next) = no_objects(clusters, host, server, operator, objects)
    {
        return next;
    }
    let why = || "the hub is taken down".to_owned();
    if let Some(detail) = operator.or(server) {
        let container = &detail.container;
        let target = Target { id: container.id.clone(), name: container.name.clone() };
        // Its data goes with it. One that was only stopped would no longer tell the next `down` which objects it has.
        return Next::Step(Step::RemoveContainer { target, stop: false, why: why() });
    }
    if let Some(volume) = volume {
        return Next::Step(Step::RemoveVolume(volume.name.clone()));
    }
    match host.networks.iter().find(|network| names.owns(&network.labels)) {
        Some(network) => {
            Next::Step(Step::RemoveNetwork { id: network.id.clone(), name: network.name.clone() })
        }
        None => Next::Done,
    }
}

/// Returns what comes before the hub has no objects; `None` if it has none.
fn no_objects(
    clusters: Clusters,
    host: &Host,
    server: Option<&ContainerDetail>,
    operator: Option<&ContainerDetail>,
    objects: &Objects,
) -> Option<Next> {
    match objects {
        Objects::Known(objects) if objects.is_empty() => None,
        Objects::Known(objects) if clusters == Clusters::Delete => Some(delete(objects, server?, operator)),
        Objects::Known(objects) => Some(Next::Refused(format!(
            "the hub has {}; delete them, or have them deleted with --delete-clusters, or leave their containers running \
             without a hub with --keep-clusters",
            listed(objects)
        ))),
        // One that was never started, or is removed already, has none that anything on the host belongs to.
        Objects::Unknown if server.is_none_or(|d| d.started_at.is_none()) && host.managed.is_empty() => None,
        Objects::Unknown => Some(Next::Refused(
            "the hub does not run, so it is unknown which LocalClusters and Registries it has; start it with \
             `localcluster up`, or remove it without looking with --keep-clusters: containers of clusters then keep running"
                .to_owned(),
        )),
        Objects::Silent(_) => Some(Next::Wait("waiting for the API of the hub".to_owned())),
    }
}

fn delete(objects: &BTreeSet<Object>, server: &ContainerDetail, operator: Option<&ContainerDetail>) -> Next {
    if operator.is_none_or(|d| d.container.state != State::Running) {
        return Next::Refused(format!(
            "the operator does not run, which has to remove {}; start it with `localcluster up`",
            listed(objects)
        ));
    }
    if objects.iter().any(|object| !object.deleting) {
        return Next::Step(Step::DeleteObjects { hub: server.container.id.clone(), number: objects.len() });
    }
    Next::Wait(format!("waiting until the operator has removed {}", listed(objects)))
}

/// Returns the objects as words.
fn listed(objects: &BTreeSet<Object>) -> String {
    const MOST: usize = 10;
    let name = |o: &Object| {
        let paused = if o.paused { " (paused: remove its annotation localcluster.dev/paused)" } else { "" };
        format!("{} {}{paused}", o.kind, o.name)
    };
    let mut words: Vec<String> = objects.iter().take(MOST).map(name).collect();
    if objects.len() > MOST {
        words.push(format!("{} more", objects.len() - MOST));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests;
