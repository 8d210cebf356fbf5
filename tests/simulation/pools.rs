//! Pools and claims: what users do with them, and that no cluster is given twice.

use std::collections::{BTreeMap, BTreeSet};

use localcluster_operator::api::{CLAIM_LABEL, HOLD_ANNOTATION, POOL_LABEL};
use serde_json::{Value, json};

use super::{
    op::{Op, byte, whole},
    specs::path,
};
use crate::support::{
    fakes::{api::FakeApi, rig::condition},
    model::lab::Chance,
};

/// Namespaces of the pools.
const POOLS: [&str; 2] = ["default", "team"];
/// Claims of each namespace.
const CLAIMS: u8 = 3;

fn pool(number: u8) -> String {
    path("localclusterpools", POOLS[usize::from(number) % POOLS.len()], "ci")
}

fn claim(number: u8) -> (String, &'static str, String) {
    let namespace = POOLS[usize::from(number / CLAIMS) % POOLS.len()];
    let name = format!("job-{}", number % CLAIMS);
    (path("localclusterclaims", namespace, &name), namespace, name)
}

/// Reports whether an operation is about pools.
pub fn concerns(op: &Op) -> bool {
    match op {
        Op::Meanwhile(_, op) => concerns(op),
        op => matches!(op, Op::Pool(..) | Op::PoolGone(_) | Op::Claim(..) | Op::ClaimGone(_) | Op::Member(_)),
    }
}

/// Returns a life in which pools and claims come and go among all else.
pub fn among(ops: Vec<Op>, chance: &mut Chance) -> Vec<Op> {
    let mut all = vec![Op::Pool(byte(chance, 2), whole(chance)), Op::Ticks(1 + byte(chance, 8))];
    for op in ops {
        if chance.below(3) > 0 {
            let next = any(chance);
            let at_once = matches!(next, Op::Lag(..)) || chance.below(2) == 0;
            all.push(if at_once { next } else { Op::Meanwhile(byte(chance, 30), Box::new(next)) });
        }
        all.push(op);
    }
    all
}

fn any(chance: &mut Chance) -> Op {
    match chance.below(12) {
        0..=1 => Op::Pool(byte(chance, 2), whole(chance)),
        2 => Op::PoolGone(byte(chance, 2)),
        3..=7 => Op::Claim(byte(chance, 6), whole(chance)),
        8 => Op::ClaimGone(byte(chance, 6)),
        9 => Op::Member(byte(chance, 8)),
        _ => Op::Lag([0, 4, 5][chance.below(3)], chance.below(2) == 0),
    }
}

/// Applies the pool with this number, with the spec of a pick.
pub fn put(api: &FakeApi, number: u8, pick: u64) {
    let mut chance = Chance(pick);
    chance.below(2);
    let mut template = json!({"agents": {"count": chance.below(2)}, "onDataLoss": "Recreate"});
    let mut spec = json!({"replicas": chance.below(3)});
    let mut maybe = |one_of: usize| chance.below(one_of) == 0;
    if maybe(3) {
        template["ports"] = json!([{"name": "auto", "port": 443}]);
    }
    if maybe(4) {
        spec["standby"] = json!("Stopped");
    }
    if maybe(4) {
        spec["maxAge"] = json!("15m");
    }
    spec["template"] = json!({"spec": template});
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalClusterPool", "metadata": {"name": "ci"}, "spec": spec,
    });
    api.put(&pool(number), object);
}

/// Creates the claim with this number, which does not change while it exists.
pub fn ask(api: &FakeApi, number: u8, pick: u64) {
    let (at, _, name) = claim(number);
    if api.get(&at).is_some() {
        return;
    }
    let mut chance = Chance(pick);
    chance.below(2);
    let mut spec = json!({"poolName": "ci"});
    if chance.below(3) == 0 {
        spec["ports"] = json!([{"name": "web", "port": 80}]);
    }
    if chance.below(4) == 0 {
        spec["lifetime"] = json!("15m");
    }
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalClusterClaim", "metadata": {"name": name}, "spec": spec,
    });
    api.put(&at, object);
}

/// Deletes the pool with this number.
pub fn end(api: &FakeApi, number: u8) {
    api.delete(&pool(number));
}

/// Deletes the claim with this number.
pub fn give_up(api: &FakeApi, number: u8) {
    api.delete(&claim(number).0);
}

