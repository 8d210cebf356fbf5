//! Metrics of the operator.
//!
//! The number of series is bounded, whatever users do. Counters and histograms, which stay for the life of the process,
//! have labels whose values are constants. Names of objects are labels of gauges only, which are computed from the objects
//! that exist at each scrape: a series vanishes with its object. Only so many objects of a kind have such series
//! (`--metrics-objects`), the oldest first, so that new objects cannot displace those of others; how many are left out is
//! a metric as well.

pub mod family;
mod process;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use family::{GaugeFamily, Sample};

use http::{Method, Request};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, prometheus_text, text},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};
use tower::util::MapRequestLayer;

/// Label names with their values, all known at compile time.
type Labels<const N: usize> = [(&'static str, &'static str); N];
/// Numbers of objects that violate fields of policies, by both.
pub type Counts = BTreeMap<(String, &'static str), i64>;
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// Buckets from the response of a local socket to the end of a slow stop.
const SECONDS: [f64; 11] = [0.002, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// Buckets for the time until a new object is ready: a claim of a pool takes less than a second, a cluster half a minute if
/// its images exist.
const PROVISIONING: [f64; 13] =
    [0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0];

/// Text formats of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus 0.0.4.
    Prometheus,
}

impl Format {
    /// Returns the content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// Returns the metrics of the objects that exist now.
pub type Source = Box<dyn Fn() -> Vec<GaugeFamily> + Send + Sync>;

/// Metrics that are computed at each scrape. A process that does not hold the Lease has none.
#[derive(Clone, Default)]
struct Computed(Arc<Mutex<Vec<Arc<Source>>>>);

impl Computed {
    /// Returns the metrics of all sources, each metric once.
    fn families(&self) -> Vec<GaugeFamily> {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all: Vec<GaugeFamily> = Vec::new();
        for family in sources.iter().flat_map(|source| source()) {
            match all.iter_mut().find(|known| known.name == family.name) {
                Some(known) => known.samples.extend(family.samples),
                None => all.push(family),
            }
        }
        all
    }
}

impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Computed")
    }
}

