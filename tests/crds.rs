//! The CustomResourceDefinitions: the files in `crds/` are what the code says, and a real API server takes and enforces
//! them with the words that the code has for it.
//!
//! The API server is the management cluster of `tests/world/world up`; `WORLD_KUBECONFIG` names another.

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::{CustomResourceExt, ResourceExt};
use localcluster_operator::{
    api::{
        HostPolicy, LocalCluster, LocalClusterClaim, LocalClusterPool, LocalClusterSpec, Registry, crds,
        rules::{self, text},
    },
    plan::validate,
};
use serde_json::{Value, json};

#[path = "crds/accepted.rs"]
mod accepted;
#[path = "crds/admission.rs"]
mod admission;
#[path = "crds/documents.rs"]
mod documents;
#[path = "crds/enforced.rs"]
mod enforced;
#[path = "crds/pools.rs"]
mod pools;
#[path = "crds/server.rs"]
mod server;
#[path = "crds/specs.rs"]
mod specs;

use accepted::GOOD;
use server::Server;
use specs::{BAD, BAD_NAMES, SCHEMA_SAYS};

const LC: &str = "LocalCluster";
const REGISTRY: &str = "Registry";

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: localcluster.dev/v1alpha1\nkind: {kind}\nmetadata:\n  name: \"{name}\"\n  \
         annotations: {{localcluster.dev/paused: \"true\"}}\nspec: {spec}\n"
    )
}

#[test]
fn files_are_what_the_code_says() {
    for (name, crd) in crds::all() {
        let file = fs::read_to_string(root().join("crds").join(&name)).unwrap_or_default();
        let same = file == serde_saphyr::to_string(&crd).unwrap();
        assert!(same, "crds/{name} is out of date: cargo run -- crds --output crds");
    }
}

/// The API server would write them into the list, and every `kubectl apply` of the same file would find another one.
#[test]
fn no_item_of_a_list_has_a_default_and_each_tells_what_is_taken() {
    fn walk(
        path: &str,
        schema: &JSONSchemaProps,
        written: &JSONSchemaProps,
        in_list: bool,
        seen: &mut Vec<String>,
    ) {
        if in_list {
            assert_eq!(schema.default, None, "{path}");
            if written.default.is_some() {
                let told = written.description.as_deref().unwrap_or_default();
                assert!(told.contains("Defaults to"), "{path}: {told}");
                seen.push(path.to_owned());
            }
        }
        for (name, property) in schema.properties.iter().flatten() {
            let written = &written.properties.as_ref().unwrap()[name];
            walk(&format!("{path}.{name}"), property, written, in_list, seen);
        }
        if let (Some(JSONSchemaPropsOrArray::Schema(item)), Some(JSONSchemaPropsOrArray::Schema(written))) =
            (&schema.items, &written.items)
        {
            walk(&format!("{path}[]"), item, written, true, seen);
        }
    }
    let root = |crd: &CustomResourceDefinition| {
        let schema = crd.spec.versions[0].schema.clone().unwrap();
        schema.open_api_v3_schema.unwrap()
    };
    let mut seen = Vec::new();
    let written = [
        LocalCluster::crd(),
        Registry::crd(),
        HostPolicy::crd(),
        LocalClusterPool::crd(),
        LocalClusterClaim::crd(),
    ];
    for ((_, crd), written) in crds::all().iter().zip(written) {
        walk("", &root(crd), &root(&written), false, &mut seen);
    }
    assert!(seen.iter().any(|path| path == ".spec.ports[].hostIP"), "{seen:?}");
}

#[test]
fn everything_is_described_and_of_a_format_that_api_servers_know() {
    fn walk(path: &str, schema: &JSONSchemaProps, found: &mut Vec<String>) {
        if !matches!(schema.format.as_deref(), None | Some("int32" | "int64" | "date-time")) {
            found.push(format!("{path}: format {:?}", schema.format));
        }
        for (name, property) in schema.properties.iter().flatten() {
            let path = format!("{path}.{name}");
            // These three are Kubernetes' own, at the top.
            let own = !matches!(path.as_str(), ".apiVersion" | ".kind" | ".metadata");
            if own && property.description.as_ref().is_none_or(|d| d.trim().is_empty()) {
                found.push(format!("{path}: no description"));
            }
            walk(&path, property, found);
        }
        match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => walk(&format!("{path}[]"), item, found),
            Some(JSONSchemaPropsOrArray::Schemas(_)) => {
                found.push(format!("{path}: items of several schemas"))
            }
            None => {}
        }
        if let Some(JSONSchemaPropsOrBool::Schema(value)) = &schema.additional_properties {
            walk(&format!("{path}{{}}"), value, found);
        }
    }
    for (_, crd) in crds::all() {
        let mut found = Vec::new();
        for version in &crd.spec.versions {
            let schema = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()).unwrap();
            walk("", schema, &mut found);
        }
        assert!(found.is_empty(), "{}: {found:#?}", crd.name_any());
    }
}