/// Has nothing end by itself any more.
pub fn calm(api: &FakeApi) {
    for (at, pool) in api.stored("localclusterpools") {
        let mut pool = (*pool).clone();
        pool["spec"].as_object_mut().unwrap().remove("maxAge");
        api.put(&at, pool);
    }
    for (at, claim) in api.stored("localclusterclaims") {
        let mut claim = (*claim).clone();
        claim["metadata"]["annotations"] = json!({HOLD_ANNOTATION: "true"});
        api.store(&at, claim);
    }
}

/// What Kubernetes' garbage collector does: a cluster goes whose pool or claim was gone when it was made or taken.
pub fn collect(api: &FakeApi) {
    let owners: BTreeSet<String> = ["localclusterpools", "localclusterclaims"]
        .iter()
        .flat_map(|kind| api.all(kind))
        .map(|o| uid(&o))
        .collect();
    for (at, cluster) in api.stored("localclusters") {
        let owner = cluster["metadata"]["ownerReferences"][0]["uid"].as_str();
        let deleted = !cluster["metadata"]["deletionTimestamp"].is_null();
        if owner.is_some_and(|owner| !deleted && !owners.contains(owner)) {
            api.delete(&at);
        }
    }
}

/// Deletes all pools and claims.
pub fn delete_all(api: &FakeApi) {
    for kind in ["localclusterclaims", "localclusterpools"] {
        api.stored(kind).keys().for_each(|at| api.delete(at));
    }
}

/// Reports whether there are neither pools nor claims.
pub fn is_empty(api: &FakeApi) -> bool {
    ["localclusterclaims", "localclusterpools"].iter().all(|kind| api.stored(kind).is_empty())
}

/// Who has had which cluster, by UIDs.
#[derive(Default)]
pub struct Ledger {
    /// The claim that a cluster was given to.
    given: BTreeMap<String, String>,
    /// The cluster that a claim was told to have.
    told: BTreeMap<String, String>,
    /// Clusters that users deleted.
    deleted: BTreeSet<String>,
    /// What was there at the last look.
    mark: (u64, usize),
}

impl Ledger {
    /// A user deletes one of the clusters that pools made.
    pub fn delete(&mut self, api: &FakeApi, number: u8) {
        let made = |cluster: &Value| !cluster["metadata"]["labels"][POOL_LABEL].is_null();
        let mut all = api.stored("localclusters");
        all.retain(|_, cluster| made(cluster));
        let Some((at, cluster)) = all.iter().nth(usize::from(number) % all.len().max(1)) else { return };
        self.deleted.insert(uid(cluster));
        api.delete(at);
    }

    /// Returns what must not be.
    pub fn look(&mut self, api: &FakeApi) -> Vec<String> {
        let mark = api.mark();
        if std::mem::replace(&mut self.mark, mark) == mark {
            return Vec::new();
        }
        let mut sins = Vec::new();
        let claims: BTreeMap<String, Value> =
            api.all("localclusterclaims").into_iter().map(|claim| (uid(&claim), claim)).collect();
        for cluster in api.all("localclusters") {
            self.of_cluster(&cluster, &claims, &mut sins);
        }
        for (claim, object) in &claims {
            let Some(cluster) = bound(object) else { continue };
            let before = self.told.insert(claim.clone(), cluster.clone());
            if before.is_some_and(|before| before != cluster) {
                sins.push(format!("the claim {claim} was told to have another cluster than {cluster}"));
            }
            if self.given.get(&cluster) != Some(claim) {
                sins.push(format!("the claim {claim} was told to have {cluster}, which it has not"));
            }
        }
        sins
    }

