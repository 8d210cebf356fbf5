//! What happens to clusters in the course of their lives, by the reconciles over fakes of Docker and Kubernetes.

#[path = "life/adopted.rs"]
mod adopted;
#[path = "life/caches.rs"]
mod caches;
#[path = "life/claims.rs"]
mod claims;
#[path = "life/ends.rs"]
mod ends;
#[path = "life/full.rs"]
mod full;
#[path = "life/host_images.rs"]
mod host_images;
#[path = "life/images.rs"]
mod images;
#[path = "life/kubeconfigs.rs"]
mod kubeconfigs;
#[path = "life/led.rs"]
mod led;
#[path = "life/measured.rs"]
mod measured;
#[path = "life/ports.rs"]
mod ports;
#[path = "life/remembered.rs"]
mod remembered;
#[path = "life/resolvers.rs"]
mod resolvers;
#[path = "life/services.rs"]
mod services;
#[path = "life/shown.rs"]
mod shown;
mod support;
#[path = "life/tokens.rs"]
mod tokens;
#[path = "life/turns.rs"]
mod turns;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::SignedDuration;
use localcluster_operator::{
    controller::orphans,
    docker::spec::PortBinding,
    k3s::{SERVER_TOKEN_FILE, TOKEN_FILE, kube_proxy::ProbeResult, load_balancer},
    plan::{management::Management, orphans::Sweep, settings::Settings},
};
use serde_json::{Value, json};
use support::{
    fakes::{
        api::{path, secret},
        faults::{Fault, Side},
        rig::{Rig, condition, message},
    },
    model::{
        interfere::Outside,
        k3s::ca_hash,
        lab,
        world::{BRIDGE, Container, TICK, World},
    },
};

const ENOUGH: usize = 40;

fn put(rig: &Rig, name: &str, annotations: Value, more: Value) {
    let mut spec = json!({"servers": {"count": 1}, "agents": {"count": 0}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let metadata = json!({"name": name, "annotations": annotations});
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster", "metadata": metadata, "spec": spec,
    });
    rig.api.put(&path("localclusters", name), object);
}

fn object(rig: &Rig) -> Option<Value> {
    rig.api.get(&path("localclusters", "dev"))
}

