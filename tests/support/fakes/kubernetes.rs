//! The Kubernetes API for tests: objects by path with resource versions, finalizers and owners, merge patches,
//! server-side apply, preconditions, evictions, and failures on demand. It has no schemas.
//!
//! The unit tests of src/ include this file too.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// Collections that can be listed.
const COLLECTIONS: [&str; 8] = [
    "clusterrolebindings",
    "leases",
    "localclusters",
    "nodes",
    "pods",
    "registries",
    "secrets",
    "serviceaccounts",
];

/// Time of all writes of a field manager.
pub const WRITTEN: &str = "2026-11-25T00:00:00Z";

/// A way in which a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing is done, and this is the status of the response.
    Refused(u16),
    /// Nothing is done, and no response comes.
    Hangs,
    /// It is done, and no response comes.
    #[allow(dead_code, reason = "only one of the two users of this file injects it")]
    Lost,
}

/// What a test does at each request.
pub trait Hooks: Send + Sync {
    /// Returns how a request, `METHOD path`, fails; `None` if it does not.
    fn gate(&self, _call: &str, _writes: bool) -> Option<Failure> {
        None
    }

    /// Examines an object after its status was written.
    fn status_written(&self, _api: &KubernetesApi, _object: &Value) {}

    /// Examines an object that was removed since its last finalizer was.
    fn finalized(&self, _path: &str, _object: &Value) {}
}

struct NoHooks;

impl Hooks for NoHooks {}

/// The API. Clones share their state.
#[derive(Clone)]
pub struct KubernetesApi {
    state: Arc<Mutex<State>>,
    script: Arc<Mutex<Script>>,
    hooks: Arc<dyn Hooks>,
}

/// The stored objects.
#[derive(Clone, Default)]
pub struct State {
    objects: BTreeMap<String, Arc<Value>>,
    /// What each field manager applied to a status, by the path of the object.
    statuses: BTreeMap<String, BTreeMap<String, Value>>,
    version: u64,
    /// Effect of the last request, until the hooks have examined it.
    effect: Option<Effect>,
}

#[derive(Default)]
struct Script {
    /// `METHOD path` of every request that may change something.
    writes: Vec<String>,
    /// Prefixes of requests that fail.
    failures: Vec<(String, Failure)>,
}

/// Effect of a request on an object that hooks examine.
#[derive(Clone)]
enum Effect {
    StatusWritten(Value),
    Finalized(Value),
}

impl Default for KubernetesApi {
    fn default() -> Self {
        Self::with(Arc::new(NoHooks))
    }
}

#[allow(dead_code, reason = "each of the two users of this file needs a part")]
impl KubernetesApi {
    /// Returns an empty API with hooks.
    pub fn with(hooks: Arc<dyn Hooks>) -> Self {
        Self { state: Arc::default(), script: Arc::default(), hooks }
    }

    /// Returns the same API with other hooks.
    pub fn with_hooks(&self, hooks: Arc<dyn Hooks>) -> Self {
        Self { hooks, ..self.clone() }
    }

    /// Returns a value that is another one after each change.
    pub fn mark(&self) -> (u64, usize) {
        let state = self.state.lock().unwrap();
        (state.version, state.objects.len())
    }

    /// Returns a client of the API.
    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Stores an object.
    pub fn put(&self, path: &str, object: Value) {
        self.state.lock().unwrap().store(path, object);
    }

