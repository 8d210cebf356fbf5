//! `images.proveAccess`: an image of the Docker host counts once its registry has shown it to the namespace, and nothing
//! that runs depends on that.

use std::{sync::atomic::Ordering, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::*;
use support::fakes::{
    api::secret,
    faults::{Fault, Side},
    rig::message,
};

/// A node image that others have brought to the host.
const PRIVATE: &str = "registry.corp/k3s:v1.36.2-k3s1";

fn prove() -> Value {
    team(json!({"images": {"proveAccess": true}}))
}

fn rig(images: &[&str]) -> Rig {
    let rig = strict();
    policy(&rig, "teams", prove());
    rig.world(|w| {
        w.images.extend(images.iter().map(|image| (*image).to_owned()));
        w.private.insert("registry.corp/k3s".into());
    });
    rig
}

/// How often a registry was asked.
fn asked(rig: &Rig) -> usize {
    rig.faults.calls(Side::Docker).iter().filter(|(call, _)| call == "check access").count()
}

fn login(rig: &Rig, password: &str) {
    let login = json!({"auths": {"registry.corp": {"username": "u", "password": password}}}).to_string();
    let data = json!({".dockerconfigjson": BASE64_STANDARD.encode(&login)});
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"},
        "type": "kubernetes.io/dockerconfigjson", "data": data,
    });
    rig.api.put(&secret("pull"), object);
}

async fn rounds(rig: &mut Rig, n: usize) {
    for _ in 0..n {
        rig.round().await;
    }
}

fn nodes(rig: &Rig) -> usize {
    rig.world(|w| {
        w.containers.values().filter(|c| c.name.contains("-server-") || c.name.contains("-agent-")).count()
    })
}

#[tokio::test(start_paused = true)]
async fn an_image_of_others_is_used_with_credentials_that_its_registry_accepts() {
    let mut rig = rig(&[PRIVATE]);
    put(&rig, "dev", json!({"image": PRIVATE}));
    rounds(&mut rig, 4).await;
    assert_eq!(nodes(&rig), 0);
    assert_eq!(told(&rig, "dev", "Stalled"), is("True", "ImageAccessNotProven"));
    let why = message(&rig, "ControlPlaneReady");
    assert!(why.contains("unauthorized") && why.contains("spec.imagePullSecret"), "{why}");
    // A Secret that is missing, and one that the registry rejects.
    put(&rig, "dev", json!({"image": PRIVATE, "imagePullSecret": {"name": "pull"}}));
    rounds(&mut rig, 3).await;
    assert_eq!(told(&rig, "dev", "ResolvedRefs"), is("False", "SecretNotFound"));
    login(&rig, "wrong");
    rounds(&mut rig, 4).await;
    assert_eq!((nodes(&rig), told(&rig, "dev", "Stalled")), (0, is("True", "ImageAccessNotProven")));
    // Other credentials are tried at once.
    login(&rig, "right");
    let before = asked(&rig);
    rig.reconcile().await;
    assert_eq!(asked(&rig), before + 1);
    rig.settle(ENOUGH).await;
    let written = rig.api.all("events").into_iter().chain(rig.api.all("localclusters"));
    assert!(written.into_iter().all(|object| !object.to_string().contains("right")), "a password is written");
}

