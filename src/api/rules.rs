//! What specs may not say, as tables: the CEL rules of the schema are made from them, and the operator checks objects
//! that are older than a rule by them.
//!
//! A message tells what to write instead, since it is all that the person sees who just typed `kubectl apply`.

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
        &["REGISTRY_HTTP_ADDR", "REGISTRY_HTTP_NET", "REGISTRY_HTTP_PREFIX", "REGISTRY_HTTP_TLS_*"],
        "the registry has to answer plain HTTP on port 5000, where clusters and the published port expect it; leave it \
         out",
    ),
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
        "images are kept in a Docker volume, see spec.storage; leave it out",
    ),
    refused(
        &["REGISTRY_PROXY_*", "REGISTRY_AUTH*", "REGISTRY_HTTP_SECRET"],
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

/// Where no node can be: this network, what K3s gives Pods and Services unless told otherwise (10.42.0.0/16 and
/// 10.43.0.0/16), loopback, link-local, multicast and beyond.
pub const NO_SUBNET: &[&str] = &["0.0.0.0/8", "10.42.0.0/15", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"];

/// The least memory that the engine takes as a limit, 6 MiB, and more than any host has.
pub const MEMORY: (i64, i64) = (6 << 20, 1 << 50);

/// The fewest and most cores, in billionths.
pub const NANO_CPUS: (i64, i64) = (10_000_000, 1024 * 1_000_000_000);

/// The sentences that both the schema and the operator say.
pub mod text {
    pub const VERSION: &str = "write the version as K3s does, with a plus sign: v1.36.2+k3s1";
    pub const VERSION_OR_IMAGE: &str =
        "version and image exclude each other: remove one, as an image has its version";
    pub const IMAGE: &str =
        "write a full image reference with a tag or a digest: registry.example/k3s:v1.36.2-k3s1";
    pub const NAME: &str = "metadata.name of a LocalCluster becomes part of host names and labels: use at most 63 \
         lower-case letters, digits and hyphens, no dots";
    pub const REGISTRY_NAME: &str =
        "metadata.name of a Registry becomes part of a host name: use at most 63 characters";
    pub const CLUSTER_NAME: &str =
        "write at most 32 lower-case letters, digits and hyphens, with a letter or digit at both ends";
    pub const ONE_SERVER: &str = "only one server is supported yet: set servers.count to 1";
    pub const AGENTS: &str = "write a number of agents from 0 to 32";
    pub const ARG: &str = "write each argument as one item, --flag or --flag=value, with two hyphens";
    pub const ENV_NAME: &str = "write letters, digits and underscores, with no digit in front: HTTP_PROXY";
    pub const LABEL_KEY: &str = "write label keys as Kubernetes does, a name of at most 63 characters with an optional \
         DNS name before it: example.com/tier";
    pub const LABEL_VALUE: &str =
        "write label values as Kubernetes does, at most 63 letters, digits, hyphens, underscores and dots";
    pub const TAINT: &str =
        "write key=value:Effect or key:Effect, the effect being NoSchedule, PreferNoSchedule or NoExecute";
    pub const TAINT_TWICE: &str =
        "a key may be there only once for each effect: remove one of the two taints";
    pub const MEMORY: &str =
        "write an amount of memory from 6Mi up with a unit of Ki, Mi, Gi, Ti, k, M, G or T: 2Gi";
    pub const CPUS: &str = "write a number of cores from 0.01 to 1024, in quotes and without a unit: \"1.5\"";
    pub const SUBNET: &str =
        "write an IPv4 subnet from /16 to /25 by its first address: 172.31.16.0/24, not 172.31.16.1/24";
    pub const SUBNET_RANGE: &str = "nodes can't have these addresses, as they are loopback, link-local, multicast or \
         what K3s gives Pods and Services (10.42.0.0/15): use a private subnet such as 172.31.16.0/24";
    pub const HOST_IP: &str =
        "write an IPv4 address of the Docker host: 127.0.0.1, or 0.0.0.0 for all of them";
    pub const PORT: &str = "write a port from 1 to 65535";
    pub const SAN: &str = "write a DNS name in lower case or an IP address";
    pub const PORT_NAME: &str =
        "write at most 63 lower-case letters, digits and hyphens, with a letter or digit at both ends";
    pub const API_PORT: &str =
        "6443/TCP is the Kubernetes API, which is always published: use spec.api.hostPort";
    pub const HOST_PORT_TWICE: &str = "two ports have the same hostPort on the same address: change one of them, or \
         leave hostPort out for a free one";
    pub const API_HOST_PORT: &str =
        "api.hostPort is taken by one of the ports: change one of them, or leave hostPort out for a free one";
    pub const OBJECT_NAME: &str = "write the name of an object: lower-case letters, digits, hyphens and dots";
    pub const SECRET_KEY: &str = "write the name of a key: letters, digits, hyphens, underscores and dots";
    pub const HOSTNAME: &str =
        "write a DNS name of at most 63 characters in lower case, other than localhost";
    pub const VOLUME_NAME: &str = "write the name of a Docker volume: at least two letters, digits, underscores, dots \
         and hyphens, with a letter or digit in front";
    pub const TWICE: &str = "a name may be there only once: remove the second one";

    /// All of them.
    pub const ALL: &[&str] = &[
        VERSION,
        VERSION_OR_IMAGE,
        IMAGE,
        NAME,
        REGISTRY_NAME,
        CLUSTER_NAME,
        ONE_SERVER,
        AGENTS,
        ARG,
        ENV_NAME,
        LABEL_KEY,
        LABEL_VALUE,
        TAINT,
        TAINT_TWICE,
        MEMORY,
        CPUS,
        SUBNET,
        SUBNET_RANGE,
        HOST_IP,
        PORT,
        SAN,
        PORT_NAME,
        API_PORT,
        HOST_PORT_TWICE,
        API_HOST_PORT,
        OBJECT_NAME,
        SECRET_KEY,
        HOSTNAME,
        VOLUME_NAME,
        TWICE,
    ];
}

/// Regular expressions, to be matched as a whole. RE2 (the API server's) and Rust agree on all that is used here.
pub mod pattern {
    pub const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
    pub const DNS: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
    pub const VERSION: &str = r"v1\.[0-9]{1,3}\.[0-9]{1,3}(-rc[0-9]{1,2})?\+k3s[0-9]{1,2}";
    pub const IMAGE: &str = concat!(
        r"([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?/)?",
        r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*",
        r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?@sha256:[0-9a-f]{64})"
    );
    pub const ARG: &str = "--[a-z0-9][-a-z0-9]*(=.*)?";
    pub const ENV_NAME: &str = "[A-Za-z_][A-Za-z0-9_]*";
    pub const LABEL_KEY: &str = concat!(
        r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?",
        r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
    );
    pub const LABEL_VALUE: &str = "([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?";
    pub const TAINT: &str = concat!(
        r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?",
        r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
        r"(=([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?)?",
        r":(NoSchedule|PreferNoSchedule|NoExecute)"
    );
    pub const MEMORY: &str = r"[0-9]{1,15}(\.[0-9]{1,9})?(Ki|Mi|Gi|Ti|k|M|G|T)?";
    pub const CPUS: &str = r"[0-9]{1,4}(\.[0-9]{1,9})?";
    pub const SECRET_KEY: &str = "[-._a-zA-Z0-9]+";
    pub const VOLUME_NAME: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]+";

    /// All of them.
    pub const ALL: &[&str] = &[
        LABEL,
        DNS,
        VERSION,
        IMAGE,
        ARG,
        ENV_NAME,
        LABEL_KEY,
        LABEL_VALUE,
        TAINT,
        MEMORY,
        CPUS,
        SECRET_KEY,
        VOLUME_NAME,
    ];
}
