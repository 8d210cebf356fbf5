//! Adoption: what Docker's labels give to an earlier object, and an object takes over by its annotation
//! [`ADOPTS_ANNOTATION`]. Labels of Docker can't be changed, so ownership follows by another way to read them: what is
//! observed of an adopted container, network or volume has the labels of the object that adopted it. All stages therefore
//! see it as that object's own, and what is created later has the object's own labels.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    kind::Kind,
    observed::Host,
    owner::{Owner, taken},
    policy::standing::Standing,
    steps::Problem,
};
use crate::api::{ADOPTS_ANNOTATION, condition::ConditionType, names, reason::Reason};

/// Labels of containers, networks and volumes.
type Labels = BTreeMap<String, String>;

/// Most pairs in an annotation.
const MOST: usize = 32;

/// What the labels of Docker give things to: the UID of an object, and the ID of the management cluster that it was in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// UID of the object.
    pub uid: String,
    /// ID of the management cluster.
    pub manager: String,
}

impl Pair {
    /// Returns the pair in these labels.
    pub fn of(labels: &Labels) -> Option<Self> {
        Some(Self { uid: labels.get(names::UID)?.clone(), manager: labels.get(names::MANAGER)?.clone() })
    }
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.uid, self.manager)
    }
}

/// Parses the value of the annotation. What is no pair is left out and told.
pub fn parse(text: &str) -> (BTreeSet<Pair>, Vec<String>) {
    let (mut pairs, mut errors) = (BTreeSet::new(), Vec::new());
    let is_id = |id: &str| {
        (1..=64).contains(&id.len())
            && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    for part in text.split(',').map(str::trim) {
        match part.split_once('@') {
            Some((uid, manager)) if is_id(uid) && is_id(manager) => {
                pairs.insert(Pair { uid: uid.to_owned(), manager: manager.to_owned() });
            }
            _ => {
                let shown: String = part.chars().take(128).collect();
                errors.push(format!(
                    "metadata.annotations[{ADOPTS_ANNOTATION}]: {shown:?} names nothing to take over: write \
                     <UID>@<management cluster>, as the labels {} and {} on the Docker host have them, and a comma between \
                     several",
                    names::UID,
                    names::MANAGER
                ));
            }
        }
    }
    if pairs.len() > MOST {
        errors.push(format!(
            "metadata.annotations[{ADOPTS_ANNOTATION}]: {} are more than {MOST}; leave out those that nothing on the Docker \
             host has",
            pairs.len()
        ));
        while pairs.len() > MOST {
            pairs.pop_last();
        }
    }
    (pairs, errors)
}

/// An object with the pairs that it adopts.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Kind of the object.
    pub kind: Kind,
    /// The object.
    pub owner: Owner,
    /// The pairs.
    pub pairs: BTreeSet<Pair>,
}

/// Whether the objects of a namespace may adopt what is of another management cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consent {
    /// They may.
    Given,
    /// The HostPolicy with this name does not allow it.
    Refused(String),
    /// It is not known which rules apply, or there are none.
    Unknown,
}

impl Consent {
    /// Returns the consent by the standing of the objects in a namespace before their specs are judged. The mode of a
    /// policy does not matter: Audit is for what ends with the object, and this takes from others.
    pub fn of(standing: &Standing, manager: &str) -> Self {
        match (&standing.problem, &standing.policy) {
            (Some(_), _) => Self::Unknown,
            (None, None) => Self::Given,
            (None, Some(_)) if standing.rules.adopt.iter().any(|pattern| pattern.matches(manager)) => {
                Self::Given
            }
            (None, Some(policy)) => Self::Refused(policy.clone()),
        }
    }
}

/// Why a pair is not adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Denial {
    /// An object with this UID exists.
    Living,
    /// The HostPolicy with this name does not allow it.
    Policy(String),
    /// Its rules are not known.
    Unknown,
}

/// What all objects adopt.
#[derive(Clone, Debug, Default)]
pub struct Adoptions(BTreeMap<(Kind, String), Adopter>);

#[derive(Clone, Debug)]
struct Adopter {
    owner: Owner,
    pairs: BTreeSet<Pair>,
    denied: BTreeMap<Pair, Denial>,
}

impl Adoptions {
    /// Returns what the claims give. `living` contains the UIDs of all objects, and `consent` tells whether the objects of
    /// a namespace may adopt from another management cluster.
    ///
    /// Nobody takes anything from an object that exists. What a namespace may take is limited by the labels: see
    /// [`Adoptions::owner`].
    pub fn of(
        claims: Vec<Claim>,
        living: &BTreeSet<String>,
        consent: impl Fn(&str, &str) -> Consent,
    ) -> Self {
        let adopter = |Claim { kind, owner, pairs }: Claim| {
            let mut adopter = Adopter { owner, pairs: BTreeSet::new(), denied: BTreeMap::new() };
            for pair in pairs {
                let Owner { uid, manager, .. } = &adopter.owner;
                let denial = if pair.uid != *uid && living.contains(&pair.uid) {
                    Some(Denial::Living)
                } else if pair.manager == *manager {
                    None
                } else {
                    match consent(adopter.owner.namespace(), &pair.manager) {
                        Consent::Given => None,
                        Consent::Refused(policy) => Some(Denial::Policy(policy)),
                        Consent::Unknown => Some(Denial::Unknown),
                    }
                };
                match denial {
                    Some(denial) => drop(adopter.denied.insert(pair, denial)),
                    None => drop(adopter.pairs.insert(pair)),
                }
            }
            ((kind, adopter.owner.object.clone()), adopter)
        };
        Self(claims.into_iter().map(adopter).collect())
    }