/// The problems that the operator itself finds; `None` where the object can't even be read.
fn problems(object: &str) -> Option<Vec<String>> {
    let value: Value = serde_saphyr::from_str(object).unwrap();
    if value["kind"] == LC {
        let lc: LocalCluster = serde_json::from_value(value).ok()?;
        Some(validate::local_cluster("default", &lc.name_any(), &lc.spec).err().unwrap_or_default())
    } else {
        let registry: Registry = serde_json::from_value(value).ok()?;
        Some(validate::registry("default", &registry.name_any(), &registry.spec).err().unwrap_or_default())
    }
}

/// The API server fills in what a spec leaves out.
fn with_defaults(kind: &str, spec: &str) -> String {
    let mut object = json!({"kind": kind, "spec": serde_saphyr::from_str::<Value>(spec).unwrap()});
    prune_nulls(&mut object);
    with_count(&mut object);
    object["spec"].to_string()
}

fn with_count(object: &mut Value) {
    if object["kind"] != LC {
        return;
    }
    let count = &mut object["spec"]["servers"]["count"];
    if count.is_null() {
        *count = json!(1);
    }
}

/// An object of before lists had no defaults has them written in it, and means what it meant.
#[test]
fn what_the_schema_once_filled_in_changes_nothing() {
    let spec = |yaml: &str| {
        let value = serde_saphyr::from_str::<Value>(yaml).unwrap();
        serde_json::from_value::<LocalClusterSpec>(value).unwrap()
    };
    let written = "{servers: {count: 1}, agents: {count: 2, env: [{name: A}], volumes: [{hostPath: /srv, mountPath: /a}]},
        ports: [{name: a, port: 80, hostPort: 80}, {name: b, port: 53, protocol: UDP}], files: [{path: /x, inline: x}],
        registries: {use: [{name: r}, {name: r, namespace: s}], create: {env: [{name: B}]}, containers: [{name: c}],
        configs: [{host: h, tls: {caSecretName: ca}}]}}";
    let filled = "{servers: {count: 1}, agents: {count: 2, env: [{name: A, value: ''}], volumes: [{hostPath: /srv,
        mountPath: /a, readOnly: false}]}, ports: [{name: a, port: 80, hostPort: 80, hostIP: 127.0.0.1, protocol: TCP,
        nodes: All}, {name: b, port: 53, protocol: UDP, hostIP: 127.0.0.1, nodes: All}], files: [{path: /x, inline: x,
        nodes: All}], registries: {use: [{name: r, namespace: ''}, {name: r, namespace: s}], create: {env: [{name: B,
        value: ''}]}, containers: [{name: c, port: 5000}], configs: [{host: h, tls: {caSecretName: ca,
        insecureSkipVerify: false}}]}}";
    assert_eq!(spec(written), spec(filled));
    let valid = |yaml: &str| validate::local_cluster("default", "dev", &spec(yaml)).unwrap();
    assert_eq!(valid(written), valid(filled));
}

fn prune_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, v| !v.is_null());
        map.values_mut().for_each(prune_nulls);
    }
}

