//! The created cluster's API, against a real API server: the management cluster of `tests/world/world up`.
//!
//! Nodes are invented for these tests; the cluster's own Node is only looked at.

use std::{env, fs, net::SocketAddr, panic::AssertUnwindSafe, path::Path, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::join_all};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{ConfigMap, Node, Pod, Secret},
        policy::v1::PodDisruptionBudget,
        rbac::v1::ClusterRoleBinding,
    },
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use localcluster_operator::child::{
    account::{AccountRole, AccountToken, Binding, Claims},
    api::{Access, ChildApi, Connect, Error},
    connect::KubeConnector,
    nodes::DRAINING_SINCE,
    state::{self, ClusterConfigMap, ConfigKey, Held, NodeConfig},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const LIMIT: Duration = Duration::from_secs(10);

/// The cluster. There is no test without one: a test that passes since nothing was there to fail proves nothing.
struct World {
    kubeconfig: String,
    addr: SocketAddr,
    client: Client,
}

impl World {
    async fn find() -> Self {
        let path = env::var("WORLD_KUBECONFIG").unwrap_or_else(|_| "target/world/mgmt.kubeconfig".to_owned());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let kubeconfig = fs::read_to_string(&path).unwrap_or_else(|e| {
            panic!(
                "no cluster to test with ({}: {e}): run tests/world/world up, or set WORLD_KUBECONFIG",
                path.display()
            )
        });
        let parsed = Kubeconfig::from_yaml(&kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.unwrap();
        let addr = config.cluster_url.authority().unwrap().as_str().parse().unwrap();
        Self { kubeconfig, addr, client: Client::try_from(config).unwrap() }
    }

    fn access(&self, candidates: &[SocketAddr]) -> Access {
        Access {
            kubeconfig: self.kubeconfig.clone(),
            candidates: candidates.to_vec(),
            tunnel: None,
            is_due: false,
            tls_server_name: "kubernetes".to_owned(),
            token: None,
        }
    }

    async fn child(&self) -> Arc<dyn ChildApi> {
        KubeConnector::default().connect(&self.access(&[self.addr]), LIMIT).await.unwrap().child
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    fn budgets(&self) -> Api<PodDisruptionBudget> {
        Api::namespaced(self.client.clone(), "default")
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), "kube-system")
    }

    /// Runs a test with an invented Node, and removes all that it is called after, whatever happens.
    async fn with_node(&self, name: &str, test: impl AsyncFnOnce()) {
        self.clean(name).await;
        let node = object(json!({"metadata": {"name": name}}));
        self.nodes().create(&PostParams::default(), &node).await.unwrap();
        let ended = AssertUnwindSafe(test()).catch_unwind().await;
        self.clean(name).await;
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    }

    async fn clean(&self, name: &str) {
        let now = DeleteParams::default().grace_period(0);
        let password = format!("{name}.node-password.k3s");
        let _ = self.budgets().delete(name, &now).await;
        let _ = self.pods().delete(name, &now).await;
        let _ = self.secrets().delete(&password, &now).await;
        let _ = self.nodes().delete(name, &now).await;
    }

    /// Makes a Pod on the Node of its own name.
    async fn create_pod(&self, name: &str) {
        let pod = object(json!({
            "metadata": {"name": name, "labels": {"test": name}},
            "spec": {
                "nodeName": name,
                // Nobody is there to end it.
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "none", "image": "none.invalid/none"}],
            },
        }));
        self.pods().create(&PostParams::default(), &pod).await.unwrap();
        // No budget protects a Pod that has not started.
        let running = json!({"status": {"phase": "Running"}});
        self.pods().patch_status(name, &PatchParams::default(), &Patch::Strategic(&running)).await.unwrap();
    }
}

fn object<T: serde::de::DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

async fn refused(access: &Access) -> String {
    match KubeConnector::default().connect(access, LIMIT).await.err() {
        Some(Error::Unreachable(words)) => words,
        other => panic!("{other:?}"),
    }
}

/// An address where nothing listens.
async fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn observes() {
    let world = World::find().await;
    let seen = world.child().await.observe().await.unwrap();
    assert!(seen.pods_can_start);
    let node = seen.nodes.values().find(|node| node.ready).expect("a Node that is ready");
    assert!(node.version.contains("+k3s"), "{node:?}");
    assert_eq!((node.draining_since, node.pods_to_evict), (None, 0));
    // The kubelet renews every 10 s; the rest is for two clocks and a busy machine.
    let age = Timestamp::now().duration_since(node.renewed.expect("a Lease")).as_secs();
    assert!(age < 60, "renewed {age} s ago");
}