    /// Returns the object of this kind and name that these labels name.
    fn adopter(&self, labels: &Labels) -> Option<(&Adopter, Pair)> {
        if self.0.is_empty() {
            return None;
        }
        let key = (Kind::of(labels), labels.get(names::OWNER)?.clone());
        Some((self.0.get(&key)?, Pair::of(labels)?))
    }

    /// Returns the object that adopted what has these labels: one with the namespace, the name and the kind in them, so
    /// that no other namespace gets it by writing a UID.
    pub fn owner(&self, labels: &Labels) -> Option<&Owner> {
        let (adopter, pair) = self.adopter(labels)?;
        adopter.pairs.contains(&pair).then_some(&adopter.owner)
    }

    /// Replaces UID and management cluster in the labels of what an object adopted by its own.
    pub fn read(&self, labels: &mut Labels) {
        if let Some(owner) = self.owner(labels) {
            let own = owner.labels();
            labels.extend(own);
        }
    }

    /// Reads the labels of everything on the host.
    pub fn read_all(&self, host: &mut Host) {
        if self.0.is_empty() {
            return;
        }
        let Host { containers, own, networks, volumes, engine: _ } = host;
        let listed = containers.iter_mut().map(|c| &mut c.labels);
        let inspected = own.values_mut().map(|detail| &mut detail.container.labels);
        let others =
            networks.iter_mut().map(|n| &mut n.labels).chain(volumes.iter_mut().map(|v| &mut v.labels));
        listed.chain(inspected).chain(others).for_each(|labels| self.read(labels));
    }

    /// Returns why an object cannot adopt something on the host that it names.
    pub fn problem(&self, kind: Kind, owner: &Owner, host: &Host) -> Option<Problem> {
        let adopter =
            self.0.get(&(kind, owner.object.clone())).filter(|adopter| !adopter.denied.is_empty())?;
        let containers = host.containers.iter().map(|c| &c.labels);
        let others = host.networks.iter().map(|n| &n.labels).chain(host.volumes.iter().map(|v| &v.labels));
        let (pair, denial) = containers.chain(others).find_map(|labels| {
            let (named, pair) = self.adopter(labels)?;
            let denial = (named.owner == adopter.owner).then(|| adopter.denied.get(&pair)).flatten()?;
            Some((pair, denial.clone()))
        })?;
        let what = format!("{} {} cannot take over {pair}", kind.as_str(), owner.object);
        let accepted = ConditionType::Accepted;
        Some(match denial {
            Denial::Living => Problem::stalls(
                accepted,
                Reason::NameConflict,
                format!(
                    "{what}: an object with this UID exists; delete that one, or remove the annotation {ADOPTS_ANNOTATION}"
                ),
            ),
            Denial::Policy(policy) => Problem::stalls(
                accepted,
                Reason::PolicyViolation,
                format!(
                    "{what}: the HostPolicy {policy} does not allow to adopt from the management cluster {}; have an \
                     administrator add it to spec.adopt if it no longer exists, or remove the annotation {ADOPTS_ANNOTATION}",
                    pair.manager
                ),
            ),
            Denial::Unknown => Problem::waits(
                accepted,
                Reason::Pending,
                format!(
                    "{what}: it is not known whether a HostPolicy allows it; check the HostPolicy of the namespace {}",
                    owner.namespace()
                ),
            ),
        })
    }

    /// Reports whether it is not known yet if something on the host is the object's own.
    pub fn is_pending(&self, kind: Kind, owner: &Owner, host: &Host) -> Option<Problem> {
        self.problem(kind, owner, host).filter(|problem| problem.reason == Reason::Pending)
    }
}

/// Returns why an object of which nothing exists is not created beside what an earlier object of its kind and name left:
/// `is_named` tells the names of its containers. It may adopt that later, and what it chose for itself meanwhile, such as a
/// token or a port, would then be in the way.
pub fn left(
    (kind, owner): (Kind, &Owner),
    host: &Host,
    condition: ConditionType,
    is_named: impl Fn(&str) -> bool,
) -> Option<Problem> {
    let is_left = |labels: &Labels| {
        labels.get(names::OWNER) == Some(&owner.object) && Kind::of(labels) == kind && !owner.owns(labels)
    };
    let mut found = host.containers.iter().filter(|c| is_named(&c.name) && is_left(&c.labels));
    let found = found.next().filter(|_| host.own.is_empty())?;
    let message = taken(owner, "container", &found.name, &found.id, &found.labels);
    Some(Problem::stalls(condition, Reason::NameConflict, message))
}

#[cfg(test)]
mod tests;
