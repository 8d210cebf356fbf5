//! What happens to a cluster with a registry in the runs that are repeated with faults.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use localcluster_operator::docker::spec::PortBinding;
use serde_json::{Value, json};

use super::{interfere::Outside, lab};
use crate::support::fakes::{
    api::{path, secret},
    rig::{Rig, condition},
};

pub const ENOUGH: usize = 40;

pub fn cluster(agents: i32, change: impl FnOnce(&mut Value)) -> Value {
    let mut spec = json!({"servers": {"count": 1}, "agents": {"count": agents}, "registries": {"use": [{"name": "images"}]}});
    change(&mut spec);
    json!({"apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster", "metadata": {"name": "dev"}, "spec": spec})
}

pub fn put(rig: &Rig, agents: i32, change: impl FnOnce(&mut Value)) {
    rig.api.put(&path("localclusters", "dev"), cluster(agents, change));
}

pub fn put_registry(rig: &Rig) {
    put_registry_with(rig, json!({}), json!({}));
}

pub fn put_registry_with(rig: &Rig, annotations: Value, spec: Value) {
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "Registry",
        "metadata": {"name": "images", "annotations": annotations}, "spec": spec,
    });
    rig.api.put(&path("registries", "images"), object);
}

pub fn put_secret(rig: &Rig, name: &str, data: &[(&str, &str)]) {
    let data: BTreeMap<_, _> = data.iter().map(|(k, v)| (k, BASE64_STANDARD.encode(v))).collect();
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
    rig.api.put(&secret(name), object);
}

/// The Secrets of a registry with a user of this password, and HTTPS. The model's hash of a password ends in it.
pub fn put_secrets(rig: &Rig, password: &str) {
    put_secret(rig, "users", &[("htpasswd", &format!("user:$2y$05${password:x>53}\n"))]);
    put_secret(rig, "login", &[("username", "user"), ("password", password)]);
    let (certificate, key) = ("-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----");
    put_secret(rig, "tls", &[("tls.crt", certificate), ("tls.key", key)]);
}

pub fn secured() -> Value {
    json!({"auth": {"htpasswdSecret": "users", "clientSecret": "login"}, "tls": {"secretName": "tls"}})
}

/// The cluster with an image and manifests of these ConfigMaps.
pub fn fill(rig: &Rig, manifests: &[(&str, &[&str])]) {
    let map = |name: &&str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n---\n");
    let manifest = |(name, objects): &(&str, &[&str])| json!({"name": name, "inline": objects.iter().map(map).collect::<String>()});
    put(rig, 1, |s| {
        s["preloadImages"] = json!(["app:1"]);
        s["manifests"] = manifests.iter().map(manifest).collect();
    });
}

pub fn delete(rig: &Rig) {
    rig.api.delete(&path("localclusters", "dev"));
    rig.api.delete(&path("registries", "images"));
}

/// A world with a stranger in it, and both objects applied.
pub fn applied(agents: i32) -> Rig {
    let rig = Rig::new(lab::settings());
    rig.world(|w| {
        w.foreign("stranger", &[published(9000)]);
        w.volumes.entry("strange".into()).or_default();
    });
    put_registry(&rig);
    put(&rig, agents, |_| {});
    rig
}

pub fn published(host_port: u16) -> PortBinding {
    PortBinding { host_ip: "127.0.0.1".into(), host_port, port: 80, protocol: "tcp".into() }
}

