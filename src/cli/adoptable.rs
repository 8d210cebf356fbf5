//! **Pure**: what is on a Docker host of objects that a management cluster does not have, and how it is taken over.

use std::collections::{BTreeMap, BTreeSet};

use kube::Resource;
use serde_json::{Value, json};

use super::valid;
use crate::{
    api::{ADOPTS_ANNOTATION, LocalCluster, Registry, names},
    docker::engine::{Container, Network, Volume},
    plan::{
        adoption::{Pair, parse},
        kind::Kind,
    },
};

/// Kind, namespace and name of an object.
pub(super) type Key = (Kind, String, String);

/// What Docker's labels give to objects with one kind, namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Leftover {
    /// The pairs of UID and management cluster.
    pub pairs: BTreeSet<Pair>,
    /// Names of containers.
    pub containers: Vec<String>,
    /// ID of the container that has the record of the object.
    pub keeper: Option<String>,
}

/// Returns everything that objects own on a host.
pub(super) fn on_host(
    containers: &[Container],
    networks: &[Network],
    volumes: &[Volume],
) -> BTreeMap<Key, Leftover> {
    let mut found: BTreeMap<Key, Leftover> = BTreeMap::new();
    let mut add = |labels: &BTreeMap<String, String>, container: Option<&Container>| {
        let object = labels.get(names::OWNER).and_then(|object| object.split_once('/'));
        let (Some(pair), Some((namespace, name))) = (Pair::of(labels), object) else { return };
        let leftover = found.entry((Kind::of(labels), namespace.to_owned(), name.to_owned())).or_default();
        leftover.pairs.insert(pair);
        let Some(container) = container else { return };
        leftover.containers.push(container.name.clone());
        let role = labels.get(names::ROLE).map(String::as_str);
        if matches!(role, Some("loadbalancer" | "registry")) {
            leftover.keeper = Some(container.id.clone());
        }
    };
    containers.iter().for_each(|container| add(&container.labels, Some(container)));
    networks.iter().for_each(|network| add(&network.labels, None));
    volumes.iter().for_each(|volume| add(&volume.labels, None));
    found.values_mut().for_each(|leftover| leftover.containers.sort());
    found
}

/// An object of the management cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Existing {
    /// Its UID.
    pub uid: String,
    /// What it adopts.
    pub adopts: BTreeSet<Pair>,
    /// True for a LocalCluster with a Registry of its own.
    pub has_registry: bool,
}

impl Existing {
    /// Returns an object by its metadata.
    pub fn new(meta: &kube::api::ObjectMeta, has_registry: bool) -> Self {
        let annotation = meta.annotations.as_ref().and_then(|all| all.get(ADOPTS_ANNOTATION));
        let adopts = annotation.map(|text| parse(text).0).unwrap_or_default();
        Self { uid: meta.uid.clone().unwrap_or_default(), adopts, has_registry }
    }
}

/// Removes what existing objects own or adopt already, and what a deleted Registry left on purpose.
pub(super) fn unowned(
    found: BTreeMap<Key, Leftover>,
    existing: &BTreeMap<Key, Existing>,
) -> BTreeMap<Key, Leftover> {
    let living: BTreeSet<&str> = existing.values().map(|object| object.uid.as_str()).collect();
    let adopted = |key: &Key, pair: &Pair| {
        let own = existing.get(key).is_some_and(|object| object.adopts.contains(pair));
        // A LocalCluster adopts for its own Registry, too.
        let mut clusters = existing.iter().filter(|((kind, namespace, name), object)| {
            let registry = (Kind::Registry, namespace.clone(), names::own_registry(name));
            *kind == Kind::LocalCluster && object.has_registry && registry == *key
        });
        own || clusters.any(|(_, object)| object.adopts.contains(pair))
    };
    let open = found.into_iter().map(|(key, mut leftover)| {
        leftover.pairs.retain(|pair| !living.contains(pair.uid.as_str()) && !adopted(&key, pair));
        (key, leftover)
    });
    open.filter(|(_, leftover)| !leftover.pairs.is_empty() && !leftover.containers.is_empty()).collect()
}

/// How something is taken over.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum How {
    /// The object exists and gets the annotation.
    Annotate,
    /// The object is created from its record, or from a file.
    Create(Value),
    /// It is the Registry of the LocalCluster with this name, which takes it over.
    With(String),
    /// There is no record, and why.
    Unknown(String),
}

