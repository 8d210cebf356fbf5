//! In-memory Kubernetes API for tests of its clients: objects by path, resource versions, merge patches, server-side
//! apply of ConfigMap data, evictions, and injected failures. It has no schemas.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::{Value, json};

use merge_patch::merge;

#[path = "../tests/support/fakes/merge_patch.rs"]
mod merge_patch;

/// The API. Clones share their state.
#[derive(Clone, Default)]
pub struct FakeApi(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    /// `METHOD path` of every request.
    calls: Vec<String>,
    /// Prefixes of requests that fail, with their status.
    refusals: Vec<(String, u16)>,
    /// Prefix of requests that never complete.
    hanging: Option<String>,
}

impl FakeApi {
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
        self.0.lock().unwrap().store(path, object);
    }

    /// Returns the object at a path.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(path).cloned()
    }

    /// Removes an object regardless of its finalizers.
    pub fn remove(&self, path: &str) {
        self.0.lock().unwrap().objects.remove(path);
    }

    /// Fails all requests with this prefix, such as `PUT /apis`, until [`FakeApi::heal`].
    pub fn refuse(&self, call: &str, status: u16) {
        self.0.lock().unwrap().refusals.push((call.to_owned(), status));
    }

    /// Never completes requests with this prefix, until [`FakeApi::heal`].
    pub fn hang(&self, call: &str) {
        self.0.lock().unwrap().hanging = Some(call.to_owned());
    }

    /// Removes all injected failures.
    pub fn heal(&self) {
        let mut state = self.0.lock().unwrap();
        state.refusals.clear();
        state.hanging = None;
    }

    /// Returns the requests since the last call in order, without read-only ones.
    pub fn take_writes(&self) -> Vec<String> {
        let calls = std::mem::take(&mut self.0.lock().unwrap().calls);
        calls.into_iter().filter(|call| !call.starts_with("GET ")).collect()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let call = format!("{} {}", head.method, head.uri.path());
        let hangs = self.0.lock().unwrap().hanging.as_ref().is_some_and(|begin| call.starts_with(begin));
        if hangs {
            std::future::pending::<()>().await;
        }
        let mut state = self.0.lock().unwrap();
        let refused =
            state.refusals.iter().find(|(begin, _)| call.starts_with(begin)).map(|(_, status)| *status);
        state.calls.push(call);
        let (status, answer) = match refused {
            Some(status) => refusal(status),
            None if head.headers.get("content-type").is_some_and(|t| t == "application/apply-patch+yaml") => {
                state.apply(head.uri.path(), head.uri.query().unwrap_or_default(), body)
            }
            None => state.act(&head.method, head.uri.path(), head.uri.query().unwrap_or_default(), body),
        };
        let text = match answer {
            Value::String(text) => text,
            json => json.to_string(),
        };
        Response::builder().status(status).body(Body::from(text.into_bytes())).unwrap()
    }
}

impl State {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn act(&mut self, method: &Method, path: &str, query: &str, body: Value) -> (u16, Value) {
        if path == "/readyz" {
            return (200, json!("ok"));
        }
        if let Some(pod) = path.strip_suffix("/eviction") {
            return self
                .objects
                .remove(pod)
                .map_or(refusal(404), |_| (201, json!({"kind": "Status", "status": "Success"})));
        }
        let found = self.objects.get(path).cloned();
        match (method.as_str(), found) {
            ("GET", Some(object)) => (200, object),
            ("GET", None) => self.list(path, query).map_or(refusal(404), |list| (200, list)),
            ("POST", _) => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if self.objects.contains_key(&path) { refusal(409) } else { (201, self.store(&path, body)) }
            }
            ("PUT", Some(old)) => {
                let given = &body["metadata"]["resourceVersion"];
                let stale = !given.is_null() && *given != old["metadata"]["resourceVersion"];
                if stale { refusal(409) } else { (200, self.store(path, body)) }
            }
            ("PATCH", Some(mut object)) => {
                let given = &body["metadata"]["resourceVersion"];
                if !given.is_null() && *given != object["metadata"]["resourceVersion"] {
                    return refusal(409);
                }
                merge(&mut object, body);
                (200, self.store(path, object))
            }
            ("DELETE", Some(mut object)) => {
                if object["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty()) {
                    object["metadata"]["deletionTimestamp"] = json!("2026-11-25T00:00:00Z");
                    return (200, self.store(path, object));
                }
                self.objects.remove(path);
                (200, object)
            }
            (_, _) => refusal(404),
        }
    }

    /// Implements server-side apply for the keys of `data`, each with its own field managers.
    fn apply(&mut self, path: &str, query: &str, body: Value) -> (u16, Value) {
        let manager = query.split('&').find_map(|q| q.strip_prefix("fieldManager=")).unwrap();
        let force = query.split('&').any(|q| q == "force=true");
        let mut object = self.objects.get(path).cloned().unwrap_or_else(|| json!({"data": {}}));
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
        for (key, value) in body["data"].as_object().cloned().unwrap_or_default() {
            let field = format!("f:{key}");
            for other in fields.values_mut().filter(|f| !f[&field].is_null() && object["data"][&key] != value)
            {
                if !force {
                    return refusal(409);
                }
                other.as_object_mut().unwrap().remove(&field);
            }
            own[field] = json!({});
            object["data"][key] = value;
        }
        fields.insert(manager.to_owned(), own);
        fields.retain(|_, f| f.as_object().is_some_and(|f| !f.is_empty()));
        merge(&mut object["metadata"], body["metadata"].clone());
        object["metadata"]["managedFields"] = fields
            .into_iter()
            .map(|(manager, f)| json!({"manager": manager, "operation": "Apply", "fieldsV1": {"f:data": f}}))
            .collect();
        (200, self.store(path, object))
    }

    /// Returns the objects of a collection, of all namespaces if the path has none.
    fn list(&self, path: &str, query: &str) -> Option<Value> {
        let (base, plural) = path.rsplit_once('/')?;
        if !matches!(plural, "leases" | "nodes" | "pods" | "secrets") {
            return None;
        }
        let node = query.split('&').find_map(|q| q.strip_prefix("fieldSelector=spec.nodeName%3D"));
        let label = query.split('&').find_map(|q| q.strip_prefix("labelSelector=")?.split_once("%3D"));
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
            .map(|(_, object)| object)
            .collect();
        Some(
            json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}),
        )
    }
}

fn refusal(status: u16) -> (u16, Value) {
    let reason = match status {
        404 => "NotFound",
        409 => "Conflict",
        429 => "TooManyRequests",
        _ => "Refused",
    };
    let told = json!({
        "kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": format!("injected failure \
         {status}"),
    });
    (status, told)
}
