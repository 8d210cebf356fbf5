//! An object of the management cluster, with what the operator remembers of it.

use super::*;

/// A LocalCluster or a Registry as the management cluster has it, with what the operator remembers of it.
#[derive(Clone, Debug)]
pub struct Object<S, T> {
    pub namespace: String,
    pub name: String,
    pub spec: S,
    pub status: T,
    pub generation: i64,
    pub refused: Refused,
    /// Host ports that something else has.
    pub taken: BTreeSet<Binding>,
    pub deleted: bool,
    /// The garbage collection, or the reset of etcd, that is asked for.
    pub request: Option<String>,
}

pub type ClusterObject = Object<LocalClusterSpec, LocalClusterStatus>;

pub type RegistryObject = Object<RegistrySpec, RegistryStatus>;

impl<S, T: Default> Object<S, T> {
    pub fn new(namespace: &str, name: &str, spec: S) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            spec,
            status: T::default(),
            generation: 1,
            refused: Refused::default(),
            taken: BTreeSet::new(),
            deleted: false,
            request: None,
        }
    }

    pub fn edit(&mut self, change: impl FnOnce(&mut S)) {
        change(&mut self.spec);
        self.generation += 1;
    }

    pub fn owner(&self, kind: &str) -> Owner {
        Owner {
            uid: format!("{kind}-{}-{}", self.namespace, self.name),
            manager: MANAGER.into(),
            object: format!("{}/{}", self.namespace, self.name),
        }
    }

    /// Loses what only a process remembers, and the last status too, as when it dies before it is written.
    pub fn forget(&mut self) {
        self.refused = Refused::default();
        self.taken.clear();
        self.status = T::default();
    }

    pub(super) fn moment(&self, world: &World) -> Moment {
        Moment { generation: self.generation, now: world.now() }
    }
}
