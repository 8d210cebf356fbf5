//! What the API server refuses and takes, and in which words.

use super::*;

#[test]
fn bad_input_is_refused_with_what_to_write_instead() {
    let server = Server::new("bad");
    for (kind, spec, says) in BAD {
        server.must_refuse_object(&object(kind, "dev", spec), says);
    }
    for (kind, name, says) in BAD_NAMES {
        server.must_refuse_object(&object(kind, name, "{}"), says);
    }
}

#[test]
fn every_flag_and_variable_of_the_tables_is_refused() {
    let server = Server::new("tables");
    let example = |name: &str| name.replace('*', "x");
    for refused in rules::FLAGS {
        let args: Vec<_> = refused
            .names
            .iter()
            .flat_map(|n| [format!("--{}=x", example(n)), format!("--{}", example(n))])
            .collect();
        let spec = json!({"servers": {"args": args}}).to_string();
        let errors = server.must_refuse_object(&object(LC, "dev", &spec), refused.instead);
        for (i, arg) in args.iter().enumerate() {
            assert!(errors.contains(&format!("args[{i}]")), "{arg}: {errors}");
        }
    }
    for (pool, refused) in [("agents", rules::SERVER_FLAGS), ("servers", rules::AGENT_FLAGS)] {
        for name in refused.names {
            let spec = json!({pool: {"args": [format!("--{}=x", example(name))]}}).to_string();
            server.must_refuse_object(&object(LC, "dev", &spec), refused.instead);
        }
    }
    let tables = [(LC, rules::NODE_ENV), (REGISTRY, rules::REGISTRY_ENV)];
    for (kind, refused) in tables.iter().flat_map(|(kind, table)| table.iter().map(move |r| (kind, r))) {
        let env: Vec<_> = refused.names.iter().map(|n| json!({"name": example(n)})).collect();
        let spec = if *kind == LC { json!({"agents": {"env": env}}) } else { json!({"env": env}) };
        let errors = server.must_refuse_object(&object(kind, "dev", &spec.to_string()), refused.instead);
        for (i, var) in env.iter().enumerate() {
            assert!(errors.contains(&format!("env[{i}]")), "{var}: {errors}");
        }
    }
    for name in rules::NODE_LABELS.iter().flat_map(|r| r.names) {
        let spec = json!({"agents": {"labels": {*name: "x"}}}).to_string();
        server.must_refuse_object(&object(LC, "dev", &spec), rules::NODE_LABELS[0].instead);
    }
}

