//! A Registry of another namespace that no longer allows the namespace of a cluster, and one that is away for a while.

use std::collections::BTreeSet;

use super::*;

pub const HUB: &str = "/apis/localcluster.dev/v1alpha1/namespaces/shared/registries/hub";

/// The Registry of the other namespace: with a password and a CA if `secret`.
fn put_hub(rig: &Rig, allowed: &[&str], secret: bool) {
    for (name, data) in [
        ("users", vec![("htpasswd", format!("user:$2y$05${:x>53}\n", "hub-password"))]),
        ("login", vec![("username", "user".into()), ("password", "hub-password".into())]),
        (
            "tls",
            vec![
                ("tls.crt", "-----BEGIN CERTIFICATE-----\nhub".into()),
                ("tls.key", "-----BEGIN PRIVATE KEY-----".into()),
            ],
        ),
    ] {
        let data: BTreeMap<_, _> = data.into_iter().map(|(k, v)| (k, BASE64_STANDARD.encode(v))).collect();
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
        rig.api.put(&format!("/api/v1/namespaces/shared/secrets/{name}"), object);
    }
    let mut spec = json!({"hostname": "hub.example", "allowedNamespaces": allowed});
    if secret {
        spec.as_object_mut().unwrap().extend(secured().as_object().unwrap().clone());
    } else {
        spec["tls"] = secured()["tls"].clone();
    }
    let metadata = json!({"name": "hub"});
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "Registry", "metadata": metadata, "spec": spec,
    });
    rig.api.put(HUB, object);
}

/// A cluster that uses a Registry of its own namespace, with a password too, and the hub.
async fn using(allowed: &[&str], secret: bool) -> Rig {
    let rig = applied(1);
    put_secrets(&rig, "own-password");
    put_registry_with(&rig, json!({}), secured());
    put_hub(&rig, allowed, secret);
    put_user(&rig);
    rig
}

fn put_user(rig: &Rig) {
    put(rig, 1, |s| {
        s["registries"]["use"] = json!([{"name": "hub", "namespace": "shared"}, {"name": "images"}]);
    });
}

pub async fn rounds(rig: &mut Rig) {
    for _ in 0..ENOUGH {
        rig.round().await;
    }
}

/// Nodes that have the text anywhere in their configuration of registries.
pub fn have(rig: &Rig, text: &str) -> BTreeSet<String> {
    rig.world(|w| {
        let nodes =
            w.containers.values().filter(|c| c.name.contains("-server-") || c.name.contains("-agent-"));
        let holds = |name: &str| {
            w.tree(name, "/etc").iter().any(|(path, content)| {
                let text_in = String::from_utf8_lossy(content).contains(text);
                // An empty file is one that was removed.
                text_in || (path.contains(text) && !content.is_empty())
            })
        };
        nodes.filter(|c| holds(&c.name)).map(|c| c.name.clone()).collect()
    })
}

pub fn connected(rig: &Rig) -> usize {
    rig.world(|w| w.named("hub.example").unwrap().networks.len())
}

pub fn nodes(rig: &Rig) -> Vec<String> {
    ["k3d-dev-server-0", "k3d-dev-agent-0"].map(|name| rig.world(|w| w.id(name).unwrap())).into()
}

/// What the registries are called in the cluster.
pub fn told_inside(rig: &Rig) -> String {
    rig.world(|w| w.clusters.values().map(|c| format!("{:?}", c.config)).collect())
}

fn refs(rig: &Rig) -> (String, String) {
    (rig.told("ResolvedRefs").1, message(rig, "ResolvedRefs"))
}

#[tokio::test(start_paused = true)]
async fn withdrawn_consent_takes_the_credentials_from_the_nodes() {
    let mut rig = using(&["default"], true).await;
    rig.settle(ENOUGH).await;
    let (before, both) =
        (nodes(&rig), BTreeSet::from(["k3d-dev-agent-0", "k3d-dev-server-0"].map(str::to_owned)));
    for text in ["hub-password", "own-password", "hub.example"] {
        assert_eq!(have(&rig, text), both, "{text}");
    }
    put_hub(&rig, &["team-b"], true);
    rounds(&mut rig).await;
    assert_eq!(have(&rig, "hub-password"), BTreeSet::new());
    assert_eq!(have(&rig, "hub.example"), BTreeSet::new(), "nor its CA");
    assert_eq!(have(&rig, "own-password"), both);
    assert_eq!(connected(&rig), 1);
    // K3s reads credentials only when it starts.
    assert!(nodes(&rig).iter().all(|id| !before.contains(id)));
    let (reason, message) = refs(&rig);
    assert_eq!(reason, "NotAllowed");
    assert!(message.contains("shared/hub") && message.contains("rotate"), "{message}");
    // It is no longer a matter of the hub: nodes come and go as ever.
    let after = nodes(&rig);
    rig.world(|w| assert!(w.interfere(&Outside::RemoveWithVolumes("k3d-dev-agent-0".into()))));
    rounds(&mut rig).await;
    assert_ne!(nodes(&rig), after);
    let after = nodes(&rig);
    rounds(&mut rig).await;
    assert_eq!(nodes(&rig), after, "and no more");

    put_hub(&rig, &["default"], true);
    rounds(&mut rig).await;
    rig.settle(ENOUGH).await;
    assert_eq!(have(&rig, "hub-password"), both);
}

#[tokio::test(start_paused = true)]
async fn without_a_password_withdrawn_consent_replaces_no_node() {
    let mut rig = using(&["*"], false).await;
    rig.settle(ENOUGH).await;
    let before = nodes(&rig);
    assert_eq!(have(&rig, "hub.example").len(), 2);
    put_hub(&rig, &[], false);
    rounds(&mut rig).await;
    assert_eq!(have(&rig, "hub.example"), BTreeSet::new());
    assert_eq!(nodes(&rig), before);
    let (reason, message) = refs(&rig);
    assert!(reason == "NotAllowed" && !message.contains("rotate"), "{message}");
}

/// A new cluster waits for what its spec asks for.
#[tokio::test(start_paused = true)]
async fn without_consent_no_cluster_is_created() {
    let mut rig = using(&[], true).await;
    rounds(&mut rig).await;
    assert!(rig.world(|w| w.id("k3d-dev-server-0").is_none()));
    let (reason, message) = refs(&rig);
    assert!(reason == "NotAllowed" && !message.contains("rotate"), "{message}");
}

/// Of a Registry that is unknown, that has no status, that is paused or being deleted, nothing says that it withdrew its
/// consent.
#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_changes_nothing() {
    for what in ["unknown", "without status", "paused", "being deleted"] {
        let mut rig = using(&["default"], true).await;
        rig.settle(ENOUGH).await;
        rig.settle(ENOUGH).await;
        let before = nodes(&rig);
        let told = told_inside(&rig);
        match what {
            "unknown" => rig.api.remove(HUB),
            "without status" => rig.api.lose_status(HUB),
            "paused" => {
                let mut object = rig.api.get(HUB).unwrap();
                object["metadata"]["annotations"] = json!({"localcluster.dev/paused": "true"});
                rig.api.put(HUB, object);
            }
            _ => rig.api.delete(HUB),
        }
        rounds(&mut rig).await;
        assert_eq!(nodes(&rig), before, "{what}");
        assert_eq!(have(&rig, "hub-password").len(), 2, "{what}");
        assert_eq!(connected(&rig), 2, "{what}");
        assert_eq!(refs(&rig).0, if what == "unknown" { "RegistryNotFound" } else { "Resolved" }, "{what}");
        let after = told_inside(&rig);
        assert_eq!(after, told, "{what}");
    }
}
