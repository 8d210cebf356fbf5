//! The management cluster's API: objects by path, with resource versions, finalizers, and the three kinds of patch
//! that the operator sends. What must never be written is told to whoever looks at [`FakeApi::sins`].

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::http::{Method, Request, Response};
use http_body_util::BodyExt;
use jiff::Timestamp;
use kube::{Client, client::Body};
use localcluster_operator::api::names;
use serde_json::{Value, json};

use super::{
    faults::{Fault, Faults, Side},
    merge_patch::merge,
};
use crate::support::model::world::World;

#[derive(Clone)]
pub struct FakeApi {
    pub world: Arc<Mutex<World>>,
    pub faults: Arc<Faults>,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Default)]
pub struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    sins: Vec<String>,
}

pub fn path(kind: &str, name: &str) -> String {
    format!("/apis/localcluster.dev/v1alpha1/namespaces/default/{kind}/{name}")
}

pub fn secret(name: &str) -> String {
    format!("/api/v1/namespaces/default/secrets/{name}")
}

impl FakeApi {
    pub fn new(world: Arc<Mutex<World>>, faults: Arc<Faults>) -> Self {
        Self { world, faults, state: Arc::default() }
    }

    /// All that is stored, to begin again with.
    pub fn snapshot(&self) -> State {
        self.state.lock().unwrap().clone()
    }

    pub fn restore(&self, state: State) {
        *self.state.lock().unwrap() = state;
    }

    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// What a user does with `kubectl apply`.
    pub fn put(&self, path: &str, object: Value) {
        let now = Timestamp::from_second(self.world.lock().unwrap().clock).unwrap();
        let mut state = self.state.lock().unwrap();
        let mut object = object;
        let old = state.objects.get(path).cloned();
        let spec_changed = old.as_ref().is_none_or(|o| o["spec"] != object["spec"]);
        let generation = old.as_ref().and_then(|o| o["metadata"]["generation"].as_u64()).unwrap_or(0);
        object["metadata"]["generation"] = json!(generation + u64::from(spec_changed));
        object["metadata"]["namespace"] = json!("default");
        match &old {
            Some(old) => {
                for key in ["uid", "finalizers", "creationTimestamp"] {
                    object["metadata"][key] = old["metadata"][key].clone();
                }
                object["status"] = old["status"].clone();
            }
            None => {
                object["metadata"]["uid"] = json!(format!("uid-{}", state.version));
                object["metadata"]["creationTimestamp"] = json!(now);
            }
        }
        state.store(path, object);
    }

    /// Loses the status of an object, as when it is restored from a backup.
    pub fn lose_status(&self, path: &str) {
        let mut state = self.state.lock().unwrap();
        let mut object = state.objects[path].clone();
        object["status"] = json!({});
        state.store(path, object);
    }