#[tokio::test]
async fn another_clusters_ca_is_refused() {
    let world = World::find().await;
    let value = |key: &str| {
        let line = world.kubeconfig.lines().find(|line| line.trim_start().starts_with(key)).unwrap();
        line.split_once(": ").unwrap().1.to_owned()
    };
    let mut access = world.access(&[world.addr]);
    // The clients' CA: as real as the servers', but not the one.
    access.kubeconfig =
        world.kubeconfig.replace(&value("certificate-authority-data"), &value("client-certificate-data"));
    let told = refused(&access).await;
    assert!(told.contains(&world.addr.to_string()) && told.contains("certificate"), "{told}");
}

#[tokio::test]
async fn another_clusters_name_is_refused() {
    let world = World::find().await;
    let mut access = world.access(&[world.addr]);
    access.tls_server_name = "k3d-other-serverlb".to_owned();
    let told = refused(&access).await;
    assert!(told.contains("certificate"), "{told}");
}

#[tokio::test]
async fn finds_the_one_that_answers() {
    let world = World::find().await;
    // Accepts connections and says nothing, like a load balancer whose servers are down.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let candidates = [closed().await, mute.local_addr().unwrap(), world.addr];
    let child = KubeConnector::default().connect(&world.access(&candidates), LIMIT).await.unwrap().child;
    assert!(!child.observe().await.unwrap().nodes.is_empty());
}

#[tokio::test]
async fn tells_why_the_one_failed_that_leads_furthest() {
    let world = World::find().await;
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let candidates = [mute.local_addr().unwrap(), closed().await, closed().await];
    let told = refused(&world.access(&candidates)).await;
    let cause = format!("{}: Connection refused", candidates[1]);
    assert!(told.starts_with(&cause) && told.ends_with(" (2 other paths failed too)"), "{told}");
    // Somebody who answers is nearer than nobody.
    let mut access = world.access(&[candidates[0], candidates[1], world.addr]);
    access.tls_server_name = "k3d-other-serverlb".to_owned();
    let told = refused(&access).await;
    assert!(told.starts_with(&format!("{}: ", world.addr)) && told.contains("certificate"), "{told}");
    assert_eq!(refused(&world.access(&[])).await, "no address is known yet");
}

#[tokio::test]
async fn drains_and_takes_it_back() {
    let world = World::find().await;
    let name = "lco-child-test-node-drain";
    world
        .with_node(name, async || {
            world.create_pod(name).await;
            let budget = object(json!({
                "metadata": {"name": name},
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"test": name}}},
            }));
            world.budgets().create(&PostParams::default(), &budget).await.unwrap();

            let child = world.child().await;
            let since: Timestamp = "2026-11-25T01:02:03Z".parse().unwrap();
            child.drain(name, since).await.unwrap();
            let node = child.observe().await.unwrap().nodes.remove(name).unwrap();
            assert_eq!((node.draining_since, node.schedulable), (Some(since), false));
            assert_eq!(node.pods_to_evict, 1, "the budget keeps it");
            assert!(!node.ready && !node.message.is_empty());

            world.budgets().delete(name, &DeleteParams::default()).await.unwrap();
            child.drain(name, Timestamp::now()).await.unwrap();
            let node = child.observe().await.unwrap().nodes.remove(name).unwrap();
            assert_eq!((node.draining_since, node.pods_to_evict), (Some(since), 0));
            assert!(world.pods().get_opt(name).await.unwrap().is_none());

            child.uncordon(name).await.unwrap();
            let node = world.nodes().get(name).await.unwrap();
            assert!(!node.metadata.annotations.unwrap_or_default().contains_key(DRAINING_SINCE));
            assert_eq!(node.spec.unwrap_or_default().unschedulable, None);
        })
        .await;
}