#[tokio::test(start_paused = true)]
async fn one_proof_counts_for_a_while_and_is_not_asked_for_without_need() {
    let mut rig = rig(&[PRIVATE]);
    login(&rig, "right");
    put(&rig, "dev", json!({"image": PRIVATE, "imagePullSecret": {"name": "pull"}, "agents": {"count": 2}}));
    rig.settle(ENOUGH).await;
    assert_eq!(asked(&rig), 1);
    // Another object of the namespace, without credentials of its own.
    put(&rig, "other", json!({"image": PRIVATE}));
    rig.settle(ENOUGH).await;
    assert_eq!(asked(&rig), 1);
    tokio::time::advance(Duration::from_secs(2 * 3600)).await;
    rounds(&mut rig, 3).await;
    assert_eq!(asked(&rig), 1, "nothing is created");
    rig.world(|w| w.interfere(&Outside::Remove("k3d-dev-agent-0".into())));
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(asked(&rig), 2);
    // Other content under this name.
    rig.world(|w| *w.rebuilt.entry(PRIVATE.into()).or_default() += 1);
    rig.world(|w| w.interfere(&Outside::Remove("k3d-dev-agent-0".into())));
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(asked(&rig), 3);
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_repaired_without_a_registry_and_what_is_replaced_waits() {
    let mut rig = strict();
    policy(&rig, "teams", team(json!({})));
    rig.world(|w| w.images.insert(PRIVATE.into()));
    put(&rig, "dev", json!({"image": PRIVATE, "agents": {"count": 2}}));
    rig.settle(ENOUGH).await;
    assert_eq!(asked(&rig), 0, "without the field everything is as before");
    policy(&rig, "teams", prove());
    rig.faults.every(Some(("check access", Fault::Timeout)));
    let before: BTreeSet<String> = rig.world(|w| w.containers.keys().cloned().collect());
    rounds(&mut rig, 3).await;
    assert_eq!((told(&rig, "dev", "Ready"), asked(&rig)), (is("True", "Ready"), 0));
    // Started again, also by another process of the operator.
    let mut rig = rig.restart();
    for node in ["server-0", "agent-0"] {
        assert!(rig.world(|w| w.interfere(&Outside::Kill(format!("k3d-dev-{node}")))));
    }
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(rig.world(|w| w.containers.keys().cloned().collect::<BTreeSet<_>>()), before);
    assert_eq!(asked(&rig), 0);
    // A new one waits, and the others run.
    rig.world(|w| w.interfere(&Outside::Remove("k3d-dev-agent-0".into())));
    rounds(&mut rig, 4).await;
    assert_eq!(told(&rig, "dev", "AgentsReady"), is("False", "ImageAccessNotProven"));
    let why = message(&rig, "AgentsReady");
    assert!(why.contains("timed out") && why.contains("retrying"), "{why}");
    assert_eq!(told(&rig, "dev", "ControlPlaneReady").0, "True");
    // An edit replaces nothing meanwhile.
    put(&rig, "dev", json!({"image": PRIVATE, "agents": {"count": 2, "args": ["--debug"]}}));
    rounds(&mut rig, 4).await;
    assert!(rig.world(|w| w.named("k3d-dev-agent-1").is_some() && w.named("k3d-dev-agent-0").is_none()));
    rig.faults.every(None);
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(nodes(&rig), 3);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_was_built_on_the_host_has_to_be_shared() {
    let mut rig = rig(&["k3s-dev:v1.36.2-k3s1"]);
    rig.world(|w| w.built.insert("k3s-dev:v1.36.2-k3s1".into()));
    put(&rig, "dev", json!({"image": "k3s-dev:v1.36.2-k3s1"}));
    rounds(&mut rig, 4).await;
    assert_eq!((nodes(&rig), told(&rig, "dev", "Stalled")), (0, is("True", "ImageAccessNotProven")));
    assert!(message(&rig, "ControlPlaneReady").contains("images.shared"));
    policy(
        &rig,
        "teams",
        team(json!({"images": {"proveAccess": true, "shared": ["docker.io/library/k3s-dev:*"]}})),
    );
    rig.settle(ENOUGH).await;
    assert_eq!(asked(&rig), 0);
}

#[tokio::test(start_paused = true)]
async fn images_are_imported_and_registries_made_of_what_the_namespace_can_read() {
    let mut rig = rig(&["registry.corp/app:1", "registry.corp/registry:3", "public/app:1"]);
    rig.world(|w| w.private.extend(["registry.corp/app", "registry.corp/registry"].map(String::from)));
    put(&rig, "dev", json!({"preloadImages": ["registry.corp/app:1", "public/app:1"]}));
    let registry = support::fakes::api::path("registries", "images");
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "images"},
        "spec": {"image": "registry.corp/registry:3"},
    });
    rig.api.put(&registry, object);
    rounds(&mut rig, 12).await;
    assert_eq!(told(&rig, "dev", "ImagesReady"), is("False", "ImageAccessNotProven"));
    let held = |rig: &Rig| {
        rig.world(|w| {
            let (id, _) = w.containers.iter().find(|(_, c)| c.name == "k3d-dev-server-0").unwrap();
            w.images_of(id).into_keys().collect::<Vec<_>>()
        })
    };
    assert_eq!(held(&rig), ["docker.io/public/app:1"]);
    assert_eq!(
        condition(&rig.api.get(&registry).unwrap(), "ContainerReady"),
        is("False", "ImageAccessNotProven")
    );
    assert!(rig.world(|w| w.containers.values().all(|c| c.image != "registry.corp/registry:3")));
    // The Secret of the object is for these too.
    login(&rig, "right");
    put(
        &rig,
        "dev",
        json!({"imagePullSecret": {"name": "pull"}, "preloadImages": ["registry.corp/app:1", "public/app:1"]}),
    );
    rig.world(|w| w.private.remove("registry.corp/registry"));
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(held(&rig), ["docker.io/public/app:1", "registry.corp/app:1"]);
}

/// Docker is away, or the image goes, between the observation and the question.
#[tokio::test(start_paused = true)]
async fn a_question_that_fails_is_asked_again() {
    for call in ["image names", "check access"] {
        for fault in [Fault::NotFound, Fault::Refused, Fault::Timeout] {
            let mut rig = rig(&[PRIVATE]);
            login(&rig, "right");
            put(&rig, "dev", json!({"image": PRIVATE, "imagePullSecret": {"name": "pull"}}));
            rig.faults.every(Some((call, fault)));
            rounds(&mut rig, 4).await;
            assert_eq!(
                (nodes(&rig), told(&rig, "dev", "Ready").0.as_str()),
                (0, "False"),
                "{call} {fault:?}"
            );
            rig.faults.every(None);
            rig.settle(ENOUGH).await;
        }
    }
    let mut rig = rig(&[PRIVATE]);
    put(&rig, "dev", json!({"image": PRIVATE}));
    rig.faults.away.store(true, Ordering::Relaxed);
    rounds(&mut rig, 2).await;
    assert_eq!(told(&rig, "dev", "DockerReachable").0, "False");
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_audits_asks_nobody() {
    let mut rig = rig(&[PRIVATE]);
    policy(&rig, "teams", team(json!({"mode": "Audit", "images": {"proveAccess": true}})));
    put(&rig, "dev", json!({"image": PRIVATE}));
    rig.settle(ENOUGH).await;
    assert_eq!(asked(&rig), 0);
}
