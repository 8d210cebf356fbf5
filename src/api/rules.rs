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

/// The sentences that both the schema and the operator say.
pub mod text {
    pub const VERSION: &str = "write the version as K3s does, with a plus sign: v1.36.2+k3s1";
    pub const VERSION_OR_IMAGE: &str =
        "version and image exclude each other: remove one, as an image has its version";
    pub const IMAGE: &str =
        "write a full image reference with a tag or a digest: registry.example/k3s:v1.36.2-k3s1";
    pub const PRELOAD_IMAGE: &str = "write an image of the Docker host with a tag and without a digest, as Pods name \
         it: nginx:1.29, registry.example:5000/team/app:1.2";
    pub const MANIFEST_NAME: &str = "write at most 40 lower-case letters, digits and hyphens, with a letter or digit at \
         both ends";
    pub const NAME: &str = "metadata.name of a LocalCluster becomes part of host names and labels: use at most 63 \
         lower-case letters, digits and hyphens, no dots";
    pub const REGISTRY_NAME: &str =
        "metadata.name of a Registry becomes part of a host name: use at most 63 characters";
    pub const CLUSTER_NAME: &str =
        "write at most 32 lower-case letters, digits and hyphens, with a letter or digit at both ends";
    pub const SERVERS: &str = "write 1, 3 or 5: servers agree by majority, so that an even number can lose no more of them than one less";
    pub const AGENTS: &str = "write a number of agents from 0 to 32";
    pub const MAX_UNAVAILABLE: &str =
        "write how many agents may be out of service at the same time, from 1 to 32";
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
    pub const END_PORT: &str =
        "write the last port of the range, not less than port; leave endPort out for one port";
    pub const HOST_RANGE: &str = "a range of ports needs hostPort, the first of as many ports of the Docker host, the \
         last of them at most 65535: {port: 8000, endPort: 8010, hostPort: 8000}";
    pub const PORTS_IN_ALL: &str = "these are more than 128 ports in all: write shorter ranges, as for each port the \
         Docker host runs a process of its own";
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
    pub const HOST_PATH: &str = "write the absolute path of a directory of the Docker host, without /./, /../, // and a \
         slash at the end: /srv/registry";
    pub const HOST_PATH_ALONE: &str = "hostPath excludes volumeName and retain: remove them, as what is in a directory of the host is never removed";
    pub const REMOTE_URL: &str = "write the URL of a registry without a path: https://registry-1.docker.io for Docker \
         Hub, https://quay.io";
    pub const TTL: &str = "write hours, minutes and seconds, in this order: 168h, 1h30m, 0s for ever";
    pub const LIFETIME: &str = "write hours, minutes and seconds, in this order and more than nothing: 8h, 1h30m, 90s; \
         leave it out for a cluster that stays";
    pub const ALLOWED_NAMESPACE: &str = "write the name of a namespace, or * for all";
    pub const NAMESPACE: &str = "write the name of a namespace, or leave it out for this one";
    pub const MIRRORED: &str = "write a registry as image names begin, without a scheme or a path: docker.io (not \
         index.docker.io), registry.example:5000, or * for all that have no entry";
    pub const CONFIG_HOST: &str = "write the host of an endpoint, with its port where the URL has one and without a \
         scheme: registry.example:5443; for Docker Hub docker.io";
    pub const ENDPOINT: &str = "write a URL: https://mirror.example, or http://cache:5000 for plain HTTP";
    pub const ONE_CA: &str = "caSecretName and caConfigMapName exclude each other: remove one";
    pub const ONE_SOURCE: &str =
        "write one of inline, secretName and configMapName, and key only with one of the last two";
    pub const ONE_CONTENT: &str = "write one of inline, secret and configMap";
    pub const FILE_PATH: &str = "write an absolute path of letters, digits and -_.+@, without steps such as ..: /etc/ssl/certs/corp.pem";
    pub const ALIAS_IP: &str = "write an IPv4 or IPv6 address: 10.0.0.5, 2001:db8::5";
    pub const ALIAS_NAME: &str = "write a DNS name in lower case: db.internal";
    pub const ALIAS_DOMAIN: &str =
        "names in cluster.local are those of the cluster's own Services and Pods: use another one";
    pub const ALIAS_TWICE: &str = "a name can have only one address: remove it from all hostnames but one";
    pub const ALIAS_OF_CONTAINER: &str = "a hostname of hostAliases is also in registries.containers, which gives it \
         its address: remove it from one of them";
    pub const ULIMIT_NAME: &str = "write the name of a limit as docker run --ulimit has it: core, cpu, data, fsize, \
         locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack";
    pub const ULIMIT_ORDER: &str =
        "hard may not be less than soft: raise it, or leave it out to have it equal (-1 is without a limit)";
    pub const ULIMIT_NOFILE: &str =
        "no process can open files without a limit: write a number, such as 1048576";
    pub const MOUNT_PATH: &str =
        "write an absolute path of letters, digits and -_.+@, without steps such as ..: /data";
    pub const MOUNTS_APART: &str =
        "a mountPath may be neither there twice nor in another one: change one of them";
    pub const FILE_IN_VOLUME: &str = "a path of files is in a volume, so that the file would be written into the \
         host's directory: use another path, or put the file there yourself";
    pub const GPUS: &str = "write all, or a number of GPUs from 1 to 128 in quotes: \"1\"";
    pub const TWICE: &str = "a name may be there only once: remove the second one";

