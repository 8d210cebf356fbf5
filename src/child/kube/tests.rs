use serde_json::{Value, json};

use super::*;
use crate::{
    child::account::{Account, Binding},
    kubernetes::{KubernetesApi, WRITTEN},
};

const NODE: &str = "/api/v1/nodes/n";
const EARLY: &str = "2026-11-25T00:00:00Z";
const LATE: &str = "2026-11-25T00:01:00Z";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A cluster with a Node `n`, a Pod `app` and a Pod of a DaemonSet on it, and a Pod elsewhere.
fn cluster() -> (KubernetesApi, KubeChild) {
    let api = KubernetesApi::default();
    api.put(NODE, json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.42.0.0/24"}}));
    let daemon =
        json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u", "controller": true}]);
    put_pod(&api, "app", "n", json!([]));
    put_pod(&api, "daemon", "n", daemon);
    put_pod(&api, "elsewhere", "m", json!([]));
    let child = KubeChild::new(api.client(), Some("secret"));
    (api, child)
}

fn put_pod(api: &KubernetesApi, name: &str, node: &str, owners: Value) {
    let metadata = json!({"name": name, "namespace": "team", "ownerReferences": owners});
    api.put(&pod_path(name), json!({"metadata": metadata, "spec": {"nodeName": node, "containers": []}}));
}

fn pod_path(name: &str) -> String {
    format!("/api/v1/namespaces/team/pods/{name}")
}

#[tokio::test]
async fn drain_marks_once_and_moves_only_what_can_move() {
    let (api, child) = cluster();
    child.drain("n", time(EARLY)).await.unwrap();

    let node = api.get(NODE).unwrap();
    assert_eq!(node["metadata"]["annotations"][DRAINING_SINCE], EARLY);
    assert_eq!(node["spec"], json!({"podCIDR": "10.42.0.0/24", "unschedulable": true}));
    assert_eq!(api.take_writes(), [format!("PATCH {NODE}"), format!("POST {}/eviction", pod_path("app"))]);

    child.drain("n", time(LATE)).await.unwrap();
    assert_eq!(api.take_writes(), [""; 0]);
}

#[tokio::test]
async fn drain_closes_a_node_that_was_opened_meanwhile_and_keeps_the_time() {
    let (api, child) = cluster();
    api.put(NODE, json!({"metadata": {"name": "n", "annotations": {DRAINING_SINCE: EARLY}}}));
    child.drain("n", time(LATE)).await.unwrap();
    let node = api.get(NODE).unwrap();
    assert_eq!(node["metadata"]["annotations"][DRAINING_SINCE], EARLY);
    assert_eq!(node["spec"]["unschedulable"], true);
}

#[tokio::test]
async fn what_a_disruption_budget_keeps_is_counted_and_asked_again() {
    let (api, child) = cluster();
    api.refuse(&format!("POST {}", pod_path("app")), 429);
    child.drain("n", time(EARLY)).await.unwrap();
    let seen = child.observe().await.unwrap();
    assert_eq!(seen.nodes["n"].pods_to_evict, 1);
    assert_eq!(seen.nodes["n"].draining_since, Some(time(EARLY)));

    api.heal();
    child.drain("n", time(LATE)).await.unwrap();
    assert_eq!(child.observe().await.unwrap().nodes["n"].pods_to_evict, 0);
}

#[tokio::test]
async fn one_eviction_that_fails_keeps_none_of_the_others() {
    let (api, child) = cluster();
    put_pod(&api, "broken", "n", json!([]));
    put_pod(&api, "zz", "n", json!([]));
    api.refuse(&format!("POST {}", pod_path("broken")), 403);
    let told = child.drain("n", time(EARLY)).await.unwrap_err();
    assert_eq!(told, Error::Api("403 injected failure 403".to_owned()));
    assert_eq!([api.get(&pod_path("app")), api.get(&pod_path("zz"))], [None, None]);
}

#[tokio::test]
async fn uncordon_takes_back_what_drain_did() {
    let (api, child) = cluster();
    child.drain("n", time(EARLY)).await.unwrap();
    child.uncordon("n").await.unwrap();
    let node = api.get(NODE).unwrap();
    assert_eq!(node["metadata"]["annotations"], json!({}));
    assert_eq!(node["spec"], json!({"podCIDR": "10.42.0.0/24"}));
}

#[tokio::test]
async fn a_cordon_of_a_person_stays() {
    let (api, child) = cluster();
    api.put(NODE, json!({"metadata": {"name": "n"}, "spec": {"unschedulable": true}}));
    child.uncordon("n").await.unwrap();
    assert_eq!(api.get(NODE).unwrap()["spec"]["unschedulable"], true);
    let seen = child.observe().await.unwrap();
    assert_eq!((seen.nodes["n"].schedulable, seen.nodes["n"].draining_since), (false, None));
}

#[tokio::test]
async fn labels_and_taints_are_given_and_taken_back() {
    let (api, child) = cluster();
    api.put(
        NODE,
        json!({
            "metadata": {"name": "n", "labels": {"theirs": "1"}},
            "spec": {"taints": [{"key": "theirs", "effect": "NoExecute"}]},
        }),
    );
    let config = NodeConfig {
        labels: BTreeMap::from([("ours".to_owned(), "1".to_owned())]),
        taints: vec!["ours=x:NoSchedule".to_owned()],
    };
    child.configure("n", &config).await.unwrap();
    let seen = child.observe().await.unwrap().nodes.remove("n").unwrap();
    assert_eq!(seen.labels.keys().collect::<Vec<_>>(), ["ours", "theirs"]);
    assert_eq!(seen.taints, ["theirs:NoExecute", "ours=x:NoSchedule"]);
    assert_eq!(seen.configured, Some(config));

    child.configure("n", &NodeConfig::default()).await.unwrap();
    let seen = child.observe().await.unwrap().nodes.remove("n").unwrap();
    assert_eq!(seen.labels.keys().collect::<Vec<_>>(), ["theirs"]);
    assert_eq!(seen.taints, ["theirs:NoExecute"]);
}

const PASSWORD: &str = "/api/v1/namespaces/kube-system/secrets/n.node-password.k3s";

/// The cluster, with the Secret that K3s makes for its Node.
fn with_password() -> (KubernetesApi, KubeChild) {
    let (api, child) = cluster();
    api.put(PASSWORD, json!({"metadata": {"name": "n.node-password.k3s"}}));
    (api, child)
}

#[tokio::test]
async fn what_is_gone_is_done() {
    let (api, child) = with_password();
    for _ in 0..2 {
        child.delete_node("n").await.unwrap();
        assert_eq!([api.get(NODE), api.get(PASSWORD)], [None, None]);
    }
    child.drain("n", time(EARLY)).await.unwrap();
    child.uncordon("n").await.unwrap();
}

#[tokio::test]
async fn a_forgotten_password_leaves_the_node() {
    let (api, child) = with_password();
    for _ in 0..2 {
        child.forget_password("n").await.unwrap();
        assert!(api.get(NODE).is_some() && api.get(PASSWORD).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_node_is_waited_for_until_k3s_lets_it_go() {
    let (api, child) = cluster();
    let finalizers =
        ["wrangler.cattle.io/managed-etcd-controller", "wrangler.cattle.io/node", "example.com/x"];
    api.put(NODE, json!({"metadata": {"name": "n", "finalizers": finalizers}}));
    put_lease(&api, "k3s", "gone", "2026-11-25T00:00:00.500000Z");
    put_lease(&api, "k3s-etcd", "m", "2026-11-25T00:00:00.000000Z");
    let alive = async {
        sleep(2 * LOOK).await;
        put_lease(&api, "k3s-etcd", "m", "2026-11-25T00:00:02.000000Z");
    };
    let (refused, ()) = tokio::join!(child.delete_node("n"), alive);
    let told = "the Node is being deleted: waiting for K3s to remove finalizer \
        wrangler.cattle.io/managed-etcd-controller: \
                m holds the Lease k3s-etcd; waiting for K3s to remove finalizer wrangler.cattle.io/node: gone holds the \
                Lease k3s but does not renew it; another server can acquire it at 2026-11-25T00:00:46Z; finalizer \
                example.com/x is not from K3s; its controller must remove it, or remove it with `kubectl edit node`";
    assert_eq!(refused, Err(Error::Waits(told.into())));

    let k3s = async {
        sleep(2 * LOOK).await;
        assert!(api.get(NODE).unwrap()["metadata"]["deletionTimestamp"].is_string());
        api.remove(NODE);
    };
    let (deleted, ()) = tokio::join!(child.delete_node("n"), k3s);
    deleted.unwrap();
    assert_eq!(api.get(NODE), None);
}

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/k3s";

fn put_lease(api: &KubernetesApi, name: &str, holder: &str, renewed: &str) {
    let spec = json!({"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 45});
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{name}");
    api.put(&path, json!({"metadata": {"name": name}, "spec": spec}));
}

#[tokio::test]
async fn a_lease_is_given_back_only_as_it_was_seen() {
    let (api, child) = cluster();
    let look = async || child.observe().await.unwrap().leases;
    assert_eq!(look().await, BTreeMap::new());
    child.release_lease("k3s", "1").await.expect("a missing Lease has no holder");

    put_lease(&api, "kube-scheduler", "s_1", EARLY);
    put_lease(&api, "k3s", "s", "2026-11-25T00:00:00.250000Z");
    let seen = look().await;
    let names: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!((names, seen["k3s"].holder.as_str()), (vec!["k3s"], "s"));
    assert_eq!(seen["k3s"].renewed, Some(time("2026-11-25T00:00:00.25Z")));

    // The holder renews it after the observation, since it was restarted.
    put_lease(&api, "k3s", "s", LATE);
    let before = api.get(LEASE);
    child.release_lease("k3s", &seen["k3s"].version).await.expect("the next look tells");
    assert_eq!(api.get(LEASE), before);

    for _ in 0..2 {
        child.release_lease("k3s", &look().await["k3s"].version).await.unwrap();
        assert_eq!(look().await["k3s"].holder, "");
    }
    let spec = &api.get(LEASE).unwrap()["spec"];
    assert_eq!((&spec["leaseDurationSeconds"], &spec["renewTime"]), (&json!(1), &json!(LATE)));

    api.refuse(&format!("PATCH {LEASE}"), 403);
    let refused = child.release_lease("k3s", "x").await;
    assert_eq!(refused, Err(Error::Api("403 injected failure 403".to_owned())));
}

#[tokio::test]
async fn pods_can_start_with_the_service_account() {
    let (api, child) = cluster();
    assert!(!child.observe().await.unwrap().pods_can_start);
    api.put("/api/v1/namespaces/default/serviceaccounts/default", json!({"metadata": {"name": "default"}}));
    assert!(child.observe().await.unwrap().pods_can_start);
}

fn dns(content: &str) -> ClusterConfigMap {
    let content = Some(content.to_owned());
    ClusterConfigMap { key: state::DNS, content, claimed: true, readers: Some("k8s-app=kube-dns") }
}

fn hosting(content: Option<&str>) -> ClusterConfigMap {
    let content = content.map(str::to_owned);
    ClusterConfigMap { key: state::REGISTRY_HOSTING, content, claimed: false, readers: None }
}

const CUSTOM: &str = "/api/v1/namespaces/kube-system/configmaps/coredns-custom";
const HOSTING: &str = "/api/v1/namespaces/kube-public/configmaps/local-registry-hosting";

/// A ConfigMap of another client.
fn theirs(key: &str, content: &str) -> Value {
    let fields = json!({"f:data": {format!("f:{key}"): {}}});
    json!({
        "metadata": {"managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsV1": fields}]},
        "data": {key: content},
    })
}

#[tokio::test]
async fn a_key_is_ours_and_the_others_stay() {
    let (api, child) = cluster();
    api.put(CUSTOM, theirs("theirs.server", "x"));
    child.set_config(&dns("one")).await.unwrap();
    child.set_config(&dns("two")).await.unwrap();
    assert_eq!(
        api.get(CUSTOM).unwrap()["data"],
        json!({"theirs.server": "x", "localcluster.override": "two"})
    );
    let seen = child.observe().await.unwrap().config;
    assert_eq!(
        seen,
        [(state::DNS, Held { content: "two".into(), ours: true, written: Some(time(WRITTEN)) })].into()
    );
}

#[tokio::test]
async fn who_reads_a_config_map_is_told_of_each_change() {
    let (api, child) = cluster();
    let pod = |name: &str| format!("/api/v1/namespaces/kube-system/pods/{name}");
    for (name, app) in [("coredns", "kube-dns"), ("traefik", "traefik")] {
        let metadata = json!({"name": name, "namespace": "kube-system", "labels": {"k8s-app": app}});
        api.put(&pod(name), json!({"metadata": metadata, "spec": {"containers": []}}));
    }
    let told = || api.get(&pod("coredns")).unwrap()["metadata"]["annotations"][CONFIG_VERSION].clone();
    child.set_config(&dns("one")).await.unwrap();
    let first = told();
    assert!(first.is_string());
    // Removed manually and restored: a kubelet that saw the removal must be notified too.
    api.remove(CUSTOM);
    child.set_config(&dns("one")).await.unwrap();
    assert_ne!(told(), first);
    assert_eq!(api.get(&pod("traefik")).unwrap()["metadata"]["annotations"], Value::Null);

    api.refuse("GET /api/v1/namespaces/kube-system/pods", 500);
    child.set_config(&dns("two")).await.expect("it is written, and arrives a minute later");
}

#[tokio::test]
async fn a_config_map_of_ours_goes_with_its_key() {
    let (api, child) = cluster();
    child.set_config(&hosting(Some("one"))).await.unwrap();
    assert!(api.get(HOSTING).is_some());
    for _ in 0..2 {
        child.set_config(&hosting(None)).await.unwrap();
        assert_eq!(api.get(HOSTING), None);
    }

    api.put(HOSTING, theirs("localRegistryHosting.v2", "x"));
    child.set_config(&hosting(Some("one"))).await.unwrap();
    child.set_config(&hosting(None)).await.unwrap();
    assert_eq!(api.get(HOSTING).unwrap()["data"], json!({"localRegistryHosting.v2": "x"}));
}

#[tokio::test]
async fn what_somebody_else_wrote_is_taken_over_only_where_it_bears_our_name() {
    let (api, child) = cluster();
    api.put(CUSTOM, theirs("localcluster.override", "theirs"));
    api.put(HOSTING, theirs("localRegistryHosting.v1", "theirs"));
    assert!(child.observe().await.unwrap().config.values().all(|held| !held.ours));
    child.set_config(&dns("ours")).await.unwrap();
    let refused = child.set_config(&hosting(Some("ours"))).await;
    assert_eq!(refused, Err(Error::Api("409 injected failure 409".to_owned())));
    let seen = child.observe().await.unwrap().config;
    assert_eq!(seen[&state::DNS], Held { content: "ours".into(), ours: true, written: Some(time(WRITTEN)) });
    assert_eq!(seen[&state::REGISTRY_HOSTING], Held { content: "theirs".into(), ours: false, written: None });
}

#[tokio::test]
async fn a_cluster_that_starts_is_unreachable_and_a_refusal_is_not() {
    let (api, child) = cluster();
    api.refuse("GET /readyz", 503);
    assert!(matches!(child.observe().await, Err(Error::Unreachable(_))));
    api.heal();
    api.refuse("GET /api/v1/nodes", 403);
    let refused = "list of Nodes: 403 injected failure 403".to_owned();
    assert_eq!(child.observe().await, Err(Error::Api(refused)));
}

/// As for an admission webhook that cannot be called.
#[tokio::test]
async fn a_call_that_fails_inside_the_api_is_answered() {
    let (api, child) = cluster();
    api.put(NODE, json!({"metadata": {"name": "n"}}));
    for code in [429, 500, 503] {
        api.refuse(&format!("PATCH {NODE}"), code);
        let failed = Err(Error::Failed(format!("{code} injected failure {code}")));
        assert_eq!(child.configure("n", &NodeConfig::default()).await, failed);
        assert_eq!(child.leave_etcd("n").await, failed);
        api.heal();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_answered_ends() {
    let (api, child) = cluster();
    api.hang("GET /api/v1/nodes");
    let silent = "list of Nodes: no response within 5s".to_owned();
    assert_eq!(child.observe().await, Err(Error::Unreachable(silent)));
    assert!(child.drain("n", time(EARLY)).await.is_err());
}

#[tokio::test]
async fn changes_end_with_the_connection() {
    let (api, child) = cluster();
    api.refuse("GET /api/v1/nodes", 500);
    assert_eq!(child.changes(true).await.unwrap().next().await, None);
}

/// K3s takes the member out that the annotations of a Node with the label name, whoever made the Node.
#[tokio::test]
async fn a_member_without_a_node_gets_one_by_which_it_leaves() {
    let (api, child) = cluster();
    let member = |node: &str| Member {
        node: node.to_owned(),
        name: format!("{node}-0a1b2c3d"),
        address: "172.31.0.12".into(),
        learner: false,
    };
    child.remove_member(&member("gone")).await.unwrap();
    let node = api.get("/api/v1/nodes/gone").unwrap();
    let of_k3s = json!({
        "etcd.k3s.cattle.io/node-name": "gone-0a1b2c3d",
        "etcd.k3s.cattle.io/node-address": "172.31.0.12",
        "etcd.k3s.cattle.io/remove": "true",
    });
    assert_eq!(node["metadata"]["annotations"], of_k3s);
    assert_eq!(node["metadata"]["labels"], json!({"node-role.kubernetes.io/etcd": "true"}));
    assert_eq!(node["spec"], json!({"unschedulable": true}));
    let seen = child.observe().await.unwrap().nodes.remove("gone").unwrap();
    assert_eq!((seen.voter, seen.leaving, seen.left, seen.ready), (None, true, false, false));

    // The kubelet of this one has registered it in the meantime.
    let before = api.get(NODE);
    child.remove_member(&member("n")).await.unwrap();
    assert_eq!(api.get(NODE), before);
}

#[tokio::test]
async fn a_key_that_bears_our_name_goes_whoever_wrote_it() {
    let (api, child) = cluster();
    api.put(CUSTOM, theirs("localcluster.override", "theirs"));
    let gone = ClusterConfigMap { content: None, ..dns("") };
    child.set_config(&gone).await.unwrap();
    assert_eq!(api.get(CUSTOM).unwrap()["data"], json!({}));
    api.put(HOSTING, theirs("localRegistryHosting.v1", "theirs"));
    child.set_config(&hosting(None)).await.unwrap();
    assert_eq!(api.get(HOSTING).unwrap()["data"], json!({"localRegistryHosting.v1": "theirs"}));
}

const ACCOUNT: &str = "/api/v1/namespaces/kube-system/serviceaccounts/localcluster-kubeconfig-view";
const BINDING: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/localcluster-kubeconfig-view";

async fn accounts(child: &KubeChild) -> BTreeMap<AccountRole, Account> {
    accounts::observe(&child.client).await.unwrap()
}

#[tokio::test]
async fn an_account_is_granted_corrected_and_revoked() {
    let (api, child) = cluster();
    assert_eq!(accounts(&child).await, BTreeMap::new());
    child.grant(AccountRole::View).await.unwrap();
    let (account, binding) = (api.get(ACCOUNT).unwrap(), api.get(BINDING).unwrap());
    assert_eq!(account["metadata"]["labels"]["app.kubernetes.io/managed-by"], "localcluster-operator");
    assert_eq!(binding["roleRef"]["name"], "view");
    let subject = json!([{"kind": "ServiceAccount", "name": "localcluster-kubeconfig-view", "namespace": "kube-system"}]);
    assert_eq!(binding["subjects"], subject);
    let uid = account["metadata"]["uid"].as_str().map(str::to_owned);
    let all = |binding| BTreeMap::from([(AccountRole::View, Account { uid: uid.clone(), binding })]);
    assert_eq!(accounts(&child).await, all(Binding::Exact));

    // Somebody binds it to another role, or others to its role. The role of a binding cannot be changed.
    for (pointer, value) in
        [("/roleRef/name", json!("cluster-admin")), ("/subjects/0/name", json!("default"))]
    {
        let mut other = api.get(BINDING).unwrap();
        *other.pointer_mut(pointer).unwrap() = value;
        api.put(BINDING, other);
        assert_eq!(accounts(&child).await, all(Binding::Other));
        api.take_writes();
        child.grant(AccountRole::View).await.unwrap();
        let deletes = api.take_writes().iter().any(|w| *w == format!("DELETE {BINDING}"));
        assert_eq!(deletes, pointer == "/roleRef/name");
        assert_eq!(accounts(&child).await, all(Binding::Exact));
    }

    // Another account of that name stays; its binding is the operator's all the same.
    child.revoke(AccountRole::View, Some("another")).await.unwrap();
    assert_eq!(accounts(&child).await, all(Binding::Missing));
    child.revoke(AccountRole::View, uid.as_deref()).await.unwrap();
    assert_eq!(accounts(&child).await, BTreeMap::new());
    child.revoke(AccountRole::View, uid.as_deref()).await.expect("it is gone already");

    // What others named so is theirs as long as nobody asks for it.
    api.put(
        BINDING,
        json!({"metadata": {"name": "localcluster-kubeconfig-view"}, "roleRef": binding["roleRef"]}),
    );
    assert_eq!(accounts(&child).await, BTreeMap::new());
    child.revoke(AccountRole::View, None).await.unwrap();
    assert!(api.get(BINDING).is_some());
}

#[tokio::test]
async fn a_token_is_issued_and_reviewed() {
    let (api, child) = cluster();
    let ttl = SignedDuration::from_mins(10);
    let missing = child.issue(AccountRole::View, ttl).await;
    assert!(matches!(&missing, Err(Error::Api(why)) if why.starts_with("404")), "{missing:?}");
    child.grant(AccountRole::View).await.unwrap();
    assert_eq!(child.issue(AccountRole::View, ttl).await.unwrap().0, format!("{ACCOUNT} 600"));
    for (token, good) in [("good", true), ("bad", false)] {
        assert_eq!(child.accepts(&AccountToken(token.into())).await, Ok(good));
    }
    api.refuse("POST /apis/authentication.k8s.io", 503);
    assert!(matches!(child.accepts(&AccountToken("good".into())).await, Err(Error::Failed(_))));
}
