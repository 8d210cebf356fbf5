//! Statuses as metrics, by the conventions of kube-state-metrics: a series for each status of a condition, of which one
//! has the value 1, and times as Unix times.

use std::{collections::BTreeSet, ops::RangeInclusive};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};

use crate::{
    api::{
        LocalCluster, LocalClusterPool, Registry,
        condition::{self, ConditionType, Status},
        local_cluster::PoolStatus,
    },
    metrics::family::{GaugeFamily, Sample},
};

/// Names and meanings of the metrics.
pub const METRICS: [(&str, &str); 33] = [
    ("objects", "LocalClusters, Registries and LocalClusterPools, by kind"),
    (
        "objects_without_series",
        "Objects without metrics of their own, which exceed --metrics-objects, by kind",
    ),
    ("creation_timestamp_seconds", "Creation of the object, as a Unix time"),
    (
        "deletion_timestamp_seconds",
        "Start of the deletion of the object, as a Unix time; only while it is being deleted",
    ),
    ("generation", "Generation of the spec"),
    ("observed_generation", "Generation of the spec that the status describes"),
    ("status_condition", "1 for the status of the condition, 0 for the others"),
    ("status_reason", "1 for the reason of Ready, or of Stopped while the cluster is stopped"),
    ("cluster_info", "1; K3s version, node image and desired state of the cluster"),
    ("nodes_desired", "Nodes in the spec, by role"),
    ("nodes_existing", "Nodes with a container, by role"),
    ("nodes_ready", "Nodes with a Ready Node object, by role"),
    ("node_repairs", "Repairs of nodes since they were last Ready for a while"),
    ("expiration_timestamp_seconds", "Time at which the cluster is deleted because of its time to live"),
    (
        "kubeconfig_expiration_timestamp_seconds",
        "Expiry of the credential in the kubeconfig: certificate or token",
    ),
    (
        "host_ports_unpublished",
        "Entries of spec.ports that are not published because their host port is in use",
    ),
    ("registry_info", "1; address of the registry on the Docker host, and the registry that it caches"),
    (
        "registry_certificate_expiration_timestamp_seconds",
        "Expiry of the certificate of the registry, as a Unix time",
    ),
    ("registry_users", "LocalClusters that use the registry"),
    ("pool_replicas_desired", "spec.replicas of the pool"),
    ("pool_replicas_existing", "Clusters of the pool that no claim has taken"),
    ("pool_replicas_ready", "Clusters of the pool that a claim can take now"),
    ("pool_claimed", "Clusters of the pool that claims have taken"),
    ("pool_claims_waiting", "Claims that wait for a cluster of the pool"),
    ("starts_running", "Clusters that are starting"),
    ("starts_queued", "Clusters that wait for others to start"),
    ("image_pulls_running", "Image pulls in progress"),
    ("image_pulls_queued", "Image pulls that wait for others"),
    ("host_ports", "Ports in --port-range"),
    ("host_ports_used", "Ports in --port-range that LocalClusters and Registries have"),
    ("network_pool_subnets", "Subnets of /24 in --network-pool"),
    ("network_pool_subnets_used", "Subnets of /24 in --network-pool that overlap a Docker network"),
    ("metrics_objects", "Highest number of objects of a kind with metrics of their own: --metrics-objects"),
];

/// Everything that the metrics are computed from.
pub struct Inventory<'a> {
    /// All LocalClusters.
    pub clusters: Vec<&'a LocalCluster>,
    /// All Registries.
    pub registries: Vec<&'a Registry>,
    /// Number of objects of each kind that have series of their own.
    pub most: usize,
    /// Returns the end of the client certificate in the kubeconfig of the cluster with this UID, or of the certificate of
    /// the registry with it.
    pub certificate: &'a dyn Fn(&str) -> Option<Timestamp>,
    /// Range from which host ports are allocated.
    pub ports: RangeInclusive<u16>,
    /// Used and existing subnets of the network pool, if there is one.
    pub subnets: Option<(u64, u64)>,
    /// Lengths of the queues.
    pub queues: Queues,
}

/// Lengths of queues.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queues {
    /// Starting clusters.
    pub starting: usize,
    /// Clusters that wait for others to start.
    pub queued: usize,
    /// Pulls in progress.
    pub pulling: usize,
    /// Pulls that wait for others.
    pub pulls_queued: usize,
}

