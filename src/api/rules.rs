//! Tables of refused values in specs. The CEL rules of the schema are generated from them, and the operator validates
//! objects that predate a rule with the same tables.
//!
//! A message says what to write instead, since it is all that a user sees after `kubectl apply`.

pub mod format;
pub mod hostnames;
pub mod labels;
pub mod pattern;
pub mod text;

/// Names that users may not set. A name with a `*` at its beginning or end matches every name with that suffix or prefix.
pub struct Refused {
    /// The names.
    pub names: &'static [&'static str],
    /// Instruction that completes a message starting with the names.
    pub instead: &'static str,
}

impl Refused {
    /// Reports whether `name` is refused.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|n| match (n.strip_prefix('*'), n.strip_suffix('*')) {
            (Some(end), _) => name.ends_with(end),
            (_, Some(begin)) => name.starts_with(begin),
            (None, None) => name == *n,
        })
    }

    /// Returns a regular expression of all names, in which `*` matches any text without `=`.
    pub fn regex(&self) -> String {
        self.names.iter().map(|n| n.replace('.', r"\.").replace('*', "[^=]*")).collect::<Vec<_>>().join("|")
    }

    /// Returns the message, with `dashes` before each name.
    pub fn message(&self, dashes: &str) -> String {
        let names: Vec<_> = self.names.iter().map(|n| format!("{dashes}{n}")).collect();
        format!("{}: {}", names.join(", "), self.instead)
    }
}

/// Reports whether an image name can start with this registry: any other word is a path on Docker Hub.
pub fn begins_names(registry: &str) -> bool {
    registry == "localhost"
        || registry.contains(['.', ':'])
        || registry.contains(|c: char| c.is_ascii_uppercase())
}

/// Reports whether a rewrite pattern is anchored at the start of names, if it matches at all.
pub fn matches_at_start(pattern: &str) -> bool {
    pattern.trim_start_matches('(').starts_with(['^', '.'])
}

const fn refused(names: &'static [&'static str], instead: &'static str) -> Refused {
    Refused { names, instead }
}

/// K3s flags refused in every pool, in their long and short forms: K3s accepts `--t` for `-t`.
pub const FLAGS: &[Refused] = &[
    refused(
        &["token", "t", "token-file", "agent-token", "agent-token-file"],
        "the operator passes the token in a file; to choose the token, reference a Secret in spec.token",
    ),
    refused(
        &["server", "s", "cluster-init", "cluster-reset*", "datastore-*"],
        "the operator manages the datastore and how nodes join; remove it",
    ),
    refused(
        &["data-dir", "d", "config", "c", "private-registry"],
        "the operator manages paths in the nodes; for registries use spec.registries",
    ),
    refused(
        &[
            "node-name",
            "with-node-id",
            "node-ip",
            "i",
            "advertise-*",
            "bind-address",
            "apiserver-bind-address",
        ],
        "the operator manages node names and addresses; remove it",
    ),
    refused(
        &["https-listen-port", "apiserver-port", "supervisor-port"],
        "the API always listens on 6443 in the nodes; to choose the port of the Docker host, use spec.api.hostPort",
    ),
    refused(
        &["write-kubeconfig*", "o"],
        "the operator writes the kubeconfig to a Secret; see status.kubeconfigSecret",
    ),
    refused(&["disable-default-registry-endpoint"], "use spec.registries.defaultEndpoint"),
    refused(&["node-label"], "use labels of the pool"),
    refused(&["node-taint"], "use taints of the pool"),
    refused(&["tls-san"], "use spec.api.sans"),
    refused(&["log", "l", "alsologtostderr"], "K3s must log to the container log; remove it"),
    refused(
        &[
            "disable-agent",
            "disable-apiserver",
            "disable-etcd",
            "rootless",
            "docker",
            "container-runtime-endpoint",
        ],
        "the operator does not support such nodes in containers; remove it",
    ),
    refused(
        &["vpn-auth", "etcd-s3-access-key", "etcd-s3-secret-key", "etcd-s3-session-token"],
        "arguments are visible to anyone who can inspect containers; use the K3s flag that references a file or a \
         Secret",
    ),
    // Removed in v1.26 (k3s-io/k3s#6574), the others long before.
    refused(
        &["no-deploy"],
        "K3s no longer supports this flag and does not start with it; use --disable with the same value: \
         --disable=traefik",
    ),
    refused(
        &["no-flannel"],
        "K3s no longer supports this flag and does not start with it; use --flannel-backend=none in spec.servers.args",
    ),
    refused(
        &["cluster-secret"],
        "K3s no longer supports this flag and does not start with it; to choose the token, reference a Secret in \
         spec.token",
    ),
    refused(
        &["disable-selinux"],
        "K3s no longer supports this flag and does not start with it; remove it, since SELinux is disabled without \
         --selinux",
    ),
    refused(
        &["storage-*", "http-listen-port", "multi-cluster-cidr"],
        "K3s no longer supports this flag and does not start with it; remove it",
    ),
    refused(
        &["k3s-arg", "k3s-server-arg", "k3s-agent-arg"],
        "this is a k3d flag, with which K3s does not start; use its value as a separate item",
    ),
    refused(&["help", "h", "version"], "K3s prints information and exits with this flag; remove it"),
];