/// The end of a scenario: the world without what may differ, and what else has to be there.
pub fn end(rig: &Rig) -> BTreeMap<String, String> {
    let mut end = rig.world(|w| w.normal());
    rig.world(|w| {
        for (id, container) in &w.containers {
            end.insert(format!("images {}", container.name), format!("{:?}", w.images_of(id)));
        }
        let objects: Vec<_> = w.clusters.values().map(|c| &c.objects).collect();
        end.insert("applied".into(), format!("{objects:?}"));
    });
    for name in ["dev-token", "dev-kubeconfig"] {
        end.insert(format!("secret {name}"), rig.api.get(&secret(name)).is_some().to_string());
    }
    for object in rig.api.all("localclusters").into_iter().chain(rig.api.all("registries")) {
        let name = object["metadata"]["name"].to_string();
        end.insert(format!("object {name}"), format!("{:?}", condition(&object, "Ready")));
        let collected = object["status"]["garbageCollection"]["message"].to_string();
        end.insert(format!("collected {name}"), collected);
    }
    assert_eq!(rig.api.sins(), [] as [String; 0]);
    end
}

/// What happens in the runs that are repeated with faults.
#[derive(Clone, Copy, Debug)]
pub enum Scenario {
    Create,
    ScaleUp,
    ScaleDown,
    Arguments,
    Ports,
    Repair,
    /// The registry gets users and HTTPS.
    Secure,
    /// Its users change.
    Users,
    /// Its garbage is collected.
    Collect,
    /// The cluster gets an image and manifests.
    Fill,
    /// They change: an image that was made anew, an object less, a manifest less.
    Refill,
    Delete,
    DeleteHalfMade,
}

pub const SCENARIOS: [Scenario; 13] = [
    Scenario::Create,
    Scenario::ScaleUp,
    Scenario::ScaleDown,
    Scenario::Arguments,
    Scenario::Ports,
    Scenario::Repair,
    Scenario::Secure,
    Scenario::Users,
    Scenario::Collect,
    Scenario::Fill,
    Scenario::Refill,
    Scenario::Delete,
    Scenario::DeleteHalfMade,
];

impl Scenario {
    /// Its name.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// Brings about the state before it.
    pub async fn before(self) -> Rig {
        let mut rig = applied(if matches!(self, Self::ScaleDown | Self::Arguments) { 2 } else { 1 });
        match self {
            Self::Create => {}
            Self::Users => {
                put_secrets(&rig, "first");
                put_registry_with(&rig, json!({}), secured());
                rig.settle(ENOUGH).await;
                rig.settle(ENOUGH).await;
            }
            Self::Refill => {
                fill(&rig, &[("one", &["a", "b"]), ("two", &["c"])]);
                rig.settle(ENOUGH).await;
            }
            Self::DeleteHalfMade => {
                rig.round().await;
                rig.round().await;
            }
            _ => rig.settle(ENOUGH).await,
        }
        rig
    }

    /// Does it.
    pub fn act(self, rig: &Rig) {
        match self {
            Self::Create => {}
            Self::ScaleUp => put(rig, 2, |_| {}),
            Self::ScaleDown => put(rig, 1, |_| {}),
            Self::Arguments => put(rig, 2, |s| s["agents"]["args"] = json!(["--kubelet-arg=max-pods=50"])),
            Self::Ports => {
                put(rig, 1, |s| s["ports"] = json!([{"name": "web", "port": 80, "hostPort": 8080}]))
            }
            Self::Repair => rig.world(|w| {
                for act in [
                    Outside::RemoveWithVolumes("k3d-dev-agent-0".into()),
                    Outside::Kill("k3d-dev-serverlb".into()),
                    Outside::Remove("k3d-images".into()),
                ] {
                    assert!(w.interfere(&act));
                }
            }),
            Self::Secure => {
                put_secrets(rig, "first");
                put_registry_with(rig, json!({}), secured());
            }
            Self::Users => put_secrets(rig, "second"),
            Self::Collect => {
                let spec = json!({"retention": {"keepTags": 3}});
                put_registry_with(rig, json!({"localcluster.dev/garbage-collect": "now"}), spec);
            }
            Self::Fill => fill(rig, &[("one", &["a", "b"])]),
            Self::Refill => {
                rig.world(|w| assert!(w.interfere(&Outside::Rebuild)));
                fill(rig, &[("one", &["a"])]);
            }
            Self::Delete | Self::DeleteHalfMade => delete(rig),
        }
    }
}
