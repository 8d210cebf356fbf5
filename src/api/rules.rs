//! What specs may not say, as tables: the CEL rules of the schema are made from them, and the operator checks objects
//! that are older than a rule by them.
//!
//! A message tells what to write instead, since it is all that the person sees who just typed `kubectl apply`.

pub mod pattern;
pub mod text;

/// Names that are not the user's to set. A name that ends in `*` stands for all that begin so.
pub struct Refused {
    /// The names.
    pub names: &'static [&'static str],
    /// What to do instead, as the end of a sentence that names them.
    pub instead: &'static str,
}

impl Refused {
    /// Whether `name` is one of them.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|n| n.strip_suffix('*').map_or(name == *n, |begin| name.starts_with(begin)))
    }

    /// An alternation of all names, in which a `*` stands for any text without `=`.
    pub fn regex(&self) -> String {
        self.names.iter().map(|n| n.replace('.', r"\.").replace('*', "[^=]*")).collect::<Vec<_>>().join("|")
    }

    /// The sentence, with `dashes` before each name.
    pub fn message(&self, dashes: &str) -> String {
        let names: Vec<_> = self.names.iter().map(|n| format!("{dashes}{n}")).collect();
        format!("{}: {}", names.join(", "), self.instead)
    }
}

/// Whether names of images can begin with it, as that of a registry: any other word is a path on Docker Hub.
pub fn begins_names(registry: &str) -> bool {
    registry == "localhost"
        || registry.contains(['.', ':'])
        || registry.contains(|c: char| c.is_ascii_uppercase())
}

/// Whether a rewrite's pattern matches where names begin, if it matches at all.
pub fn matches_at_start(pattern: &str) -> bool {
    pattern.trim_start_matches('(').starts_with(['^', '.'])
}

const fn refused(names: &'static [&'static str], instead: &'static str) -> Refused {
    Refused { names, instead }
}

/// K3s flags that no pool may give, long and short names alike: K3s takes `--t` for `-t`.
pub const FLAGS: &[Refused] = &[
    refused(
        &["token", "t", "token-file", "agent-token", "agent-token-file"],
        "the operator hands the token over in a file; to choose it, name a Secret in spec.token",
    ),
    refused(
        &["server", "s", "cluster-init", "cluster-reset*", "datastore-*"],
        "the operator decides how servers store their data and how nodes join; leave it out",
    ),
    refused(
        &["data-dir", "d", "config", "c", "private-registry"],
        "the operator sets the paths in the nodes; for registries use spec.registries",
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
        "the operator sets names and addresses of nodes; leave it out",
    ),
    refused(
        &["https-listen-port", "apiserver-port", "supervisor-port"],
        "the API listens on 6443 in the nodes; to choose the host's port, use spec.api.hostPort",
    ),
    refused(
        &["write-kubeconfig*", "o"],
        "the operator puts the kubeconfig into a Secret, see status.kubeconfigSecret",
    ),
    refused(&["disable-default-registry-endpoint"], "use spec.registries.defaultEndpoint"),
    refused(&["node-label"], "use labels of the same pool"),
    refused(&["node-taint"], "use taints of the same pool"),
    refused(&["tls-san"], "use spec.api.sans"),
    refused(&["log", "l", "alsologtostderr"], "the log of K3s is the log of the container; leave it out"),
    refused(
        &[
            "disable-agent",
            "disable-apiserver",
            "disable-etcd",
            "rootless",
            "docker",
            "container-runtime-endpoint",
        ],
        "a node of that kind can't be run in a container by the operator; leave it out",
    ),
    refused(
        &["vpn-auth", "etcd-s3-access-key", "etcd-s3-secret-key", "etcd-s3-session-token"],
        "arguments are no place for secrets, as anyone who can inspect containers reads them; use the flag of K3s \
         that names a file or a Secret",
    ),
    // Gone since v1.26 (k3s-io/k3s#6574), and the rest long before.
    refused(
        &["no-deploy"],
        "K3s has this flag no longer and would not start; write --disable with the same value: --disable=traefik",
    ),
    refused(
        &["no-flannel"],
        "K3s has this flag no longer and would not start; write --flannel-backend=none in spec.servers.args",
    ),
    refused(
        &["cluster-secret"],
        "K3s has this flag no longer and would not start; to choose the token, name a Secret in spec.token",
    ),
    refused(
        &["disable-selinux"],
        "K3s has this flag no longer and would not start; leave it out, as SELinux is off without --selinux",
    ),
    refused(
        &["storage-*", "http-listen-port", "multi-cluster-cidr"],
        "K3s has this flag no longer and would not start; leave it out",
    ),
    refused(
        &["k3s-arg", "k3s-server-arg", "k3s-agent-arg"],
        "that is k3d's flag, which K3s does not know and would not start with; write its value as an item of its own",
    ),
    refused(&["help", "h", "version"], "that is a question to K3s, no setting; leave it out"),
];

