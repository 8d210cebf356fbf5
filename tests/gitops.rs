//! Objects in the states that GitOps tools tell apart, as the operator writes them, for their tests in `tests/gitops`
//! (`make gitops`). `UPDATE=1 cargo test --test gitops` writes them.

#[path = "gitops/pools.rs"]
mod pools;
mod support;

use std::{collections::BTreeMap, env, fs, path::Path, sync::atomic::Ordering};

use localcluster_operator::api::{
    LocalCluster, LocalClusterClaim, LocalClusterPool, Registry, condition::ConditionType,
};
use serde_json::{Value, json};
use support::{
    fakes::{
        api::path,
        rig::{Rig, condition},
    },
    model::lab,
};

const ENOUGH: usize = 40;

fn put(rig: &Rig, kind: &str, annotations: Value, spec: Value) {
    let plural = if kind == "Registry" { "registries" } else { "localclusters" };
    let metadata = json!({"name": "dev", "annotations": annotations});
    let api_version = "localcluster.dev/v1alpha1";
    let object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec});
    rig.api.put(&path(plural, "dev"), object);
}

fn get(rig: &Rig, kind: &str) -> Value {
    let plural = if kind == "Registry" { "registries" } else { "localclusters" };
    rig.api.get(&path(plural, "dev")).unwrap()
}

/// A spec that is valid, and one that needs its user.
fn specs(kind: &str) -> (Value, Value) {
    match kind {
        "Registry" => (json!({}), json!({"hostPort": 70_000})),
        _ => (json!({"agents": {"count": 1}}), json!({"agents": {"count": 1}, "version": "v1.36"})),
    }
}

/// The objects by the names of their files.
async fn states(kind: &str) -> BTreeMap<&'static str, Value> {
    let (good, bad) = specs(kind);
    let mut all = BTreeMap::new();
    let mut rig = Rig::new(lab::settings());
    put(&rig, kind, json!({}), good.clone());
    // The default of `status` in the schema, which the API server fills in.
    let mut new = get(&rig, kind);
    new["status"] = json!({"observedGeneration": -1});
    all.insert("new", new);

    rig.faults.away.store(true, Ordering::Relaxed);
    rig.round().await;
    all.insert("docker-unavailable", get(&rig, kind));
    rig.faults.away.store(false, Ordering::Relaxed);
    let settled = |rig: &Rig| condition(&get(rig, kind), "Ready").0 == "True";
    for _ in 0..ENOUGH {
        rig.round().await;
        if !settled(&rig) && condition(&get(&rig, kind), "DockerReachable").0 == "True" {
            all.entry("progressing").or_insert_with(|| get(&rig, kind));
        }
    }
    assert!(settled(&rig));
    all.insert("ready", get(&rig, kind));

    put(&rig, kind, json!({}), bad);
    all.insert("behind", get(&rig, kind));
    rig.round().await;
    all.insert("stalled", get(&rig, kind));
    put(&rig, kind, json!({"localcluster.dev/paused": "true"}), good.clone());
    rig.round().await;
    all.insert("paused", get(&rig, kind));
    let plural = if kind == "Registry" { "registries" } else { "localclusters" };
    let mut copy = rig.copy();
    copy.api.delete(&path(plural, "dev"));
    copy.round().await;
    all.insert("deleting", get(&copy, kind));

    if kind == "LocalCluster" {
        put(&rig, kind, json!({}), json!({"agents": {"count": 1}, "state": "Stopped"}));
        for _ in 0..ENOUGH {
            rig.round().await;
        }
        all.insert("stopped", get(&rig, kind));
    }
    all
}

/// Removes what only the API server knows.
fn cleaned(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().unwrap();
    for field in ["managedFields", "resourceVersion", "uid"] {
        metadata.remove(field);
    }
    if metadata.get("annotations").is_some_and(|all| *all == json!({})) {
        metadata.remove("annotations");
    }
    object
}

#[tokio::test(start_paused = true)]
async fn objects_are_in_the_states_that_gitops_tools_tell_apart() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/gitops/argocd/localcluster.dev");
    for kind in ["LocalCluster", "Registry", "LocalClusterPool", "LocalClusterClaim"] {
        let directory = root.join(kind).join("testdata");
        let states = match kind {
            "LocalClusterPool" => pools::pools(),
            "LocalClusterClaim" => pools::claims(),
            kind => states(kind).await,
        };
        for (name, object) in &states {
            // What the schema requires is there.
            let text = object.to_string();
            match kind {
                "Registry" => drop(serde_json::from_str::<Registry>(&text).unwrap()),
                "LocalClusterPool" => drop(serde_json::from_str::<LocalClusterPool>(&text).unwrap()),
                "LocalClusterClaim" => drop(serde_json::from_str::<LocalClusterClaim>(&text).unwrap()),
                _ => drop(serde_json::from_str::<LocalCluster>(&text).unwrap()),
            }
            let text = serde_saphyr::to_string(&cleaned(object.clone())).unwrap();
            let path = directory.join(format!("{name}.yaml"));
            if env::var_os("UPDATE").is_some() {
                fs::write(&path, &text).unwrap();
            }
            let golden = fs::read_to_string(&path).unwrap_or_default();
            assert!(golden == text, "{}: UPDATE=1 cargo test --test gitops", path.display());
        }
        let files = fs::read_dir(&directory).unwrap().map(|f| f.unwrap().path());
        let files: Vec<String> =
            files.map(|f| f.file_stem().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(files.len(), states.len(), "{files:?}");
        if kind.starts_with("LocalClusterP") || kind.starts_with("LocalClusterC") {
            continue;
        }
        for (name, reason) in [("stalled", "InvalidSpec"), ("ready", "Ready"), ("paused", "Paused")] {
            assert_eq!(condition(&states[name], ConditionType::Ready.as_str()).1, reason, "{kind} {name}");
        }
    }
}