#[tokio::test]
async fn gives_and_takes_labels_and_taints() {
    let world = World::find().await;
    let name = "lco-child-test-node-configure";
    world
        .with_node(name, async || {
            let child = world.child().await;
            let config = NodeConfig {
                labels: [("lco-test".to_owned(), "1".to_owned())].into(),
                taints: vec!["lco-test=x:PreferNoSchedule".to_owned()],
            };
            // The API server's controllers taint a Node without a kubelet at the same time, and a version that was
            // overtaken is refused; the caller's next look brings it right.
            let configure = async |config: &NodeConfig| {
                while let Err(error) = child.configure(name, config).await {
                    assert!(matches!(&error, Error::Api(words) if words.starts_with("409")), "{error}");
                }
                child.observe().await.unwrap().nodes.remove(name).unwrap()
            };
            let seen = configure(&config).await;
            assert_eq!(seen.labels.get("lco-test").map(String::as_str), Some("1"));
            assert!(seen.taints.contains(&config.taints[0]), "{seen:?}");
            assert_eq!(seen.configured, Some(config.clone()));

            let seen = configure(&NodeConfig::default()).await;
            assert_eq!(seen.labels.get("lco-test"), None);
            assert!(!seen.taints.contains(&config.taints[0]), "{seen:?}");
        })
        .await;
}

#[tokio::test]
async fn deletes_a_node_with_its_password() {
    let world = World::find().await;
    let name = "lco-child-test-node-delete";
    world
        .with_node(name, async || {
            let password = format!("{name}.node-password.k3s");
            let mut secret: Secret = object(json!({"metadata": {"name": password}, "immutable": true}));
            secret.data = Some([("hash".to_owned(), ByteString(b"$1:x".to_vec()))].into());
            world.secrets().create(&PostParams::default(), &secret).await.unwrap();

            let child = world.child().await;
            // The second finds nothing left, as after an answer that got lost.
            for _ in 0..2 {
                child.delete_node(name).await.unwrap();
                assert!(world.nodes().get_opt(name).await.unwrap().is_none());
                assert!(world.secrets().get_opt(&password).await.unwrap().is_none());
            }
        })
        .await;
}

/// The ConfigMaps are there once, and a watch hears of whatever is done to them.
static CONFIG: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn config_map(key: ConfigKey, content: Option<&str>) -> ClusterConfigMap {
    let (claimed, readers) = (key == state::DNS, (key == state::DNS).then_some("k8s-app=kube-dns"));
    ClusterConfigMap { key, content: content.map(str::to_owned), claimed, readers }
}