    /// Returns the object at a path.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().read(path)
    }

    /// Returns all objects of a kind, in its plural; all objects for `""`.
    pub fn all(&self, kind: &str) -> Vec<Value> {
        self.stored(kind).into_values().map(Arc::unwrap_or_clone).collect()
    }

    /// Returns all objects of a kind, in its plural, by their paths; all objects for `""`. An object that was not written
    /// since is the same value.
    pub fn stored(&self, kind: &str) -> BTreeMap<String, Arc<Value>> {
        let state = self.state.lock().unwrap();
        let of_kind = if kind.is_empty() { "/".to_owned() } else { format!("/{kind}/") };
        let found = state.objects.iter().filter(|(p, _)| p.contains(&of_kind));
        found.map(|(p, o)| (p.clone(), o.clone())).collect()
    }

    /// Returns the last resource version.
    pub fn version(&self) -> u64 {
        self.state.lock().unwrap().version
    }

    /// Deletes an object, which stays until its finalizers are removed.
    pub fn delete(&self, path: &str) {
        self.state.lock().unwrap().delete(path);
    }

    /// Removes an object regardless of its finalizers.
    pub fn remove(&self, path: &str) {
        self.state.lock().unwrap().remove(path);
    }

    /// Returns all stored objects, for [`KubernetesApi::restore`].
    pub fn snapshot(&self) -> State {
        self.state.lock().unwrap().clone()
    }

    /// Replaces all stored objects.
    pub fn restore(&self, state: State) {
        *self.state.lock().unwrap() = state;
    }

    /// Fails all requests with this prefix, such as `PUT /apis`, until [`KubernetesApi::heal`].
    pub fn refuse(&self, call: &str, status: u16) {
        self.script.lock().unwrap().failures.push((call.to_owned(), Failure::Refused(status)));
    }

    /// Never completes requests with this prefix, until [`KubernetesApi::heal`].
    pub fn hang(&self, call: &str) {
        self.script.lock().unwrap().failures.push((call.to_owned(), Failure::Hangs));
    }

    /// Removes all failures.
    pub fn heal(&self) {
        self.script.lock().unwrap().failures.clear();
    }

    /// Returns the requests since the last call in order, without read-only ones.
    pub fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut self.script.lock().unwrap().writes)
    }

    /// Records a request, and returns how it fails.
    fn gate(&self, call: String, writes: bool) -> Option<Failure> {
        let failure = self.hooks.gate(&call, writes);
        let mut script = self.script.lock().unwrap();
        let scripted = script.failures.iter().find(|(begin, _)| call.starts_with(begin));
        let failure = failure.or(scripted.map(|(_, failure)| *failure));
        // A request that hangs never arrives.
        if writes && failure != Some(Failure::Hangs) {
            script.writes.push(call);
        }
        failure
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let applies =
            head.headers.get("content-type").is_some_and(|t| t.to_str().unwrap().contains("apply-patch"));
        let (method, path, query) = (&head.method, head.uri.path(), head.uri.query().unwrap_or_default());
        let failure = self.gate(format!("{method} {path}"), *method != Method::GET);
        let (status, answer) = match failure {
            Some(Failure::Refused(status)) => refusal(status, method),
            Some(Failure::Hangs) => std::future::pending().await,
            Some(Failure::Lost) => {
                self.act(method, (path, query), applies, body);
                std::future::pending().await
            }
            None => self.act(method, (path, query), applies, body),
        };
        let text = match answer {
            Value::String(text) => text,
            json => json.to_string(),
        };
        Response::builder().status(status).body(Body::from(text.into_bytes())).unwrap()
    }

    /// Executes a request, and has the hooks examine its effect.
    fn act(&self, method: &Method, (path, query): (&str, &str), applies: bool, body: Value) -> (u16, Value) {
        let (response, effect) = {
            let mut state = self.state.lock().unwrap();
            let response = if applies && !path.ends_with("/status") {
                state.apply(path, query, body)
            } else {
                state.act(method, path, query, body)
            };
            (response, state.effect.take())
        };
        match effect {
            Some(Effect::StatusWritten(object)) => self.hooks.status_written(self, &object),
            Some(Effect::Finalized(object)) => self.hooks.finalized(path, &object),
            None => {}
        }
        response
    }
}

impl State {
    /// Returns the object at a path.
    fn read(&self, path: &str) -> Option<Value> {
        self.objects.get(path).map(|object| (**object).clone())
    }

