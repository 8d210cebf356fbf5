//! Dashboard, alerts and documentation name only metrics and labels that exist, and the documentation names all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use jiff::Timestamp;
use localcluster_operator::{
    api::{
        LocalCluster, LocalClusterPool, Registry,
        condition::{ConditionType, Status},
    },
    metrics::{Format, Metrics},
    status::series::{self, Inventory, Queues},
};
use regex::Regex;
use serde_json::{Value, json};

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Metrics in which everything has happened once.
fn metrics() -> Metrics {
    let metrics = Metrics::new();
    let second = Duration::from_secs(1);
    metrics.reconciled("LocalCluster", second, Some("kubernetes"));
    metrics.panicked("LocalCluster");
    metrics.docker_call("start_container", "ok", second);
    metrics.docker_step("Start", "ok");
    let layer = metrics.requests_to::<()>("cluster");
    let mut client = tower::Layer::layer(&layer, tower::service_fn(async |_| Ok::<(), ()>(())));
    drop(tower::Service::call(&mut client, http::Request::get("/api/v1/nodes").body(()).unwrap()));
    metrics.pulled("failed");
    metrics.watch_error("Secret");
    metrics.connected("Registry", "tunnel");
    metrics.set_clusters(1, 0);
    metrics.set_orphans("volume", 1);
    metrics.set_violations(&[(("teams".to_owned(), "maxTTL"), 1)].into());
    metrics.set_leader(true);
    metrics.provisioned("LocalCluster", "Ready", second);
    metrics.repaired("LocalCluster", "Start");
    drop((metrics.runs("LocalCluster"), metrics.waits("LocalCluster")));
    metrics.add_source(Box::new(|| {
        let time = "2026-01-01T00:00:00Z";
        let condition = json!({"type": "Ready", "status": "True", "reason": "Ready", "message": "",
            "lastTransitionTime": time});
        let meta = json!({"namespace": "team", "name": "dev", "uid": "u", "generation": 1, "creationTimestamp": time,
            "deletionTimestamp": time});
        let pool = json!({"desired": 1, "replicas": 1, "ready": 1});
        let cluster = json!({"metadata": meta, "spec": {}, "status": {
            "observedGeneration": 1, "conditions": [condition], "servers": pool, "agents": pool, "expiresAt": time,
            "kubeconfigSecret": "dev-kubeconfig"}});
        let mut broken = cluster.clone();
        broken["metadata"]["name"] = json!("broken");
        broken["status"]["conditions"][0]["status"] = json!("False");
        broken["status"]["conditions"][0]["reason"] = json!("PortConflict");
        let registry = json!({"metadata": meta, "spec": {}, "status": {"conditions": [condition]}});
        let cluster: LocalCluster = serde_json::from_value(cluster).unwrap();
        let broken: LocalCluster = serde_json::from_value(broken).unwrap();
        let registry: Registry = serde_json::from_value(registry).unwrap();
        series::of(&Inventory {
            clusters: vec![&cluster, &broken],
            registries: vec![&registry],
            most: 10,
            certificate: &|_| Some(Timestamp::UNIX_EPOCH),
            ports: 20000..=29999,
            subnets: Some((0, 256)),
            queues: Queues::default(),
        })
    }));
    metrics
        .add_source(Box::new(|| series::of_pools(&[&LocalClusterPool::new("ci", Default::default())], 10)));
    metrics
}

/// A metric of the exposition.
#[derive(Debug, Default)]
struct Metric {
    kind: String,
    labels: BTreeSet<String>,
}

/// The metrics by the names of their series; histograms without the suffixes of theirs.
fn exposed() -> BTreeMap<String, Metric> {
    let text = metrics().encode().unwrap();
    let mut all: BTreeMap<String, Metric> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            all.insert(name, Metric { kind: kind.to_owned(), ..Metric::default() });
        }
    }
    let series = Regex::new(r"^([a-z_]+)(?:\{(.*)\})? \S+$").unwrap();
    let label = Regex::new(r#"([a-z_]+)="(?:[^"\\]|\\.)*""#).unwrap();
    for found in text.lines().filter_map(|line| series.captures(line)) {
        let metric = all.get_mut(base(&found[1])).unwrap_or_else(|| panic!("{} has no type", &found[1]));
        let labels = found.get(2).map_or("", |labels| labels.as_str());
        metric.labels.extend(label.captures_iter(labels).map(|l| l[1].to_owned()).filter(|l| l != "le"));
    }
    all
}