impl How {
    /// Returns how the object with this key is taken over. `objects` contains those of records or a file.
    pub fn of(
        key: &Key,
        existing: &BTreeMap<Key, Existing>,
        objects: &BTreeMap<Key, Result<Value, String>>,
    ) -> Self {
        let (kind, namespace, _) = key;
        let with = |(of, ns, name): &Key| {
            let own = (Kind::Registry, ns.clone(), names::own_registry(name)) == *key;
            *of == Kind::LocalCluster && ns == namespace && own
        };
        let created = |object: &Result<Value, String>| {
            object.as_ref().is_ok_and(|object| object["spec"]["registries"]["create"].is_object())
        };
        let of_existing = existing.iter().find(|(key, object)| with(key) && object.has_registry);
        let of_new = objects.iter().find(|(key, object)| with(key) && created(object));
        let cluster = of_existing.map(|(key, _)| key).or(of_new.map(|(key, _)| key));
        if let Some((_, _, cluster)) = cluster.filter(|_| *kind == Kind::Registry) {
            return Self::With(cluster.clone());
        }
        if existing.contains_key(key) {
            return Self::Annotate;
        }
        match objects.get(key) {
            Some(Ok(object)) => Self::Create(object.clone()),
            Some(Err(why)) => Self::Unknown(why.clone()),
            None => Self::Unknown("it is in no file".into()),
        }
    }

    /// Returns what a list says about it.
    pub fn told(&self) -> String {
        match self {
            Self::Annotate => "the object exists and is annotated".into(),
            Self::Create(_) => "the object is created again from its record".into(),
            Self::With(cluster) => format!("with the LocalCluster {cluster}"),
            Self::Unknown(why) => format!("not without a file: {why}"),
        }
    }
}

/// Returns the object in a record. It must be the one that the labels name: whoever is root in the container can write it.
pub(super) fn from_record(key: &Key, record: Option<&[u8]>) -> Result<Value, String> {
    let (kind, namespace, name) = key;
    let Some(record) = record else {
        return Err("its container has no record; an operator before this version made it".into());
    };
    let object: Value =
        serde_json::from_slice(record).map_err(|e| format!("its record cannot be read: {e}"))?;
    let version = LocalCluster::api_version(&());
    let (metadata, api) = (&object["metadata"], object["apiVersion"].as_str());
    if object["kind"] != kind.as_str() || metadata["namespace"] != **namespace || metadata["name"] != **name {
        return Err("its record is of another object".into());
    }
    if api != Some(version.as_ref()) {
        return Err(format!("its record has the version {}, not {version}", api.unwrap_or("none")));
    }
    valid::check(kind.as_str(), &object)?;
    Ok(object)
}

/// Returns an object with the annotation that adopts these pairs.
pub(super) fn adopting(mut object: Value, pairs: &BTreeSet<Pair>) -> Value {
    let text = object["metadata"]["annotations"][ADOPTS_ANNOTATION].as_str().unwrap_or_default().to_owned();
    object["metadata"]["annotations"][ADOPTS_ANNOTATION] = json!(annotation(&parse(&text).0, pairs));
    object
}

/// Returns the value of the annotation for what is adopted already and these pairs.
pub(super) fn annotation(before: &BTreeSet<Pair>, pairs: &BTreeSet<Pair>) -> String {
    let all: BTreeSet<String> = before.iter().chain(pairs).map(ToString::to_string).collect();
    all.into_iter().collect::<Vec<_>>().join(",")
}

