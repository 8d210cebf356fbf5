//! Pools and claims: the real controller beside the real reconciles, with a failure at each of its calls.

use std::time::Duration;

use kube::runtime::{reflector::store::Writer, watcher::Event};
use localcluster_operator::controller::{
    context::ClusterGuard,
    pools::{ClaimGuard, PoolGuard, Pools, Writers},
};
use serde::de::DeserializeOwned;

use super::*;
use crate::support::fakes::process;

/// A process of the controller, with an empty memory.
struct Desk {
    pools: Pools,
    clusters: Writer<ClusterGuard>,
    writers: Writers,
}

fn tell<K>(rig: &Rig, writer: &mut Writer<K>, plural: &str)
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + 'static,
{
    writer.apply_watcher_event(&Event::Init);
    for object in rig.api.all(plural) {
        writer.apply_watcher_event(&Event::InitApply(serde_json::from_value(object).unwrap()));
    }
    writer.apply_watcher_event(&Event::InitDone);
}

impl Desk {
    fn new(rig: &Rig) -> Self {
        let (clusters, writers) = (Writer::<ClusterGuard>::default(), Writers::default());
        let (client, metrics) = (rig.api.client(), rig.ctx.metrics.clone());
        let pools = Pools::new(client, clusters.as_reader(), &writers, metrics, process::now);
        let mut desk = Self { pools, clusters, writers };
        desk.listen(rig);
        desk
    }

    /// What the watches do.
    fn listen(&mut self, rig: &Rig) {
        tell(rig, &mut self.clusters, "localclusters");
        tell::<PoolGuard>(rig, &mut self.writers.pools, "localclusterpools");
        tell::<ClaimGuard>(rig, &mut self.writers.claims, "localclusterclaims");
    }

    async fn look(&mut self, rig: &Rig) {
        self.listen(rig);
        self.pools.round().await;
        // Events are tasks of their own.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

fn pool(rig: &Rig, spec: Value) {
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalClusterPool", "metadata": {"name": "ci"}, "spec": spec,
    });
    rig.api.put(&path("localclusterpools", "ci"), object);
}

fn claim(rig: &Rig, name: &str, more: Value) {
    let mut spec = json!({"poolName": "ci"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let metadata = json!({"name": name});
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalClusterClaim", "metadata": metadata, "spec": spec,
    });
    rig.api.put(&path("localclusterclaims", name), object);
}

fn claimed(rig: &Rig, name: &str) -> Value {
    rig.api.get(&path("localclusterclaims", name)).unwrap()
}

fn is(object: &Value, type_: &str) -> bool {
    condition(object, type_).0 == "True"
}

fn owner(cluster: &Value) -> &str {
    cluster["metadata"]["ownerReferences"][0]["kind"].as_str().unwrap_or_default()
}

fn free(rig: &Rig) -> Vec<Value> {
    rig.api.all("localclusters").into_iter().filter(|c| owner(c) == "LocalClusterPool").collect()
}

/// Rounds of both until this holds.
async fn until(rig: &mut Rig, desk: &mut Desk, what: &str, holds: impl Fn(&Rig) -> bool) {
    for _ in 0..ENOUGH {
        desk.look(rig).await;
        if holds(rig) {
            return;
        }
        rig.round().await;
    }
    panic!("not {what}: {:#?}", rig.api.all("localclusterclaims"));
}

fn is_full(rig: &Rig, number: usize) -> bool {
    let all = free(rig);
    let pool = rig.api.get(&path("localclusterpools", "ci")).unwrap();
    all.len() == number && all.iter().all(|c| is(c, "Ready")) && is(&pool, "Ready")
}

