use serde_json::{Value, json};

use super::*;
use crate::{
    api::{HostPolicySpec, Registry},
    plan::{policy::parse, validate},
};

fn rules(yaml: &str) -> Rules {
    let spec: HostPolicySpec =
        serde_saphyr::from_str(&format!("{{namespaceSelector: {{}}, {yaml}}}")).unwrap();
    let policy = parse::policy("teams", &spec);
    assert_eq!(policy.errors, [""; 0], "{yaml}");
    policy.rules
}

fn object(kind: &str, spec: &str) -> Value {
    let mut spec: Value = serde_saphyr::from_str(spec).unwrap();
    // As the API server does.
    if kind == "LocalCluster" {
        spec["servers"]["count"] = json!(1);
    }
    let metadata = json!({"name": "dev", "namespace": "team-a"});
    json!({"apiVersion": "localcluster.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

fn of_cluster(policy: &str, spec: &str) -> Vec<String> {
    let object: LocalCluster = serde_json::from_value(object("LocalCluster", spec)).unwrap();
    let valid = validate::local_cluster("team-a", "dev", &object.spec).unwrap();
    cluster(&rules(policy), &object, &valid, &Settings::sample()).iter().map(ToString::to_string).collect()
}

fn of_registry(policy: &str, spec: &str) -> Vec<String> {
    let object: Registry = serde_json::from_value(object("Registry", spec)).unwrap();
    let valid = validate::registry("team-a", "dev", &object.spec).unwrap();
    let found = registry(&rules(policy), ("team-a", "dev"), &valid, &Settings::sample());
    found.iter().map(ToString::to_string).collect()
}

/// Policy, spec, and what is told about it; nothing if it is allowed.
type Row = (&'static str, &'static str, &'static str);

const CLUSTERS: [Row; 70] = [
    ("nodes: {runtimes: ['sysbox-*']}", "{servers: {runtime: sysbox-runc}}", ""),
    ("nodes: {runtimes: ['sysbox-*']}", "{servers: {runtime: sysbox-runc}, agents: {runtime: runc}}", ""),
    (
        "nodes: {runtimes: ['sysbox-*']}",
        "{servers: {runtime: sysbox-runc}, agents: {count: 1, runtime: runc}}",
        "spec.agents.runtime runc (nodes.runtimes: sysbox-*)",
    ),
    (
        "nodes: {runtimes: ['sysbox-*']}",
        "{}",
        "spec.servers without runtime (nodes.runtimes: must be set, sysbox-*)",
    ),
    ("nodes: {runtimes: ['sysbox-*']}, defaults: {runtime: sysbox-runc}", "{}", ""),
    ("nodes: {privileged: true}", "{}", ""),
    (
        "nodes: {privileged: false}",
        "{}",
        "privileged nodes of spec.servers (nodes.privileged: privileged must be false)",
    ),
    ("nodes: {privileged: false}", "{servers: {privileged: false}}", ""),
    ("nodes: {privileged: false}, defaults: {privileged: false}", "{}", ""),
    (
        "nodes: {privileged: false}, defaults: {privileged: false}",
        "{agentPools: [{name: gpu, count: 1, privileged: true}]}",
        "privileged nodes of spec.agentPools[gpu] (nodes.privileged: privileged must be false)",
    ),
    (
        "kubeconfig: {access: [View, None]}",
        "{}",
        "spec.kubeconfig.access Admin (kubeconfig.access: View, None)",
    ),
    ("kubeconfig: {access: [View, None]}", "{kubeconfig: {access: View, ttl: 48h}}", ""),
    (
        "kubeconfig: {maxTTL: 24h}",
        "{}",
        "no spec.kubeconfig.ttl (kubeconfig.maxTTL: must be set, at most 24h)",
    ),
    ("kubeconfig: {maxTTL: 24h}", "{kubeconfig: {access: None}}", ""),
    (
        "kubeconfig: {maxTTL: 24h}",
        "{kubeconfig: {access: Edit, ttl: 25h}}",
        "spec.kubeconfig.ttl 25h (kubeconfig.maxTTL: at most 24h)",
    ),
    ("kubeconfig: {maxTTL: 24h}, defaults: {kubeconfigTTL: 8h}", "{}", ""),
    ("nodes: {images: ['docker.io/rancher/k3s:*']}", "{}", ""),
    ("nodes: {images: ['docker.io/rancher/k3s:*']}", "{version: v1.35.1+k3s1}", ""),
    ("nodes: {images: ['docker.io/rancher/k3s:*']}", "{image: 'rancher/k3s:v1.36.2-k3s1'}", ""),
    (
        "nodes: {images: ['docker.io/rancher/k3s:*']}",
        "{image: 'evil.example/rancher/k3s:v1.36.2-k3s1'}",
        "spec.image evil.example/rancher/k3s:v1.36.2-k3s1 (nodes.images: docker.io/rancher/k3s:*)",
    ),
    ("nodes: {images: []}", "{}", "spec.version docker.io/rancher/k3s:v1.36.2-k3s1 (nodes.images: none)"),
    (
        "nodes: {requireDigest: true}",
        "{image: 'rancher/k3s:v1.36.2-k3s1@sha256:0123456789012345678901234567890123456789012345678901234567890123'}",
        "",
    ),
    (
        "nodes: {requireDigest: true}",
        "{}",
        "spec.version docker.io/rancher/k3s:v1.36.2-k3s1 without a digest (nodes.requireDigest: set spec.image to \
         NAME:TAG@sha256:DIGEST)",
    ),
    (
        "registry: {requireDigest: true}",
        "{registries: {create: {}}}",
        "spec.registries.create.image docker.io/library/registry:3 without a digest (registry.requireDigest: set \
         spec.registries.create.image to NAME:TAG@sha256:DIGEST)",
    ),
    ("perNode: {maxMemory: 4Gi}", "{servers: {memory: 4Gi}}", ""),
    (
        "perNode: {maxMemory: 4Gi}",
        "{servers: {memory: 5Gi}}",
        "spec.servers.memory 5Gi (perNode.maxMemory: at most 4Gi)",
    ),
    (
        "perNode: {maxMemory: 4Gi}",
        "{}",
        "spec.servers without memory (perNode.maxMemory: must be set, at most 4Gi)",
    ),
    (
        "perNode: {maxCpus: '1.5'}",
        "{servers: {cpus: '1'}, agents: {count: 1, cpus: '2'}}",
        "spec.agents.cpus 2 (perNode.maxCpus: at most 1.5)",
    ),
    ("quota: {cpus: '8'}", "{}", "spec.servers without cpus (quota.cpus: must be set)"),
    ("quota: {memory: 8Gi}", "{}", "spec.servers without memory (quota.memory: must be set)"),
    ("perNode: {maxMemory: 4Gi}, defaults: {memory: 4Gi}", "{}", ""),
    ("quota: {memory: 8Gi, cpus: '8'}, defaults: {memory: 1Gi, cpus: '1'}", "{}", ""),
    (
        "perNode: {maxMemory: 4Gi}, defaults: {memory: 4Gi}",
        "{servers: {memory: 5Gi}}",
        "spec.servers.memory 5Gi (perNode.maxMemory: at most 4Gi)",
    ),
    ("perNode: {maxPids: 2048}", "{servers: {pids: 2048}}", ""),
    ("perNode: {maxPids: 2048}, defaults: {pids: 1024}", "{}", ""),
    (
        "perNode: {maxPids: 2048}",
        "{servers: {pids: 4096}}",
        "spec.servers.pids 4096 (perNode.maxPids: at most 2048)",
    ),
    (
        "perNode: {maxPids: 2048}",
        "{}",
        "spec.servers without pids (perNode.maxPids: must be set, at most 2048)",
    ),
    ("perNode: {maxGpus: 1}", "{agents: {count: 1, gpus: '1'}}", ""),
    (
        "perNode: {maxGpus: 1}",
        "{agents: {count: 1, gpus: all}}",
        "spec.agents.gpus all (perNode.maxGpus: at most 1)",
    ),
    (
        "perNode: {maxGpus: 1, maxMemory: 4Gi}, defaults: {memory: 1Gi}",
        "{agentPools: [{name: gpu, count: 1, gpus: '2', memory: 5Gi}, {name: none, count: 0, memory: 5Gi}]}",
        "spec.agentPools[gpu].memory 5Gi (perNode.maxMemory: at most 4Gi); spec.agentPools[gpu].gpus 2 \
         (perNode.maxGpus: at most 1)",
    ),
    (
        "nodes: {argsDeny: ['--kube-apiserver-arg=*']}",
        "{servers: {args: ['--kube-apiserver-arg=audit-log-path=/a/b', --disable=traefik]}}",
        "spec.servers.args --kube-apiserver-arg=audit-log-path=/a/b (nodes.argsDeny: --kube-apiserver-arg=*)",
    ),
    ("nodes: {env: [HTTP_PROXY]}", "{servers: {env: [{name: HTTP_PROXY, value: x}]}}", ""),
    (
        "nodes: {env: ['*_PROXY']}",
        "{servers: {env: [{name: A, value: x}]}}",
        "spec.servers.env A (nodes.env: *_PROXY)",
    ),
    ("network: {join: ['shared-*']}", "{network: {join: [shared-db]}}", ""),
    (
        "network: {join: ['shared-*']}",
        "{network: {join: [shared-db, prod]}}",
        "spec.network.join prod (network.join: shared-*)",
    ),
    ("nodes: {volumes: [cache]}", "{agents: {volumes: [{volumeName: cache, mountPath: /d}]}}", ""),
    (
        "nodes: {volumes: []}",
        "{agents: {volumes: [{volumeName: cache, mountPath: /d}]}}",
        "spec.agents.volumes cache (nodes.volumes: none)",
    ),
    ("nodes: {containerLabels: ['com.example.*']}", "{agents: {containerLabels: {com.example.team: a}}}", ""),
    (
        "nodes: {containerLabels: []}",
        "{agents: {containerLabels: {traefik.enable: 'true'}}}",
        "spec.agents.containerLabels traefik.enable (nodes.containerLabels: none)",
    ),
    ("clusterNames: ['{namespace}-*']", "{}", ""),
    ("clusterNames: ['{namespace}-*']", "{clusterName: team-a-x}", ""),
    (
        "clusterNames: ['{namespace}-*']",
        "{clusterName: prod}",
        "spec.clusterName prod (clusterNames: {namespace}-*)",
    ),
    ("network: {explicitSubnet: true}", "{network: {subnet: 10.9.0.0/24}}", ""),
    (
        "network: {explicitSubnet: false}",
        "{network: {subnet: 10.231.0.0/24}}",
        "spec.network.subnet 10.231.0.0/24 (network.explicitSubnet: must not be set)",
    ),
    ("network: {pools: [10.231.0.0/17]}", "{network: {subnet: 10.231.5.0/24}}", ""),
    (
        "network: {pools: [10.231.0.0/17]}",
        "{network: {subnet: 10.231.128.0/24}}",
        "spec.network.subnet 10.231.128.0/24 (network.pools: 10.231.0.0/17)",
    ),
    ("ports: {hostIPs: [127.0.0.1]}", "{ports: [{name: a, port: 80}]}", ""),
    (
        "ports: {hostIPs: [127.0.0.1]}",
        "{ports: [{name: a, port: 80, hostIP: 0.0.0.0}]}",
        "spec.ports a with hostIP 0.0.0.0 (ports.hostIPs: 127.0.0.1)",
    ),
    (
        "ports: {hostIPs: [127.0.0.1]}",
        "{api: {hostIP: 0.0.0.0}}",
        "spec.api with hostIP 0.0.0.0 (ports.hostIPs: 127.0.0.1)",
    ),
    (
        "ports: {ranges: [{from: 30000, to: 30010}]}",
        "{api: {hostPort: 6443}, ports: [{name: a, port: 80, hostPort: 30009, endPort: 82}]}",
        "spec.api with hostPort 6443 (ports.ranges: 30000-30010); spec.ports a with hostPort 30011 (ports.ranges: \
         30000-30010)",
    ),
    (
        "images: {preload: ['registry.corp/team-a/**']}",
        "{preloadImages: ['nginx:1.29']}",
        "spec.preloadImages docker.io/library/nginx:1.29 (images.preload: registry.corp/team-a/**)",
    ),
    ("images: {preload: ['registry.corp/team-a/**']}", "{preloadImages: ['registry.corp/team-a/x/y:1']}", ""),
    ("containers: [a]", "{registries: {containers: [{name: a}]}}", ""),
    (
        "containers: []",
        "{registries: {containers: [{name: postgres}]}}",
        "spec.registries.containers postgres (containers: none)",
    ),
    (
        "hostPaths: [{path: /srv/team-a, readOnly: true}]",
        "{agents: {count: 1, volumes: [{hostPath: /srv/team-a/x, mountPath: /data}]}}",
        "spec.agents.volumes /srv/team-a/x for writing (hostPaths: /srv/team-a (read-only))",
    ),
    (
        "hostPaths: [{path: /srv/team-a}]",
        "{servers: {volumes: [{hostPath: /srv/team-ab, mountPath: /data, readOnly: true}]}}",
        "spec.servers.volumes /srv/team-ab (hostPaths: /srv/team-a)",
    ),
    ("maxTTL: 8h", "{}", "no spec.ttl (maxTTL: must be set, at most 8h)"),
    ("maxTTL: 8h, defaults: {ttl: 8h}", "{}", ""),
    (
        "registry: {requireAuthBeyondLoopback: true}",
        "{registries: {create: {hostIP: 0.0.0.0}}}",
        "spec.registries.create with hostIP 0.0.0.0 and without auth (registry.requireAuthBeyondLoopback: set \
         spec.registries.create.auth, or spec.registries.create.hostIP 127.0.0.1)",
    ),
    (
        "registry: {images: ['docker.io/library/registry:3']}",
        "{registries: {create: {image: 'evil.example/shell:1'}}}",
        "spec.registries.create.image evil.example/shell:1 (registry.images: docker.io/library/registry:3)",
    ),
];

const REGISTRIES: [Row; 15] = [
    ("registry: {images: ['docker.io/library/registry:3']}", "{}", ""),
    (
        "registry: {images: ['docker.io/library/registry:3']}",
        "{image: 'library/evil:3'}",
        "spec.image docker.io/library/evil:3 (registry.images: docker.io/library/registry:3)",
    ),
    ("registry: {hostnames: ['k3d-{namespace}-*']}", "{}", ""),
    ("registry: {hostnames: ['k3d-{namespace}-*']}", "{hostname: k3d-team-a-x}", ""),
    (
        "registry: {hostnames: ['k3d-{namespace}-*']}",
        "{hostname: vault.prod}",
        "spec.hostname vault.prod (registry.hostnames: k3d-{namespace}-*)",
    ),
    ("registry: {remoteURLs: ['https://quay.io']}", "{proxy: {remoteURL: 'https://quay.io'}}", ""),
    (
        "registry: {remoteURLs: ['https://quay.io']}",
        "{proxy: {remoteURL: 'https://evil.example'}}",
        "spec.proxy.remoteURL https://evil.example (registry.remoteURLs: https://quay.io)",
    ),
    (
        "registry: {volumes: []}",
        "{storage: {volumeName: xx}}",
        "spec.storage.volumeName xx (registry.volumes: none)",
    ),
    ("registry: {volumes: ['team-*']}", "{storage: {volumeName: team-x}}", ""),
    ("registry: {requireAuthBeyondLoopback: true}", "{hostIP: 127.0.0.2}", ""),
    ("registry: {requireAuthBeyondLoopback: true}", "{hostIP: 0.0.0.0, auth: {htpasswdSecret: users}}", ""),
    (
        "registry: {requireAuthBeyondLoopback: true}",
        "{hostIP: 192.0.2.1}",
        "spec with hostIP 192.0.2.1 and without auth (registry.requireAuthBeyondLoopback: set spec.auth, or \
         spec.hostIP 127.0.0.1)",
    ),
    (
        "hostPaths: []",
        "{storage: {hostPath: /srv}}",
        "spec.storage.hostPath /srv for writing (hostPaths: none)",
    ),
    ("quota: {memory: 1Gi}", "{}", "spec without memory (quota.memory: must be set)"),
    (
        "ports: {hostIPs: [127.0.0.1], ranges: [{from: 1, to: 9}]}",
        "{hostPort: 5000}",
        "spec with hostPort 5000 (ports.ranges: 1-9)",
    ),
];

#[test]
fn every_rule_is_enforced_on_clusters() {
    for (policy, spec, told) in CLUSTERS {
        assert_eq!(of_cluster(policy, spec).join("; "), told, "{policy} {spec}");
        assert_eq!(of_cluster("priority: 1", spec), [""; 0], "{spec}");
    }
}

#[test]
fn every_rule_is_enforced_on_registries() {
    for (policy, spec, told) in REGISTRIES {
        assert_eq!(of_registry(policy, spec).join("; "), told, "{policy} {spec}");
        assert_eq!(of_registry("priority: 1", spec), [""; 0], "{spec}");
    }
}

#[test]
fn a_held_cluster_has_no_time_to_live() {
    let mut object: LocalCluster = serde_json::from_value(object("LocalCluster", "{ttl: 9h}")).unwrap();
    object.metadata.annotations = Some([(HOLD_ANNOTATION.to_owned(), "yes".to_owned())].into());
    let valid = validate::local_cluster("team-a", "dev", &object.spec).unwrap();
    let told = |max: &str| -> Vec<String> {
        let found = cluster(&rules(&format!("maxTTL: {max}")), &object, &valid, &Settings::sample());
        found.iter().map(ToString::to_string).collect()
    };
    let hold = "the annotation localcluster.dev/hold (maxTTL: must not be set)";
    assert_eq!(told("9h"), [hold]);
    assert_eq!(told("8h"), ["spec.ttl 9h (maxTTL: at most 8h)", hold]);
}

/// Whatever the default is now.
#[test]
fn a_cluster_is_judged_by_the_default_image_that_it_keeps() {
    let rules = rules("nodes: {images: ['docker.io/rancher/k3s:*']}");
    let mut object: LocalCluster = serde_json::from_value(object("LocalCluster", "{}")).unwrap();
    let valid = validate::local_cluster("team-a", "dev", &object.spec).unwrap();
    let mut told = |image: &str| {
        object.status = Some(serde_json::from_value(json!({"defaultImage": image})).unwrap());
        let found = cluster(&rules, &object, &valid, &Settings::sample());
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(told("rancher/k3s:v1.30.0-k3s1"), "");
    assert!(told("evil.example/k3s:1").contains("the image evil.example/k3s:1 (nodes.images: "));
}
