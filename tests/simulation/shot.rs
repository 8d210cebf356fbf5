//! What is on the engine at a moment, shared by all who compare it with another moment: most of the time nothing changes.

use std::{collections::BTreeMap, sync::Arc};

use super::desk::is_ours;
use crate::support::model::world::{Container, Network, Volume, World};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shot {
    /// By id.
    pub containers: BTreeMap<String, Container>,
    /// By id.
    pub networks: BTreeMap<String, Network>,
    /// By name.
    pub volumes: BTreeMap<String, Volume>,
}

/// The last one.
#[derive(Default)]
pub struct Shots {
    last: Arc<Shot>,
}

impl Shots {
    /// What is there now: the same value as long as it is the same.
    pub fn take(&mut self, world: &World) -> Arc<Shot> {
        let Shot { containers, networks, volumes } = &*self.last;
        let same =
            *containers == world.containers && *networks == world.networks && *volumes == world.volumes;
        if !same {
            let World { containers, networks, volumes, .. } = world.clone();
            self.last = Arc::new(Shot { containers, networks, volumes });
        }
        self.last.clone()
    }
}

impl Shot {
    /// What does not belong to the operator, without its places on networks and what others see of it.
    pub fn strangers(&self) -> Self {
        let foreign = self.containers.iter().filter(|(_, c)| !is_ours(&c.labels));
        let alone = |(id, c): (&String, &Container)| {
            (id.clone(), Container { networks: BTreeMap::new(), ..c.clone() })
        };
        let networks = self.networks.iter().filter(|(_, n)| !is_ours(&n.labels));
        let volumes = self.volumes.iter().filter(|(_, v)| !is_ours(&v.labels));
        Self {
            containers: foreign.map(alone).collect(),
            networks: networks.map(|(id, n)| (id.clone(), n.clone())).collect(),
            volumes: volumes.map(|(name, v)| (name.clone(), v.clone())).collect(),
        }
    }

    /// What another one has not, or has as something else.
    pub fn without(&self, other: &Self) -> Vec<String> {
        let containers = self.containers.iter().filter(|(id, c)| other.containers.get(*id) != Some(*c));
        let networks = self.networks.iter().filter(|(id, n)| other.networks.get(*id) != Some(*n));
        let volumes = self.volumes.iter().filter(|(name, v)| other.volumes.get(*name) != Some(*v));
        containers
            .map(|(id, c)| format!("{id} {c:?}"))
            .chain(networks.map(|(id, n)| format!("{id} {n:?}")))
            .chain(volumes.map(|(name, v)| format!("{name} {v:?}")))
            .collect()
    }
}