/// K3s flags that only servers know: an agent that gets one does not start.
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
    "only servers know this flag and an agent would not start with it; move it to spec.servers.args",
);

/// K3s flags that only agents know: a server that gets one does not start.
pub const AGENT_FLAGS: Refused = refused(
    &["disable-apiserver-lb"],
    "only agents know this flag and a server would not start with it; move it to spec.agents.args",
);

/// What --disable does not know and takes all the same, as it takes any name for that of a manifest: each is a flag of
/// its own.
pub const DISABLE: &[&str] = &[
    "cloud-controller",
    "controller-manager",
    "helm-controller",
    "kube-proxy",
    "network-policy",
    "scheduler",
];

/// Arguments of servers that do nothing or keep K3s from starting, by the whole of what they look like, each with what
/// to write instead.
pub fn server_args() -> Vec<(String, String)> {
    let disable = DISABLE.iter().map(|name| {
        (
            format!("--disable=(.*,)? *{name} *(,.*)?"),
            format!("K3s takes {name} here without a word and does nothing: write --disable-{name} as an item of its own"),
        )
    });
    let backend = (
        "--flannel-backend=(ipsec|wireguard)".to_owned(),
        "K3s has this backend no longer and would not start: write --flannel-backend=wireguard-native"
            .to_owned(),
    );
    disable.chain([backend]).collect()
}

const PROCESS_ENV: Refused =
    refused(&["PATH", "LD_*"], "it decides which code the container runs; use an image of your own for that");

/// Environment variables that no pool may set.
pub const NODE_ENV: &[Refused] = &[
    refused(
        &["K3S_TOKEN*", "K3S_AGENT_TOKEN*", "K3S_VPN_AUTH"],
        "environment variables are no place for secrets, as anyone who can inspect containers reads them; for the \
         token, name a Secret in spec.token",
    ),
    refused(
        &["K3S_URL", "K3S_CLUSTER_*", "K3S_DATASTORE_*"],
        "the operator decides how servers store their data and how nodes join; leave it out",
    ),
    refused(
        &["K3S_CONFIG_FILE", "K3S_DATA_DIR", "K3S_KUBECONFIG_*"],
        "the operator sets the paths in the nodes; leave it out",
    ),
    refused(
        &["K3S_NODE_NAME", "K3S_APISERVER_*", "K3S_SUPERVISOR_PORT"],
        "the operator sets names, addresses and ports in the nodes; leave it out",
    ),
    PROCESS_ENV,
];

/// Environment variables that no registry may set.
pub const REGISTRY_ENV: &[Refused] = &[
    refused(&["REGISTRY_STORAGE_DELETE_ENABLED"], "use spec.deleteEnabled"),
    refused(
        &["REGISTRY_HTTP_ADDR", "REGISTRY_HTTP_NET", "REGISTRY_HTTP_PREFIX"],
        "the registry has to answer on port 5000, where clusters and the published port expect it; leave it out",
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
        "images are kept in a Docker volume or a directory of the host, see spec.storage; leave it out",
    ),
    refused(
        &["REGISTRY_PROXY*"],
        "use spec.proxy, since environment variables are no place for secrets: anyone who can inspect containers reads \
         them",
    ),
    refused(
        &["REGISTRY_AUTH*"],
        "use spec.auth, since environment variables are no place for secrets: anyone who can inspect containers reads \
         them",
    ),
    refused(
        &["REGISTRY_HTTP_SECRET"],
        "environment variables are no place for secrets, as anyone who can inspect containers reads them; leave it out",
    ),
    PROCESS_ENV,
];