/// Returns all metrics, also those without samples.
pub fn of(inventory: &Inventory<'_>) -> Vec<GaugeFamily> {
    let mut all = Series::new();
    all.add("metrics_objects", Vec::new(), count(inventory.most));
    for cluster in all.chosen("LocalCluster", &inventory.clusters, inventory.most, |c| &c.metadata) {
        all.cluster(cluster, inventory);
    }
    for registry in all.chosen("Registry", &inventory.registries, inventory.most, |r| &r.metadata) {
        all.registry(registry, inventory);
    }
    all.host(inventory);
    all.0
}

/// Returns the metrics of pools, of at most `most` of them.
pub fn of_pools(pools: &[&LocalClusterPool], most: usize) -> Vec<GaugeFamily> {
    let mut all = Series::new();
    for pool in all.chosen("LocalClusterPool", pools, most, |p| &p.metadata) {
        all.pool(pool);
    }
    all.0
}

struct Series(Vec<GaugeFamily>);

/// An object and its labels.
#[derive(Clone, Copy)]
struct Object<'a> {
    kind: &'static str,
    meta: &'a ObjectMeta,
}

impl Object<'_> {
    /// Returns the labels of metrics of one kind only.
    fn own(self, more: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let name = [("namespace", text(&self.meta.namespace)), ("name", text(&self.meta.name))];
        name.into_iter().chain(more.iter().map(|(name, value)| (*name, (*value).to_owned()))).collect()
    }

    /// Returns the labels of metrics of both kinds.
    fn labels(self, more: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        [("kind", self.kind.to_owned())].into_iter().chain(self.own(more)).collect()
    }
}

impl Series {
    fn new() -> Self {
        let metric = |(name, help)| GaugeFamily { name, help, samples: Vec::new() };
        Self(METRICS.into_iter().map(metric).collect())
    }

