//! What could be adopted: what Docker has, what the management cluster has, and which records there are.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Resource, api::ListParams, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    api::{LocalCluster, Registry, names},
    cli::{
        Failure, Result,
        adoptable::{self, Existing, How, Key, Leftover},
        client::management::Management,
        engine::{EngineArgs, words},
        hub::observe,
    },
    docker::{
        bollard::BollardEngine,
        engine::{Container, Engine, State},
    },
    plan::{adoption::Pair, kind::Kind, record},
};

/// Longest record, as long as what the operator writes.
const RECORD: usize = 2 << 20;

/// What was found.
pub(super) struct Found {
    pub leftovers: BTreeMap<Key, Leftover>,
    pub existing: BTreeMap<Key, Existing>,
    /// Objects of records and of the file.
    pub objects: BTreeMap<Key, Result<Value, String>>,
    /// ID of the management cluster, if the user may read it.
    pub manager: Option<String>,
}

/// Looks at Docker and at the management cluster.
pub(super) async fn look(
    management: &Management,
    (args, from): (&EngineArgs, &[String]),
    namespace: Option<&str>,
) -> Result<Found> {
    let engine = args.engine()?;
    let told = |error| Failure::Failed(words(&error));
    let (containers, networks, volumes) =
        tokio::try_join!(engine.containers(), engine.networks(), engine.volumes()).map_err(told)?;
    // A user may have no right to read it.
    let system = Api::<Namespace>::all(management.client()).get_opt("kube-system").await;
    let manager = system.ok().flatten().and_then(|namespace| namespace.metadata.uid);
    let mut on_host = adoptable::on_host(&containers, &networks, &volumes);
    on_host.retain(|key, _| namespace.is_none_or(|namespace| key.1 == namespace));
    let hubs = hubs(&engine, &containers).await;
    for (hub, of) in hubs.iter().filter(|(_, of)| manager.as_ref() != Some(*of)) {
        let theirs = |leftover: &Leftover| leftover.pairs.iter().any(|pair| pair.manager == *of);
        if on_host.values().any(theirs) {
            eprintln!("left out: what the hub in the container {hub} manages, which runs");
        }
    }
    let is_offered = |pair: &Pair| {
        let own = manager.as_ref() == Some(&pair.manager);
        (own || !hubs.values().any(|of| *of == pair.manager))
            && (from.is_empty() || from.contains(&pair.manager))
    };
    on_host.values_mut().for_each(|leftover| leftover.pairs.retain(is_offered));
    let mut existing = BTreeMap::new();
    for cluster in all::<LocalCluster>(management, namespace).await? {
        let object = Existing::new(&cluster.metadata, cluster.spec.registries.create.is_some());
        existing.insert(key(Kind::LocalCluster, &cluster.metadata), object);
    }
    for registry in all::<Registry>(management, namespace).await? {
        existing.insert(key(Kind::Registry, &registry.metadata), Existing::new(&registry.metadata, false));
    }
    let leftovers = adoptable::unowned(on_host, &existing);
    let mut objects = BTreeMap::new();
    for (key, leftover) in &leftovers {
        let object = match &leftover.keeper {
            Some(container) => {
                let record = engine.read_file(container, record::FILE, RECORD).await.map_err(told)?;
                adoptable::from_record(key, record.as_deref())
            }
            None => Err("the container with its record is gone".into()),
        };
        objects.insert(key.clone(), object);
    }
    Ok(Found { leftovers, existing, objects, manager })
}

/// Returns the management clusters that run as hubs on the engine, by the names of their containers. Of others nothing on the
/// engine tells whether they run.
async fn hubs(engine: &BollardEngine, containers: &[Container]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let args = ["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"];
    for hub in containers.iter().filter(|c| c.labels.contains_key(names::HUB) && c.state == State::Running) {
        // That of the operator has no kubectl.
        if let Ok(uid) = observe::kubectl(engine, &hub.id, &args).await {
            found.insert(hub.name.clone(), uid.trim().to_owned());
        }
    }
    found
}

async fn all<K>(management: &Management, namespace: Option<&str>) -> Result<Vec<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(management.client(), namespace),
        None => Api::all(management.client()),
    };
    let list = api.list(&ListParams::default()).await;
    let what = format!("cannot list objects of the kind {}", K::kind(&()));
    Ok(list.map_err(|error| management.told(&what, &error))?.items)
}

fn key(kind: Kind, meta: &kube::api::ObjectMeta) -> Key {
    (kind, meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

impl Found {
    pub fn how(&self, key: &Key) -> How {
        How::of(key, &self.existing, &self.objects)
    }

    /// Returns the object that takes over what has this key: itself, or the LocalCluster whose own Registry it is.
    fn adopter(&self, key: &Key) -> Key {
        match self.how(key) {
            How::With(cluster) => (Kind::LocalCluster, key.1.clone(), cluster),
            How::Annotate | How::Create(_) | How::Unknown(_) => key.clone(),
        }
    }

    /// Leaves only what these objects take over.
    pub fn keep(&mut self, wanted: impl Fn(&Key) -> bool) {
        let keys = self.leftovers.keys().filter(|key| wanted(key) || wanted(&self.adopter(key)));
        let keep: BTreeSet<Key> = keys.cloned().collect();
        self.leftovers.retain(|key, _| keep.contains(key));
    }

    /// Returns what an object takes over.
    pub fn of<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a Leftover> {
        self.leftovers.iter().filter(|(of, _)| self.adopter(of) == *key).map(|(_, leftover)| leftover)
    }

    /// Returns the pairs that an object adopts: its own, and those of its Registry.
    pub fn pairs(&self, key: &Key) -> BTreeSet<Pair> {
        self.of(key).flat_map(|leftover| leftover.pairs.clone()).collect()
    }

    /// Returns the other management clusters that something is from.
    pub fn others(&self) -> BTreeSet<&str> {
        let pairs = self.leftovers.values().flat_map(|leftover| &leftover.pairs);
        let other = |pair: &&Pair| self.manager.as_ref().is_some_and(|manager| *manager != pair.manager);
        pairs.filter(other).map(|pair| pair.manager.as_str()).collect()
    }

    /// Returns the objects that take over, registries first, which clusters use.
    pub fn keys(&self) -> BTreeSet<(bool, Key)> {
        let adopters = self.leftovers.keys().map(|key| self.adopter(key));
        adopters.map(|key| (key.0 == Kind::LocalCluster, key)).collect()
    }
}