/// Labels that no pool may give. All others are the user's: the operator sets them through the cluster's API, so what
/// kubelets may not give themselves, such as `node-role.kubernetes.io/worker`, is fine too.
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
    "K3s sets these labels and depends on them; leave it out",
)];

/// Paths in nodes that are not the user's to write.
pub const FILES: &[Refused] = &[
    refused(
        &["/etc/rancher/k3s/registries.yaml", "/etc/rancher/k3s/registries.d*"],
        "the operator writes it; use spec.registries",
    ),
    refused(
        &[
            "/etc/rancher/k3s/token",
            "/etc/rancher/k3s/resolv.conf",
            "/etc/rancher/k3s/k3s.yaml",
            "/etc/rancher/node/*",
        ],
        "the operator or K3s writes it; use another path",
    ),
    refused(&["/etc/rancher/k3s/config.yaml*"], "to set flags of K3s, use args of the pool"),
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
        "K3s keeps its state there; use another path",
    ),
    refused(
        &["/dev/*", "/proc/*", "/run/*", "/sys/*", "/var/run/*"],
        "that is no file system that lasts; use another path",
    ),
    refused(
        &["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"],
        "Docker mounts its own file there; use another path",
    ),
    refused(
        &["/bin/*", "/sbin/*", "/usr/bin/*", "/usr/sbin/*"],
        "it decides which code the node runs; use an image of your own for that",
    ),
];

/// Directories in nodes that nothing of the host may be mounted at.
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
        "that would hide what the node needs; use a path of its own, such as /data",
    ),
    refused(
        &[
            "/var/lib/cni*",
            "/var/lib/kubelet*",
            "/var/lib/rancher/k3s/agent*",
            "/var/lib/rancher/k3s/data*",
            "/var/lib/rancher/k3s/server*",
        ],
        "K3s keeps its state there; use another path, such as /data",
    ),
    refused(
        &["/dev", "/dev/*", "/proc", "/proc/*", "/run", "/run/*", "/sys", "/sys/*", "/var/run", "/var/run/*"],
        "the node has file systems of its own there; use another path, such as /data",
    ),
    refused(
        &["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"],
        "Docker mounts its own file there; use another path",
    ),
    refused(
        &["/bin", "/bin/*", "/sbin", "/sbin/*", "/usr/bin", "/usr/bin/*", "/usr/sbin", "/usr/sbin/*"],
        "it decides which code the node runs; use an image of your own for that",
    ),
];

/// Names that are not the user's to give an address.
pub const ALIASES: &[Refused] = &[
    refused(&["localhost"], "every node and every Pod is that to itself; use another name"),
    refused(&["host.k3d.internal"], "the operator gives it to the Docker host; use another name"),
];

/// The domain of Services and Pods in every cluster.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// Where no node can be: this network, what K3s gives Pods and Services unless told otherwise (10.42.0.0/16 and
/// 10.43.0.0/16), loopback, link-local, multicast and beyond.
pub const NO_SUBNET: &[&str] = &["0.0.0.0/8", "10.42.0.0/15", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"];

/// The least memory that the engine takes as a limit, 6 MiB, and more than any host has.
pub const MEMORY: (i64, i64) = (6 << 20, 1 << 50);

/// The fewest and most cores, in billionths.
pub const NANO_CPUS: (i64, i64) = (10_000_000, 1024 * 1_000_000_000);

/// The most ports that a cluster publishes, ranges counted by their ports.
pub const MAX_PORTS: usize = 128;