    fn of_cluster(&mut self, cluster: &Value, claims: &BTreeMap<String, Value>, sins: &mut Vec<String>) {
        let (own, owner) = (uid(cluster), &cluster["metadata"]["ownerReferences"][0]);
        let holder = owner["uid"].as_str().unwrap_or_default();
        match owner["kind"].as_str() {
            Some("LocalClusterPool") if self.given.contains_key(&own) => {
                sins.push(format!("{own} was a claim's and is in a pool"));
            }
            Some("LocalClusterClaim") => {
                let before = self.given.insert(own.clone(), holder.to_owned());
                if before.is_some_and(|before| before != holder) {
                    sins.push(format!("{own} is given twice"));
                }
                if cluster["metadata"]["labels"][CLAIM_LABEL].is_null() {
                    sins.push(format!("{own} has no label of its claim"));
                }
                let has = claims.get(holder).and_then(bound);
                let deleted = !cluster["metadata"]["deletionTimestamp"].is_null();
                if deleted && has.as_ref() == Some(&own) && !self.deleted.contains(&own) {
                    sins.push(format!("{own} is deleted, which the claim {holder} has"));
                }
            }
            _ => {}
        }
    }
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Returns the UID of the cluster that a claim was told to have.
fn bound(claim: &Value) -> Option<String> {
    let is_bound = condition(claim, "Bound").0 == "True";
    claim["status"]["clusterUID"].as_str().filter(|_| is_bound).map(str::to_owned)
}

/// Returns a pool that is not full, or a claim without its cluster, if neither waits for its user.
pub fn unsettled(api: &FakeApi) -> Option<String> {
    let living = |object: &Value| object["metadata"]["deletionTimestamp"].is_null();
    let clusters: Vec<Value> = api.all("localclusters").into_iter().filter(living).collect();
    let held_by = |object: &Value| -> Vec<&Value> {
        let held = |c: &&Value| c["metadata"]["ownerReferences"][0]["uid"] == object["metadata"]["uid"];
        clusters.iter().filter(held).collect()
    };
    let pools = api.all("localclusterpools");
    let waits = |pool: &Value| pool["spec"]["replicas"] == 0 || condition(pool, "Stalled").0 == "True";
    for pool in pools.iter().filter(|pool| condition(pool, "Stalled").0 != "True") {
        let (status, free) = (&pool["status"], held_by(pool).len());
        let full = condition(pool, "Ready").0 == "True"
            && status["observedGeneration"] == pool["metadata"]["generation"]
            && pool["spec"]["replicas"] == free
            && [&status["replicas"], &status["readyReplicas"]].iter().all(|number| **number == free);
        if !full {
            return Some(format!("the pool has {free} of {}: {status}", pool["spec"]["replicas"]));
        }
    }
    for claim in api.all("localclusterclaims") {
        let (held, ready) = (held_by(&claim), condition(&claim, "Ready"));
        let namespace = &claim["metadata"]["namespace"];
        let Some(own) = bound(&claim) else {
            let pool = pools.iter().find(|pool| pool["metadata"]["namespace"] == *namespace);
            if !held.is_empty() || pool.is_some_and(|pool| !waits(pool)) {
                return Some(format!("the claim has no cluster: {ready:?}"));
            }
            continue;
        };
        let told = match &held[..] {
            [] => ready.1 == "ClusterGone",
            [cluster] => uid(cluster) == own && condition(cluster, "Ready").0 == ready.0,
            _ => false,
        };
        if !told {
            return Some(format!("the claim says {ready:?} with {} clusters", held.len()));
        }
    }
    None
}

#[test]
fn a_cluster_that_is_given_twice_or_goes_back_is_found() {
    let api = FakeApi::new(Default::default(), Default::default());
    let owned = |kind: &str, owner: &str| {
        let owner = json!({"kind": kind, "uid": owner});
        json!({"metadata": {"uid": "x", "labels": {CLAIM_LABEL: "one"}, "ownerReferences": [owner]}})
    };
    let told = |cluster: &str| {
        let conditions = json!([{"type": "Bound", "status": "True"}]);
        json!({"metadata": {"uid": "a"}, "status": {"clusterUID": cluster, "conditions": conditions}})
    };
    let (cluster, claim) = (path("localclusters", "team", "ci-x"), path("localclusterclaims", "team", "job"));
    let given = owned("LocalClusterClaim", "a");
    let mut deleted = given.clone();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for (object, has, sin) in [
        (given.clone(), "x", None),
        (owned("LocalClusterClaim", "b"), "x", Some("given twice")),
        (owned("LocalClusterPool", "p"), "x", Some("is in a pool")),
        (deleted, "x", Some("is deleted")),
        (given.clone(), "y", Some("another cluster")),
    ] {
        let mut ledger = Ledger::default();
        for (object, has) in [(owned("LocalClusterPool", "p"), None), (given.clone(), Some("x"))] {
            api.store(&cluster, object);
            has.map_or_else(|| api.remove(&claim), |has| api.store(&claim, told(has)));
            assert_eq!(ledger.look(&api), [""; 0]);
        }
        api.store(&cluster, object);
        api.store(&claim, told(has));
        let found = ledger.look(&api).join("; ");
        assert_eq!(found.is_empty(), sin.is_none(), "{found}");
        assert!(sin.is_none_or(|sin| found.contains(sin)), "{found}");
    }
}