#[test]
fn lists_and_texts_are_bounded() {
    let server = Server::new("bounds");
    let many = |n: usize, item: &dyn Fn(usize) -> Value| Value::from((0..n).map(item).collect::<Vec<_>>());
    let named = |i: usize| json!({"name": format!("a{i}")});
    let port = |i: usize| json!({"name": format!("a{i}"), "port": 80});
    let labels = |n: usize| Value::Object((0..n).map(|i| (format!("a{i}"), json!("x"))).collect());
    for (n, spec) in [
        (64, &(|n| json!({"servers": {"args": many(n, &|_| json!("--v=3"))}})) as &dyn Fn(usize) -> Value),
        (64, &|n| json!({"servers": {"env": many(n, &named)}})),
        (64, &|n| json!({"servers": {"labels": labels(n)}})),
        (32, &|n| json!({"servers": {"taints": many(n, &|i| json!(format!("a{i}:NoSchedule")))}})),
        (8, &|n| json!({"agentPools": many(n, &|i| json!({"name": format!("a{i}"), "count": 1}))})),
        (16, &|n| json!({"agentPools": [{"name": "a", "count": 1, "args": many(n, &|_| json!("--v=3"))}]})),
        (64, &|n| json!({"ports": many(n, &port)})),
        (32, &|n| json!({"api": {"sans": many(n, &|i| json!(format!("a{i}")))}})),
        (16, &|n| json!({"registries": {"use": many(n, &named)}})),
        (
            32,
            &|n| json!({"hostAliases": many(n, &|i| json!({"ip": format!("10.0.0.{i}"), "hostnames": [format!("a{i}")]}))}),
        ),
        (
            16,
            &|n| json!({"hostAliases": [{"ip": "10.0.0.5", "hostnames": many(n, &|i| json!(format!("a{i}")))}]}),
        ),
    ] {
        server.must_take(&object(LC, "dev", &spec(n).to_string()));
        server.must_refuse_object(&object(LC, "dev", &spec(n + 1).to_string()), "Too many");
    }
    // All at once: what rules cost to run is bounded too.
    let name = |i: usize, n: usize| format!("{}{i}", "a".repeat(n - 2));
    let pool = |count| {
        json!({
            "count": count,
            "args": many(64, &|_| json!(format!("--v={}", "3".repeat(1020)))),
            "env": many(64, &|i| json!({"name": name(i, 128), "value": "x".repeat(4096)})),
            "labels": Value::Object(
                (0..64).map(|i| (format!("{}/{}", ["b"; 126].join("."), name(i, 63)), json!("x".repeat(63)))).collect()
            ),
            "containerLabels": Value::Object((0..64).map(|i| (name(i, 128), json!("x".repeat(1024)))).collect()),
            "taints": many(32, &|i| json!(format!("{}/{}=x:PreferNoSchedule", ["b"; 126].join("."), name(i, 63)))),
            "volumes": many(16, &|i| json!({
                "hostPath": format!("/{}", "h".repeat(1023)),
                "mountPath": format!("/m/{}", name(i, 250)),
            })),
        })
    };
    let most = json!({
        "image": format!("{}:v1", "a".repeat(509)),
        "servers": pool(1),
        "agents": pool(0),
        "agentPools": many(8, &|i| {
            let mut pool = pool(4);
            let labels = pool["labels"].as_object().unwrap().clone();
            pool["labels"] = Value::Object(labels.into_iter().take(32).collect());
            // What is stored has to fit into a request.
            pool["env"] = many(64, &|i| json!({"name": name(i, 128), "value": "x"}));
            pool["name"] = json!(format!("a{}{i}", "x".repeat(18)));
            pool["args"] = many(16, &|_| json!(format!("--v={}", "3".repeat(252))));
            pool["taints"] = many(8, &|i| json!(format!("{}/{}=x:PreferNoSchedule", ["b"; 126].join("."), name(i, 63))));
            pool
        }),
        "api": {"sans": many(32, &|i| json!(format!("{}.{}", ["b"; 120].join("."), name(i, 12))))},
        "ports": many(64, &|i| json!({"name": name(i, 63), "port": 80, "hostPort": 8000 + i})),
        "registries": {
            "use": many(16, &|i| json!({"name": name(i, 63), "namespace": "n".repeat(63)})),
            "create": {"env": many(64, &|i| json!({"name": name(i, 128), "value": "x".repeat(4096)}))},
            "containers": many(16, &|i| json!({"name": name(i, 63)})),
            "mirrors": many(32, &|i| json!({
                "registry": format!("{}:5000", name(i, 250)),
                "endpoints": many(8, &|_| json!(format!("https://{}", "e".repeat(260)))),
                "rewrites": many(16, &|_| json!({"pattern": "p".repeat(255), "replacement": "r".repeat(255)})),
            })),
            "configs": many(32, &|i| json!({"host": format!("{}:5000", name(i, 250))})),
            "config": {"inline": "#".repeat(65536)},
        },
        "files": many(32, &|i| json!({"path": format!("/{}", name(i, 250)), "inline": "x".repeat(4096)})),
        "manifests": many(32, &|i| json!({"name": name(i, 40), "inline": "x".repeat(4096)})),
        "preloadImages": many(32, &|i| json!(format!("{}:1", name(i, 253)))),
        "hostAliases": many(32, &|i| json!({
            "ip": format!("2001:db8::{i}"),
            "hostnames": many(16, &|j| json!(format!("{}.a{i}-{j}", ["b"; 120].join(".")))),
        })),
    });
    server.must_take(&object(LC, "dev", &most.to_string()));

    let long = |spec: Value| server.must_refuse_object(&object(LC, "dev", &spec.to_string()), "Too long");
    long(json!({"servers": {"args": [format!("--v={}", "3".repeat(1024))]}}));
    long(json!({"servers": {"env": [{"name": "A", "value": "x".repeat(4097)}]}}));
}