#[tokio::test(start_paused = true)]
async fn a_claim_takes_a_ready_cluster_and_the_pool_makes_another() {
    let mut rig = Rig::new(lab::settings());
    let mut desk = Desk::new(&rig);
    pool(&rig, json!({"replicas": 2, "template": {"metadata": {"labels": {"team": "a"}}}}));
    until(&mut rig, &mut desk, "full", |rig| is_full(rig, 2)).await;
    let before = free(&rig);
    assert!(before.iter().all(|c| c["metadata"]["labels"]["team"] == "a"));

    claim(&rig, "one", json!({}));
    desk.look(&rig).await;
    // One look is enough, and no container changes.
    let one = claimed(&rig, "one");
    assert!(is(&one, "Bound") && is(&one, "Ready"), "{one}");
    let name = one["status"]["clusterName"].as_str().unwrap().to_owned();
    assert!(before.iter().any(|c| c["metadata"]["name"] == name.as_str()));
    let cluster = rig.api.get(&path("localclusters", &name)).unwrap();
    assert_eq!(one["status"]["kubeconfigSecret"], cluster["status"]["kubeconfigSecret"]);
    assert!(rig.api.get(&secret(one["status"]["kubeconfigSecret"].as_str().unwrap())).is_some());
    assert_eq!(one["status"]["endpoint"], cluster["status"]["endpoint"]);
    assert_eq!(cluster["metadata"]["labels"]["localcluster.dev/claim"], "one");
    assert_eq!(cluster["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
    until(&mut rig, &mut desk, "full again", |rig| is_full(rig, 2)).await;
    assert_eq!(rig.api.all("localclusters").len(), 3);
    assert_eq!(rig.api.get(&path("localclusterpools", "ci")).unwrap()["status"]["claimed"], 1);

    // Nothing is written when all is as it is to be.
    rig.faults.take_writes();
    desk.look(&rig).await;
    let writes = rig.faults.take_writes();
    assert!(writes.is_empty(), "{writes:?}");

    // The cluster goes with its claim, and the pool stays.
    rig.api.delete(&path("localclusterclaims", "one"));
    let gone = format!("k3d-{name}-server-0");
    until(&mut rig, &mut desk, "gone", |rig| rig.world(|w| w.named(&gone).is_none())).await;
    until(&mut rig, &mut desk, "full still", |rig| is_full(rig, 2)).await;
    rig.api.delete(&path("localclusterpools", "ci"));
    for _ in 0..ENOUGH {
        desk.look(&rig).await;
        rig.round().await;
    }
    assert_eq!(rig.api.all("localclusters"), [Value::Null; 0]);
}

/// A claim with a port is Ready after one reconcile between two looks, without a wait in between, by the replacement of the
/// load balancer alone. The pool makes the next cluster after that.
#[tokio::test(start_paused = true)]
async fn a_claim_with_a_port_waits_for_its_load_balancer_alone() {
    let mut rig = Rig::new(lab::settings());
    let mut desk = Desk::new(&rig);
    pool(&rig, json!({"replicas": 1}));
    until(&mut rig, &mut desk, "full", |rig| is_full(rig, 1)).await;
    // A cluster that has been in the pool for a while.
    for _ in 0..12 {
        rig.round().await;
        desk.look(&rig).await;
    }
    claim(&rig, "one", json!({"ports": [{"name": "web", "port": 8080}]}));
    let began = tokio::time::Instant::now();
    desk.look(&rig).await;
    let one = claimed(&rig, "one");
    assert!(is(&one, "Bound") && !is(&one, "Ready"), "{one}");
    // Nobody waits for the record of the object, however long that takes.
    let name = one["status"]["clusterName"].as_str().unwrap();
    let record = format!("upload k3d-{name}-serverlb~1 etc/localcluster/object.json");
    rig.faults.hang(&[&record]);
    rig.faults.take_writes();
    let hangs = tokio::time::timeout(Duration::from_millis(100), rig.reconcile()).await;
    assert!(hangs.is_err());
    let writes = rig.faults.take_writes();
    assert_eq!(rig.api.all("localclusters").len(), 1);
    desk.look(&rig).await;
    assert!(is(&claimed(&rig, "one"), "Ready"), "{:#}", claimed(&rig, "one"));
    assert!(began.elapsed() <= Duration::from_millis(100), "{:?}", began.elapsed());
    let brief = |write: &String| {
        let words: Vec<&str> = write.split(' ').collect();
        let status = words.last().is_some_and(|path| path.ends_with("/status"));
        if status { "status".to_owned() } else { words[1].to_owned() }
    };
    let brief: Vec<String> = writes.iter().filter(|write| !write.contains(&record)).map(brief).collect();
    let wanted = ["exec", "status", "stop", "remove", "create", "upload", "start", "status"];
    assert_eq!(brief, wanted, "{writes:#?}");
    let took = "localcluster_provisioning_duration_seconds_bucket{le=\"0.25\",kind=\"LocalClusterClaim\",condition=\"Ready\"} 1";
    let metrics = rig.ctx.metrics.encode().unwrap();
    assert!(metrics.contains(took), "{metrics}");
    rig.faults.hang(&[]);
    // Now the next one is made.
    assert_eq!(rig.api.all("localclusters").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn claims_wait_in_order_and_get_the_next_that_is_ready() {
    let mut rig = Rig::new(lab::settings());
    let mut desk = Desk::new(&rig);
    claim(&rig, "first", json!({}));
    desk.look(&rig).await;
    assert_eq!(condition(&claimed(&rig, "first"), "Ready").1, "PoolNotFound");
    pool(&rig, json!({"replicas": 1}));
    rig.pass().await;
    claim(&rig, "a-second", json!({}));
    desk.look(&rig).await;
    for name in ["first", "a-second"] {
        assert_eq!(condition(&claimed(&rig, name), "Bound"), ("False".into(), "WaitingForCluster".into()));
    }
    until(&mut rig, &mut desk, "bound", |rig| is(&claimed(rig, "first"), "Bound")).await;
    assert!(!is(&claimed(&rig, "a-second"), "Bound"));
    until(&mut rig, &mut desk, "bound", |rig| is(&claimed(rig, "a-second"), "Bound")).await;
    until(&mut rig, &mut desk, "full", |rig| is_full(rig, 1)).await;
    assert_eq!(rig.api.all("localclusters").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_claim_starts_a_stopped_cluster_with_its_ports_and_ends_with_its_lifetime() {
    let mut rig = Rig::new(lab::settings());
    let mut desk = Desk::new(&rig);
    pool(
        &rig,
        json!({"standby": "Stopped", "template": {"spec": {"ports": [{"name": "http", "port": 80}]}}}),
    );
    until(&mut rig, &mut desk, "stopped", |rig| free(rig).iter().any(|c| is(c, "Stopped"))).await;
    let stopped = free(&rig);
    assert!(rig.world(|w| {
        !w.named(&format!("k3d-{}-server-0", stopped[0]["metadata"]["name"].as_str().unwrap()))
            .unwrap()
            .state
            .is_up()
    }));
    claim(&rig, "one", json!({"ports": [{"name": "web", "port": 8080}], "lifetime": "1h"}));
    desk.look(&rig).await;
    let one = claimed(&rig, "one");
    assert!(is(&one, "Bound") && !is(&one, "Ready"), "{one}");
    until(&mut rig, &mut desk, "ready", |rig| is(&claimed(rig, "one"), "Ready")).await;
    let name = claimed(&rig, "one")["status"]["clusterName"].as_str().unwrap().to_owned();
    let cluster = rig.api.get(&path("localclusters", &name)).unwrap();
    let ports = cluster["status"]["ports"].as_array().unwrap();
    assert_eq!(ports.len(), 2, "{ports:?}");
    assert_eq!(claimed(&rig, "one")["status"]["ports"], cluster["status"]["ports"]);
    // The one that is made in its place is ready, and stops.
    until(&mut rig, &mut desk, "stopped", |rig| free(rig).iter().any(|c| is(c, "Stopped"))).await;

    rig.world(|w| w.clock += 3600);
    rig.pass().await;
    desk.look(&rig).await;
    assert!(rig.api.get(&path("localclusterclaims", "one")).is_none());
    until(&mut rig, &mut desk, "gone", |rig| rig.api.get(&path("localclusters", &name)).is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_says_that_its_cluster_is_gone_and_takes_no_other() {
    let mut rig = Rig::new(lab::settings());
    let mut desk = Desk::new(&rig);
    pool(&rig, json!({}));
    until(&mut rig, &mut desk, "full", |rig| is_full(rig, 1)).await;
    claim(&rig, "one", json!({}));
    until(&mut rig, &mut desk, "bound", |rig| is(&claimed(rig, "one"), "Ready")).await;
    let name = claimed(&rig, "one")["status"]["clusterName"].as_str().unwrap().to_owned();
    rig.api.delete(&path("localclusters", &name));
    until(&mut rig, &mut desk, "gone", |rig| is(&claimed(rig, "one"), "Stalled")).await;
    assert_eq!(condition(&claimed(&rig, "one"), "Ready").1, "ClusterGone");
    until(&mut rig, &mut desk, "full", |rig| is_full(rig, 1)).await;
    assert_eq!(claimed(&rig, "one")["status"]["clusterName"], name.as_str());
}

#[tokio::test(start_paused = true)]
async fn a_changed_template_replaces_free_clusters_only() {
    let mut rig = Rig::new(lab::settings());
    let mut desk = Desk::new(&rig);
    pool(&rig, json!({"replicas": 2}));
    until(&mut rig, &mut desk, "full", |rig| is_full(rig, 2)).await;
    claim(&rig, "one", json!({}));
    until(&mut rig, &mut desk, "bound", |rig| is(&claimed(rig, "one"), "Ready")).await;
    until(&mut rig, &mut desk, "full", |rig| is_full(rig, 2)).await;
    let uid = |cluster: &Value| cluster["metadata"]["uid"].clone();
    let before: Vec<Value> = free(&rig).iter().map(uid).collect();
    pool(&rig, json!({"replicas": 2, "template": {"spec": {"agents": {"count": 1}}}}));
    let agents = |rig: &Rig| free(rig).iter().all(|c| c["spec"]["agents"]["count"] == 1);
    for _ in 0..2 * ENOUGH {
        desk.look(&rig).await;
        // One is there for a claim at any time.
        assert!(free(&rig).iter().any(|c| is(c, "Ready") && c["metadata"]["deletionTimestamp"].is_null()));
        if agents(&rig) && is_full(&rig, 2) {
            break;
        }
        rig.round().await;
    }
    assert!(is_full(&rig, 2) && agents(&rig));
    assert!(free(&rig).iter().all(|c| !before.contains(&uid(c))));
    let name = claimed(&rig, "one")["status"]["clusterName"].as_str().unwrap().to_owned();
    assert_ne!(rig.api.get(&path("localclusters", &name)).unwrap()["spec"]["agents"]["count"], 1);
    assert!(is(&claimed(&rig, "one"), "Ready"));
}

#[tokio::test(start_paused = true)]
async fn what_the_api_server_refuses_is_told_and_tried_again() {
    let mut rig = Rig::new(lab::settings());
    let mut desk = Desk::new(&rig);
    pool(&rig, json!({}));
    let collection = "POST /apis/localcluster.dev/v1alpha1/namespaces/default/localclusters";
    rig.api.refuse(collection, 403);
    desk.look(&rig).await;
    let told = |rig: &Rig| condition(&rig.api.get(&path("localclusterpools", "ci")).unwrap(), "Stalled");
    assert_eq!(told(&rig), ("True".into(), "ClusterRefused".into()));
    rig.faults.take_writes();
    desk.look(&rig).await;
    assert!(rig.faults.take_writes().iter().all(|write| !write.contains("localclusters")), "it waits");
    rig.api.heal();
    until(&mut rig, &mut desk, "full", |rig| is_full(rig, 1)).await;
    assert_eq!(told(&rig).0, "False");
}

/// Lives with a failure of the call with this number, if there are so many, after which the process is another one.
/// Returns the number of calls.
async fn live(number: Option<(usize, Fault)>) -> usize {
    let mut rig = Rig::new(lab::settings());
    let mut desk = Desk::new(&rig);
    pool(&rig, json!({"replicas": 1}));
    claim(&rig, "one", json!({"ports": [{"name": "web", "port": 8080}]}));
    let (mut calls, mut failed) = (0, false);
    for _ in 0..3 * ENOUGH {
        let begin = rig.faults.calls(Side::Kube).len();
        if let Some((number, fault)) = number.filter(|(number, _)| *number >= calls && !failed) {
            rig.faults.plan(Side::Kube, begin + number - calls, fault);
        }
        desk.look(&rig).await;
        let made = rig.faults.calls(Side::Kube).len() - begin;
        if number.is_some_and(|(number, _)| !failed && (calls..calls + made).contains(&number)) {
            failed = true;
            desk = Desk::new(&rig);
        }
        calls += made;
        rig.faults.plan(Side::Kube, usize::MAX, Fault::Refused);
        if is_full(&rig, 1) && is(&claimed(&rig, "one"), "Ready") {
            break;
        }
        rig.round().await;
    }
    let one = claimed(&rig, "one");
    assert!(is(&one, "Ready") && is_full(&rig, 1), "{number:?}: {one}");
    assert_eq!(rig.api.all("localclusters").len(), 2, "{number:?}");
    let held: Vec<Value> =
        rig.api.all("localclusters").into_iter().filter(|c| owner(c) == "LocalClusterClaim").collect();
    assert_eq!(held.len(), 1, "{number:?}");
    assert_eq!(held[0]["metadata"]["uid"], one["status"]["clusterUID"], "{number:?}");
    calls
}

#[tokio::test(start_paused = true)]
async fn whatever_call_fails_each_claim_has_one_cluster_and_the_pool_is_full() {
    let calls = live(None).await;
    assert!(calls >= 8, "{calls}");
    for fault in [Fault::Refused, Fault::Conflict, Fault::Timeout, Fault::Lost] {
        for number in 0..calls {
            live(Some((number, fault))).await;
        }
    }
}