/// K3s flags that only servers support: an agent does not start with them.
pub const SERVER_FLAGS: Refused = refused(
    &[
        "cluster-cidr",
        "cluster-dns",
        "cluster-domain",
        "default-local-storage-path",
        "disable",
        "disable-cloud-controller",
        "disable-controller-manager",
        "disable-helm-controller",
        "disable-kube-proxy",
        "disable-network-policy",
        "disable-scheduler",
        "egress-selector-mode",
        "embedded-registry",
        "etcd-*",
        "flannel-backend",
        "flannel-external-ip",
        "flannel-ipv6-masq",
        "helm-*",
        "kine-tls",
        "kube-apiserver-arg",
        "kube-cloud-controller*",
        "kube-controller*",
        "kube-scheduler-arg",
        "secrets-encryption*",
        "service-cidr",
        "service-node-port-range",
        "servicelb-namespace",
        "supervisor-metrics",
        "system-default-registry",
        "tls-san-security",
    ],
    "only servers support this flag, and an agent does not start with it; move it to spec.servers.args",
);

/// K3s flags that only agents support: a server does not start with them.
pub const AGENT_FLAGS: Refused = refused(
    &["disable-apiserver-lb"],
    "only agents support this flag, and a server does not start with it; move it to spec.agents.args",
);

/// Values that --disable silently accepts without effect, as it takes every name for that of a manifest: each of them
/// has a flag of its own.
pub const DISABLE: &[&str] = &[
    "cloud-controller",
    "controller-manager",
    "helm-controller",
    "kube-proxy",
    "network-policy",
    "scheduler",
];

/// Returns the server arguments that have no effect or keep K3s from starting, each as a pattern for the whole argument
/// with what to use instead.
pub fn server_args() -> Vec<(String, String)> {
    let disable = DISABLE.iter().map(|name| {
        (
            format!("--disable=(.*,)? *{name} *(,.*)?"),
            format!("K3s silently ignores {name} here; use --disable-{name} as a separate item"),
        )
    });
    let backend = (
        "--flannel-backend=(ipsec|wireguard)".to_owned(),
        "K3s no longer supports this backend and does not start with it; use --flannel-backend=wireguard-native"
            .to_owned(),
    );
    disable.chain([backend]).collect()
}

const PROCESS_ENV: Refused = refused(
    &["PATH", "LD_*"],
    "these variables determine which code the container runs; use a custom image instead",
);

/// Environment variables refused in every pool.
pub const NODE_ENV: &[Refused] = &[
    refused(
        &["K3S_TOKEN*", "K3S_AGENT_TOKEN*", "K3S_VPN_AUTH"],
        "environment variables are visible to anyone who can inspect containers; for the token, reference a Secret in \
         spec.token",
    ),
    refused(
        &["K3S_URL", "K3S_CLUSTER_*", "K3S_DATASTORE_*"],
        "the operator manages the datastore and how nodes join; remove it",
    ),
    refused(
        &["K3S_CONFIG_FILE", "K3S_DATA_DIR", "K3S_KUBECONFIG_*"],
        "the operator manages paths in the nodes; remove it",
    ),
    refused(
        &["K3S_NODE_NAME", "K3S_APISERVER_*", "K3S_SUPERVISOR_PORT"],
        "the operator manages node names, addresses and ports; remove it",
    ),
    PROCESS_ENV,
];

/// Environment variables refused in registries.
pub const REGISTRY_ENV: &[Refused] = &[
    refused(&["REGISTRY_STORAGE_DELETE_ENABLED"], "use spec.deleteEnabled"),
    refused(
        &["REGISTRY_HTTP_ADDR", "REGISTRY_HTTP_NET", "REGISTRY_HTTP_PREFIX"],
        "the registry must listen on port 5000, which clusters and the published port connect to; remove it",
    ),
    refused(
        &["REGISTRY_HTTP_DEBUG*"],
        "everyone on the networks of the registry could reach its debug server, without a password; remove it",
    ),
    refused(&["REGISTRY_HTTP_TLS*"], "use spec.tls"),
    refused(
        &[
            "REGISTRY_STORAGE",
            "REGISTRY_STORAGE_FILESYSTEM_*",
            "REGISTRY_STORAGE_INMEMORY*",
            "REGISTRY_STORAGE_S3_*",
            "REGISTRY_STORAGE_GCS_*",
            "REGISTRY_STORAGE_AZURE_*",
            "REGISTRY_STORAGE_SWIFT_*",
            "REGISTRY_STORAGE_OSS_*",
        ],
        "images are stored in a Docker volume or a directory of the Docker host, see spec.storage; remove it",
    ),
    refused(
        &["REGISTRY_PROXY*"],
        "environment variables are visible to anyone who can inspect containers; use spec.proxy",
    ),
    refused(
        &["REGISTRY_AUTH*"],
        "environment variables are visible to anyone who can inspect containers; use spec.auth",
    ),
    refused(
        &["REGISTRY_HTTP_SECRET", "REGISTRY_REDIS_PASSWORD", "REGISTRY_REDIS_OPTIONS_PASSWORD"],
        "environment variables are visible to anyone who can inspect containers; remove it",
    ),
    PROCESS_ENV,
];

