//! Docker's events, as the difference of two moments.

use localcluster_operator::docker::engine::{Event, State, Subject};

use super::shot::Shot;
use crate::support::model::world::Container;

/// Tells of all that happened between two moments.
pub fn between(before: &Shot, after: &Shot, mut tell: impl FnMut(Event)) {
    let event = |id: &str, c: &Container, action: &str| Event {
        subject: Subject::Container(id.to_owned()),
        action: action.to_owned(),
        labels: (*c.labels).clone(),
    };
    for (id, old) in &before.containers {
        match after.containers.get(id).filter(|new| new.labels == old.labels) {
            None => {
                if old.is_up() {
                    tell(event(id, old, "die"));
                }
                tell(event(id, old, "destroy"));
            }
            Some(new) => states(old, new).iter().for_each(|action| tell(event(id, new, action))),
        }
    }
    for (id, new) in &after.containers {
        let old = before.containers.get(id).filter(|old| old.labels == new.labels);
        if old.is_none() {
            tell(event(id, new, "create"));
            if new.state == State::Running {
                tell(event(id, new, "start"));
            }
        }
        let none = std::collections::BTreeMap::new();
        let places = old.map_or(&none, |old| &old.networks);
        let of_network = |network: &String, action: &str| {
            let world = if action == "connect" { after } else { before };
            let name = world.networks.get(network).map(|n| n.name.clone()).unwrap_or_default();
            let subject = Subject::Network { id: network.clone(), name, container: Some(id.clone()) };
            Event { subject, action: action.to_owned(), labels: Default::default() }
        };
        let gone = places.keys().filter(|n| !new.networks.contains_key(*n));
        gone.for_each(|n| tell(of_network(n, "disconnect")));
        let come = new.networks.keys().filter(|n| !places.contains_key(*n));
        come.for_each(|n| tell(of_network(n, "connect")));
    }
    for (id, network) in before.networks.iter().filter(|(id, _)| !after.networks.contains_key(*id)) {
        let subject = Subject::Network { id: id.clone(), name: network.name.clone(), container: None };
        tell(Event { subject, action: "destroy".into(), labels: Default::default() });
    }
    for name in before.volumes.keys().filter(|name| !after.volumes.contains_key(*name)) {
        let subject = Subject::Volume(name.clone());
        tell(Event { subject, action: "destroy".into(), labels: Default::default() });
    }
}

fn states(old: &Container, new: &Container) -> &'static [&'static str] {
    match (old.state, new.state) {
        (old, new) if old == new => &[],
        (State::Paused, State::Running) => &["unpause"],
        (_, State::Running) => &["start"],
        (_, State::Paused) => &["pause"],
        (State::Running | State::Paused, _) => &["die"],
        _ => &[],
    }
}
