//! Objects of chance: specs that the schema lets through.

use std::{collections::BTreeSet, sync::Mutex};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use localcluster_operator::api::{ADOPTS_ANNOTATION, names};
use serde_json::{Value, json};

use super::op::OBJECTS;
use crate::support::{
    fakes::api::FakeApi,
    model::{
        lab::{Chance, MANAGER},
        world::World,
    },
};

/// Parts of all secret values, which must be nowhere else.
pub const SECRETS: [&str; 3] = ["sesame-one", "sesame-two", "sesame-key"];

pub fn path(kind: &str, namespace: &str, name: &str) -> String {
    format!("/apis/localcluster.dev/v1alpha1/namespaces/{namespace}/{kind}/{name}")
}

/// Returns the path of the object with this number.
pub fn of(number: u8) -> String {
    let (kind, namespace, name) = OBJECTS[usize::from(number) % OBJECTS.len()];
    path(kind, namespace, name)
}

/// Applies the object with this number, with the spec of a pick.
pub fn put(api: &FakeApi, number: u8, pick: u64) {
    let (kind, namespace, name) = OBJECTS[usize::from(number) % OBJECTS.len()];
    let mut chance = Chance(pick);
    chance.below(2);
    let (kind, spec) = match kind {
        "localclusters" => ("LocalCluster", cluster(&mut chance)),
        _ => ("Registry", registry(&mut chance)),
    };
    let at = of(number);
    let annotations = api.get(&at).map_or_else(|| json!({}), |old| adopts(&old));
    let metadata = json!({"name": name, "namespace": namespace, "annotations": annotations});
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec,
    });
    if api.get(&at).is_some_and(|o| !o["metadata"]["deletionTimestamp"].is_null()) {
        return;
    }
    api.put(&at, object);
}

/// Returns the annotation by which an object takes over, alone.
pub fn adopts(object: &Value) -> Value {
    let adopts = &object["metadata"]["annotations"][ADOPTS_ANNOTATION];
    if adopts.is_null() { json!({}) } else { json!({ADOPTS_ANNOTATION: adopts}) }
}

/// Loses the object with this number, and makes it again from a backup, with another UID. A person has looked at the labels
/// of all that there is of it and of its Registry.
pub fn restore(api: &FakeApi, world: &Mutex<World>, number: u8) {
    let (at, (_, namespace, name)) = (of(number), OBJECTS[usize::from(number) % OBJECTS.len()]);
    let Some(old) = api.get(&at).filter(|o| o["metadata"]["deletionTimestamp"].is_null()) else { return };
    let own = [format!("{namespace}/{name}"), format!("{namespace}/{}", names::own_registry(name))];
    let world = world.lock().unwrap().clone();
    let labels = world.containers.values().map(|c| &c.labels);
    let labels = labels.chain(world.networks.values().map(|n| &n.labels));
    let labels = labels.chain(world.volumes.values().map(|v| &v.labels));
    let labels = labels.filter(|l| l.get(names::OWNER).is_some_and(|owner| own.contains(owner)));
    let mut pairs: BTreeSet<String> =
        labels.filter_map(|l| Some(format!("{}@{}", l.get(names::UID)?, l.get(names::MANAGER)?))).collect();
    pairs.insert(format!("{}@{MANAGER}", old["metadata"]["uid"].as_str().unwrap()));
    let before = old["metadata"]["annotations"][ADOPTS_ANNOTATION].as_str().unwrap_or_default();
    pairs.extend(before.split(',').filter(|pair| !pair.is_empty()).map(str::to_owned));
    let text = pairs.into_iter().collect::<Vec<_>>().join(",");
    api.remove(&at);
    let metadata = json!({"name": name, "namespace": namespace, "annotations": {ADOPTS_ANNOTATION: text}});
    let (version, kind, spec) = (&old["apiVersion"], &old["kind"], &old["spec"]);
    api.put(&at, json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}));
}

fn cluster(chance: &mut Chance) -> Value {
    let servers = [1, 1, 1, 1, 1, 3, 3, 2][chance.below(8)];
    let mut spec = json!({
        "servers": {"count": servers}, "agents": {"count": chance.below(3)}, "onDataLoss": "Recreate",
    });
    let mut maybe = |one_of: usize| chance.below(one_of) == 0;
    if maybe(6) {
        spec["onDataLoss"] = json!("Stop");
    }
    if maybe(8) {
        spec["state"] = json!("Stopped");
    }
    if maybe(5) {
        spec["agents"]["args"] = json!(["--kubelet-arg=max-pods=50"]);
    }
    if maybe(6) {
        spec["servers"]["args"] = json!(["--disable=traefik"]);
    }
    if maybe(5) {
        spec["agents"]["labels"] = json!({"tier": "a"});
    }
    if maybe(8) {
        spec["agents"]["taints"] = json!(["dedicated=gpu:NoSchedule"]);
    }
    if maybe(8) {
        spec["servers"]["memory"] = json!("2Gi");
    }
    contents(chance, &mut spec);
    // Last, so that the specs of known scripts are otherwise what they were.
    let mut maybe = |one_of: usize| chance.below(one_of) == 0;
    let mut pools: Vec<Value> = Vec::new();
    for name in ["gpu", "big"] {
        if maybe(5) {
            pools.push(json!({"name": name, "count": 1, "labels": {"pool": name}}));
        }
    }
    if maybe(2) {
        pools.reverse();
    }
    spec["agentPools"] = pools.into();
    if maybe(5) {
        spec["agents"]["excludedIndexes"] = json!([0]);
    }
    if maybe(6) {
        spec["durability"] = json!("Ephemeral");
    }
    spec
}

