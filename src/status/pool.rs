//! Status of a LocalClusterPool, and of a LocalClusterClaim.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use super::Moment;
use crate::{
    api::{
        CLAIM_LABEL, LocalCluster, LocalClusterClaim, LocalClusterClaimStatus, LocalClusterPool,
        LocalClusterPoolStatus, POOL_LABEL,
        condition::{self, ConditionType, Status},
        reason::{Class, Reason},
    },
    plan::pool::{claims, decide::Counts},
};

/// Returns the status of a pool. `refused` is why the API server does not admit its clusters, if it does not.
pub fn cluster_pool(
    pool: &LocalClusterPool,
    counts: &Counts,
    refused: Option<&str>,
    moment: Moment,
) -> LocalClusterPoolStatus {
    let mut next = pool.status.clone().unwrap_or_default();
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    (next.replicas, next.ready_replicas) = (number(counts.free), number(counts.ready));
    next.updated_replicas = number(counts.current);
    (next.claimed, next.waiting) = (number(counts.claimed), number(counts.waiting));
    next.observed_generation = Some(moment.generation);
    next.selector = Some(format!("{POOL_LABEL}={},!{CLAIM_LABEL}", pool.name_any()));
    let wanted = pool.spec.replicas;
    let full = [next.replicas, next.ready_replicas, next.updated_replicas].iter().all(|n| *n == wanted);
    let rest = (counts.starting.as_ref()).map_or_else(String::new, |(name, why)| {
        let why = if why.is_empty() { "it is new" } else { why };
        format!("; {name} is not: {why}")
    });
    let (reason, message) = match (&counts.stalled, refused) {
        _ if full => (Reason::Ready, String::new()),
        (_, Some(why)) => (
            Reason::ClusterRefused,
            format!(
                "the API server refuses a cluster of this pool: {why}; correct spec.template, or ask whoever set the rule"
            ),
        ),
        (Some((name, why)), None) => (
            Reason::ClusterStalled,
            format!(
                "the cluster {name} of this pool needs you: {why}; correct spec.template, or delete the LocalCluster {name} to have it made again"
            ),
        ),
        (None, None) => (Reason::Filling, format!("{} of {wanted} clusters are ready{rest}", counts.ready)),
    };
    sum_up(&mut next.conditions, reason, &message, moment);
    next.reason = Some(reason.to_string());
    next
}