    /// All of them.
    pub const ALL: &[&str] = &[
        VERSION,
        VERSION_OR_IMAGE,
        IMAGE,
        PRELOAD_IMAGE,
        MANIFEST_NAME,
        NAME,
        REGISTRY_NAME,
        CLUSTER_NAME,
        SERVERS,
        AGENTS,
        MAX_UNAVAILABLE,
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
        END_PORT,
        HOST_RANGE,
        PORTS_IN_ALL,
        HOST_PORT_TWICE,
        API_HOST_PORT,
        OBJECT_NAME,
        SECRET_KEY,
        HOSTNAME,
        VOLUME_NAME,
        HOST_PATH,
        HOST_PATH_ALONE,
        REMOTE_URL,
        TTL,
        LIFETIME,
        ALLOWED_NAMESPACE,
        NAMESPACE,
        MIRRORED,
        CONFIG_HOST,
        ENDPOINT,
        ONE_CA,
        ONE_SOURCE,
        ONE_CONTENT,
        FILE_PATH,
        ALIAS_IP,
        ALIAS_NAME,
        ALIAS_DOMAIN,
        ALIAS_TWICE,
        ALIAS_OF_CONTAINER,
        ULIMIT_NAME,
        ULIMIT_ORDER,
        ULIMIT_NOFILE,
        MOUNT_PATH,
        MOUNTS_APART,
        FILE_IN_VOLUME,
        GPUS,
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
    /// [`IMAGE`] without a digest, by which Docker gives out no name for what it saves.
    pub const TAGGED_IMAGE: &str = concat!(
        r"([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?/)?",
        r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*",
        r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
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
    pub const HOST_PATH: &str = "(/[-A-Za-z0-9_.@+=~]+)+";
    pub const REMOTE_URL: &str = r"https?://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?";
    pub const TTL: &str = "([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?";
    pub const HOST: &str = r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?";
    pub const FILE_PATH: &str = r"(/\.?[A-Za-z0-9_+@-][A-Za-z0-9._+@-]*)+";
    pub const GPUS: &str = "all|[1-9][0-9]?|1[01][0-9]|12[0-8]";
    pub const ULIMIT: &str =
        "core|cpu|data|fsize|locks|memlock|msgqueue|nice|nofile|nproc|rss|rtprio|rttime|sigpending|stack";
    pub const ENDPOINT: &str =
        r"(https?://)?[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[-A-Za-z0-9._~/]*)?";

    /// All of them.
    pub const ALL: &[&str] = &[
        LABEL,
        DNS,
        VERSION,
        IMAGE,
        TAGGED_IMAGE,
        ARG,
        ENV_NAME,
        LABEL_KEY,
        LABEL_VALUE,
        TAINT,
        MEMORY,
        CPUS,
        SECRET_KEY,
        VOLUME_NAME,
        HOST_PATH,
        REMOTE_URL,
        TTL,
        HOST,
        FILE_PATH,
        GPUS,
        ULIMIT,
        ENDPOINT,
    ];
}