    fn add(&mut self, name: &str, labels: Vec<(&'static str, String)>, value: f64) {
        let metric = self.0.iter_mut().find(|metric| metric.name == name);
        metric.expect("it is in the list").samples.push(Sample { labels, value });
    }

    fn time(&mut self, name: &str, labels: Vec<(&'static str, String)>, time: Option<Timestamp>) {
        if let Some(time) = time {
            self.add(name, labels, seconds(time));
        }
    }

    /// Returns the objects that have series of their own, and counts all. The oldest are first: what others create later
    /// does not take their place.
    fn chosen<'a, K>(
        &mut self,
        kind: &str,
        objects: &[&'a K],
        most: usize,
        meta: impl Fn(&K) -> &ObjectMeta,
    ) -> Vec<&'a K> {
        let mut chosen = objects.to_vec();
        chosen.sort_by_cached_key(|object| {
            let meta = meta(object);
            let created = meta.creation_timestamp.as_ref().map(|time| time.0);
            (created, meta.namespace.clone(), meta.name.clone())
        });
        chosen.truncate(most);
        let labels = || vec![("kind", kind.to_owned())];
        self.add("objects", labels(), count(objects.len()));
        self.add("objects_without_series", labels(), count(objects.len() - chosen.len()));
        chosen
    }

    fn object(&mut self, object: Object<'_>, conditions: &[Condition], observed: Option<i64>) {
        let meta = object.meta;
        let time = |time: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| time.map(|t| t.0);
        self.time("creation_timestamp_seconds", object.labels(&[]), time(meta.creation_timestamp.as_ref()));
        self.time("deletion_timestamp_seconds", object.labels(&[]), time(meta.deletion_timestamp.as_ref()));
        self.add("generation", object.labels(&[]), number(meta.generation.unwrap_or_default()));
        self.add("observed_generation", object.labels(&[]), number(observed.unwrap_or(-1)));
        // Only types that this version knows: others can be written by whoever may write the status.
        for (type_, is) in conditions.iter().filter_map(|c| Some((ConditionType::parse(&c.type_)?, c))) {
            for status in Status::ALL {
                let labels = [("type", type_.as_str()), ("status", &status.as_str().to_lowercase())];
                let holds = is.status == status.as_str();
                self.add("status_condition", object.labels(&labels), f64::from(u8::from(holds)));
            }
        }
        let shown = [ConditionType::Ready, ConditionType::Stopped].into_iter();
        let shown = shown.filter_map(|type_| condition::get(conditions, type_)).next();
        if let Some(shown) = shown {
            self.add("status_reason", object.labels(&[("reason", &shown.reason)]), 1.0);
        }
    }

    fn cluster(&mut self, cluster: &LocalCluster, inventory: &Inventory<'_>) {
        let object = Object { kind: "LocalCluster", meta: &cluster.metadata };
        let status = cluster.status.clone().unwrap_or_default();
        self.object(object, &status.conditions, status.observed_generation);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (version, image) = (text(&status.version), text(&status.image));
        let state = format!("{:?}", cluster.spec.state);
        let info = [("version", version.as_str()), ("image", &image), ("state", &state)];
        self.add("cluster_info", object.own(&info), 1.0);
        for (role, pool) in [("server", &status.servers), ("agent", &status.agents)] {
            let Some(PoolStatus { desired, replicas, ready, .. }) = pool else { continue };
            let counts = [("nodes_desired", desired), ("nodes_existing", replicas), ("nodes_ready", ready)];
            for (name, count) in counts {
                self.add(name, object.own(&[("role", role)]), f64::from(*count));
            }
        }
        let repairs: i32 = status.nodes.iter().filter_map(|n| n.repairs.as_ref()).map(|r| r.count).sum();
        self.add("node_repairs", object.own(&[]), f64::from(repairs));
        let expires = status.expires_at.as_ref().map(|time| time.0);
        self.time("expiration_timestamp_seconds", object.own(&[]), expires);
        let token = status.kubeconfig.as_ref().map(|token| ("token", token.expires_at.0));
        let certificate = || (inventory.certificate)(cluster.metadata.uid.as_deref()?);
        let credential = token.or_else(|| Some(("certificate", certificate()?)));
        if let Some((credential, end)) = credential.filter(|_| status.kubeconfig_secret.is_some()) {
            let labels = object.own(&[("credential", credential)]);
            self.time("kubeconfig_expiration_timestamp_seconds", labels, Some(end));
        }
        let left_out = status.ports.iter().filter(|port| port.problem.is_some()).count();
        self.add("host_ports_unpublished", object.own(&[]), count(left_out));
    }

    fn registry(&mut self, registry: &Registry, inventory: &Inventory<'_>) {
        let object = Object { kind: "Registry", meta: &registry.metadata };
        let status = registry.status.clone().unwrap_or_default();
        self.object(object, &status.conditions, status.observed_generation);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (host, caches) = (text(&status.host), text(&status.proxies));
        self.add("registry_info", object.own(&[("host", &host), ("caches", &caches)]), 1.0);
        let certificate = registry.metadata.uid.as_deref().and_then(inventory.certificate);
        self.time("registry_certificate_expiration_timestamp_seconds", object.own(&[]), certificate);
        self.add("registry_users", object.own(&[]), count(status.used_by.len()));
    }

    fn pool(&mut self, pool: &LocalClusterPool) {
        let object = Object { kind: "LocalClusterPool", meta: &pool.metadata };
        let status = pool.status.clone().unwrap_or_default();
        self.object(object, &status.conditions, status.observed_generation);
        for (name, count) in [
            ("pool_replicas_desired", pool.spec.replicas),
            ("pool_replicas_existing", status.replicas),
            ("pool_replicas_ready", status.ready_replicas),
            ("pool_claimed", status.claimed),
            ("pool_claims_waiting", status.waiting),
        ] {
            self.add(name, object.own(&[]), f64::from(count));
        }
    }

    /// Adds what all objects share.
    fn host(&mut self, inventory: &Inventory<'_>) {
        let Inventory { clusters, registries, ports, subnets, queues, .. } = inventory;
        let Queues { starting, queued, pulling, pulls_queued } = *queues;
        let queues = [
            ("starts_running", starting),
            ("starts_queued", queued),
            ("image_pulls_running", pulling),
            ("image_pulls_queued", pulls_queued),
        ];
        for (name, length) in queues {
            self.add(name, Vec::new(), count(length));
        }
        let of_cluster = |cluster: &&LocalCluster| {
            let status = cluster.status.clone().unwrap_or_default();
            let published = status.ports.into_iter().filter(|port| port.problem.is_none());
            let published =
                published.flat_map(|p| p.host_port..=p.host_port + p.end_port.map_or(0, |end| end - p.port));
            let api = status.api_port.map(|port| port.host_port);
            published.chain(api).collect::<Vec<_>>()
        };
        let of_registries = registries.iter().filter_map(|r| r.status.as_ref()?.host_port);
        let all = clusters.iter().flat_map(of_cluster).chain(of_registries);
        let used: BTreeSet<u16> =
            all.filter_map(|port| port.try_into().ok()).filter(|p| ports.contains(p)).collect();
        self.add("host_ports", Vec::new(), count(ports.clone().count()));
        self.add("host_ports_used", Vec::new(), count(used.len()));
        if let Some((used, all)) = *subnets {
            let number = |n: u64| number(i64::try_from(n).unwrap_or(i64::MAX));
            self.add("network_pool_subnets", Vec::new(), number(all));
            self.add("network_pool_subnets_used", Vec::new(), number(used));
        }
    }
}

fn count(n: usize) -> f64 {
    number(i64::try_from(n).unwrap_or(i64::MAX))
}

/// Returns a number that is far below the integers that a float cannot represent.
#[allow(clippy::cast_precision_loss)]
fn number(n: i64) -> f64 {
    n as f64
}

fn seconds(time: Timestamp) -> f64 {
    number(time.as_second())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cluster(name: &str, created: &str, status: Value) -> LocalCluster {
        let meta = json!({"namespace": "team", "name": name, "uid": name, "creationTimestamp": created, "generation": 2});
        serde_json::from_value(json!({"metadata": meta, "spec": {}, "status": status})).unwrap()
    }

    fn lines(clusters: &[LocalCluster], registries: &[Registry], most: usize) -> Vec<String> {
        let certificate = |uid: &str| (uid == "dev").then_some(Timestamp::from_second(99).unwrap());
        let all = of(&Inventory {
            clusters: clusters.iter().collect(),
            registries: registries.iter().collect(),
            most,
            certificate: &certificate,
            ports: 20000..=20009,
            subnets: Some((3, 256)),
            queues: Queues { queued: 2, ..Queues::default() },
        });
        assert_eq!(all.len(), METRICS.len());
        told(&all)
    }

    fn told(all: &[GaugeFamily]) -> Vec<String> {
        let labels = |labels: &[(&'static str, String)]| {
            labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
        };
        let samples = all.iter().flat_map(|metric| metric.samples.iter().map(move |s| (metric.name, s)));
        samples.map(|(name, s)| format!("{name} {} {}", labels(&s.labels), s.value)).collect()
    }

    fn has(lines: &[String], line: &str) {
        assert!(lines.iter().any(|l| l == line), "no {line} in\n{}", lines.join("\n"));
    }

    #[test]
    fn a_status_is_shown_as_kube_state_metrics_would() {
        let condition = |type_: &str, status: &str| {
            json!({"type": type_, "status": status, "reason": "NodeNotReady", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let status = json!({
            "observedGeneration": 1, "version": "v1.36.2+k3s1", "image": "k3s:1", "kubeconfigSecret": "dev-kubeconfig",
            "conditions": [condition("Ready", "False"), condition("AgentsReady", "Unknown"), condition("Mine", "True")],
            "servers": {"desired": 1, "replicas": 1, "ready": 1}, "agents": {"desired": 3, "replicas": 2, "ready": 1},
            "apiPort": {"hostIP": "127.0.0.1", "hostPort": 20001},
            "ports": [
                {"name": "a", "hostIP": "127.0.0.1", "hostPort": 20003, "port": 80, "endPort": 82, "protocol": "TCP"},
                {"name": "b", "hostIP": "127.0.0.1", "hostPort": 20008, "port": 90, "protocol": "TCP", "problem": "in use"},
                {"name": "c", "hostIP": "127.0.0.1", "hostPort": 8080, "port": 91, "protocol": "TCP"},
            ],
            "nodes": [{"name": "n", "role": "Agent", "phase": "Starting", "repairs": {"count": 2}}],
            "expiresAt": "1970-01-01T00:01:00Z",
        });
        let registry = json!({
            "metadata": {"namespace": "team", "name": "hub", "uid": "dev", "generation": 1,
                "deletionTimestamp": "1970-01-01T00:00:05Z"},
            "spec": {},
            "status": {"host": "localhost:20007", "hostPort": 20007, "proxies": "docker.io", "usedBy": ["team/dev"]},
        });
        let clusters = [cluster("dev", "1970-01-01T00:00:10Z", status)];
        let lines = lines(&clusters, &[serde_json::from_value(registry).unwrap()], 10);
        for line in [
            "status_condition kind=LocalCluster,namespace=team,name=dev,type=Ready,status=false 1",
            "status_condition kind=LocalCluster,namespace=team,name=dev,type=Ready,status=true 0",
            "status_condition kind=LocalCluster,namespace=team,name=dev,type=AgentsReady,status=unknown 1",
            "status_reason kind=LocalCluster,namespace=team,name=dev,reason=NodeNotReady 1",
            "creation_timestamp_seconds kind=LocalCluster,namespace=team,name=dev 10",
            "generation kind=LocalCluster,namespace=team,name=dev 2",
            "observed_generation kind=LocalCluster,namespace=team,name=dev 1",
            "cluster_info namespace=team,name=dev,version=v1.36.2+k3s1,image=k3s:1,state=Running 1",
            "nodes_desired namespace=team,name=dev,role=agent 3",
            "nodes_existing namespace=team,name=dev,role=agent 2",
            "nodes_ready namespace=team,name=dev,role=agent 1",
            "nodes_ready namespace=team,name=dev,role=server 1",
            "node_repairs namespace=team,name=dev 2",
            "expiration_timestamp_seconds namespace=team,name=dev 60",
            "kubeconfig_expiration_timestamp_seconds namespace=team,name=dev,credential=certificate 99",
            "host_ports_unpublished namespace=team,name=dev 1",
            "host_ports  10",
            // The API, three of the range and the Registry.
            "host_ports_used  5",
            "network_pool_subnets_used  3",
            "starts_queued  2",
            "deletion_timestamp_seconds kind=Registry,namespace=team,name=hub 5",
            "registry_info namespace=team,name=hub,host=localhost:20007,caches=docker.io 1",
            "registry_certificate_expiration_timestamp_seconds namespace=team,name=hub 99",
            "registry_users namespace=team,name=hub 1",
        ] {
            has(&lines, line);
        }
        assert!(!lines.iter().any(|l| l.contains("Mine")), "{lines:?}");
    }

    #[test]
    fn a_pool_shows_what_it_has_and_what_is_wanted_of_it() {
        let pool = |name: &str, created: &str| -> LocalClusterPool {
            let meta =
                json!({"namespace": "team", "name": name, "creationTimestamp": created, "generation": 3});
            let conditions = json!([{"type": "Stalled", "status": "True", "reason": "ClusterStalled", "message": "",
                "lastTransitionTime": created}]);
            let status = json!({"replicas": 2, "readyReplicas": 1, "claimed": 5, "waiting": 4,
                "observedGeneration": 2, "conditions": conditions});
            serde_json::from_value(json!({"metadata": meta, "spec": {"replicas": 3}, "status": status}))
                .unwrap()
        };
        let pools = [pool("ci", "1970-01-01T00:00:10Z"), pool("later", "1970-01-01T00:00:11Z")];
        let lines = told(&of_pools(&pools.iter().collect::<Vec<_>>(), 1));
        for line in [
            "pool_replicas_desired namespace=team,name=ci 3",
            "pool_replicas_existing namespace=team,name=ci 2",
            "pool_replicas_ready namespace=team,name=ci 1",
            "pool_claimed namespace=team,name=ci 5",
            "pool_claims_waiting namespace=team,name=ci 4",
            "observed_generation kind=LocalClusterPool,namespace=team,name=ci 2",
            "status_condition kind=LocalClusterPool,namespace=team,name=ci,type=Stalled,status=true 1",
            "objects kind=LocalClusterPool 2",
            "objects_without_series kind=LocalClusterPool 1",
        ] {
            has(&lines, line);
        }
        assert!(!lines.iter().any(|line| line.contains("name=later")), "{lines:?}");
    }

    #[test]
    fn the_oldest_objects_have_series_and_the_others_are_counted() {
        let of = |name: &str, created: &str| cluster(name, created, json!({}));
        let clusters = [
            of("new", "2026-03-01T00:00:00Z"),
            of("old", "2026-01-01T00:00:00Z"),
            of("older", "2025-01-01T00:00:00Z"),
        ];
        let two = lines(&clusters, &[], 2);
        has(&two, "objects kind=LocalCluster 3");
        has(&two, "objects_without_series kind=LocalCluster 1");
        has(&two, "objects_without_series kind=Registry 0");
        has(&two, "metrics_objects  2");
        assert!(
            two.iter().any(|l| l.contains("name=old ")) && !two.iter().any(|l| l.contains("name=new")),
            "{two:?}"
        );
        // An object without a status has nothing that could be wrong.
        has(&two, "observed_generation kind=LocalCluster,namespace=team,name=old -1");
        let none = lines(&clusters, &[], 0);
        assert!(!none.iter().any(|l| l.contains("name=")), "{none:?}");
    }
}