    /// Stores an object with a new resource version if it differs from the stored one. A deleted object that loses its
    /// last finalizer is removed instead.
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        let metadata = &object["metadata"];
        let held = self.objects.get(path).is_some_and(|old| has_finalizers(old));
        if held && !has_finalizers(&object) && !metadata["deletionTimestamp"].is_null() {
            self.remove(path);
            self.effect = Some(Effect::Finalized(object.clone()));
            return object;
        }
        let versioned = !metadata["resourceVersion"].is_null();
        if versioned && self.objects.get(path).is_some_and(|old| **old == object) {
            return object;
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), Arc::new(object.clone()));
        object
    }

    /// Removes an object, and deletes all objects that it owns.
    fn remove(&mut self, path: &str) {
        self.statuses.remove(path);
        let Some(removed) = self.objects.remove(path) else { return };
        let Some(uid) = removed["metadata"]["uid"].as_str() else { return };
        let owned = |object: &Value| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == uid))
        };
        let orphans: Vec<String> =
            self.objects.iter().filter(|(_, o)| owned(o)).map(|(path, _)| path.clone()).collect();
        orphans.iter().for_each(|path| self.delete(path));
    }

    fn delete(&mut self, path: &str) {
        let Some(mut object) = self.read(path) else { return };
        if has_finalizers(&object) {
            object["metadata"]["deletionTimestamp"] = json!("2023-11-14T22:13:20Z");
            self.store(path, object);
        } else {
            self.remove(path);
        }
    }

    fn act(&mut self, method: &Method, path: &str, query: &str, body: Value) -> (u16, Value) {
        if path == "/readyz" {
            return (200, json!("ok"));
        }
        if let Some(pod) = path.strip_suffix("/eviction") {
            let evicted = json!({"kind": "Status", "status": "Success"});
            return self.objects.remove(pod).map_or(refusal(404, method), |_| (201, evicted));
        }
        let account = path.strip_suffix("/token").filter(|account| account.contains("/serviceaccounts/"));
        if let Some(account) = account {
            let seconds = &body["spec"]["expirationSeconds"];
            let token =
                json!({"status": {"token": format!("{account} {seconds}"), "expirationTimestamp": WRITTEN}});
            return self.objects.get(account).map_or(refusal(404, method), |_| (201, token));
        }
        if path.ends_with("/tokenreviews") {
            return (201, json!({"spec": {}, "status": {"authenticated": body["spec"]["token"] == "good"}}));
        }
        let whole = path.strip_suffix("/status").unwrap_or(path);
        let found = self.read(whole);
        match (method.as_str(), found) {
            ("GET", Some(object)) => (200, object),
            ("GET", None) => self.list(path, query).map_or(refusal(404, method), |list| (200, list)),
            ("POST", _) => {
                let mut body = body;
                if !body["spec"].is_null() {
                    body["metadata"]["generation"] = json!(1);
                    body["metadata"]["creationTimestamp"] = json!("2023-11-14T22:13:20Z");
                }
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                let exists = self.objects.contains_key(&path);
                if exists { refusal(409, method) } else { (201, self.create(&path, body)) }
            }
            ("PUT" | "PATCH", Some(object)) if !meets(&object, &body["metadata"]) => refusal(409, method),
            ("PUT", Some(_)) => (200, self.store(path, body)),
            ("PATCH", Some(mut object)) if path != whole => {
                object["status"] = self.apply_status(whole, query, &body["status"]);
                self.effect = Some(Effect::StatusWritten(object.clone()));
                (200, self.store(whole, object))
            }
            ("PATCH", Some(mut object)) => {
                let before = object["spec"].clone();
                merge(&mut object, body);
                if before != object["spec"] {
                    let generation = object["metadata"]["generation"].as_u64().unwrap_or_default();
                    object["metadata"]["generation"] = json!(generation + 1);
                }
                (200, self.store(path, object))
            }
            ("DELETE", Some(object)) => {
                if !meets(&object, &body["preconditions"]) {
                    return refusal(409, method);
                }
                self.delete(path);
                (200, self.read(path).unwrap_or(object))
            }
            (_, _) => refusal(404, method),
        }
    }

    /// Implements server-side apply of a status with force, for its fields and for each condition. Returns what all field
    /// managers say together.
    fn apply_status(&mut self, path: &str, query: &str, status: &Value) -> Value {
        let manager = query.split('&').find_map(|q| q.strip_prefix("fieldManager=")).unwrap_or_default();
        let applied = self.statuses.entry(path.to_owned()).or_default();
        let types = |status: &Value| -> Vec<Value> {
            let conditions = status["conditions"].as_array().into_iter().flatten();
            conditions.map(|c| c["type"].clone()).collect()
        };
        let own = types(status);
        let mut all = status.clone();
        for other in applied.iter_mut().filter(|(name, _)| *name != manager).map(|(_, other)| other) {
            let Some(fields) = other.as_object_mut() else { continue };
            fields.retain(|field, _| field == "conditions" || status[field].is_null());
            if let Some(conditions) = fields.get_mut("conditions").and_then(Value::as_array_mut) {
                conditions.retain(|c| !own.contains(&c["type"]));
            }
            for (field, value) in fields {
                let said = &mut all[field.as_str()];
                if said.is_null() {
                    *said = value.clone();
                } else if let (Some(more), Some(found), "conditions") =
                    (value.as_array(), said.as_array_mut(), field.as_str())
                {
                    found.extend(more.clone());
                }
            }
        }
        applied.insert(manager.to_owned(), status.clone());
        all
    }

    /// Implements server-side apply, with field managers for the keys of `data` only.
    fn apply(&mut self, path: &str, query: &str, mut body: Value) -> (u16, Value) {
        let found = self.read(path);
        if found.as_ref().is_some_and(|object| !meets(object, &body["metadata"])) {
            return refusal(409, &Method::PATCH);
        }
        let exists = found.is_some();
        let mut object = found.unwrap_or_else(|| json!({}));
        let data = body.as_object_mut().and_then(|body| body.remove("data"));
        merge(&mut object, body);
        if (data.is_some() || !object["data"].is_null()) && !apply_data(&mut object, query, data) {
            return refusal(409, &Method::PATCH);
        }
        if !object["spec"].is_null() {
            let before = self.objects.get(path);
            let generation = before.and_then(|o| o["metadata"]["generation"].as_u64()).unwrap_or(0);
            let changed = before.is_none_or(|o| o["spec"] != object["spec"]);
            object["metadata"]["generation"] = json!(generation + u64::from(changed));
            if before.is_none() {
                object["metadata"]["creationTimestamp"] = json!("2023-11-14T22:13:20Z");
            }
        }
        if exists { (200, self.store(path, object)) } else { (201, self.create(path, object)) }
    }

    /// Stores a new object, with a UID.
    fn create(&mut self, path: &str, mut object: Value) -> Value {
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        self.store(path, object)
    }

    /// Returns the objects of a collection, of all namespaces if the path has none.
    fn list(&self, path: &str, query: &str) -> Option<Value> {
        let (base, plural) = path.rsplit_once('/')?;
        if !COLLECTIONS.contains(&plural) {
            return None;
        }
        let node = query.split('&').find_map(|q| q.strip_prefix("fieldSelector=spec.nodeName%3D"));
        let decoded = query.replace("%2F", "/");
        let label = decoded.split('&').find_map(|q| q.strip_prefix("labelSelector=")?.split_once("%3D"));
        let in_collection = |at: &str| {
            let Some((collection, _)) = at.rsplit_once('/') else { return false };
            collection == path
                || collection.starts_with(&format!("{base}/namespaces/"))
                    && collection.ends_with(&format!("/{plural}"))
        };
        let items: Vec<_> = self
            .objects
            .iter()
            .filter(|(at, object)| in_collection(at) && node.is_none_or(|n| object["spec"]["nodeName"] == n))
            .filter(|(_, object)| label.is_none_or(|(key, value)| object["metadata"]["labels"][key] == value))
            .map(|(_, object)| &**object)
            .collect();
        Some(
            json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}),
        )
    }
}