/// What is told of a claim.
pub enum ClaimView<'a> {
    /// It has this cluster.
    Has(&'a LocalCluster),
    /// It is about to take this cluster.
    Takes(&'a LocalCluster),
    /// It waits for a cluster of its pool, of which this is known if there is one.
    Waits(Option<(&'a LocalClusterPool, &'a Counts)>),
    /// The API server does not admit what it asks of its cluster.
    Refused(&'a str),
    /// Its cluster is gone.
    Lost,
}

/// Returns the status of a claim.
pub fn cluster_claim(
    claim: &LocalClusterClaim,
    view: &ClaimView<'_>,
    moment: Moment,
) -> LocalClusterClaimStatus {
    let previous = claim.status.clone().unwrap_or_default();
    let mut next = LocalClusterClaimStatus {
        observed_generation: Some(moment.generation),
        conditions: previous.conditions.clone(),
        ..LocalClusterClaimStatus::default()
    };
    if let ClaimView::Has(cluster) | ClaimView::Takes(cluster) = view {
        (next.cluster_name, next.cluster_uid) = (Some(cluster.name_any()), cluster.uid());
    }
    let (bound, ready, message) = match view {
        ClaimView::Has(cluster) => {
            has(&mut next, cluster, previous.bound_at, moment);
            let (ready, message) = readiness(cluster);
            (Reason::Bound, ready, message)
        }
        ClaimView::Takes(cluster) => {
            let message = format!("the claim takes the cluster {}", cluster.name_any());
            (Reason::Binding, Reason::Binding, message)
        }
        ClaimView::Waits(pool) => {
            let (reason, message) = waits(claim, *pool);
            (reason, reason, message)
        }
        ClaimView::Refused(why) => {
            let message = format!(
                "the API server refuses what the claim asks of its cluster: {why}; create another claim without it"
            );
            (Reason::ClaimRefused, Reason::ClaimRefused, message)
        }
        ClaimView::Lost => {
            (next.cluster_name, next.cluster_uid) = (previous.cluster_name, previous.cluster_uid);
            next.bound_at = previous.bound_at;
            let name = next.cluster_name.as_deref().unwrap_or_default();
            let message = format!(
                "the cluster {name} is deleted, and a claim takes no second one; create another LocalClusterClaim"
            );
            // It was bound, and stays so.
            (Reason::Bound, Reason::ClusterGone, message)
        }
    };
    let why = if bound == Reason::Bound { "" } else { &message };
    condition::set(&mut next.conditions, ConditionType::Bound, (bound == Reason::Bound, bound, why), moment);
    sum_up(&mut next.conditions, ready, &message, moment);
    next.reason = Some(ready.to_string());
    next.expires_at =
        claims::end(&LocalClusterClaim { status: Some(next.clone()), ..claim.clone() }).map(Time);
    next
}

/// Sets what the status of a claim says about its cluster.
fn has(next: &mut LocalClusterClaimStatus, cluster: &LocalCluster, bound_at: Option<Time>, moment: Moment) {
    // Whole seconds, as in the API.
    let now = jiff::Timestamp::from_second(moment.now.as_second()).unwrap_or(moment.now);
    next.bound_at = bound_at.or(Some(Time(now)));
    let status = cluster.status.clone().unwrap_or_default();
    next.endpoint = status.endpoint;
    next.kubeconfig_secret = status.kubeconfig_secret;
    next.version = status.version;
    next.ports = status.ports;
}

/// Returns the reason and the message of `Ready` for a claim that has this cluster.
fn readiness(cluster: &LocalCluster) -> (Reason, String) {
    let name = cluster.name_any();
    if cluster.metadata.deletion_timestamp.is_some() {
        return (Reason::Deleting, format!("the cluster {name} is being deleted"));
    }
    let unknown = Vec::new();
    let status = cluster.status.as_ref();
    let conditions = status.map_or(&unknown, |status| &status.conditions);
    let observed = status.and_then(|status| status.observed_generation).unwrap_or(-1);
    if observed < cluster.metadata.generation.unwrap_or_default() {
        return (Reason::Progressing, format!("the operator follows the spec of the cluster {name}"));
    }
    let Some(ready) = condition::get(conditions, ConditionType::Ready) else {
        let message = format!("the cluster {name} is stopped; set its spec.state to Running to start it");
        return (Reason::Stopped, message);
    };
    let reason = Reason::parse(&ready.reason).unwrap_or(Reason::Pending);
    if ready.status == Status::True {
        return (Reason::Ready, String::new());
    }
    // What is Ready is told by the reason here.
    let reason = if reason == Reason::Ready { Reason::Pending } else { reason };
    (reason, format!("the cluster {name}: {}", ready.message))
}

fn waits(claim: &LocalClusterClaim, pool: Option<(&LocalClusterPool, &Counts)>) -> (Reason, String) {
    let name = &claim.spec.pool_name;
    let Some((pool, counts)) = pool else {
        let message = format!(
            "there is no LocalClusterPool {name} in this namespace; create it, or create a claim with another poolName"
        );
        return (Reason::PoolNotFound, message);
    };
    let message = match (pool.spec.replicas, counts.free - counts.ready) {
        (0, _) => format!("the pool {name} keeps no clusters: its spec.replicas is 0; scale it up"),
        (_, starting) => format!(
            "no cluster of the pool {name} is ready, {starting} start; whoever claimed first gets the next one"
        ),
    };
    (Reason::WaitingForCluster, message)
}

/// Sets `Ready`, `Reconciling` and `Stalled` by the reason of `Ready`.
fn sum_up(conditions: &mut Vec<Condition>, reason: Reason, message: &str, moment: Moment) {
    let ready = reason == Reason::Ready;
    let stalled = reason.class() == Class::NeedsUser;
    // One that is stopped or paused is so because somebody wants it.
    let works = !ready && !stalled && reason.class() != Class::Neutral;
    let unless = |set: bool, reason: Reason, otherwise: Reason| if set { reason } else { otherwise };
    let told = |set: bool| if set { message } else { "" };
    for (type_, status, reason) in [
        (ConditionType::Ready, ready, reason),
        (ConditionType::Reconciling, works, unless(works, Reason::Progressing, Reason::Settled)),
        (ConditionType::Stalled, stalled, unless(stalled, reason, Reason::NotStalled)),
    ] {
        let message = told(type_ == ConditionType::Ready || status);
        condition::set(conditions, type_, (status, reason, message), moment);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    const MOMENT: Moment = Moment { generation: 1, now: Timestamp::UNIX_EPOCH };

    fn claim(status: &LocalClusterClaimStatus) -> LocalClusterClaim {
        let claim = json!({"metadata": {"name": "one"}, "spec": {"poolName": "ci", "lifetime": "1h"}});
        LocalClusterClaim { status: Some(status.clone()), ..serde_json::from_value(claim).unwrap() }
    }

    fn cluster(status: Value) -> LocalCluster {
        let metadata = json!({"name": "ci-x", "uid": "u", "generation": 3});
        serde_json::from_value(json!({"metadata": metadata, "spec": {}, "status": status})).unwrap()
    }

    fn ready(status: &str, reason: &str) -> Value {
        json!([{"type": "Ready", "status": status, "reason": reason, "message": "why",
            "lastTransitionTime": "2026-11-25T00:00:00Z"}])
    }

    fn told(conditions: &[Condition], type_: ConditionType) -> (String, String) {
        let found = condition::get(conditions, type_).unwrap();
        (found.status.clone(), found.reason.clone())
    }

    fn is(status: &str, reason: &str) -> (String, String) {
        (status.into(), reason.into())
    }

    #[test]
    fn a_claim_is_ready_when_its_cluster_is() {
        let new = LocalClusterClaimStatus::default();
        let of = |cluster: &LocalCluster| cluster_claim(&claim(&new), &ClaimView::Has(cluster), MOMENT);
        let works = of(&cluster(json!({
            "observedGeneration": 3, "conditions": ready("True", "Ready"), "endpoint": "https://127.0.0.1:1",
            "kubeconfigSecret": "ci-x-kubeconfig", "version": "v1",
        })));
        let conditions = &works.conditions;
        assert_eq!(told(conditions, ConditionType::Ready), is("True", "Ready"));
        assert_eq!(told(conditions, ConditionType::Bound), is("True", "Bound"));
        assert_eq!(told(conditions, ConditionType::Reconciling), is("False", "Settled"));
        assert_eq!(works.endpoint.as_deref(), Some("https://127.0.0.1:1"));
        assert_eq!(works.kubeconfig_secret.as_deref(), Some("ci-x-kubeconfig"));
        assert_eq!(works.expires_at, Some(Time(Timestamp::from_second(3600).unwrap())));
        // Its spec was changed by the claim, and the status is of before.
        let behind = of(&cluster(json!({"observedGeneration": 2, "conditions": ready("True", "Ready")})));
        assert_eq!(told(&behind.conditions, ConditionType::Ready), is("False", "Progressing"));
        assert_eq!(told(&behind.conditions, ConditionType::Reconciling), is("True", "Progressing"));
        let broken = of(&cluster(json!({"observedGeneration": 3, "conditions": ready("False", "DataLost")})));
        assert_eq!(told(&broken.conditions, ConditionType::Ready), is("False", "DataLost"));
        assert_eq!(told(&broken.conditions, ConditionType::Stalled), is("True", "DataLost"));
        let paused = of(&cluster(json!({"observedGeneration": 3, "conditions": ready("Unknown", "Paused")})));
        assert_eq!(told(&paused.conditions, ConditionType::Ready), is("False", "Paused"));
        assert_eq!(told(&paused.conditions, ConditionType::Reconciling), is("False", "Settled"));
        let stopped = of(&cluster(json!({"observedGeneration": 3})));
        assert_eq!(told(&stopped.conditions, ConditionType::Ready), is("False", "Stopped"));
    }

    #[test]
    fn a_claim_keeps_what_it_knew_of_a_cluster_that_is_gone() {
        let has = cluster_claim(
            &claim(&LocalClusterClaimStatus::default()),
            &ClaimView::Has(&cluster(json!({}))),
            MOMENT,
        );
        let later = Moment { now: Timestamp::from_second(60).unwrap(), ..MOMENT };
        let gone = cluster_claim(&claim(&has), &ClaimView::Lost, later);
        assert_eq!(told(&gone.conditions, ConditionType::Bound), is("True", "Bound"));
        assert_eq!(told(&gone.conditions, ConditionType::Stalled), is("True", "ClusterGone"));
        assert_eq!((&gone.cluster_uid, &gone.bound_at), (&has.cluster_uid, &has.bound_at));
        assert_eq!(gone.expires_at, has.expires_at);
        assert_eq!(gone.endpoint, None);
    }

    #[test]
    fn a_claim_says_what_it_waits_for() {
        let new = LocalClusterClaimStatus::default();
        let mut pool = LocalClusterPool::new("ci", Default::default());
        let counts = Counts { free: 3, ready: 0, ..Counts::default() };
        let of = |view: &ClaimView<'_>| {
            let told = cluster_claim(&claim(&new), view, MOMENT);
            let ready = condition::get(&told.conditions, ConditionType::Ready).unwrap();
            assert_eq!(told.bound_at, None);
            (told.reason.clone().unwrap(), ready.message.clone())
        };
        let (reason, message) = of(&ClaimView::Waits(Some((&pool, &counts))));
        assert!(reason == "WaitingForCluster" && message.contains("3 start"), "{message}");
        pool.spec.replicas = 0;
        assert!(of(&ClaimView::Waits(Some((&pool, &counts)))).1.contains("scale it up"));
        assert_eq!(of(&ClaimView::Waits(None)).0, "PoolNotFound");
        let (reason, message) = of(&ClaimView::Refused("not allowed"));
        assert!(reason == "ClaimRefused" && message.contains("not allowed"), "{message}");
        assert_eq!(of(&ClaimView::Takes(&cluster(json!({})))).0, "Binding");
    }

    #[test]
    fn a_pool_is_ready_when_all_clusters_are_and_are_current() {
        let pool = LocalClusterPool::new("ci", serde_json::from_value(json!({"replicas": 2})).unwrap());
        let of = |free, ready, current| {
            let starting = (ready < free).then(|| ("ci-x".to_owned(), "Queued: later".to_owned()));
            let counts = Counts { free, ready, current, starting, ..Counts::default() };
            cluster_pool(&pool, &counts, None, MOMENT)
        };
        let full = of(2, 2, 2);
        assert_eq!(told(&full.conditions, ConditionType::Ready), is("True", "Ready"));
        assert_eq!(full.selector.as_deref(), Some("localcluster.dev/pool=ci,!localcluster.dev/claim"));
        for (free, ready, current) in [(1, 1, 1), (2, 1, 2), (2, 2, 1), (3, 3, 3)] {
            let next = of(free, ready, current);
            assert_eq!(told(&next.conditions, ConditionType::Ready), is("False", "Filling"));
            assert_eq!(told(&next.conditions, ConditionType::Reconciling), is("True", "Progressing"));
        }
        let starts = of(2, 1, 2);
        let ready = condition::get(&starts.conditions, ConditionType::Ready).unwrap();
        assert_eq!(ready.message, "1 of 2 clusters are ready; ci-x is not: Queued: later");
        let counts = Counts { free: 1, stalled: Some(("ci-x".into(), "no".into())), ..Counts::default() };
        let next = cluster_pool(&pool, &counts, None, MOMENT);
        assert_eq!(told(&next.conditions, ConditionType::Stalled), is("True", "ClusterStalled"));
        let next = cluster_pool(&pool, &counts, Some("denied"), MOMENT);
        assert_eq!(told(&next.conditions, ConditionType::Stalled), is("True", "ClusterRefused"));
    }
}
