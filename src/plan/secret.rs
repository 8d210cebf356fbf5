//! A Secret of the management cluster that is created for an object, as a value.

use std::{collections::BTreeMap, fmt};

use super::owner::Owner;
use crate::api::names::MANAGED_BY;

/// A desired Secret in the namespace of its owner, which it is deleted with.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Name of the Secret.
    pub name: String,
    /// LocalCluster that owns it.
    pub owner: Owner,
    /// Labels besides [`MANAGED_BY`].
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Values by key.
    pub data: BTreeMap<String, Vec<u8>>,
}

impl Secret {
    /// Returns all labels.
    pub fn all_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
        labels
    }
}

impl fmt::Debug for Secret {
    /// Omits the data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, owner, labels, annotations, data: _ } = self;
        let mut debug = f.debug_struct("Secret");
        debug.field("name", name).field("owner", owner).field("labels", labels);
        debug.field("annotations", annotations).finish_non_exhaustive()
    }
}

/// An existing Secret.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Existing {
    /// Its UID.
    pub uid: String,
    /// UIDs of its owners.
    pub owners: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Values by key.
    pub data: BTreeMap<String, Vec<u8>>,
}

impl Existing {
    /// Reports whether the Secret belongs to this object.
    pub fn is_owned(&self, owner: &Owner) -> bool {
        self.owners.contains(&owner.uid)
    }

    /// Reports whether the data is the desired one, and all desired labels and annotations are set.
    pub fn is(&self, desired: &Secret) -> bool {
        let labelled = desired.all_labels().iter().all(|(key, value)| self.labels.get(key) == Some(value));
        let annotated =
            desired.annotations.iter().all(|(key, value)| self.annotations.get(key) == Some(value));
        labelled && annotated && self.data == desired.data
    }
}

impl fmt::Debug for Existing {
    /// Omits the data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Existing").field("owners", &self.owners).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_the_object_that_owns_it() {
        let owner = Owner { uid: "1".into(), ..Owner::default() };
        let of = |owners: &[&str]| {
            let owners = owners.iter().map(|uid| (*uid).to_owned()).collect();
            Existing { owners, ..Existing::default() }.is_owned(&owner)
        };
        assert!(of(&["1"]) && of(&["2", "1"]) && !of(&["2"]) && !of(&[]));
    }

    #[test]
    fn it_is_as_desired_with_the_same_data_and_whatever_others_add() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let desired = Secret {
            name: "dev".into(),
            owner: Owner::default(),
            labels: map(&[("a", "1")]),
            annotations: map(&[("b", "2")]),
            data: BTreeMap::from([("token".to_owned(), b"t".to_vec())]),
        };
        assert_eq!(desired.all_labels(), map(&[("a", "1"), MANAGED_BY]));
        let same = Existing {
            labels: map(&[("a", "1"), ("theirs", "x"), MANAGED_BY]),
            annotations: map(&[("b", "2"), ("theirs", "x")]),
            data: desired.data.clone(),
            ..Existing::default()
        };
        assert!(same.is(&desired));
        for other in [
            Existing { labels: map(&[("a", "1")]), ..same.clone() },
            Existing { labels: map(&[("a", "2"), MANAGED_BY]), ..same.clone() },
            Existing { annotations: BTreeMap::new(), ..same.clone() },
            Existing { annotations: map(&[("b", "3")]), ..same.clone() },
            Existing { data: BTreeMap::new(), ..same.clone() },
        ] {
            assert!(!other.is(&desired), "{:?} {:?}", other.labels, other.annotations);
        }
    }

    #[test]
    fn no_data_is_printed() {
        let data = BTreeMap::from([("token".to_owned(), b"hunter2".to_vec())]);
        let secret = Secret {
            name: "dev-token".into(),
            owner: Owner::default(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            data: data.clone(),
        };
        let existing = Existing { data, ..Existing::default() };
        for text in [format!("{secret:?}"), format!("{existing:?}")] {
            assert!(!text.contains("hunter2") && !text.contains("104"), "{text}");
        }
    }
}