#[tokio::test]
async fn keeps_keys_of_config_maps() {
    let _alone = CONFIG.lock().await;
    let world = World::find().await;
    let child = world.child().await;
    let maps = |key: ConfigKey| Api::<ConfigMap>::namespaced(world.client.clone(), key.namespace);
    for key in state::KEYS {
        let _ = maps(key).delete(key.name, &DeleteParams::default()).await;
    }
    let mut changes = child.changes(false).await.unwrap();
    let mut next = async |what: &str| {
        assert_eq!(tokio::time::timeout(LIMIT, changes.next()).await, Ok(Some(())), "{what}");
    };
    for _ in 0..3 {
        next("what there is").await;
    }
    for key in state::KEYS {
        let ours = |content: &str| Some((content.to_owned(), true));
        let seen = async || {
            let Held { content, ours, written } = child.observe().await.unwrap().config.remove(&key)?;
            let age = written.map(|at| Timestamp::now().duration_since(at).abs());
            assert!(age.is_some_and(|age| age < LIMIT.try_into().unwrap()) || !ours, "{written:?}");
            Some((content, ours))
        };
        assert_eq!(seen().await, None);
        for content in ["# one\n", "# two\n"] {
            child.set_config(&config_map(key, Some(content))).await.unwrap();
            assert_eq!(seen().await, ours(content));
            next(content).await;
        }
        // Somebody adds a key: the ConfigMap is no longer ours to delete.
        let other = json!({"data": {"other": "theirs"}});
        maps(key).patch(key.name, &PatchParams::default(), &Patch::Merge(&other)).await.unwrap();
        child.set_config(&config_map(key, None)).await.unwrap();
        let left = maps(key).get(key.name).await.unwrap().data.unwrap();
        assert_eq!(left.into_iter().collect::<Vec<_>>(), [("other".to_owned(), "theirs".to_owned())]);
        maps(key).delete(key.name, &DeleteParams::default()).await.unwrap();

        // Alone it goes with its key; the second time nothing is left to do.
        child.set_config(&config_map(key, Some("# one\n"))).await.unwrap();
        for _ in 0..2 {
            child.set_config(&config_map(key, None)).await.unwrap();
            assert!(maps(key).get_opt(key.name).await.unwrap().is_none());
        }

        // Somebody writes ours.
        child.set_config(&config_map(key, Some("# one\n"))).await.unwrap();
        let theirs = json!({"data": {key.key: "# theirs\n"}});
        maps(key).patch(key.name, &PatchParams::default(), &Patch::Merge(&theirs)).await.unwrap();
        assert_eq!(seen().await, Some(("# theirs\n".to_owned(), false)));
        let taken = child.set_config(&config_map(key, Some("# two\n"))).await;
        if key == state::DNS {
            assert_eq!((taken, seen().await), (Ok(()), ours("# two\n")));
        } else {
            assert!(matches!(&taken, Err(Error::Api(words)) if words.starts_with("409")), "{taken:?}");
        }
        maps(key).delete(key.name, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn tells_of_changes() {
    let _alone = CONFIG.lock().await;
    let world = World::find().await;
    let name = "lco-child-test-node-changes";
    world
        .with_node(name, async || {
            let child = world.child().await;
            let mut changes = child.changes(false).await.unwrap();
            let mut next = async |what: &str| {
                let item = tokio::time::timeout(LIMIT, changes.next()).await;
                assert_eq!(item, Ok(Some(())), "{what}");
            };
            // Of the Nodes and of two ConfigMaps.
            for _ in 0..3 {
                next("what there is").await;
            }

            let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
            world
                .nodes()
                .patch_status(name, &PatchParams::default(), &Patch::Strategic(&ready))
                .await
                .unwrap();
            next("ready").await;
            child.drain(name, Timestamp::now()).await.unwrap();
            next("drained").await;
            child.delete_node(name).await.unwrap();
            next("gone").await;
        })
        .await;
}

#[tokio::test]
async fn accounts_come_and_go_with_their_tokens() {
    let world = World::find().await;
    let child = world.child().await;
    let (role, ttl) = (AccountRole::View, SignedDuration::from_mins(10));
    let account = async || child.observe().await.unwrap().accounts.remove(&role);
    if let Some(known) = account().await {
        child.revoke(role, known.uid.as_deref()).await.unwrap();
    }
    let mut changes = child.changes(true).await.unwrap();
    // What there is, until nothing more comes.
    while tokio::time::timeout(LIMIT / 5, changes.next()).await.is_ok() {}
    child.grant(role).await.unwrap();
    for what in ["the account", "its binding"] {
        assert_eq!(tokio::time::timeout(LIMIT, changes.next()).await, Ok(Some(())), "{what}");
    }
    let first = account().await.unwrap();
    assert_eq!(first.binding, Binding::Exact);
    child.grant(role).await.expect("a second time");
    assert_eq!(account().await, Some(first.clone()));

    let token = child.issue(role, ttl).await.unwrap();
    let claims = Claims::of(&token.0).expect("it is a token");
    assert_eq!((claims.role, Some(&claims.uid)), (role, first.uid.as_ref()));
    assert_eq!(claims.expires.duration_since(claims.issued), ttl);
    assert_eq!(child.accepts(&token).await, Ok(true));
    let changed = AccountToken(token.0[..token.0.len() - 6].to_owned() + "AAAAAA");
    assert_eq!(child.accepts(&changed).await, Ok(false));
    assert_eq!(child.accepts(&AccountToken("no token".into())).await, Ok(false));

    // Somebody changes the role of the binding, which cannot be changed back, but replaced.
    let bindings = Api::<ClusterRoleBinding>::all(world.client.clone());
    let mut other = bindings.get(role.account()).await.unwrap();
    bindings.delete(role.account(), &DeleteParams::default()).await.unwrap();
    other.metadata.resource_version = None;
    other.role_ref.name = "edit".into();
    bindings.create(&PostParams::default(), &other).await.unwrap();
    assert_eq!(account().await.map(|a| a.binding), Some(Binding::Other));
    child.grant(role).await.unwrap();
    assert_eq!(account().await, Some(first.clone()));

    child.revoke(role, first.uid.as_deref()).await.unwrap();
    assert_eq!(account().await, None);
    child.revoke(role, first.uid.as_deref()).await.expect("a second time");
    // The API forgets within seconds that it has accepted a token.
    let forgotten = async {
        while child.accepts(&token).await == Ok(true) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(3 * LIMIT, forgotten).await.expect("the token is rejected");
    let gone = child.issue(role, ttl).await;
    assert!(matches!(&gone, Err(Error::Api(words)) if words.starts_with("404")), "{gone:?}");
}

/// Many at once, since a controller observes many clusters: nothing may be shared that makes them wait.
#[tokio::test]
async fn many_look_at_once() {
    let world = World::find().await;
    let child = world.child().await;
    let seen = join_all((0..20).map(|_| child.observe())).await;
    assert!(seen.iter().all(Result::is_ok), "{seen:?}");
}
