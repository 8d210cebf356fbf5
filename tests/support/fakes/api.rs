//! The API of the management cluster: the operator's objects as users change them, with a fault at any request. A write
//! that must never happen is recorded in [`FakeApi::sins`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use kube::Client;
use localcluster_operator::{api::names, child::account::AccountRole, k3s::kubeconfig};
use serde_json::{Value, json};

use super::{
    faults::{Fault, Faults, Side},
    kubernetes::{self, Failure, Hooks, KubernetesApi},
};
use crate::support::model::world::World;

#[derive(Clone)]
pub struct FakeApi {
    pub world: Arc<Mutex<World>>,
    pub faults: Arc<Faults>,
    api: KubernetesApi,
    sins: Arc<Mutex<Vec<String>>>,
}

/// All that is stored, and the sins.
pub type State = (kubernetes::State, Vec<String>);

pub fn path(kind: &str, name: &str) -> String {
    format!("/apis/localcluster.dev/v1alpha1/namespaces/default/{kind}/{name}")
}

pub fn secret(name: &str) -> String {
    format!("/api/v1/namespaces/default/secrets/{name}")
}

pub fn service(name: &str) -> String {
    format!("/api/v1/namespaces/default/services/{name}")
}

pub fn endpoint_slice(name: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/{name}")
}

impl FakeApi {
    pub fn new(world: Arc<Mutex<World>>, faults: Arc<Faults>) -> Self {
        let sins = Arc::default();
        let judge =
            Judge { world: world.clone(), faults: faults.clone(), sins: Arc::clone(&sins), alone: true };
        Self { world, faults, api: KubernetesApi::with(Arc::new(judge)), sins }
    }

    /// Another client of the same API, with faults of its own. What is told of readiness is not judged: others may
    /// change the world between two calls.
    pub fn with_faults(&self, faults: Arc<Faults>) -> Self {
        let (world, sins) = (self.world.clone(), self.sins.clone());
        let judge = Judge { world: world.clone(), faults: faults.clone(), sins: sins.clone(), alone: false };
        Self { world, faults, api: self.api.with_hooks(Arc::new(judge)), sins }
    }

    /// A value that is another one after each change.
    pub fn mark(&self) -> (u64, usize) {
        self.api.mark()
    }

    /// Returns all that is stored, for [`FakeApi::restore`].
    pub fn snapshot(&self) -> State {
        (self.api.snapshot(), self.sins())
    }

    pub fn restore(&self, (state, sins): State) {
        self.api.restore(state);
        *self.sins.lock().unwrap() = sins;
    }

    pub fn client(&self) -> Client {
        self.api.client()
    }

    /// Stores an object as `kubectl apply` does.
    pub fn put(&self, path: &str, mut object: Value) {
        let now = Timestamp::from_second(self.world.lock().unwrap().clock).unwrap();
        let old = self.api.get(path);
        let spec_changed = old.as_ref().is_none_or(|o| o["spec"] != object["spec"]);
        let generation = old.as_ref().and_then(|o| o["metadata"]["generation"].as_u64()).unwrap_or(0);
        object["metadata"]["generation"] = json!(generation + u64::from(spec_changed));
        let namespace = path.split_once("/namespaces/").and_then(|(_, rest)| rest.split('/').next());
        object["metadata"]["namespace"] = json!(namespace.unwrap_or("default"));
        match &old {
            Some(old) => {
                for key in ["uid", "finalizers", "creationTimestamp"] {
                    object["metadata"][key] = old["metadata"][key].clone();
                }
                object["status"] = old["status"].clone();
            }
            None => {
                object["metadata"]["uid"] = json!(format!("uid-{}", self.api.version()));
                object["metadata"]["creationTimestamp"] = json!(now);
            }
        }
        self.api.put(path, object);
    }

    /// Stores an object without a namespace in the same way.
    pub fn put_cluster(&self, path: &str, object: Value) {
        self.put(path, object);
        let mut object = self.api.get(path).unwrap();
        object["metadata"].as_object_mut().unwrap().remove("namespace");
        self.api.put(path, object);
    }

    /// Refuses all requests with this prefix with this status, until [`FakeApi::heal`].
    pub fn refuse(&self, call: &str, status: u16) {
        self.api.refuse(call, status);
    }

    /// Refuses nothing any more.
    pub fn heal(&self) {
        self.api.heal();
    }

    /// Removes an object at once.
    pub fn remove(&self, path: &str) {
        self.api.remove(path);
    }

    /// Loses the status of an object, as when it is restored from a backup.
    pub fn lose_status(&self, path: &str) {
        let mut object = self.api.get(path).unwrap();
        object["status"] = json!({});
        self.api.put(path, object);
    }

    /// Deletes an object as `kubectl delete` does.
    pub fn delete(&self, path: &str) {
        self.api.delete(path);
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.api.get(path)
    }

    /// Returns all objects of a kind; of all kinds for `""`.
    pub fn all(&self, kind: &str) -> Vec<Value> {
        self.api.all(kind)
    }

    /// Returns all objects of a kind by their paths.
    pub fn stored(&self, kind: &str) -> BTreeMap<String, Arc<Value>> {
        self.api.stored(kind)
    }

    /// Stores an object as it is.
    pub fn store(&self, path: &str, object: Value) {
        self.api.put(path, object);
    }

    /// Returns the writes that must never happen.
    pub fn sins(&self) -> Vec<String> {
        self.sins.lock().unwrap().clone()
    }
}

/// Injects the faults, and judges the writes by the world.
struct Judge {
    world: Arc<Mutex<World>>,
    faults: Arc<Faults>,
    sins: Arc<Mutex<Vec<String>>>,
    /// Whether nobody else changes anything between two calls.
    alone: bool,
}

