//! The ValidatingAdmissionPolicies: a real API server refuses what the operator refuses, and nothing else.

use std::time::{Duration, Instant};

use localcluster_operator::plan::policy::admission;

use super::{server::Output, *};

#[path = "../policy/rows.rs"]
mod rows;

/// The policies, a HostPolicy and bindings to it for the namespace. They are removed on drop.
struct Bound<'a>(&'a Server);

impl<'a> Bound<'a> {
    fn new(server: &'a Server) -> Self {
        let bound = Self(server);
        bound.allow("priority: 1");
        let namespace = &server.namespace;
        for policy in admission::policies() {
            // Others that test at the same time have their own.
            let mut value = serde_json::to_value(policy).unwrap();
            let name = format!("{}-{namespace}", value["metadata"]["name"].as_str().unwrap());
            value["metadata"]["name"] = json!(name);
            let binding = json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
                "metadata": {"name": name},
                "spec": {
                    "policyName": name, "validationActions": ["Deny"],
                    "paramRef": {"name": namespace, "parameterNotFoundAction": "Allow"},
                    "matchResources": {"namespaceSelector": {
                        "matchLabels": {"kubernetes.io/metadata.name": namespace},
                    }},
                },
            });
            for object in [value, binding] {
                server.must_with(&["apply", "--validate=strict", "-f", "-"], &object.to_string());
            }
        }
        bound
    }

    fn allow(&self, rules: &str) {
        let name = &self.0.namespace;
        let object = format!(
            "apiVersion: localcluster.dev/v1alpha1\nkind: HostPolicy\nmetadata: {{name: {name}}}\n\
             spec: {{namespaceSelector: {{matchLabels: {{none: none}}}}, {rules}}}\n"
        );
        self.0.must_with(&["apply", "-f", "-"], &object);
    }
}

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        let name = &self.0.namespace;
        for plural in ["localclusters", "registries"] {
            let policy = format!("{plural}.localcluster.dev-{name}");
            for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
                let _ = self.0.run(&["delete", kind, &policy, "--ignore-not-found"], "");
            }
        }
        let _ = self.0.run(&["delete", "hostpolicy", name, "--ignore-not-found"], "");
    }
}

/// What the server says to a creation, which it does not carry out.
fn said(server: &Server, object: &str) -> Output {
    server.run(&["create", "--dry-run=server", "-f", "-"], object)
}