    /// What a user does with `kubectl delete`.
    pub fn delete(&self, path: &str) {
        self.state.lock().unwrap().delete(path);
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    /// All objects of a kind, of all kinds where it is empty.
    pub fn all(&self, kind: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        let of_kind = if kind.is_empty() { "/".to_owned() } else { format!("/{kind}/") };
        state.objects.iter().filter(|(p, _)| p.contains(&of_kind)).map(|(_, o)| o.clone()).collect()
    }

    /// What was written that must not be.
    pub fn sins(&self) -> Vec<String> {
        self.state.lock().unwrap().sins.clone()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let path = head.uri.path().to_owned();
        let apply =
            head.headers.get("content-type").is_some_and(|t| t.to_str().unwrap().contains("apply-patch"));
        let writes = head.method != Method::GET;
        let fault = if path.contains("/events") {
            None
        } else {
            self.faults.gate(Side::Kube, format!("{} {path}", head.method), writes)
        };
        let (status, answer) = match fault {
            None => self.act(&head.method, &path, apply, body),
            Some(Fault::NotFound) => refusal(404),
            Some(Fault::Conflict) => refusal(409),
            Some(Fault::Refused) => refusal(500),
            Some(Fault::Timeout) => std::future::pending().await,
            Some(Fault::Lost) => {
                self.act(&head.method, &path, apply, body);
                std::future::pending().await
            }
            Some(Fault::Void) => unreachable!("an API server does what it says"),
        };
        Response::builder().status(status).body(Body::from(answer.to_string().into_bytes())).unwrap()
    }

    fn act(&self, method: &Method, path: &str, apply: bool, body: Value) -> (u16, Value) {
        let world = self.world.lock().unwrap();
        let mut state = self.state.lock().unwrap();
        let whole = path.strip_suffix("/status").unwrap_or(path);
        let found = state.objects.get(whole).cloned();
        match (method.as_str(), found) {
            ("GET", Some(object)) => (200, object),
            // Of all namespaces.
            ("GET", None) if ["/localclusters", "/registries"].iter().any(|k| path.ends_with(k)) => {
                let kind = format!("/{}/", path.rsplit('/').next().unwrap());
                let items: Vec<_> =
                    state.objects.iter().filter(|(p, _)| p.contains(&kind)).map(|(_, o)| o).collect();
                (200, json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
            }
            ("POST", _) => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if state.objects.contains_key(&path) {
                    return refusal(409);
                }
                (201, state.store(&path, body))
            }
            ("DELETE", Some(object)) => {
                let as_read = |key: &str| {
                    let wanted = &body["preconditions"][key];
                    wanted.is_null() || *wanted == object["metadata"][key]
                };
                if !as_read("uid") || !as_read("resourceVersion") {
                    return refusal(409);
                }
                state.delete(path);
                (200, object)
            }
            ("PATCH", Some(mut object)) if path != whole => {
                let uid = &body["metadata"]["uid"];
                if !uid.is_null() && *uid != object["metadata"]["uid"] {
                    return refusal(409);
                }
                object["status"] = body["status"].clone();
                state.judge(&object, &world);
                (200, state.store(whole, object))
            }
            ("PATCH", None) if apply && path == whole => (201, state.store(path, body)),
            ("PATCH", Some(mut object)) => {
                let given = &body["metadata"]["resourceVersion"];
                if !given.is_null() && *given != object["metadata"]["resourceVersion"] {
                    return refusal(409);
                }
                merge(&mut object, body);
                let gone = object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)
                    && !object["metadata"]["deletionTimestamp"].is_null();
                if gone {
                    let uid = object["metadata"]["uid"].clone();
                    if world.owned_by(uid.as_str().unwrap()) {
                        state.sins.push(format!("{path} went while its Docker objects were there"));
                    }
                    state.objects.remove(path);
                    let owned = |o: &Value| {
                        o["metadata"]["ownerReferences"]
                            .as_array()
                            .is_some_and(|r| r.iter().any(|r| r["uid"] == uid))
                    };
                    state.objects.retain(|_, o| !owned(o));
                    return (200, object);
                }
                (200, state.store(path, object))
            }
            _ => refusal(404),
        }
    }
}

impl State {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        let version = object["metadata"]["resourceVersion"].clone();
        if self.objects.get(path).is_some_and(|old| *old == object) && !version.is_null() {
            return object;
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    /// With finalizers it stays until they are gone.
    fn delete(&mut self, path: &str) {
        let Some(mut object) = self.objects.remove(path) else { return };
        if object["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty()) {
            object["metadata"]["deletionTimestamp"] = json!("2023-11-14T22:13:20Z");
            self.store(path, object);
        }
    }

    /// Ready means that all of it is there.
    fn judge(&mut self, object: &Value, world: &World) {
        let none = Vec::new();
        let conditions = object["status"]["conditions"].as_array().unwrap_or(&none);
        let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        if !ready || object["status"]["observedGeneration"] != object["metadata"]["generation"] {
            return;
        }
        let name = object["metadata"]["name"].as_str().unwrap();
        let mut missing = Vec::new();
        if object["kind"] == "LocalCluster" {
            let agents = object["spec"]["agents"]["count"].as_u64().unwrap_or(0);
            let servers = object["spec"]["servers"]["count"].as_u64().unwrap_or(1);
            let nodes = (0..agents).map(|i| format!("k3d-{name}-agent-{i}"));
            let nodes = nodes.chain((0..servers).map(|i| format!("k3d-{name}-server-{i}")));
            let mut world = world.clone();
            missing.extend(nodes.filter(|n| !world.works(n)));
            if world.named(&format!("k3d-{name}-serverlb")).is_none_or(|c| !c.is_up()) {
                missing.push("load balancer".into());
            }
            if !self.objects.contains_key(&secret(&format!("{name}-kubeconfig"))) {
                missing.push("kubeconfig".into());
            }
        } else if world.named(&format!("k3d-{name}")).is_none_or(|c| !c.is_up()) {
            missing.push("registry".into());
        }
        if !missing.is_empty() {
            self.sins.push(format!("{name} was said to be Ready without {missing:?}"));
        }
    }
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

fn refusal(status: u16) -> (u16, Value) {
    let reason = match status {
        404 => "NotFound",
        409 => "AlreadyExists",
        _ => "InternalError",
    };
    let told = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason,
        "message": format!("told to be {status}"),
    });
    (status, told)
}