impl Hooks for Judge {
    fn gate(&self, call: &str, writes: bool) -> Option<Failure> {
        if call.contains("/events") {
            return None;
        }
        let fault = self.faults.gate(Side::Kube, call.to_owned(), writes)?;
        Some(match fault {
            Fault::NotFound => Failure::Refused(404),
            Fault::Conflict => Failure::Refused(409),
            Fault::Refused => Failure::Refused(500),
            Fault::Timeout => Failure::Hangs,
            Fault::Lost => Failure::Lost,
            Fault::Void | Fault::Late => unreachable!("an API server does what it says"),
        })
    }

    /// Ready means that everything exists.
    fn status_written(&self, api: &KubernetesApi, object: &Value) {
        let world = self.world.lock().unwrap();
        let none = Vec::new();
        let conditions = object["status"]["conditions"].as_array().unwrap_or(&none);
        let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        if !self.alone || !ready || object["status"]["observedGeneration"] != object["metadata"]["generation"]
        {
            return;
        }
        let name = object["metadata"]["name"].as_str().unwrap();
        let mut missing = Vec::new();
        if object["kind"] == "LocalCluster" {
            let agents = object["spec"]["agents"]["count"].as_u64().unwrap_or(0);
            let servers = object["spec"]["servers"]["count"].as_u64().unwrap_or(1);
            let excluded =
                object["spec"]["agents"]["excludedIndexes"].as_array().cloned().unwrap_or_default();
            let indexes = (0..).filter(|i: &u64| !excluded.contains(&json!(i)));
            let agents = indexes.take(usize::try_from(agents).unwrap());
            let nodes = agents.map(|i| format!("k3d-{name}-agent-{i}"));
            let nodes = nodes.chain((0..servers).map(|i| format!("k3d-{name}-server-{i}")));
            let pools = object["spec"]["agentPools"].as_array().into_iter().flatten();
            let pools = pools.map(|pool| (pool["name"].as_str().unwrap(), pool["count"].as_u64().unwrap()));
            let further = pools.flat_map(|(pool, count)| (0..count).map(move |i| format!("{pool}-{i}")));
            let nodes = nodes.chain(further.map(|end| format!("k3d-{name}-{end}")));
            let mut world = world.clone();
            missing.extend(nodes.filter(|n| !world.works(n)));
            if world.named(&format!("k3d-{name}-serverlb")).is_none_or(|c| !c.is_up()) {
                missing.push("load balancer".into());
            }
            missing.extend(of_kubeconfig(&world, &object["spec"]["kubeconfig"], api, name));
            missing.extend(of_service(&object["spec"]["api"]["service"], api, name));
        } else if object["kind"] == "Registry"
            && world.named(&format!("k3d-{name}")).is_none_or(|c| !c.is_up())
        {
            missing.push("registry".into());
        }
        if !missing.is_empty() {
            self.sins.lock().unwrap().push(format!("{name} was said to be Ready without {missing:?}"));
        }
    }

    fn finalized(&self, path: &str, object: &Value) {
        if self.world.lock().unwrap().owned_by(object["metadata"]["uid"].as_str().unwrap()) {
            let sin = format!("{path} went while its Docker objects were there");
            self.sins.lock().unwrap().push(sin);
        }
    }
}

/// What is wrong with the kubeconfig of a cluster that is said to be Ready.
fn of_kubeconfig(world: &World, spec: &Value, api: &KubernetesApi, name: &str) -> Option<String> {
    let found = api.get(&secret(&format!("{name}-kubeconfig")));
    let (access, ttl) = (spec["access"].as_str().unwrap_or("Admin"), &spec["ttl"]);
    let Some(found) = found else { return (access != "None").then(|| "kubeconfig".into()) };
    let file = BASE64_STANDARD.decode(found["data"]["kubeconfig"].as_str()?).unwrap();
    let token = kubeconfig::token(std::str::from_utf8(&file).unwrap()).map(str::to_owned);
    let rights = token.as_ref().and_then(|token| world.rights_of(token));
    let wanted = match access {
        "Admin" if ttl.is_null() => None,
        "Admin" => Some(AccountRole::Admin),
        "Edit" => Some(AccountRole::Edit),
        "View" => Some(AccountRole::View),
        other => return Some(format!("kubeconfig for {other}")),
    };
    let left: Vec<_> = world.clusters.values().flat_map(|c| c.accounts.keys()).collect();
    let fits = rights == wanted && token.is_some() == wanted.is_some();
    (!fits || left.iter().any(|role| Some(**role) != wanted)).then(|| {
        format!("kubeconfig for {access}: it has {rights:?} {}, and there is {left:?}", token.is_some())
    })
}

/// What is wrong with the Service of a cluster that is said to be Ready.
fn of_service(wanted: &Value, api: &KubernetesApi, name: &str) -> Option<String> {
    let wanted = wanted == "ClusterIP";
    let there = [service(name), endpoint_slice(name)].map(|at| api.get(&at).is_some());
    (there != [wanted; 2]).then(|| format!("Service and EndpointSlice: {there:?}"))
}

impl World {
    /// Whether anything on the engine belongs to the object with this UID.
    pub fn owned_by(&self, uid: &str) -> bool {
        let labels = self.containers.values().map(|c| &c.labels);
        let labels = labels.chain(self.networks.values().map(|n| &n.labels));
        let mut labels = labels.chain(self.volumes.values().map(|v| &v.labels));
        labels.any(|l| l.get(names::UID).is_some_and(|u| u == uid))
    }
}