/// Ports, registries and what is in the cluster.
fn contents(chance: &mut Chance, spec: &mut Value) {
    let mut maybe = |one_of: usize| chance.below(one_of) == 0;
    let mut ports = Vec::new();
    if maybe(4) {
        ports.push(json!({"name": "web", "port": 80, "hostPort": 8080}));
    }
    if maybe(4) {
        ports.push(json!({"name": "auto", "port": 443}));
    }
    spec["ports"] = ports.into();
    if maybe(6) {
        spec["api"] = json!({"hostPort": 16443});
    }
    if maybe(3) {
        spec["registries"] = json!({"use": [{"name": "images"}]});
    } else if maybe(8) {
        spec["registries"] = json!({"create": {}});
    }
    if maybe(6) {
        spec["preloadImages"] = json!(["app:1"]);
    }
    if maybe(6) {
        let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
        spec["manifests"] = json!([{"name": "one", "inline": map}]);
    }
    if maybe(8) {
        spec["image"] = json!("example/k3s:v1.36.2-k3s1");
    }
    if maybe(8) {
        spec["token"] = json!({"secretName": "token"});
    }
    if maybe(8) {
        spec["hostAliases"] = json!([{"ip": "10.0.0.5", "hostnames": ["db.internal"]}]);
    }
}

fn registry(chance: &mut Chance) -> Value {
    let mut spec = json!({});
    let mut maybe = |one_of: usize| chance.below(one_of) == 0;
    if maybe(4) {
        spec["auth"] = json!({"htpasswdSecret": "users", "clientSecret": "login"});
    }
    if maybe(5) {
        spec["tls"] = json!({"secretName": "tls"});
    }
    if maybe(4) {
        spec["hostPort"] = json!(5000);
    }
    if maybe(4) {
        spec["deleteEnabled"] = json!(true);
    }
    if maybe(6) {
        spec["memory"] = json!("128Mi");
    }
    if maybe(6) {
        spec["proxy"] = json!({"remoteURL": "https://registry-1.docker.io"});
    }
    spec
}

/// Sets the Secrets of both namespaces to one of their contents, or removes them.
pub fn secrets(api: &FakeApi, pick: u8) {
    for namespace in ["default", "team"] {
        let at = |name: &str| format!("/api/v1/namespaces/{namespace}/secrets/{name}");
        let put = |name: &str, data: &[(&str, String)]| {
            let data: serde_json::Map<_, _> = data
                .iter()
                .map(|(key, text)| ((*key).to_owned(), BASE64_STANDARD.encode(text).into()))
                .collect();
            let metadata = json!({"name": name, "namespace": namespace});
            api.put(
                &at(name),
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}),
            );
        };
        if pick == 3 {
            for name in ["users", "login", "tls", "token"] {
                api.remove(&at(name));
            }
            continue;
        }
        let password = SECRETS[usize::from(pick) % 2];
        put("users", &[("htpasswd", format!("user:$2y$05${password:x>53}\n"))]);
        put("login", &[("username", "user".into()), ("password", password.into())]);
        put("token", &[("token", password.into())]);
        let key = format!("-----BEGIN PRIVATE KEY-----{}", SECRETS[2]);
        put("tls", &[("tls.crt", "-----BEGIN CERTIFICATE-----".into()), ("tls.key", key)]);
    }
}

/// Rules of HostPolicies; none for the last ones.
const POLICIES: [&str; 5] = [
    r#"{"nodes": {"images": ["docker.io/rancher/k3s:*"]}}"#,
    r#"{"ports": {"ranges": [{"from": 20000, "to": 20099}]}}"#,
    r#"{"quota": {"clusters": 1}}"#,
    r#"{"perNode": {"maxMemory": "1Gi"}}"#,
    r#"{"defaults": {"memory": "1Gi"}, "images": {"preload": []}}"#,
];

pub const POLICY: &str = "/apis/localcluster.dev/v1alpha1/hostpolicies/teams";

/// Sets one of a few HostPolicies for all namespaces, or removes it.
pub fn policy(api: &FakeApi, pick: u8) {
    let Some(rules) = POLICIES.get(usize::from(pick)) else { return api.remove(POLICY) };
    let mut spec: Value = serde_json::from_str(rules).unwrap();
    spec["namespaceSelector"] = json!({});
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "HostPolicy", "metadata": {"name": "teams"}, "spec": spec,
    });
    api.put_cluster(POLICY, object);
}

/// Creates the namespaces.
pub fn namespaces(api: &FakeApi) {
    for name in ["default", "team"] {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        api.put_cluster(&format!("/api/v1/namespaces/{name}"), object);
    }
}
