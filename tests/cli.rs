//! The binary as a person or a Pod meets it.

use assert_cmd::Command;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

/// The binary with none of its variables set by the environment that the tests run in.
fn operator(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("localcluster-operator").unwrap();
    command.env_clear().args(args);
    command
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

/// What a run that must fail says on stderr.
fn refusal(command: &mut Command) -> String {
    let assert = command.assert().failure();
    assert!(assert.get_output().stdout.is_empty());
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

#[test]
fn help_names_every_variable() {
    let help = stdout(&mut operator(&["run", "--help"]));
    for variable in [
        "LOCALCLUSTER_DOCKER_HOST",
        "LOCALCLUSTER_NODE_IMAGE_REPOSITORY",
        "LOCALCLUSTER_DEFAULT_VERSION",
        "LOCALCLUSTER_LOAD_BALANCER_IMAGE",
        "LOCALCLUSTER_REGISTRY_IMAGE",
        "LOCALCLUSTER_NETWORK_POOL",
        "LOCALCLUSTER_PORT_RANGE",
        "LOCALCLUSTER_NODE_DNS",
        "LOCALCLUSTER_ALLOW_HOST_PATH",
        "LOCALCLUSTER_NODE_REPAIR_AFTER",
        "LOCALCLUSTER_WITHOUT_POLICY",
        "LOCALCLUSTER_HTTP_LISTEN",
        "LOCALCLUSTER_LOG_FORMAT",
        "LOCALCLUSTER_RESYNC",
        "LOCALCLUSTER_MANAGEMENT_CONTAINER",
        "NODE_NAME",
        "HOST_IP",
        "POD_NAMESPACE",
        "RUST_LOG",
    ] {
        assert!(help.contains(&format!("[env: {variable}=")), "{variable} is not in\n{help}");
    }
}

#[test]
fn refusals_say_what_to_write() {
    for (flag, variable, bad, told) in [
        ("--port-range", "LOCALCLUSTER_PORT_RANGE", "30000-20000", "must be FIRST-LAST"),
        (
            "--network-pool",
            "LOCALCLUSTER_NETWORK_POOL",
            "172.31.0.0/28",
            "must be an IPv4 network between /8 and /24",
        ),
        ("--network-pool", "LOCALCLUSTER_NETWORK_POOL", "172.31.9.0/16", "use 172.31.0.0/16"),
        ("--docker-host", "LOCALCLUSTER_DOCKER_HOST", "tcp://docker", "tcp://<host>:<port>"),
        (
            "--node-dns",
            "LOCALCLUSTER_NODE_DNS",
            "1.1.1.1,127.0.0.11",
            "use the address of a server on the network",
        ),
        ("--node-repair-after", "LOCALCLUSTER_NODE_REPAIR_AFTER", "300", "for example 5m or 1h30m"),
        ("--remove-orphans-after", "LOCALCLUSTER_REMOVE_ORPHANS_AFTER", "30s", "from 1m to 1000h"),
        ("--metrics-listen", "LOCALCLUSTER_METRICS_LISTEN", "8081", "invalid socket address"),
        ("--resync", "LOCALCLUSTER_RESYNC", "0", "must be hours, minutes and seconds"),
    ] {
        let by_flag = refusal(&mut operator(&["run", flag, bad]));
        assert!(by_flag.contains(flag) && by_flag.contains(told), "{by_flag}");
        let by_variable = refusal(operator(&["run"]).env(variable, bad));
        assert!(by_variable.contains(flag) && by_variable.contains(told), "{by_variable}");
    }
}

/// Whoever may call an engine is root on its host.
#[test]
fn an_engine_over_tcp_needs_certificates() {
    let args =
        ["run", "--http-listen", "127.0.0.1:0", "--log-filter", "off", "--docker-host", "tcp://docker:2375"];
    let told = refusal(&mut operator(&args));
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("tcp://docker:2375") && told.contains("set --docker-cert-path"), "{told}");
}

#[test]
fn a_bad_log_filter_is_one_line() {
    let told = refusal(&mut operator(&["run", "--log-filter", "info,["]));
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.starts_with("error: invalid log filter \"info,[\""), "{told}");
}