/// Applies the keys of `data` for a field manager. Reports false if another manager has one with another value.
fn apply_data(object: &mut Value, query: &str, data: Option<Value>) -> bool {
    let manager = query.split('&').find_map(|q| q.strip_prefix("fieldManager=")).unwrap();
    let force = query.split('&').any(|q| q == "force=true");
    let mut fields: BTreeMap<String, Value> = object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|f| (f["manager"].as_str().unwrap().to_owned(), f["fieldsV1"]["f:data"].clone()))
        .collect();
    let before = fields.remove(manager).unwrap_or_default();
    for key in before.as_object().into_iter().flat_map(|m| m.keys()) {
        if fields.values().all(|f| f[key].is_null()) {
            object["data"].as_object_mut().unwrap().remove(&key["f:".len()..]);
        }
    }
    let mut own = json!({});
    for (key, value) in data.as_ref().and_then(Value::as_object).cloned().unwrap_or_default() {
        let field = format!("f:{key}");
        for other in fields.values_mut().filter(|f| !f[&field].is_null() && object["data"][&key] != value) {
            if !force {
                return false;
            }
            other.as_object_mut().unwrap().remove(&field);
        }
        own[field] = json!({});
        object["data"][key] = value;
    }
    fields.insert(manager.to_owned(), own);
    fields.retain(|_, f| f.as_object().is_some_and(|f| !f.is_empty()));
    object["metadata"]["managedFields"] = fields
        .into_iter()
        .map(|(manager, f)| {
            json!({"manager": manager, "operation": "Apply", "time": WRITTEN, "fieldsV1": {"f:data": f}})
        })
        .collect();
    true
}

/// Reports whether an object has the UID and the resource version that a request requires.
fn meets(object: &Value, required: &Value) -> bool {
    let same = |key: &str| required[key].is_null() || required[key] == object["metadata"][key];
    same("uid") && same("resourceVersion")
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty())
}

/// Implements JSON merge patch (RFC 7386).
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(&key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn refusal(status: u16, method: &Method) -> (u16, Value) {
    let reason = match status {
        404 => "NotFound",
        409 if method == Method::POST => "AlreadyExists",
        409 => "Conflict",
        429 => "TooManyRequests",
        500 => "InternalError",
        _ => "Refused",
    };
    let refused = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason,
        "message": format!("injected failure {status}"),
    });
    (status, refused)
}