/// Node labels refused in every pool. All others are allowed: the operator sets them through the API of the cluster, so
/// labels that kubelets may not set on their own Node, such as `node-role.kubernetes.io/worker`, are fine too.
pub const NODE_LABELS: &[Refused] = &[refused(
    &[
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "node-role.kubernetes.io/control-plane",
        "node-role.kubernetes.io/master",
        "node-role.kubernetes.io/etcd",
    ],
    "K3s manages these labels and depends on them; remove it",
)];

/// Paths in nodes that users may not write.
pub const FILES: &[Refused] = &[
    refused(
        &["/etc/rancher/k3s/registries.yaml", "/etc/rancher/k3s/registries.d*"],
        "the operator writes this file; use spec.registries",
    ),
    refused(
        &[
            "/etc/rancher/k3s/token",
            "/etc/rancher/k3s/resolv.conf",
            "/etc/rancher/k3s/k3s.yaml",
            "/etc/rancher/node/*",
        ],
        "the operator or K3s writes this file; use another path",
    ),
    refused(&["/etc/rancher/k3s/config.yaml*"], "to set K3s flags, use args of the pool"),
    refused(
        &[
            "/var/lib/rancher/k3s/data/*",
            "/var/lib/rancher/k3s/server/cred/*",
            "/var/lib/rancher/k3s/server/db/*",
            "/var/lib/rancher/k3s/server/tls/*",
            "/var/lib/rancher/k3s/server/agent-token",
            "/var/lib/rancher/k3s/server/node-token",
            "/var/lib/rancher/k3s/server/token",
            "/var/lib/rancher/k3s/agent/containerd/*",
            "/var/lib/rancher/k3s/agent/etc/containerd/certs.d/*",
            "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
            "/var/lib/kubelet/*",
        ],
        "K3s stores its state there; use another path",
    ),
    refused(
        &["/dev/*", "/proc/*", "/run/*", "/sys/*", "/var/run/*"],
        "this file system does not persist; use another path",
    ),
    refused(
        &["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"],
        "Docker mounts its own file there; use another path",
    ),
    refused(
        &["/bin/*", "/sbin/*", "/usr/bin/*", "/usr/sbin/*"],
        "files there determine which code the node runs; use a custom image instead",
    ),
];

/// Directories in nodes that users may not mount over.
pub const MOUNTS: &[Refused] = &[
    refused(
        &[
            "/etc",
            "/etc/rancher*",
            "/lib",
            "/lib64",
            "/usr",
            "/usr/lib",
            "/usr/local",
            "/var",
            "/var/lib",
            "/var/lib/rancher",
            "/var/lib/rancher/k3s",
            "/var/log",
        ],
        "a mount would hide files that the node needs; use a dedicated path, such as /data",
    ),
    refused(
        &[
            "/var/lib/cni*",
            "/var/lib/kubelet*",
            "/var/lib/rancher/k3s/agent*",
            "/var/lib/rancher/k3s/data*",
            "/var/lib/rancher/k3s/server*",
        ],
        "K3s stores its state there; use another path, such as /data",
    ),
    refused(
        &["/dev", "/dev/*", "/proc", "/proc/*", "/run", "/run/*", "/sys", "/sys/*", "/var/run", "/var/run/*"],
        "the node mounts its own file systems there; use another path, such as /data",
    ),
    refused(
        &["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"],
        "Docker mounts its own file there; use another path",
    ),
    refused(
        &["/bin", "/bin/*", "/sbin", "/sbin/*", "/usr/bin", "/usr/bin/*", "/usr/sbin", "/usr/sbin/*"],
        "files there determine which code the node runs; use a custom image instead",
    ),
];

/// Networks that nodes cannot use: the current network, the default networks of K3s for Pods and Services (10.42.0.0/16
/// and 10.43.0.0/16), loopback, link-local, multicast and reserved ranges.
pub const NO_SUBNET: &[&str] = &["0.0.0.0/8", "10.42.0.0/15", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"];

/// Lowest and highest memory limit: 6 MiB, the least that the engine accepts, and more than any host has.
pub const MEMORY: (i64, i64) = (6 << 20, 1 << 50);

/// Lowest and highest CPU limit in billionths of a CPU.
pub const NANO_CPUS: (i64, i64) = (10_000_000, 1024 * 1_000_000_000);

/// Maximum number of ports that a cluster publishes; ranges count by their ports.
pub const MAX_PORTS: usize = 128;
