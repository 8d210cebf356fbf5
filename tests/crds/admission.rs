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