/// A certificate with this end, as a kubeconfig has it, and with nothing else.
fn certificate(end: &str) -> String {
    let part = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let validity = [part(0x17, b"230101000000Z"), part(0x17, end.as_bytes())].concat();
    let before = [part(2, &[1]), part(0x30, &[]), part(0x30, &[])].concat();
    let certificate = part(0x30, &part(0x30, &[before, part(0x30, &validity)].concat()));
    let body = BASE64_STANDARD.encode(certificate);
    BASE64_STANDARD.encode(format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"))
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_certificate_is_told_and_a_newer_one_is_taken() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    assert_eq!(rig.events("CertificateExpiring"), [] as [String; 0]);
    // By the clock of the model it is November 2023: the first ends in twelve days, the second in ten years.
    for end in ["231126000000Z", "331126000000Z"] {
        rig.world(|w| w.certificate = certificate(end).into());
        rig.world(|w| assert!(w.interfere(&Outside::Stop("k3d-dev-server-0".into()))));
        rig.settle_after_a_round(ENOUGH).await;
        rig.round().await;
        let told = rig.events("CertificateExpiring");
        assert!(told.len() == 1 && told[0].contains("2023-11-26T00:00:00Z"), "{told:?}");
        assert!(told[0].contains("docker restart k3d-dev-server-0"), "{told:?}");
        let kept = rig.api.get(&secret("dev-kubeconfig")).unwrap()["data"]["kubeconfig"].clone();
        let kept = String::from_utf8(BASE64_STANDARD.decode(kept.as_str().unwrap()).unwrap()).unwrap();
        assert!(kept.contains(&certificate(end)), "{end}: {kept}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hosts_file_that_was_changed_is_put_right_without_a_restart() {
    const NODE: &str = "k3d-dev-server-0";
    let mut rig = Rig::new(lab::settings());
    put(
        &rig,
        "dev",
        json!({}),
        json!({"hostAliases": [{"ip": "10.0.0.5", "hostnames": ["db.internal"]}], "agents": {"count": 1}}),
    );
    rig.settle(ENOUGH).await;
    let state = |rig: &Rig| {
        rig.world(|w| w.containers.values().map(|c| (c.name.clone(), c.started)).collect::<BTreeSet<_>>())
    };
    let before = state(&rig);
    rig.faults.take_writes();
    // By hand, or by something in the cluster that adds what it needs.
    rig.world(|w| w.write(NODE, "/etc/hosts", b"9.9.9.9 db.internal\n10.1.1.1 theirs\n")).unwrap();
    for _ in 0..=600 / TICK {
        rig.round().await;
    }
    let hosts = rig.world(|w| String::from_utf8(w.read(NODE, "/etc/hosts").unwrap().to_vec()).unwrap());
    let lines: BTreeSet<String> = hosts.lines().map(|l| l.replace('\t', " ")).collect();
    let wanted = [
        "10.0.0.5 db.internal",
        "10.1.1.1 theirs",
        "127.0.0.1 localhost",
        "172.31.0.1 host.k3d.internal",
        "172.31.0.10 k3d-dev-server-0",
    ];
    assert_eq!(lines, wanted.map(String::from).into());
    assert_eq!((state(&rig), rig.settled()), (before, true));
    let docker: Vec<_> = rig.faults.take_writes().into_iter().filter(|w| w.starts_with("Docker")).collect();
    assert_eq!(docker.len(), 1, "once: {docker:?}");
    assert!(docker[0].contains("exec"), "{docker:?}");
}

/// What does not run is started again whether or not the status can be written.
#[tokio::test(start_paused = true)]
async fn a_repair_does_not_wait_for_the_status() {
    const AGENT: &str = "k3d-dev-agent-0";
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({"agents": {"count": 1}}));
    rig.settle(ENOUGH).await;
    rig.world(|w| w.interfere(&Outside::Kill(AGENT.into())));
    let status = format!("PATCH {}/status", path("localclusters", "dev"));
    rig.faults.every(Some((&status, Fault::Refused)));
    rig.reconcile().await;
    assert!(rig.world(|w| w.named(AGENT).unwrap().is_up()));
    assert!(rig.faults.calls(Side::Kube).iter().any(|(call, _)| *call == status), "{status} is not called");
    rig.faults.every(None);
    rig.reconcile().await;
    assert_eq!(rig.told("Ready").0, "False");
    rig.settle(ENOUGH).await;
}

/// The API's URL of a key of the kubeconfig Secret.
fn server(rig: &Rig, key: &str) -> String {
    let data = rig.api.get(&secret("dev-kubeconfig")).unwrap()["data"][key].clone();
    let text = String::from_utf8(BASE64_STANDARD.decode(data.as_str().unwrap()).unwrap()).unwrap();
    localcluster_operator::k3s::kubeconfig::server(&text).unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_management_cluster_is_told_an_address_that_its_pods_reach() {
    const BALANCER: &str = "k3d-dev-serverlb";
    let place = |w: &mut World, name: &str, ip: [u8; 4]| {
        assert!(w.foreign(name, &[]));
        w.container(name).unwrap().networks.get_mut(BRIDGE).unwrap().ip = Some(ip.into());
    };
    // A machine of its own: nothing but the address on the cluster's network is known.
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    assert_eq!(server(&rig, "value"), "https://172.31.0.2:6443");

    // A container of the same engine, which is on another network.
    let mut rig = Rig::new(Settings { management: Management::Named("mgmt".into()), ..lab::settings() });
    rig.world(|w| place(w, "mgmt", [172, 17, 0, 9]));
    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    let host = server(&rig, "kubeconfig");
    assert_eq!(server(&rig, "value"), "https://172.17.0.2:6443");

    // Made anew it gets another address there, and the Secret follows. Until then it stays as it was.
    rig.world(|w| w.remove_container(BALANCER).unwrap());
    rig.world(|w| place(w, "other", [172, 17, 0, 2]));
    let mut told = Vec::new();
    for _ in 0..ENOUGH {
        rig.round().await;
        told.push(server(&rig, "value"));
    }
    told.dedup();
    assert!(told.ends_with(&["https://172.17.0.3:6443".to_owned()]), "{told:?}");
    assert!(told[..told.len() - 1].iter().all(|url| url == "https://172.17.0.2:6443"), "{told:?}");
    assert_eq!(server(&rig, "kubeconfig"), host);
    assert!(rig.settled());
    // Another operator process changes nothing.
    let mut rig = rig.restart();
    rig.faults.take_writes();
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(rig.faults.take_writes(), [] as [String; 0]);
}

/// The name is for clients of the Docker host; the operator and Pods connect to where they did.
#[tokio::test(start_paused = true)]
async fn a_server_name_is_in_the_kubeconfig_and_in_the_certificate() {
    const NAME: &str = "dev.example.test";
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    let (host, value) = (server(&rig, "kubeconfig"), server(&rig, "value"));
    let named = host.replace("127.0.0.1", NAME);

    put(&rig, "dev", json!({}), json!({"api": {"serverName": NAME}}));
    rig.settle(ENOUGH).await;
    assert_eq!((server(&rig, "kubeconfig"), server(&rig, "value")), (named.clone(), value));
    assert_eq!(object(&rig).unwrap()["status"]["endpoint"], named);
    let san = format!("--tls-san={NAME}");
    let sans = |w: &mut World| {
        let command = w.container("k3d-dev-server-0").unwrap().command.clone();
        command.iter().filter(|arg| **arg == san).count()
    };
    assert_eq!(rig.world(sans), 1);

    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    assert_eq!((server(&rig, "kubeconfig"), rig.world(sans)), (host, 0));
}

/// What is missing for new nodes keeps none from being started again.
#[tokio::test(start_paused = true)]
async fn a_repair_does_not_wait_for_a_missing_registry() {
    for act in [
        Outside::Kill("k3d-dev-server-0".into()),
        Outside::Kill("k3d-dev-agent-0".into()),
        Outside::Kill("k3d-dev-serverlb".into()),
        Outside::Remove("k3d-dev-serverlb".into()),
    ] {
        let mut rig = Rig::new(lab::settings());
        put(&rig, "dev", json!({}), json!({"agents": {"count": 1}}));
        rig.settle(ENOUGH).await;
        put(
            &rig,
            "dev",
            json!({}),
            json!({"agents": {"count": 1}, "registries": {"use": [{"name": "missing"}]}}),
        );
        rig.round().await;
        assert!(rig.world(|w| w.interfere(&act)));
        for _ in 0..ENOUGH {
            rig.round().await;
        }
        let up = rig.world(|w| w.containers.values().filter(|c| c.is_up()).count());
        assert_eq!(up, 3, "{act:?}: {}", message(&rig, "Ready"));
    }
}