#[test]
fn good_input_is_taken_and_defaults_are_shown() {
    let server = Server::new("good");
    for (kind, name, spec) in GOOD {
        server.must_take(&object(kind, name, spec));
    }
    for name in ["dev", "nulls"] {
        let (kind, _, spec) = GOOD.iter().find(|(_, n, _)| *n == name).unwrap();
        server.must_with(&["create", "-f", "-"], &object(kind, name, spec));
        let lc = server.get(&format!("lc/{name}"));
        let shown = json!({
            "agents": {"count": 0},
            "api": {"service": "None"},
            "durability": "Durable",
            "kubeconfig": {"access": "Admin"},
            "network": {},
            "onDataLoss": "Stop",
            "registries": {"defaultEndpoint": true},
            "servers": {"count": 1},
            "state": "Running"
        });
        assert_eq!(lc["spec"], shown, "{name}");
        fresh(&lc);
    }
    let spec = "{servers: {memory: 2Gi}, token: {secretName: t}, ports: [{name: http, port: 80}]}";
    server.must_with(&["create", "-f", "-"], &object(LC, "partly", spec));
    let spec = server.get("lc/partly")["spec"].clone();
    assert_eq!(spec["servers"], json!({"count": 1, "memory": "2Gi"}));
    assert_eq!(spec["token"], json!({"secretName": "t", "key": "token"}));
    assert_eq!(spec["ports"], json!([{"name": "http", "port": 80}]), "lists stay as they were written");

    server.must_with(&["create", "-f", "-"], &object(REGISTRY, "registry", "{}"));
    let registry = server.get("lreg/registry");
    let shown = json!({
        "deleteEnabled": false,
        "hostIP": "127.0.0.1",
        "localRegistryHosting": true,
        "storage": {"retain": false}
    });
    assert_eq!(registry["spec"], shown);
    fresh(&registry);
    let all: BTreeSet<_> =
        server.must(&["get", "localdev", "-o", "name"]).lines().map(ToOwned::to_owned).collect();
    assert!(
        all.contains("localcluster.localcluster.dev/dev")
            && all.contains("registry.localcluster.dev/registry")
    );
}

/// Nobody takes the object for ready before the operator has seen it.
pub(super) fn fresh(object: &Value) {
    let status = &object["status"];
    // An operator that runs meanwhile says at least that the object is paused.
    assert!(status["observedGeneration"] == -1 || !status["conditions"].is_null(), "{status}");
}

