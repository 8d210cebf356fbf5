//! Rules of HostPolicies for which the spec alone decides. The operator and the ValidatingAdmissionPolicies have the same
//! word for each row.

/// Rules of a policy, the kind, its spec, and the field that does not allow it; empty if all is allowed.
pub type Row = (&'static str, &'static str, &'static str, &'static str);

const LC: &str = "LocalCluster";
const REGISTRY: &str = "Registry";
const DIGEST: &str = "{image: 'rancher/k3s:v1.36.2-k3s1@sha256:0123456789012345678901234567890123456789012345678901234567890123'}";

pub const ROWS: &[Row] = &[
    ("priority: 1", LC, "{}", ""),
    ("perNode: {maxMemory: 4Gi}", LC, "{servers: {memory: 4096Mi}}", ""),
    ("perNode: {maxMemory: 4Gi}", LC, "{servers: {memory: 5Gi}}", "perNode.maxMemory"),
    ("perNode: {maxMemory: 4Gi}", LC, "{servers: {memory: 5G}}", "perNode.maxMemory"),
    ("perNode: {maxMemory: 4Gi}", LC, "{servers: {memory: 4g}}", ""),
    ("perNode: {maxMemory: 4Gi}", LC, "{servers: {memory: 4097m}}", "perNode.maxMemory"),
    ("perNode: {maxMemory: 4g}", LC, "{servers: {memory: 4294967296b}}", ""),
    ("perNode: {maxMemory: 512m}", LC, "{servers: {memory: 1Gi}}", "perNode.maxMemory"),
    ("perNode: {maxMemory: 4Gi}", LC, "{}", "perNode.maxMemory"),
    ("perNode: {maxMemory: 4Gi}", LC, "{servers: {memory: 1Gi}, agents: {count: 1}}", "perNode.maxMemory"),
    ("perNode: {maxMemory: 4Gi}", LC, "{servers: {memory: 1Gi}, agents: {count: 0}}", ""),
    ("perNode: {maxMemory: 4Gi}, defaults: {memory: 4Gi}", LC, "{agents: {count: 2}}", ""),
    ("perNode: {maxCpus: '1.5'}", LC, "{servers: {cpus: '1.5'}}", ""),
    ("perNode: {maxCpus: '1.5'}", LC, "{servers: {cpus: '1.51'}}", "perNode.maxCpus"),
    ("perNode: {maxPids: 2048}", LC, "{servers: {pids: 2048}}", ""),
    ("perNode: {maxPids: 2048}", LC, "{servers: {pids: 4096}}", "perNode.maxPids"),
    ("perNode: {maxPids: 2048}", LC, "{}", "perNode.maxPids"),
    ("perNode: {maxPids: 2048}, defaults: {pids: 1024}", LC, "{}", ""),
    ("quota: {memory: 8Gi}", LC, "{}", "quota.memory"),
    ("quota: {memory: 8Gi}, defaults: {memory: 1Gi}", LC, "{}", ""),
    ("quota: {cpus: '8'}", LC, "{}", "quota.cpus"),
    ("quota: {cpus: '8'}", LC, "{servers: {cpus: '1'}}", ""),
    ("perNode: {maxGpus: 1}", LC, "{agents: {count: 1, gpus: '1'}}", ""),
    ("perNode: {maxGpus: 1}", LC, "{agents: {count: 1, gpus: '2'}}", "perNode.maxGpus"),
    ("perNode: {maxGpus: 1}", LC, "{agents: {count: 1, gpus: all}}", "perNode.maxGpus"),
    ("nodes: {requireDigest: true}", LC, DIGEST, ""),
    ("nodes: {requireDigest: true}", LC, "{version: v1.36.2+k3s1}", "nodes.requireDigest"),
    ("nodes: {requireDigest: false}", LC, "{}", ""),
    ("nodes: {argsDeny: ['--kube-apiserver-arg=*']}", LC, "{servers: {args: [--disable=traefik]}}", ""),
    (
        "nodes: {argsDeny: ['--kube-apiserver-arg=*']}",
        LC,
        "{servers: {args: ['--kube-apiserver-arg=audit-log-path=/a/b']}}",
        "nodes.argsDeny",
    ),
    ("nodes: {argsDeny: ['kubelet-arg=max-pods=*']}", LC, "{servers: {args: ['--kubelet-arg=v=2']}}", ""),
    (
        "nodes: {argsDeny: ['kubelet-arg=max-pods=*']}",
        LC,
        "{servers: {args: ['--kubelet-arg=max-pods=9']}}",
        "nodes.argsDeny",
    ),
    ("nodes: {argsDeny: ['--debug']}", LC, "{servers: {args: ['--debug']}}", "nodes.argsDeny"),
    ("nodes: {env: ['HTTP*_PROXY']}", LC, "{servers: {env: [{name: HTTPS_PROXY, value: x}]}}", ""),
    ("nodes: {env: ['HTTP*_PROXY']}", LC, "{servers: {env: [{name: GODEBUG, value: x}]}}", "nodes.env"),
    ("nodes: {env: []}", LC, "{}", ""),
    (
        "nodes: {containerLabels: ['com.example.*']}",
        LC,
        "{servers: {containerLabels: {com.example.team: a}}}",
        "",
    ),
    (
        "nodes: {containerLabels: ['com.example.*']}",
        LC,
        "{agents: {containerLabels: {com.example.team: a, traefik.enable: 'true'}}}",
        "nodes.containerLabels",
    ),
    ("nodes: {containerLabels: []}", LC, "{}", ""),
    (
        "nodes: {volumes: ['team-*']}",
        LC,
        "{agents: {volumes: [{volumeName: team-x, mountPath: /d}, {hostPath: /srv, mountPath: /e}]}}",
        "",
    ),
    (
        "nodes: {volumes: ['team-*']}",
        LC,
        "{agents: {volumes: [{volumeName: cache, mountPath: /d}]}}",
        "nodes.volumes",
    ),
    ("hostPaths: []", LC, "{agents: {volumes: [{volumeName: cache, mountPath: /d}]}}", ""),
    ("clusterNames: ['{namespace}-*']", LC, "{}", ""),
    ("clusterNames: ['{namespace}-*']", LC, "{clusterName: NAMESPACE-x}", ""),
    ("clusterNames: ['{namespace}-*']", LC, "{clusterName: prod}", "clusterNames"),
    ("containers: ['a.*']", LC, "{registries: {containers: [{name: a.b}]}}", ""),
    ("containers: ['a.*']", LC, "{registries: {containers: [{name: axb}]}}", "containers"),
    ("network: {explicitSubnet: false}", LC, "{}", ""),
    ("network: {explicitSubnet: false}", LC, "{network: {subnet: 172.31.9.0/24}}", "network.explicitSubnet"),
    ("mode: Audit, network: {explicitSubnet: false}", LC, "{network: {subnet: 172.31.9.0/24}}", ""),
    (
        "mode: Enforce, network: {explicitSubnet: false}",
        LC,
        "{network: {subnet: 172.31.9.0/24}}",
        "network.explicitSubnet",
    ),
    ("network: {pools: [172.31.0.0/16]}", LC, "{network: {subnet: 172.31.9.0/24}}", ""),
    ("network: {pools: [172.30.0.0/16]}", LC, "{network: {subnet: 172.31.9.0/24}}", "network.pools"),
    ("ports: {hostIPs: [127.0.0.1]}", LC, "{ports: [{name: a, port: 80}]}", ""),
    ("ports: {hostIPs: [127.0.0.1]}", LC, "{ports: [{name: a, port: 80, hostIP: 0.0.0.0}]}", "ports.hostIPs"),
    ("ports: {hostIPs: [127.0.0.1]}", LC, "{api: {hostIP: 0.0.0.0}}", "ports.hostIPs"),
    (
        "ports: {ranges: [{from: 30000, to: 30009}]}",
        LC,
        "{api: {hostPort: 30009}, ports: [{name: a, port: 80}]}",
        "",
    ),
    ("ports: {ranges: [{from: 30000, to: 30009}]}", LC, "{api: {hostPort: 30010}}", "ports.ranges"),
    (
        "ports: {ranges: [{from: 30000, to: 30009}]}",
        LC,
        "{ports: [{name: a, port: 80, endPort: 90, hostPort: 30005}]}",
        "ports.ranges",
    ),
    ("hostPaths: [{path: /srv/a}]", LC, "{servers: {volumes: [{hostPath: /srv/a/b, mountPath: /d}]}}", ""),
    (
        "hostPaths: [{path: /srv/a}]",
        LC,
        "{servers: {volumes: [{hostPath: /srv/ab, mountPath: /d}]}}",
        "hostPaths",
    ),
    (
        "hostPaths: [{path: /srv/a, readOnly: true}]",
        LC,
        "{servers: {volumes: [{hostPath: /srv/a, mountPath: /d}]}}",
        "hostPaths",
    ),
    ("maxTTL: 8h", LC, "{ttl: 7h59m60s}", ""),
    ("maxTTL: 8h", LC, "{ttl: 9h}", "maxTTL"),
    ("maxTTL: 8h", LC, "{}", "maxTTL"),
    ("maxTTL: 8h, defaults: {ttl: 1h}", LC, "{}", ""),
    ("registry: {requireAuthBeyondLoopback: true}", LC, "{registries: {create: {}}}", ""),
    (
        "registry: {volumes: []}",
        LC,
        "{registries: {create: {storage: {volumeName: pg}}}}",
        "registry.volumes",
    ),
    ("registry: {requireAuthBeyondLoopback: true}", REGISTRY, "{hostIP: 127.0.0.2}", ""),
    (
        "registry: {requireAuthBeyondLoopback: true}",
        REGISTRY,
        "{hostIP: 0.0.0.0, auth: {htpasswdSecret: u}}",
        "",
    ),
    (
        "registry: {requireAuthBeyondLoopback: true}",
        REGISTRY,
        "{hostIP: 0.0.0.0}",
        "registry.requireAuthBeyondLoopback",
    ),
    ("registry: {requireDigest: true}", REGISTRY, "{image: 'registry:3'}", "registry.requireDigest"),
    ("quota: {memory: 1Gi}", REGISTRY, "{}", "quota.memory"),
    ("quota: {memory: 1Gi}", REGISTRY, "{memory: 512Mi}", ""),
    ("registry: {remoteURLs: ['https://quay.io/']}", REGISTRY, "{proxy: {remoteURL: 'https://quay.io'}}", ""),
    (
        "registry: {remoteURLs: ['https://quay.io']}",
        REGISTRY,
        "{proxy: {remoteURL: 'https://quay.io.example'}}",
        "registry.remoteURLs",
    ),
    ("registry: {volumes: ['team-*']}", REGISTRY, "{storage: {volumeName: team-x}}", ""),
    ("registry: {volumes: ['team-*']}", REGISTRY, "{storage: {volumeName: x-team-x}}", "registry.volumes"),
    ("hostPaths: [{path: /srv/a}]", REGISTRY, "{storage: {hostPath: /srv/a}}", ""),
    ("hostPaths: []", REGISTRY, "{storage: {hostPath: /srv}}", "hostPaths"),
    ("ports: {hostIPs: [127.0.0.1], ranges: [{from: 5000, to: 5000}]}", REGISTRY, "{hostPort: 5000}", ""),
    ("ports: {ranges: [{from: 5001, to: 5001}]}", REGISTRY, "{hostPort: 5000}", "ports.ranges"),
    ("ports: {hostIPs: [127.0.0.1]}", REGISTRY, "{hostIP: 0.0.0.0}", "ports.hostIPs"),
];

/// The object of a row as YAML.
pub fn object((_, kind, spec, _): &Row, namespace: &str) -> String {
    let spec = spec.replace("NAMESPACE", namespace);
    format!(
        "apiVersion: localcluster.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: dev, namespace: {namespace}}}\nspec: {spec}\n"
    )
}