/// Waits until the server has the policy: it answers as wanted.
#[allow(clippy::disallowed_methods, reason = "no runtime has a worker here")]
fn eventually(what: &str, mut holds: impl FnMut() -> Result<(), String>) {
    let began = Instant::now();
    while let Err(seen) = holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: {seen}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_a_host_policy_does_not_allow_is_refused_at_once() {
    let server = Server::new("admission");
    let bound = Bound::new(&server);
    let mut policies: Vec<&str> = rows::ROWS.iter().map(|(policy, ..)| *policy).collect();
    policies.dedup();
    // Rows that are refused come first: they show that the policy is known.
    for policy in policies {
        bound.allow(policy);
        let mut of: Vec<_> = rows::ROWS.iter().filter(|(other, ..)| *other == policy).collect();
        of.sort_by_key(|(.., field)| field.is_empty());
        for row in of {
            let (_, kind, spec, field) = *row;
            eventually(&format!("{policy}: {kind} {spec}"), || {
                let Output { ok, stderr, .. } = said(&server, &rows::object(row, &server.namespace));
                let told = stderr.contains(&format!("({field}: ")) && stderr.contains(&server.namespace);
                if ok == field.is_empty() && (ok || told) { Ok(()) } else { Err(stderr) }
            });
        }
    }
    // An object that exists keeps what it violated before, and gets nothing more.
    let edit = |patch: &str| server.run(&["patch", "lc/old", "--type=merge", "-p", patch], "");
    bound.allow("priority: 1");
    eventually("everything is allowed", || {
        let object = object(LC, "old", "{servers: {memory: 2Gi}, ttl: 9h}");
        let created = server.run(&["create", "-f", "-"], &object);
        if created.ok { Ok(()) } else { Err(created.stderr) }
    });
    bound.allow("maxTTL: 8h, perNode: {maxMemory: 2Gi}");
    eventually("a second violation is refused", || {
        let refused = edit(r#"{"spec": {"servers": {"memory": "3Gi"}}}"#);
        let undone = edit(r#"{"spec": {"servers": {"memory": "2Gi"}}}"#);
        if !refused.ok && undone.ok && refused.stderr.contains("(perNode.maxMemory: ") {
            Ok(())
        } else {
            Err(refused.stderr + &undone.stderr)
        }
    });
    for patch in [r#"{"spec": {"onDataLoss": "Recreate"}}"#, r#"{"metadata": {"labels": {"a": "b"}}}"#] {
        let output = edit(patch);
        assert!(output.ok, "{patch}: {}", output.stderr);
    }
    let held = edit(r#"{"metadata": {"annotations": {"localcluster.dev/hold": "true"}}}"#);
    assert!(!held.ok && held.stderr.contains("localcluster.dev/hold"), "{}", held.stderr);
    // The operator creates Registries for LocalClusters.
    let operator = "--as=system:serviceaccount:localcluster-system:localcluster-operator";
    let create = ["create", "--dry-run=server", operator, "--as-group=system:masters", "-f", "-"];
    server.must_with(&create, &object(LC, "other", "{ttl: 9h}"));
    let checked = |plural: &str| {
        let name = format!("validatingadmissionpolicy/{plural}.localcluster.dev-{}", server.namespace);
        server.get(&name)["status"]["typeChecking"].clone()
    };
    for plural in ["localclusters", "registries"] {
        eventually("the types are checked", || {
            let warnings = checked(plural);
            let none = warnings["expressionWarnings"].is_null() && !warnings.is_null();
            if none { Ok(()) } else { Err(warnings.to_string()) }
        });
    }
}

/// The policies for the operator itself, for the namespace. They are removed on drop.
struct Limited<'a>(&'a Server);

const OPERATOR: &str = "--as=system:serviceaccount:localcluster-system:localcluster-operator";

impl<'a> Limited<'a> {
    fn new(server: &'a Server) -> Self {
        let limited = Self(server);
        for mut object in Self::objects() {
            // Others that test at the same time have their own.
            let name = format!("{}-{}", object["metadata"]["name"].as_str().unwrap(), server.namespace);
            object["metadata"]["name"] = json!(name);
            if object["kind"] == "ValidatingAdmissionPolicyBinding" {
                object["spec"]["policyName"] = json!(name);
                let labels = json!({"kubernetes.io/metadata.name": server.namespace});
                object["spec"]["matchResources"] = json!({"namespaceSelector": {"matchLabels": labels}});
            }
            server.must_with(&["apply", "--validate=strict", "-f", "-"], &object.to_string());
        }
        limited
    }

    fn objects() -> Vec<Value> {
        let text = fs::read_to_string(root().join("deploy/operator-admission/policies.yaml")).unwrap();
        serde_saphyr::from_multiple(&text).unwrap()
    }

    /// What the server says to the operator, which is not carried out. RBAC is not asked.
    fn said(&self, verb: &[&str], object: &Value) -> Output {
        let args = [verb, &["--dry-run=server", OPERATOR, "--as-group=system:masters"][..]].concat();
        self.0.run(&args, &object.to_string())
    }
}

impl Drop for Limited<'_> {
    fn drop(&mut self) {
        for object in Self::objects().iter().rev() {
            let name = format!("{}-{}", object["metadata"]["name"].as_str().unwrap(), self.0.namespace);
            let kind = object["kind"].as_str().unwrap();
            let _ = self.0.run(&["delete", kind, &name, "--ignore-not-found"], "");
        }
    }
}

/// An object as the operator writes it for the LocalCluster `dev`, changed.
fn written(kind: &str, name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let (version, rest) = match kind {
        "Secret" => ("v1", json!({"type": "Opaque", "stringData": {"value": "x"}})),
        "Service" => {
            ("v1", json!({"spec": {"type": "ClusterIP", "ports": [{"name": "https", "port": 443}]}}))
        }
        "EndpointSlice" => {
            let ports = json!([{"name": "https", "port": 6443}]);
            ("discovery.k8s.io/v1", json!({"addressType": "IPv4", "endpoints": [], "ports": ports}))
        }
        _ => ("localcluster.dev/v1alpha1", json!({"spec": {}})),
    };
    let mut object = json!({
        "apiVersion": version, "kind": kind,
        "metadata": {
            "name": name, "labels": {"app.kubernetes.io/managed-by": "localcluster-operator"},
            "ownerReferences": [{
                "apiVersion": "localcluster.dev/v1alpha1", "kind": LC, "name": "dev", "uid": "u-1", "controller": true,
            }],
        },
    });
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    if kind == "EndpointSlice" {
        object["metadata"]["labels"]["kubernetes.io/service-name"] = json!("dev");
    }
    change(&mut object);
    object
}

fn nothing(_: &mut Value) {}

fn alone(object: &mut Value) {
    object["metadata"].as_object_mut().unwrap().remove("ownerReferences");
}

#[test]
fn whoever_has_the_operators_token_writes_only_what_the_operator_writes() {
    let server = Server::new("operator");
    let limited = Limited::new(&server);
    let create = ["create", "-f", "-"];
    let refused = |verb: &[&str], object: &Value, words: &str| {
        eventually(&format!("{object} is refused"), || {
            let Output { ok, stderr, .. } = limited.said(verb, object);
            if !ok && stderr.contains(words) { Ok(()) } else { Err(stderr) }
        });
    };
    // Refusals come first: they show that the policies are known.
    type Change = fn(&mut Value);
    let of_secrets: [(&str, Change, &str); 7] = [
        ("dev-token", |o| o["type"] = json!("example.com/other"), "no Secret of this type"),
        (
            "dev-token",
            |o| {
                o["type"] = json!("kubernetes.io/service-account-token");
                o["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
            },
            "no Secret of this type",
        ),
        ("other", nothing, "no Secret of this name or owner"),
        ("dev2-token", nothing, "no Secret of this name or owner"),
        (
            "dev-token",
            |o| drop(o["metadata"].as_object_mut().unwrap().remove("ownerReferences")),
            "name or owner",
        ),
        ("dev-token", |o| o["metadata"]["ownerReferences"][0]["kind"] = json!("Registry"), "name or owner"),
        ("dev-token", |o| drop(o["metadata"].as_object_mut().unwrap().remove("labels")), "without its label"),
    ];
    for (name, change, words) in of_secrets {
        refused(&create, &written("Secret", name, change), words);
    }
    let of_services: [(&str, &str, Change, &str); 8] = [
        ("Service", "other", nothing, "no Service of this name or owner"),
        ("Service", "dev", alone, "no Service of this name or owner"),
        ("Service", "dev", |o| o["spec"]["selector"] = json!({"app": "theirs"}), "with a selector"),
        ("Service", "dev", |o| o["spec"]["type"] = json!("NodePort"), "no Service of this type"),
        ("Service", "dev", |o| o["spec"]["externalIPs"] = json!(["10.0.0.1"]), "without external addresses"),
        ("EndpointSlice", "other", nothing, "no EndpointSlice of this name or owner"),
        ("EndpointSlice", "dev", alone, "no EndpointSlice of this name or owner"),
        (
            "EndpointSlice",
            "dev",
            |o| o["metadata"]["labels"]["kubernetes.io/service-name"] = json!("theirs"),
            "no EndpointSlice of another Service",
        ),
    ];
    for (kind, name, change, words) in of_services {
        refused(&create, &written(kind, name, change), words);
    }
    refused(&create, &written(REGISTRY, "other", nothing), "no Registry of this name or owner");
    refused(&create, &written(REGISTRY, "dev-registry", alone), "no Registry of this name or owner");
    refused(&create, &written(LC, "dev", alone), "creates no LocalCluster of this name or owner");
    // What it writes.
    for (kind, name) in [
        ("Secret", "dev-kubeconfig"),
        ("Secret", "dev-token"),
        ("Service", "dev"),
        ("EndpointSlice", "dev"),
        (REGISTRY, "dev-registry"),
    ] {
        let Output { ok, stderr, .. } = limited.said(&create, &written(kind, name, nothing));
        assert!(ok, "{kind} {name}: {stderr}");
    }
    let long = "a".repeat(60);
    let owned = |o: &mut Value| o["metadata"]["ownerReferences"][0]["name"] = json!(long);
    let shortened = localcluster_operator::api::names::own_registry(&long);
    let Output { ok, stderr, .. } = limited.said(&create, &written(REGISTRY, &shortened, owned));
    assert!(ok, "{shortened}: {stderr}");
    // Objects of users, and the operator's own ones, that exist. One of an owner that does not would be deleted.
    // An operator that runs there would write the Secret.
    let paused: Change = |o| {
        alone(o);
        o["metadata"]["annotations"] = json!({"localcluster.dev/paused": "true"});
    };
    server.must_with(&create, &written(LC, "dev", paused).to_string());
    let uid = server.get("lc/dev")["metadata"]["uid"].clone();
    let of_dev = |o: &mut Value| o["metadata"]["ownerReferences"][0]["uid"] = uid.clone();
    server.must_with(&create, &written("Secret", "dev-token", alone).to_string());
    for kind in ["Service", "EndpointSlice"] {
        server.must_with(&create, &written(kind, "dev", alone).to_string());
    }
    server.must_with(&create, &written(REGISTRY, "users", alone).to_string());
    server.must_with(&create, &written(REGISTRY, "dev-registry", of_dev).to_string());
    let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=operator", "-f", "-"];
    refused(&apply, &written("Secret", "dev-token", nothing), "a Secret that is not of this LocalCluster");
    for kind in ["Service", "EndpointSlice"] {
        refused(&apply, &written(kind, "dev", nothing), "of this name or owner");
        let deleted = limited.said(&["delete", kind, "dev", "--wait=false"], &Value::Null);
        assert!(!deleted.ok && deleted.stderr.contains("of this name or owner"), "{}", deleted.stderr);
    }
    let deletes: Change = |o| o["spec"]["deleteEnabled"] = json!(true);
    refused(&apply, &written(REGISTRY, "users", deletes), "the spec of a Registry that it did not create");
    let patch =
        |what: &str, patch: &str| limited.said(&["patch", what, "--type=merge", "-p", patch], &Value::Null);
    let finalizer = r#"{"metadata": {"finalizers": ["localcluster.dev/cleanup"]}}"#;
    for what in ["lreg/users", "lreg/dev-registry", "lc/dev"] {
        let Output { ok, stderr, .. } = patch(what, finalizer);
        assert!(ok, "{what}: {stderr}");
    }
    for (what, change, words) in [
        ("lc/dev", r#"{"spec": {"agents": {"count": 2}}}"#, "does not change the spec of a LocalCluster"),
        (
            "lc/dev",
            r#"{"metadata": {"annotations": {"localcluster.dev/paused": "x"}}}"#,
            "does not change annotations",
        ),
        ("lreg/users", r#"{"metadata": {"labels": {"a": "b"}}}"#, "does not change labels and annotations"),
        (
            "lreg/users",
            r#"{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]}}"#,
            "the owners of a Registry",
        ),
    ] {
        let Output { ok, stderr, .. } = patch(what, change);
        assert!(!ok && stderr.contains(words), "{what} {change}: {stderr}");
    }
    let changed = written(REGISTRY, "dev-registry", |o| {
        of_dev(o);
        deletes(o);
    });
    let Output { ok, stderr, .. } = limited.said(&apply, &changed);
    assert!(ok, "{stderr}");
    let delete = |what: &str| limited.said(&["delete", what, "--wait=false"], &Value::Null);
    let (users, own) = (delete("lreg/users"), delete("lreg/dev-registry"));
    assert!(
        !users.ok && users.stderr.contains("deletes no Registry that it did not create"),
        "{}",
        users.stderr
    );
    assert!(own.ok, "{}", own.stderr);
    of_pools(&server, &limited);
    // Others are not concerned.
    server.must_with(&create, &written("Secret", "anything", alone).to_string());
    server.must(&["patch", "lc/dev", "--type=merge", "-p", r#"{"spec": {"agents": {"count": 2}}}"#]);
    for name in ["secrets", "services", "endpointslices", "registries", "localclusters"] {
        let policy =
            format!("validatingadmissionpolicy/{name}.operator.localcluster.dev-{}", server.namespace);
        eventually("the types are checked", || {
            let checked = server.get(&policy)["status"]["typeChecking"].clone();
            let none = checked["expressionWarnings"].is_null() && !checked.is_null();
            if none { Ok(()) } else { Err(checked.to_string()) }
        });
    }
}

/// The operator creates LocalClusters of pools, and moves them to claims.
fn of_pools(server: &Server, limited: &Limited<'_>) {
    // An object of an owner that does not exist would be deleted; so would one that an operator, which runs there, finds
    // to be too many for its pool. A pool that is being deleted has no clusters deleted by the operator.
    let owners = [
        ("LocalClusterPool", json!({"replicas": 0}), json!(["localcluster.dev/held"])),
        ("LocalClusterClaim", json!({"poolName": "none"}), json!([])),
    ];
    let uids = owners.map(|(kind, spec, finalizers)| {
        let metadata = json!({"name": "ci", "finalizers": finalizers});
        let object = json!({"apiVersion": "localcluster.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        server.must_with(&["create", "-f", "-"], &object.to_string());
        (kind, server.get(&format!("{kind}/ci"))["metadata"]["uid"].clone())
    });
    let owner = |kind: &str| {
        let uid = uids.iter().find(|(of, _)| *of == kind).map_or(json!("u-1"), |(_, uid)| uid.clone());
        json!([{"apiVersion": "localcluster.dev/v1alpha1", "kind": kind, "name": "ci", "uid": uid, "controller": true}])
    };
    let of_pool = |o: &mut Value| {
        o["metadata"]["ownerReferences"] = owner("LocalClusterPool");
        o["metadata"]["labels"]["localcluster.dev/pool"] = json!("ci");
    };
    let create = ["create", "-f", "-"];
    for (name, change) in [
        ("ci-x", &nothing as &dyn Fn(&mut Value)),
        ("other", &of_pool),
        ("ci-x", &|o| {
            of_pool(o);
            o["metadata"]["labels"]["localcluster.dev/pool"] = json!("other");
        }),
    ] {
        let Output { ok, stderr, .. } = limited.said(&create, &written(LC, name, change));
        assert!(!ok && stderr.contains("creates no LocalCluster of this name or owner"), "{name}: {stderr}");
    }
    let mut made = written(LC, "ci-x", of_pool);
    let Output { ok, stderr, .. } = limited.said(&create, &made);
    assert!(ok, "{stderr}");
    server.must(&["delete", "lcpool/ci", "--wait=false"]);
    made["metadata"]["annotations"]["localcluster.dev/paused"] = json!("true");
    server.must_with(&create, &made.to_string());
    let patch = |patch: Value| {
        limited.said(&["patch", "lc/ci-x", "--type=merge", "-p", &patch.to_string()], &Value::Null)
    };
    let ports = json!([{"name": "http", "port": 80}]);
    let moved =
        json!({"ownerReferences": owner("LocalClusterClaim"), "labels": {"localcluster.dev/claim": "one"}});
    for allowed in [
        json!({"spec": {"state": "Stopped"}}),
        json!({"metadata": moved}),
        json!({"metadata": moved, "spec": {"state": "Stopped", "ports": ports}}),
    ] {
        let Output { ok, stderr, .. } = patch(allowed.clone());
        assert!(ok, "{allowed}: {stderr}");
    }
    for (refused, words) in [
        (json!({"spec": {"ports": ports}}), "except for state and ports"),
        (json!({"metadata": moved, "spec": {"agents": {"count": 2}}}), "except for state and ports"),
        (json!({"metadata": {"ownerReferences": owner("LocalCluster")}}), "except from a LocalClusterPool"),
        (
            json!({"metadata": {"labels": {"localcluster.dev/claim": "one"}}}),
            "except for localcluster.dev/claim",
        ),
        (
            json!({"metadata": {"ownerReferences": owner("LocalClusterClaim"), "labels": {"a": "b"}}}),
            "except for localcluster.dev/claim",
        ),
        (json!({"metadata": {"annotations": {"a": "b"}}}), "does not change annotations"),
    ] {
        let Output { ok, stderr, .. } = patch(refused.clone());
        assert!(!ok && stderr.contains(words), "{refused}: {stderr}");
    }
    // What a claim has is not the pool's any more.
    server.must(&["patch", "lc/ci-x", "--type=merge", "-p", &json!({"metadata": moved}).to_string()]);
    for refused in [
        json!({"spec": {"state": "Stopped"}}),
        json!({"metadata": {"ownerReferences": owner("LocalClusterPool")}}),
    ] {
        assert!(!patch(refused.clone()).ok, "{refused}");
    }
    server.must(&["patch", "lcpool/ci", "--type=merge", "-p", r#"{"metadata": {"finalizers": null}}"#]);
}
