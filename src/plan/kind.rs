//! The two kinds of objects that the operator makes on a Docker host.

use std::collections::BTreeMap;

use crate::api::names::{self, VOLUME_OF};

/// A kind of objects. A LocalCluster and a Registry may have one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A LocalCluster.
    LocalCluster,
    /// A Registry.
    Registry,
}

impl Kind {
    /// Returns the kind of the object that a resource with these labels was created for.
    pub fn of(labels: &BTreeMap<String, String>) -> Self {
        let registry = labels.get(names::ROLE).is_some_and(|role| role.starts_with("registry"));
        if registry || labels.contains_key(VOLUME_OF) { Self::Registry } else { Self::LocalCluster }
    }

    /// Returns its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LocalCluster => "LocalCluster",
            Self::Registry => "Registry",
        }
    }

    /// Returns the kind with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::LocalCluster, Self::Registry].into_iter().find(|kind| kind.as_str() == name)
    }

    /// Returns what it is called in messages.
    pub fn noun(self) -> &'static str {
        match self {
            Self::LocalCluster => "cluster",
            Self::Registry => "registry",
        }
    }

    /// Returns the name of the placeholder of an object. No LocalCluster has a name with a dot, so none has the
    /// placeholder of a Registry.
    pub fn placeholder(self, name: &str) -> String {
        match self {
            Self::LocalCluster => format!("{name}-host"),
            Self::Registry => format!("{name}.registry"),
        }
    }
}