#[test]
fn the_operator_says_the_same_about_objects_that_are_older_than_a_rule() {
    let rows = BAD.iter().map(|(kind, spec, says)| (object(kind, "dev", &with_defaults(kind, spec)), says));
    let names =
        BAD_NAMES.iter().map(|(kind, name, says)| (object(kind, name, &with_defaults(kind, "{}")), says));
    for (object, says) in
        rows.chain(names).filter(|(_, says)| !SCHEMA_SAYS.iter().any(|own| says.starts_with(own)))
    {
        let found = problems(&object);
        let told = found.as_ref().is_some_and(|f| f.iter().any(|p| p.contains(says)));
        assert!(told, "{object}wants {says:?}, found {found:#?}");
    }
    for (kind, name, spec) in GOOD {
        let object = object(kind, name, &with_defaults(kind, spec));
        assert_eq!(problems(&object), Some(Vec::new()), "{object}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn agents_are_scaled_by_kubectl() {
    let server = Server::new("scale");
    server.must_with(&["create", "-f", "-"], &object(LC, "dev", "{}"));
    server.must(&["scale", "lc/dev", "--replicas=3"]);
    assert_eq!(server.get("lc/dev")["spec"]["agents"]["count"], 3);
    server.must_refuse(&["scale", "lc/dev", "--replicas=33"], "", "less than or equal to 32");
    let status = r#"{"status": {"agents": {"desired": 5, "replicas": 4, "ready": 1}, "replicas": 2, "selector": "a=b"}}"#;
    server.must(&["patch", "lc/dev", "--subresource=status", "--type=merge", "-p", status]);
    let path =
        format!("/apis/localcluster.dev/v1alpha1/namespaces/{}/localclusters/dev/scale", server.namespace);
    let scale: Value = serde_json::from_str(&server.must(&["get", "--raw", &path])).unwrap();
    assert_eq!(scale["spec"], json!({"replicas": 3}));
    assert_eq!(scale["status"], json!({"replicas": 2, "selector": "a=b"}));
}

#[test]
fn kubectl_get_and_explain_tell_what_people_ask() {
    let server = Server::new("columns");
    server.must_with(&["create", "-f", "-"], &object(LC, "dev", "{}"));
    server.must_with(&["create", "-f", "-"], &object(REGISTRY, "registry", "{}"));
    let header = |args: &[&str]| {
        let table = server.must(args);
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(header(&["get", "lc"]), "NAME READY REASON VERSION SERVERS AGENTS ENDPOINT EXPIRES AGE");
    assert_eq!(
        header(&["get", "lc", "-o", "wide"]),
        "NAME READY REASON STATE VERSION SERVERS AGENTS ENDPOINT EXPIRES AGE HOST IMAGE NETWORK MESSAGE"
    );
    assert_eq!(header(&["get", "lreg"]), "NAME READY REASON HOST CLUSTER CACHES USED-BY AGE");

    let agents = server.must(&["explain", "lc.spec.agents"]);
    for words in [
        "one at a time",
        "without a restart",
        "Defaults to",
        "must not contain secrets",
        "2Gi",
        "keep running",
    ] {
        assert!(agents.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{words}: {agents}");
    }
    assert!(server.must(&["explain", "lreg.spec.storage.retain"]).contains("deleted"));
    let told = |field: &str| {
        let text = server.must(&["explain", field]);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let port = told("lreg.spec.hostPort");
    assert!(port.contains("without restarting or replacing nodes"), "{port}");
    for (field, default) in [
        ("lc.spec.ports.hostIP", "Defaults to 127.0.0.1"),
        ("lc.spec.ports.protocol", "Defaults to TCP"),
        ("lc.spec.registries.use.namespace", "Defaults to the namespace of this object"),
        ("lc.spec.registries.containers.port", "Defaults to 5000"),
    ] {
        assert!(told(field).contains(default), "{field}: {}", told(field));
    }
}

#[test]
fn the_base_and_the_samples_are_taken() {
    let server = Server::new("deploy");
    let render = |dir: &str| server.must(&["kustomize", root().join(dir).to_str().unwrap()]);
    // In a namespace that exists, since a dry run makes none.
    let base = render("deploy").replace("localcluster-system", &server.namespace);
    let apply =
        &["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-"];
    let taken = server.run(apply, &base);
    assert!(taken.ok && taken.stderr.is_empty(), "{}{}", taken.stdout, taken.stderr);
    for what in
        ["deployment.apps/localcluster-operator", "clusterrole", "customresourcedefinition", "service/"]
    {
        assert!(taken.stdout.contains(what), "{what}: {}", taken.stdout);
    }
    let own = root().join("target/tmp/admission");
    fs::create_dir_all(&own).unwrap();
    let text = "kind: Kustomization\ncomponents: [../../../deploy/admission]\n";
    fs::write(own.join("kustomization.yaml"), text).unwrap();
    let taken = server.must_with(apply, &render("target/tmp/admission"));
    assert_eq!(taken.lines().count(), 2, "{taken}");
    fs::write(own.join("kustomization.yaml"), text.replace("/admission", "/operator-admission")).unwrap();
    let taken = server.must_with(apply, &render("target/tmp/admission"));
    assert_eq!(taken.lines().count(), 10, "{taken}");
    let own = root().join("target/tmp/network-policy");
    fs::create_dir_all(&own).unwrap();
    let text = "kind: Kustomization\ncomponents: [../../../deploy/network-policy]\n";
    fs::write(own.join("kustomization.yaml"), text).unwrap();
    let policy = render("target/tmp/network-policy").replace("localcluster-system", &server.namespace);
    let taken = server.must_with(apply, &policy);
    assert_eq!(taken.lines().count(), 1, "{taken}");
    let bindings = fs::read_to_string(root().join("deploy/samples/tenancy/admission.yaml")).unwrap();
    let taken = server.must_with(apply, &bindings);
    assert_eq!(taken.lines().count(), 2, "{taken}");
    let samples =
        render("deploy/samples").replace("namespace: default", &format!("namespace: {}", server.namespace));
    let taken = server.must_with(apply, &samples);
    assert_eq!(taken.lines().count(), 3, "{taken}");
}