/// Returns the keys and objects of a file.
pub(super) fn keyed<'a>(objects: impl Iterator<Item = &'a Value>, namespace: &str) -> BTreeMap<Key, Value> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let key = |object: &Value| {
        let registry = object["kind"] == Registry::kind(&()).as_ref();
        let kind = if registry { Kind::Registry } else { Kind::LocalCluster };
        let metadata = &object["metadata"];
        (
            kind,
            text(&metadata["namespace"]).unwrap_or_else(|| namespace.to_owned()),
            text(&metadata["name"]).unwrap_or_default(),
        )
    };
    objects.map(|object| (key(object), object.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(object: &str, uid: &str, role: &str) -> BTreeMap<String, String> {
        let all = [(names::OWNER, object), (names::UID, uid), (names::MANAGER, "gone"), (names::ROLE, role)];
        all.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn container(object: &str, uid: &str, role: &str) -> Container {
        Container {
            id: format!("id-{object}-{role}"),
            name: format!("{object}-{role}"),
            labels: labels(object, uid, role),
            ..Container::default()
        }
    }

    fn key(kind: Kind, name: &str) -> Key {
        (kind, "team".into(), name.into())
    }

    #[test]
    fn what_no_object_owns_is_found_by_its_labels() {
        let containers = [
            container("team/dev", "1", "server"),
            container("team/dev", "2", "loadbalancer"),
            container("team/dev", "3", "registry"),
            container("team/alive", "4", "server"),
            Container { labels: [(names::HUB.to_owned(), "x".to_owned())].into(), ..Container::default() },
        ];
        let volumes = [
            Volume { labels: labels("team/dev", "0", ""), ..Volume::default() },
            // Left on purpose.
            Volume { labels: labels("team/only", "5", ""), ..Volume::default() },
        ];
        let found = on_host(&containers, &[], &volumes);
        let existing = |uid: &str, adopts: &str| Existing {
            uid: uid.into(),
            adopts: parse(adopts).0,
            has_registry: false,
        };
        let objects = BTreeMap::from([
            (key(Kind::LocalCluster, "alive"), existing("4", "")),
            (key(Kind::LocalCluster, "dev"), existing("9", "0@gone")),
        ]);
        let open = unowned(found, &objects);
        let keys: Vec<_> = open.keys().cloned().collect();
        assert_eq!(keys, [key(Kind::LocalCluster, "dev"), key(Kind::Registry, "dev")]);
        let dev = &open[&key(Kind::LocalCluster, "dev")];
        assert_eq!(annotation(&BTreeSet::new(), &dev.pairs), "1@gone,2@gone");
        assert_eq!(annotation(&parse("0@gone").0, &dev.pairs), "0@gone,1@gone,2@gone");
        assert_eq!(dev.keeper.as_deref(), Some("id-team/dev-loadbalancer"));
        assert_eq!(dev.containers, ["team/dev-loadbalancer", "team/dev-server"]);
        let all = BTreeMap::from([(key(Kind::LocalCluster, "dev"), existing("9", "0@gone,1@gone,2@gone"))]);
        assert_eq!(unowned(open, &all).into_keys().collect::<Vec<_>>(), [key(Kind::Registry, "dev")]);
    }

    #[test]
    fn a_record_must_be_of_the_object_that_the_labels_name() {
        let record = |kind: &str, namespace: &str, spec: Value| {
            let metadata = json!({"name": "dev", "namespace": namespace});
            let version = LocalCluster::api_version(&());
            json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}).to_string()
        };
        let dev = key(Kind::LocalCluster, "dev");
        let read = |record: &str| from_record(&dev, Some(record.as_bytes()));
        let good = read(&record("LocalCluster", "team", json!({"servers": {"count": 3}}))).unwrap();
        assert_eq!(good["spec"]["servers"]["count"], 3);
        for (bad, why) in [
            (record("LocalCluster", "other", json!({})), "of another object"),
            (record("Registry", "team", json!({})), "of another object"),
            (record("LocalCluster", "team", json!({"servers": {"count": 2}})), "is invalid"),
            ("{".to_owned(), "cannot be read"),
            (
                record("LocalCluster", "team", json!({})).replace("v1alpha1", "v7"),
                "has the version localcluster.dev/v7",
            ),
        ] {
            let told = read(&bad).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
        assert!(from_record(&dev, None).unwrap_err().contains("no record"));
        let adopts = adopting(adopting(good, &parse("u@m").0), &parse("v@m").0);
        assert_eq!(adopts["metadata"]["annotations"][ADOPTS_ANNOTATION], "u@m,v@m");
    }

    #[test]
    fn an_own_registry_comes_with_its_cluster() {
        let (cluster, registry) = (key(Kind::LocalCluster, "dev"), key(Kind::Registry, "dev-registry"));
        let object = json!({"kind": "LocalCluster", "metadata": {"name": "dev", "namespace": "team"},
            "spec": {"registries": {"create": {}}}});
        let none = BTreeMap::new();
        let objects =
            BTreeMap::from([(cluster.clone(), Ok(object.clone())), (registry.clone(), Err("x".into()))]);
        assert_eq!(How::of(&registry, &none, &objects), How::With("dev".into()));
        assert_eq!(How::of(&cluster, &none, &objects), How::Create(object.clone()));
        let existing = |has_registry| {
            let adopts = parse("u@gone").0;
            BTreeMap::from([(cluster.clone(), Existing { uid: "n".into(), adopts, has_registry })])
        };
        assert_eq!(How::of(&cluster, &existing(true), &objects), How::Annotate);
        assert_eq!(How::of(&registry, &existing(true), &BTreeMap::new()), How::With("dev".into()));
        assert!(matches!(How::of(&registry, &existing(false), &BTreeMap::new()), How::Unknown(_)));
        let left = on_host(&[container("team/dev-registry", "u", "registry")], &[], &[]);
        assert!(unowned(left.clone(), &existing(true)).is_empty());
        assert_eq!(unowned(left, &existing(false)).len(), 1);
        assert_eq!(keyed([&object].into_iter(), "other").into_keys().next(), Some(cluster));
    }
}
