//! Ownership of Docker resources: the UID of an object in the management cluster, in labels. Names prove nothing.

use std::collections::BTreeMap;

use super::kind::Kind;
use crate::{
    api::names,
    docker::engine::{Container, Network, Volume},
};

/// Owner of Docker resources: the UID of an object, in the management cluster with this ID. Names prove nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// UID of the object.
    pub uid: String,
    /// ID of the management cluster.
    pub manager: String,
    /// `namespace/name`.
    pub object: String,
}

impl Owner {
    /// Reports whether the object owns the resource with these labels.
    pub fn owns(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(names::UID) == Some(&self.uid) && labels.get(names::MANAGER) == Some(&self.manager)
    }

    /// Reports whether this is the network of the object, and not one from which the subnet that Docker chooses is read.
    pub fn owns_network(&self, network: &Network) -> bool {
        self.owns(&network.labels) && !network.labels.contains_key(names::SUBNET_CHOICE)
    }

    /// Reports whether the subnet that Docker chooses for the object is read from this network.
    pub fn owns_choice(&self, network: &Network) -> bool {
        self.owns(&network.labels) && network.labels.contains_key(names::SUBNET_CHOICE)
    }

    /// Reports whether none of these is the object's.
    pub fn has_nothing(&self, containers: &[Container], networks: &[Network], volumes: &[Volume]) -> bool {
        let containers = containers.iter().map(|c| &c.labels);
        let others = networks.iter().map(|n| &n.labels).chain(volumes.iter().map(|v| &v.labels));
        !containers.chain(others).any(|labels| self.owns(labels))
    }

    /// Returns the namespace of the object.
    pub fn namespace(&self) -> &str {
        self.object.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// Returns the name of the object.
    pub fn name(&self) -> &str {
        self.object.split_once('/').map_or("", |(_, name)| name)
    }

    /// Returns the labels of everything that the object owns.
    pub fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (names::UID.to_owned(), self.uid.clone()),
            (names::MANAGER.to_owned(), self.manager.clone()),
            (names::OWNER.to_owned(), self.object.clone()),
        ])
    }
}

/// Returns the message about a name that an unmanaged resource with these labels and this ID has. The ID of a volume
/// is its name.
pub fn taken(owner: &Owner, what: &str, name: &str, id: &str, labels: &BTreeMap<String, String>) -> String {
    let id = if id == name { String::new() } else { format!(" ({})", short(id)) };
    let object = labels.get(names::OWNER).filter(|_| labels.contains_key(names::UID));
    let manager = object.map_or_else(
        || "not managed by this object".to_owned(),
        |object| {
            let kind = Kind::of(labels).as_str();
            let elsewhere = if labels.get(names::MANAGER) == Some(&owner.manager) {
                ""
            } else {
                " of another management cluster"
            };
            format!("managed by the {kind} {object}{elsewhere}")
        },
    );
    let same = object.is_some_and(|object| *object == owner.object);
    let adopt = if same {
        ". What an earlier object of this name left is taken over with the annotation localcluster.dev/adopts, which \
         `localcluster adopt` writes"
    } else {
        ""
    };
    format!(
        "a {what} named {name}{id} already exists on this Docker host and is {manager}; it is left unchanged. \
         Remove or rename it, or use another name for this object{adopt}"
    )
}

/// Returns the first 12 digits of an ID, as in the tables of Docker.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