#[test]
fn the_default_of_status_never_stands_in_the_way() {
    let server = Server::new("status");
    server.must_with(&["create", "-f", "-"], &object(REGISTRY, "registry", "{}"));
    let patch = |body: &str| {
        server.must(&["patch", "lreg/registry", "--subresource=status", "--type=merge", "-p", body])
    };
    patch(r#"{"status": {"observedGeneration": 1, "hostPort": 5000, "usedBy": ["a/b"]}}"#);
    let status = server.get("lreg/registry")["status"].clone();
    assert_eq!((&status["observedGeneration"], &status["hostPort"]), (&json!(1), &json!(5000)));
    patch(r#"{"status": {"hostPort": null}}"#);
    assert!(server.get("lreg/registry")["status"]["hostPort"].is_null());
    patch(r#"{"status": null}"#);
    fresh(&server.get("lreg/registry"));
}

#[test]
fn what_can_not_change_is_refused_and_the_rest_is_taken() {
    let server = Server::new("edits");
    let set = "{clusterName: other, token: {secretName: t}, network: {subnet: 172.31.16.0/24}}";
    server.must_with(&["create", "-f", "-"], &object(LC, "set", set));
    server.must_with(&["create", "-f", "-"], &object(LC, "unset", "{}"));
    let set = "{hostname: my-registry, storage: {volumeName: images}}";
    server.must_with(&["create", "-f", "-"], &object(REGISTRY, "set", set));
    server.must_with(&["create", "-f", "-"], &object(REGISTRY, "unset", "{}"));
    server.must_with(&["create", "-f", "-"], &object(REGISTRY, "host", "{storage: {hostPath: /srv/a}}"));

    let args = |what, patch| ["patch", what, "--dry-run=server", "--type=merge", "-p", patch];
    let never = "is immutable and cannot be set, changed or removed after creation";
    for (what, patch) in [
        ("lc/set", r#"{"spec": {"clusterName": "another"}}"#),
        ("lc/set", r#"{"spec": {"clusterName": null}}"#),
        ("lc/unset", r#"{"spec": {"clusterName": "unset"}}"#),
        ("lc/set", r#"{"spec": {"token": {"secretName": "u"}}}"#),
        ("lc/set", r#"{"spec": {"token": {"key": "k"}}}"#),
        ("lc/set", r#"{"spec": {"token": null}}"#),
        ("lc/unset", r#"{"spec": {"token": {"secretName": "t"}}}"#),
        ("lc/set", r#"{"spec": {"network": {"subnet": "172.31.17.0/24"}}}"#),
        ("lc/set", r#"{"spec": {"network": {"subnet": null}}}"#),
        ("lc/set", r#"{"spec": {"network": null}}"#),
        ("lc/unset", r#"{"spec": {"network": {"subnet": "172.31.17.0/24"}}}"#),
        ("lreg/set", r#"{"spec": {"hostname": "another"}}"#),
        ("lreg/set", r#"{"spec": {"hostname": null}}"#),
        ("lreg/unset", r#"{"spec": {"hostname": "k3d-unset"}}"#),
        ("lreg/set", r#"{"spec": {"storage": {"volumeName": "another"}}}"#),
        ("lreg/set", r#"{"spec": {"storage": {"volumeName": null}}}"#),
        ("lreg/set", r#"{"spec": {"storage": null}}"#),
        ("lreg/unset", r#"{"spec": {"storage": {"volumeName": "images"}}}"#),
        ("lreg/host", r#"{"spec": {"storage": {"hostPath": "/srv/b"}}}"#),
        ("lreg/host", r#"{"spec": {"storage": {"hostPath": null}}}"#),
        ("lreg/unset", r#"{"spec": {"storage": {"hostPath": "/srv/a"}}}"#),
    ] {
        let says = server.must_refuse(&args(what, patch), "", never);
        assert!(says.contains("create a new"), "{says}");
    }
    for (what, patch) in [
        ("lc/unset", r#"{"spec": {"version": "v1.36.3+k3s1"}}"#),
        (
            "lc/unset",
            r#"{"spec": {"agents": {"count": 3, "args": ["--v=2"], "labels": {"a": "b"}, "memory": "1Gi"}}}"#,
        ),
        ("lc/unset", r#"{"spec": {"api": {"hostIP": "0.0.0.0", "hostPort": 6443, "sans": ["a"]}}}"#),
        ("lc/unset", r#"{"spec": {"ports": [{"name": "http", "port": 80}]}}"#),
        ("lc/unset", r#"{"spec": {"registries": {"use": [{"name": "registry"}]}}}"#),
        ("lc/set", r#"{"metadata": {"labels": {"a": "b"}}}"#),
        ("lreg/set", r#"{"spec": {"storage": {"retain": true}, "hostPort": 5001, "deleteEnabled": true}}"#),
        ("lreg/host", r#"{"spec": {"auth": {"htpasswdSecret": "users"}, "tls": {"secretName": "tls"}}}"#),
        ("lreg/set", r#"{"spec": {"proxy": {"remoteURL": "https://quay.io"}, "allowedNamespaces": ["*"]}}"#),
    ] {
        server.must(&args(what, patch));
    }
}