/// Returns the name of a metric without the suffix of a histogram.
fn base(series: &str) -> &str {
    let suffixes = ["_bucket", "_sum", "_count"];
    suffixes.iter().find_map(|suffix| series.strip_suffix(suffix)).unwrap_or(series)
}

/// Labels that Prometheus adds to whatever it scrapes.
const OF_TARGETS: [&str; 4] = ["instance", "job", "pod", "le"];

/// Asserts that an expression uses what exists, and returns its metrics.
fn check(expr: &str, exposed: &BTreeMap<String, Metric>) -> BTreeSet<String> {
    let selector = Regex::new(r"\b((?:localcluster|process)_[a-z_]+)(?:\{([^}]*)\})?").unwrap();
    let matcher = Regex::new(r#"([a-z_]+)(=~|!~|!=|=)"([^"]*)""#).unwrap();
    let grouping = Regex::new(r"\b(?:by|on|without|ignoring) \(([^)]*)\)").unwrap();
    let mut names = BTreeSet::new();
    let mut labels: BTreeSet<&str> = OF_TARGETS.into();
    for found in selector.captures_iter(expr) {
        let metric =
            exposed.get(base(&found[1])).unwrap_or_else(|| panic!("no metric {} in {expr}", &found[1]));
        names.insert(base(&found[1]).to_owned());
        labels.extend(metric.labels.iter().map(String::as_str));
        for matched in matcher.captures_iter(found.get(2).map_or("", |matchers| matchers.as_str())) {
            assert!(
                metric.labels.contains(&matched[1]),
                "{} has no label {} in {expr}",
                &found[1],
                &matched[1]
            );
            let known: Vec<String> = match &matched[1] {
                "type" | "condition" => ConditionType::ALL.iter().map(ToString::to_string).collect(),
                "status" => Status::ALL.iter().map(|status| status.as_str().to_lowercase()).collect(),
                "kind" => ["LocalCluster", "Registry", "LocalClusterPool", "LocalClusterClaim"]
                    .map(String::from)
                    .into(),
                "credential" => vec!["certificate".into(), "token".into()],
                "error" => vec!["kubernetes".into(), "panic".into()],
                "result" => vec!["ok".into(), "failed".into()],
                _ => continue,
            };
            for value in matched[3].split('|') {
                assert!(known.iter().any(|k| k == value), "{} is never {value} in {expr}", &matched[1]);
            }
        }
    }
    assert!(!names.is_empty(), "no metric in {expr}");
    for group in grouping.captures_iter(expr) {
        for label in group[1].split(',').map(str::trim).filter(|label| !label.is_empty()) {
            assert!(labels.contains(label), "no label {label} in {expr}");
        }
    }
    names
}

/// Asserts that the text of a panel or an alert names only labels of these metrics.
fn check_text(text: &str, names: &BTreeSet<String>, exposed: &BTreeMap<String, Metric>) {
    let placeholder = Regex::new(r"\{\{ *(?:\$labels\.)?([a-z_]+) *\}\}").unwrap();
    for found in placeholder.captures_iter(text) {
        let known = names.iter().any(|name| exposed[name].labels.contains(&found[1]));
        assert!(known || OF_TARGETS.contains(&&found[1]), "no label {} for {text}", &found[1]);
    }
}

fn alerts() -> Vec<Value> {
    let rule: Value = serde_saphyr::from_str(&file("deploy/monitoring/prometheus-rule.yaml")).unwrap();
    let groups = rule["spec"]["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

#[test]
fn alerts_use_metrics_that_exist_and_are_documented() {
    let (exposed, page) = (exposed(), file("docs/monitoring.md"));
    for alert in alerts() {
        let names = check(alert["expr"].as_str().unwrap(), &exposed);
        for text in ["summary", "description"] {
            check_text(alert["annotations"][text].as_str().unwrap(), &names, &exposed);
        }
        let name = alert["alert"].as_str().unwrap();
        assert!(page.contains(&format!("| `{name}` |")), "docs/monitoring.md lacks the alert {name}");
    }
}

#[test]
fn the_dashboard_uses_metrics_that_exist() {
    let exposed = exposed();
    let dashboard: Value = serde_json::from_str(&file("deploy/monitoring/dashboard.json")).unwrap();
    let (mut ids, mut used) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let names = check(target["expr"].as_str().unwrap(), &exposed);
            check_text(target["legendFormat"].as_str().unwrap(), &names, &exposed);
            used.extend(names);
        }
    }
    assert!(used.len() > 20, "{used:?}");
}

/// Writes a file that `make monitoring` has promtool read.
fn for_promtool(name: &str, text: &str) {
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), text).unwrap();
}