#[test]
fn without_kubernetes_it_ends_with_one_line() {
    let home = tempfile::tempdir().unwrap();
    let told = refusal(
        operator(&["run", "--http-listen", "127.0.0.1:0", "--log-filter", "off"]).env("HOME", home.path()),
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.starts_with("error: no Kubernetes API to work with: "), "{told}");
}

#[test]
fn printed_crds_are_what_the_api_server_takes() {
    let yaml = stdout(&mut operator(&["crds"]));
    let crds: Vec<CustomResourceDefinition> = serde_saphyr::from_multiple(&yaml).unwrap();
    let kinds: Vec<_> = crds.iter().map(|crd| crd.spec.names.kind.as_str()).collect();
    assert_eq!(kinds, ["LocalCluster", "Registry", "HostPolicy", "LocalClusterPool", "LocalClusterClaim"]);
}

#[test]
fn check_names_the_files_that_differ() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    stdout(&mut operator(&["crds", "--output", path]));
    stdout(&mut operator(&["crds", "--check", path]));

    std::fs::write(dir.path().join("registries.yaml"), "kind: Other\n").unwrap();
    let told = refusal(&mut operator(&["crds", "--check", path]));
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("registries.yaml") && !told.contains("localclusters.yaml"), "{told}");

    std::fs::remove_file(dir.path().join("localclusters.yaml")).unwrap();
    let told = refusal(&mut operator(&["crds", "--check", path]));
    assert!(told.contains("registries.yaml") && told.contains("localclusters.yaml"), "{told}");
}

/// In CI: what a policy does not allow is told on stdout, and the exit code is 1.
#[test]
fn files_are_judged_by_a_policy() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let policy = |spec: &str| {
        let head = "apiVersion: localcluster.dev/v1alpha1\nkind: HostPolicy\nmetadata: {name: teams}\n";
        write("policy.yaml", &format!("{head}spec: {{namespaceSelector: {{}}, {spec}}}\n"))
    };
    let object = |name: &str| {
        format!("kind: LocalCluster\nmetadata: {{name: {name}}}\nspec: {{servers: {{memory: 2Gi}}}}\n")
    };
    let head = "apiVersion: localcluster.dev/v1alpha1\n";
    let files = write(
        "dev.yaml",
        &format!("{head}{}---\n{head}{}---\napiVersion: v1\nkind: Secret\n", object("a"), object("b")),
    );
    let check =
        |policy: &str| operator(&["policy", "check", "-f", &files, "--policy", policy, "-n", "team-a"]);
    let told = stdout(&mut check(&policy("quota: {memory: 4Gi}")));
    assert_eq!(told, "the HostPolicy teams allows all 2 objects\n");

    let told = check(&policy("quota: {memory: 3Gi}, nodes: {images: ['registry.corp/**']}"))
        .assert()
        .failure()
        .code(1);
    let told = String::from_utf8(told.get_output().stdout.clone()).unwrap();
    let image = "spec.version docker.io/rancher/k3s:v1.36.2-k3s1 (nodes.images: registry.corp/**)";
    assert_eq!(told, format!("LocalCluster team-a/a: {image}\nLocalCluster team-a/b: {image}\n"));
    let told = check(&policy("quota: {memory: 3Gi}")).assert().failure().code(1);
    let told = String::from_utf8(told.get_output().stdout.clone()).unwrap();
    assert_eq!(
        told,
        "LocalCluster team-a/b: 4Gi of memory in namespace team-a (quota.memory: at most 3Gi)\n"
    );

    for (bad, words) in [("quota: {memory: much}", "spec.quota.memory: must be"), ("quotas: {}", "quotas")] {
        let told = refusal(&mut check(&policy(bad)));
        assert!(told.lines().count() == 1 && told.contains(words), "{told}");
    }
}