impl Collector for Computed {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for GaugeFamily { name, help, samples } in self.families() {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for Sample { labels, value } in &samples {
                if labels.is_empty() {
                    metric.encode_gauge(value)?;
                } else {
                    ConstGauge::new(*value).encode(metric.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

/// Metrics of the operator. Clones share their values.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    computed: Computed,
    provisioning: Histograms<2>,
    repairs: Counters<2>,
    running: Family<Labels<1>, Gauge>,
    waiting: Family<Labels<1>, Gauge>,
    reconciles: Counters<1>,
    reconcile_errors: Counters<2>,
    reconcile_duration: Histograms<1>,
    docker_calls: Counters<2>,
    docker_call_duration: Histograms<1>,
    docker_steps: Counters<2>,
    api_requests: Counters<2>,
    image_pulls: Counters<1>,
    watch_errors: Counters<1>,
    connections: Counters<2>,
    clusters: Family<Labels<1>, Gauge>,
    orphans: Family<Labels<1>, Gauge>,
    violations: Family<[(&'static str, String); 2], Gauge>,
    counted: Arc<Mutex<Counts>>,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Returns the metrics with all values at zero.
    pub fn new() -> Self {
        let mut new = Self {
            registry: Arc::default(),
            computed: Computed::default(),
            provisioning: Family::new_with_constructor(|| Histogram::new(PROVISIONING)),
            repairs: Family::default(),
            running: Family::default(),
            waiting: Family::default(),
            reconciles: Family::default(),
            reconcile_errors: Family::default(),
            reconcile_duration: Family::new_with_constructor(seconds),
            docker_calls: Family::default(),
            docker_call_duration: Family::new_with_constructor(seconds),
            docker_steps: Family::default(),
            api_requests: Family::default(),
            image_pulls: Family::default(),
            watch_errors: Family::default(),
            connections: Family::default(),
            clusters: Family::default(),
            orphans: Family::default(),
            violations: Family::default(),
            counted: Arc::default(),
            leader: Gauge::default(),
        };
        let mut all = Registry::default();
        all.sub_registry_with_prefix("process").register_collector(Box::new(process::Process));
        let r = all.sub_registry_with_prefix("localcluster");
        r.register_collector(Box::new(new.computed.clone()));
        let m = &new;
        m.register_work(r);
        r.register("reconciles", "Completed reconciliations, by kind of object", m.reconciles.clone());
        r.register(
            "reconcile_errors",
            "Failed reconciliations, by kind of object and error",
            m.reconcile_errors.clone(),
        );
        let help = "Duration of reconciliations, by kind of object";
        r.register_with_unit("reconcile_duration", help, Unit::Seconds, m.reconcile_duration.clone());
        r.register("docker_calls", "Docker Engine calls, by operation and result", m.docker_calls.clone());
        let help = "Duration of Docker Engine calls, by operation";
        r.register_with_unit("docker_call_duration", help, Unit::Seconds, m.docker_call_duration.clone());
        r.register("docker_steps", "Executed plan steps, by step and result", m.docker_steps.clone());
        let help = "Requests to Kubernetes APIs, by API and verb";
        r.register("api_requests", help, m.api_requests.clone());
        r.register("image_pulls", "Image pulls, by result", m.image_pulls.clone());
        r.register("watch_errors", "Watch errors, by watched resource", m.watch_errors.clone());
        let help = "Connections to created clusters and registries, by kind of object and path";
        r.register("connections", help, m.connections.clone());
        r.register("clusters", "LocalClusters, by readiness", m.clusters.clone());
        let help = "Docker objects of a LocalCluster or Registry that no longer exists, by resource";
        r.register("orphans", help, m.orphans.clone());
        let help = "Objects that violate a HostPolicy, by policy and its field";
        r.register("policy_violations", help, m.violations.clone());
        r.register("leader", "1 if this process holds the Lease", m.leader.clone());
        let build = Family::<Labels<1>, Gauge>::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        r.register("build_info", "Version of the operator", build);
        new.registry = Arc::new(all);
        new
    }

    fn register_work(&self, r: &mut Registry) {
        let help = "Time from the creation of an object until a condition was True for the first time";
        r.register_with_unit("provisioning_duration", help, Unit::Seconds, self.provisioning.clone());
        r.register("repairs", "Repairs of containers, by kind of object and repair", self.repairs.clone());
        r.register(
            "reconciles_running",
            "Reconciliations in progress, by kind of object",
            self.running.clone(),
        );
        let help = "Objects whose reconciliation waits for others, by kind of object";
        r.register("reconciles_waiting", help, self.waiting.clone());
    }

    /// Counts a reconciliation of an object of `kind`, with the kind of its error if it failed.
    pub fn reconciled(&self, kind: &'static str, took: Duration, error: Option<&'static str>) {
        let labels = [("kind", kind)];
        self.reconciles.get_or_create(&labels).inc();
        self.reconcile_duration.get_or_create(&labels).observe(took.as_secs_f64());
        if let Some(error) = error {
            self.reconcile_errors.get_or_create(&[("kind", kind), ("error", error)]).inc();
        }
    }

    /// Counts a reconciliation of an object of `kind` that panicked.
    pub fn panicked(&self, kind: &'static str) {
        self.reconcile_errors.get_or_create(&[("kind", kind), ("error", "panic")]).inc();
    }

    /// Counts a Docker Engine call, such as `create_container` with the result `ok` or a kind of error.
    pub fn docker_call(&self, operation: &'static str, result: &'static str, took: Duration) {
        self.docker_calls.get_or_create(&[("operation", operation), ("result", result)]).inc();
        self.docker_call_duration.get_or_create(&[("operation", operation)]).observe(took.as_secs_f64());
    }

    /// Counts an executed plan step.
    pub fn docker_step(&self, step: &'static str, result: &'static str) {
        self.docker_steps.get_or_create(&[("step", step), ("result", result)]).inc();
    }

    /// Returns a layer of a client that counts its requests to an API: `management` or `cluster`.
    pub fn requests_to<B>(
        &self,
        api: &'static str,
    ) -> MapRequestLayer<impl Fn(Request<B>) -> Request<B> + Clone + use<B>> {
        let requests = self.api_requests.clone();
        MapRequestLayer::new(move |request: Request<B>| {
            requests.get_or_create(&[("api", api), ("verb", verb(&request))]).inc();
            request
        })
    }

    /// Counts a completed image pull.
    pub fn pulled(&self, result: &'static str) {
        self.image_pulls.get_or_create(&[("result", result)]).inc();
    }

    /// Counts an error of a watch such as `localclusters` or `docker`.
    pub fn watch_error(&self, watch: &'static str) {
        self.watch_errors.get_or_create(&[("watch", watch)]).inc();
    }

    /// Counts a connection to what an object of `kind` created, with its path: `direct` or `tunnel`.
    pub fn connected(&self, kind: &'static str, path: &'static str) {
        self.connections.get_or_create(&[("kind", kind), ("path", path)]).inc();
    }

    /// Sets the numbers of LocalClusters that are ready and not ready.
    pub fn set_clusters(&self, ready: usize, not_ready: usize) {
        for (label, count) in [("true", ready), ("false", not_ready)] {
            self.clusters.get_or_create(&[("ready", label)]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Sets the number of Docker objects of a `resource` such as `volume` whose owner no longer exists.
    pub fn set_orphans(&self, resource: &'static str, count: usize) {
        let gauge = self.orphans.get_or_create(&[("resource", resource)]);
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the numbers of objects that violate fields of policies.
    pub fn set_violations(&self, counts: &Counts) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let labels =
            |(policy, field): &(String, &str)| [("policy", policy.clone()), ("field", (*field).to_owned())];
        for gone in counted.keys().filter(|key| !counts.contains_key(*key)) {
            self.violations.remove(&labels(gone));
        }
        for (key, count) in counts {
            self.violations.get_or_create(&labels(key)).set(*count);
        }
        counted.clone_from(counts);
    }

    /// Sets whether this process holds the Lease.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// Adds what returns metrics of objects that exist.
    pub fn add_source(&self, source: Source) {
        self.computed.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(source));
    }

    /// Records the time from the creation of an object until a condition such as `Ready` was True for the first time.
    pub fn provisioned(&self, kind: &'static str, condition: &'static str, took: Duration) {
        let labels = [("kind", kind), ("condition", condition)];
        self.provisioning.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts a repair, such as `Restart`.
    pub fn repaired(&self, kind: &'static str, repair: &'static str) {
        self.repairs.get_or_create(&[("kind", kind), ("repair", repair)]).inc();
    }

    /// Counts an object of `kind` that waits to be reconciled, until the value is dropped.
    pub fn waits(&self, kind: &'static str) -> Counted {
        Counted::new(&self.waiting, kind)
    }

    /// Counts an object of `kind` that is being reconciled, until the value is dropped.
    pub fn runs(&self, kind: &'static str) -> Counted {
        Counted::new(&self.running, kind)
    }

    /// Returns all metrics in the OpenMetrics text format.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        self.encode_as(Format::OpenMetrics)
    }

    /// Returns all metrics in a text format.
    pub fn encode_as(&self, format: Format) -> Result<String, fmt::Error> {
        let mut out = String::new();
        match format {
            Format::OpenMetrics => text::encode(&mut out, &self.registry)?,
            Format::Prometheus => prometheus_text::encode(&mut out, &self.registry)?,
        }
        Ok(out)
    }
}

/// An object that a gauge counts.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    fn new(gauges: &Family<Labels<1>, Gauge>, kind: &'static str) -> Self {
        let gauge = gauges.get_or_create(&[("kind", kind)]).clone();
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Returns the verb of a request in the terms of Kubernetes, without the difference of one and many objects.
fn verb<B>(request: &Request<B>) -> &'static str {
    let watches = request.uri().query().is_some_and(|q| q.split('&').any(|part| part.starts_with("watch=")));
    match *request.method() {
        Method::GET if watches => "watch",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_those_of_kubernetes() {
        let of =
            |method: Method, uri: &str| verb(&Request::builder().method(method).uri(uri).body(()).unwrap());
        assert_eq!(of(Method::GET, "/api/v1/nodes?fieldSelector=a"), "get");
        assert_eq!(of(Method::GET, "/api/v1/nodes?limit=5&watch=true"), "watch");
        assert_eq!(of(Method::POST, "/api/v1/events"), "create");
        assert_eq!(of(Method::DELETE, "/api/v1/nodes/watch=1"), "delete");
        assert_eq!(of(Method::HEAD, "/"), "other");
    }

    #[test]
    fn everything_counted_is_shown_by_every_clone() {
        let metrics = Metrics::new();
        let other = metrics.clone();
        metrics.reconciled("LocalCluster", Duration::from_millis(60), None);
        metrics.reconciled("LocalCluster", Duration::from_millis(60), Some("docker"));
        metrics.docker_call("start_container", "ok", Duration::from_millis(3));
        metrics.docker_step("StartContainer", "ok");
        let layer = metrics.requests_to::<()>("cluster");
        let mut client = tower::Layer::layer(&layer, tower::service_fn(async |_| Ok::<(), ()>(())));
        drop(tower::Service::call(&mut client, Request::get("/api/v1/nodes").body(()).unwrap()));
        metrics.pulled("error");
        metrics.watch_error("secrets");
        metrics.connected("Registry", "tunnel");
        metrics.set_clusters(2, 1);
        metrics.set_orphans("volume", 2);
        let counts = |field, n| Counts::from([(("teams".to_owned(), field), n)]);
        metrics.set_violations(&counts("maxTTL", 3));
        metrics.set_violations(&counts("quota.clusters", 2));
        metrics.set_leader(true);
        metrics.provisioned("LocalCluster", "Ready", Duration::from_secs(25));
        metrics.repaired("Registry", "Start");
        let (running, waiting) = (metrics.runs("Registry"), metrics.waits("LocalCluster"));
        drop(waiting);
        let text = other.encode().unwrap();
        drop(running);
        for line in [
            r#"localcluster_policy_violations{policy="teams",field="quota.clusters"} 2"#,
            r#"localcluster_reconciles_total{kind="LocalCluster"} 2"#,
            r#"localcluster_reconcile_errors_total{kind="LocalCluster",error="docker"} 1"#,
            r#"localcluster_reconcile_duration_seconds_bucket{le="0.1",kind="LocalCluster"} 2"#,
            r#"localcluster_docker_calls_total{operation="start_container",result="ok"} 1"#,
            r#"localcluster_docker_call_duration_seconds_count{operation="start_container"} 1"#,
            r#"localcluster_docker_steps_total{step="StartContainer",result="ok"} 1"#,
            r#"localcluster_api_requests_total{api="cluster",verb="get"} 1"#,
            r#"localcluster_image_pulls_total{result="error"} 1"#,
            r#"localcluster_watch_errors_total{watch="secrets"} 1"#,
            r#"localcluster_connections_total{kind="Registry",path="tunnel"} 1"#,
            r#"localcluster_clusters{ready="true"} 2"#,
            r#"localcluster_clusters{ready="false"} 1"#,
            r#"localcluster_orphans{resource="volume"} 2"#,
            "localcluster_leader 1",
            r#"localcluster_provisioning_duration_seconds_bucket{le="30.0",kind="LocalCluster",condition="Ready"} 1"#,
            r#"localcluster_repairs_total{kind="Registry",repair="Start"} 1"#,
            r#"localcluster_reconciles_running{kind="Registry"} 1"#,
            r#"localcluster_reconciles_waiting{kind="LocalCluster"} 0"#,
            "# TYPE process_cpu_seconds counter",
            "# TYPE process_resident_memory_bytes gauge",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line} in\n{text}");
        }
    }

    #[test]
    fn metrics_of_two_sources_are_one() {
        let metrics = Metrics::new();
        for (kind, value) in [("a", 1.0), ("b", 2.0)] {
            metrics.add_source(Box::new(move || {
                let samples = vec![Sample { labels: vec![("kind", kind.to_owned())], value }];
                vec![GaugeFamily { name: "things", help: "Things", samples }]
            }));
        }
        let text = metrics.encode().unwrap();
        assert_eq!(text.matches("# TYPE localcluster_things gauge").count(), 1, "{text}");
        for line in [r#"localcluster_things{kind="a"} 1.0"#, r#"localcluster_things{kind="b"} 2.0"#] {
            assert!(text.lines().any(|l| l == line), "no line {line} in\n{text}");
        }
    }

    #[test]
    fn what_is_computed_vanishes_with_its_object() {
        let metrics = Metrics::new();
        let gone = Arc::new(Mutex::new(false));
        let see = gone.clone();
        metrics.add_source(Box::new(move || {
            let labels = vec![("name", r#"a "b" \c"#.to_owned())];
            let samples = if *see.lock().unwrap() { vec![] } else { vec![Sample { labels, value: 1.5 }] };
            let plain = Sample { labels: Vec::new(), value: 3.0 };
            vec![
                GaugeFamily { name: "things", help: "Things", samples },
                GaugeFamily { name: "plain", help: "Plain", samples: vec![plain] },
            ]
        }));
        for format in [Format::OpenMetrics, Format::Prometheus] {
            *gone.lock().unwrap() = false;
            let text = metrics.encode_as(format).unwrap();
            assert!(text.contains("\nlocalcluster_things{name=\"a \\\"b\\\" \\\\c\"} 1.5\n"), "{text}");
            assert!(text.contains("\nlocalcluster_plain 3.0\n"), "{text}");
            *gone.lock().unwrap() = true;
            let text = metrics.encode_as(format).unwrap();
            assert!(text.contains("# TYPE localcluster_things gauge") && !text.contains("things{"), "{text}");
        }
    }

    #[test]
    fn counters_have_the_name_of_their_format() {
        let metrics = Metrics::new();
        metrics.pulled("ok");
        let text = metrics.encode_as(Format::Prometheus).unwrap();
        assert!(text.contains("# TYPE localcluster_image_pulls_total counter\n"), "{text}");
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
        assert!(metrics.encode().unwrap().contains("# TYPE localcluster_image_pulls counter\n"));
    }
}