/// A test for promtool: each query of the dashboard has a number over the series of a scrape. Those that only grow do so every
/// minute, for without it no rate is a number.
#[test]
fn promtool_gets_every_query_of_the_dashboard() {
    let text = metrics().encode_as(Format::Prometheus).unwrap();
    let grows = ["_total", "_bucket", "_sum", "_count"];
    let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let values = match grows.iter().any(|suffix| name.ends_with(suffix)) {
            true => format!("0+{value}x90"),
            false => format!("{value}x90"),
        };
        json!({"series": series, "values": values})
    });
    let dashboard: Value = serde_json::from_str(&file("deploy/monitoring/dashboard.json")).unwrap();
    let targets = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|p| p["targets"].as_array().into_iter().flatten());
    let queries = targets.map(|target| {
        let query = target["expr"].as_str().unwrap().replace("$namespace", ".*");
        // Nothing is greater than what is not a number.
        let expr = format!("count(({query}) >= 0) > bool 0");
        json!({"expr": expr, "eval_time": "80m", "exp_samples": [{"labels": "{}", "value": 1}]})
    });
    let test = json!({"interval": "1m", "input_series": series.collect::<Vec<_>>(),
        "promql_expr_test": queries.collect::<Vec<_>>()});
    for_promtool("dashboard_test.yaml", &json!({"evaluation_interval": "1m", "tests": [test]}).to_string());
}

/// The format 0.0.4 as well, which promtool reads.
#[test]
fn both_formats_have_the_same_metrics() {
    let text = metrics().encode_as(Format::Prometheus).unwrap();
    for_promtool("metrics.txt", &text);
    let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let typed: BTreeSet<String> = typed.map(|(name, _)| name.to_owned()).collect();
    assert_eq!(typed, exposed().into_keys().collect());
}

/// The table of metrics: a row each, with type and labels.
#[test]
fn every_metric_is_documented_with_its_labels() {
    let exposed = exposed();
    let page = file("docs/monitoring.md");
    let row =
        Regex::new(r"(?m)^\| `((?:localcluster|process)_[a-z_]+)` \| (\w+) \| ([^|]*)\| (.+) \|$").unwrap();
    let label = Regex::new("`([a-z_]+)`").unwrap();
    let mut documented = BTreeMap::new();
    for found in row.captures_iter(&page) {
        // Behind a colon there are values.
        let labels = found[3].split(';').filter_map(|label| label.split(':').next());
        let labels: BTreeSet<String> = labels
            .flat_map(|part| label.captures_iter(part).map(|l| l[1].to_owned()).collect::<Vec<_>>())
            .collect();
        documented.insert(found[1].to_owned(), (found[2].to_owned(), labels));
    }
    let real: BTreeMap<String, (String, BTreeSet<String>)> =
        exposed.into_iter().map(|(name, metric)| (name, (metric.kind, metric.labels))).collect();
    for (name, metric) in &real {
        assert_eq!(documented.get(name), Some(metric), "docs/monitoring.md and the code differ about {name}");
    }
    let gone: Vec<&String> = documented.keys().filter(|name| !real.contains_key(*name)).collect();
    assert!(gone.is_empty(), "docs/monitoring.md has metrics that do not exist: {gone:?}");
}
