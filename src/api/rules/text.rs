//! Validation messages shared by the CEL rules of the schema and the validation of the operator, each with the defect
//! that it reports.

/// A version is not one of K3s.
pub const VERSION: &str = "must be a K3s version with a plus sign, such as v1.36.2+k3s1";
/// Both a version and an image are set.
pub const VERSION_OR_IMAGE: &str =
    "version and image are mutually exclusive: the image determines the version; remove one of them";
/// An image lacks a tag or a digest, or is no image reference.
pub const IMAGE: &str =
    "must be a full image reference with a tag or a digest, such as registry.example/k3s:v1.36.2-k3s1";
/// An image to import lacks a tag, or has a digest.
pub const PRELOAD_IMAGE: &str = "must be an image reference with a tag and without a digest, as Pods write it: \
     nginx:1.29, registry.example:5000/team/app:1.2";
/// The name of a manifest is invalid.
pub const MANIFEST_NAME: &str = "must be a DNS label of at most 40 lowercase letters, digits and hyphens that \
     starts and ends with a letter or digit";
/// An object that is bound to its host is to be made anew elsewhere.
pub const RECREATES_WHAT_IS_EPHEMERAL: &str = "hostLoss Recreate makes the object anew without its data, so it needs \
     data: Ephemeral; set that, or hostLoss: Wait";
/// The name of a LocalCluster is invalid.
pub const NAME: &str = "metadata.name of a LocalCluster becomes part of host names and labels: it must be a DNS \
     label of at most 63 lowercase letters, digits and hyphens, without dots";
/// The name of a LocalClusterPool is invalid.
pub const POOL_OBJECT_NAME: &str = "metadata.name of a LocalClusterPool becomes part of the names of its clusters: it must be \
     a DNS label of at most 57 lowercase letters, digits and hyphens, without dots";
/// The name of a LocalClusterClaim is too long.
pub const CLAIM_NAME: &str = "metadata.name of a LocalClusterClaim becomes a label of its cluster: it must have at most 63 \
     characters";
/// A template says what only one cluster can have.
pub const TEMPLATE_NAME: &str = "clusterName and network.subnet cannot be set in a template: each cluster of the pool has its \
     own; remove them";
/// The name of a Registry is too long.
pub const REGISTRY_NAME: &str =
    "metadata.name of a Registry becomes part of a host name: it must have at most 63 characters";
/// The name of a cluster on the Docker host is invalid.
pub const CLUSTER_NAME: &str = "must be a DNS label of at most 32 lowercase letters, digits and hyphens that \
     starts and ends with a letter or digit";
/// The number of servers is invalid.
pub const SERVERS: &str =
    "must be 1, 3 or 5: an even number of servers tolerates no more failures than one fewer";
/// The number of agents is invalid.
pub const AGENTS: &str = "must be between 0 and 32";
/// An index of an agent is out of range, or excluded with too many others.
pub const EXCLUDED: &str = "must be distinct numbers between 0 and 31, and at most 32 together with the count; remove \
     indexes that no longer matter, or lower the count";
/// Servers have no excluded indexes.
pub const EXCLUDED_SERVER: &str = "only agents have excluded indexes; remove it: to replace a server, delete its container \
     and volumes";
/// There are too many agents in all pools.
pub const AGENTS_IN_ALL: &str =
    "at most 32 agents in total, those of spec.agents included; lower the count of a pool";
/// The name of a pool of agents is invalid.
pub const POOL_NAME: &str = "must be a lowercase letter, followed by at most 19 lowercase letters and digits, without \
     hyphens: gpu, pool1";
/// The number of agents that can be unavailable is invalid.
pub const MAX_UNAVAILABLE: &str = "must be between 1 and 32";
/// The limit of processes is invalid.
pub const PIDS: &str = "must be between 1024 and 4194304";
/// An argument is no flag.
pub const ARG: &str = "must be a single argument with two hyphens: --flag or --flag=value";
/// An item contains two arguments.
pub const TWO_ARGS: &str = "contains two arguments, and K3s reads the second one as part of the value of the \
     first; write each argument as a separate item";
/// An argument ends with a node filter of k3d.
pub const FILTERED_ARG: &str = "ends with a k3d node filter, which K3s reads as part of the value; remove the \
     filter, since args of a pool apply to all of its nodes";
/// The name of an environment variable is invalid.
pub const ENV_NAME: &str =
    "must consist of letters, digits and underscores and not start with a digit: HTTP_PROXY";
/// The key of a label is invalid.
pub const LABEL_KEY: &str = "must be a valid label key: a name of at most 63 characters with an optional DNS \
     prefix, such as example.com/tier";
/// The value of a label is invalid.
pub const LABEL_VALUE: &str =
    "must be a valid label value: at most 63 letters, digits, hyphens, underscores and dots";
/// The key of a label of a container is invalid.
pub const CONTAINER_LABEL: &str = "must be a label key of at most 128 letters, digits and -_./ that starts and ends with \
     a letter or digit: com.example.team";
/// The value of a label of a container is too long.
pub const CONTAINER_LABEL_VALUE: &str = "must have at most 1024 characters and no control characters";
/// There are too many labels of containers.
pub const CONTAINER_LABELS: &str = "must have at most 64 labels";
/// A taint is invalid.
pub const TAINT: &str = "must be key=value:Effect or key:Effect, where the effect is NoSchedule, \
     PreferNoSchedule or NoExecute";
/// Two taints have the same key and effect.
pub const TAINT_TWICE: &str =
    "duplicate taint: a key may appear only once per effect; remove one of the two taints";
/// A quantity of memory is invalid.
pub const MEMORY: &str = "must be at least 6Mi, with a unit of Ki, Mi, Gi, Ti, k, M, G or T, or with b, m, g or t as in docker run: 2Gi, 2g";
/// A number of CPUs is invalid.
pub const CPUS: &str =
    "must be a quoted number of CPUs between 0.01 and 1024 without a unit, such as \"1.5\"";
/// A subnet is invalid.
pub const SUBNET: &str =
    "must be an IPv4 subnet between /16 and /25 in canonical form: 10.231.16.0/24, not 10.231.16.1/24";
/// A subnet is in a reserved range.
pub const SUBNET_RANGE: &str = "overlaps a range that nodes cannot use: loopback, link-local, multicast, or the \
     default Pod and Service networks of K3s (10.42.0.0/15); use a private subnet such as 10.231.16.0/24";
/// The name of a Docker network is invalid.
pub const NETWORK_NAME: &str = "must be the name of a Docker network: letters, digits, underscores, dots and hyphens, \
     starting with a letter or digit";
/// There are too many networks to join.
pub const JOINED: &str = "at most 4 networks can be joined";
/// A host address is invalid.
pub const HOST_IP: &str =
    "must be an IPv4 address of the Docker host: 127.0.0.1, or 0.0.0.0 for all addresses";
/// A port is invalid.
pub const PORT: &str = "must be between 1 and 65535";
/// A name in the serving certificate is invalid.
pub const SAN: &str = "must be a lowercase DNS name or an IP address";
/// The name of the API server in kubeconfigs is invalid.
pub const SERVER_NAME: &str =
    "must be a lowercase DNS name or an IPv4 address, without a scheme and without a port: dev.example.test";
/// The name of a port is invalid.
pub const PORT_NAME: &str = "must be a DNS label of at most 63 lowercase letters, digits and hyphens that starts \
     and ends with a letter or digit";
/// A port is the one of the API.
pub const API_PORT: &str = "6443/TCP is the Kubernetes API and always published; use spec.api.hostPort";
/// The end of a port range is before its start.
pub const END_PORT: &str = "must not be less than port; for a single port, leave endPort out";
/// A port range has no range of host ports.
pub const HOST_RANGE: &str = "a port range requires hostPort, the first of as many consecutive ports of the \
     Docker host, none above 65535: {port: 8000, endPort: 8010, hostPort: 8000}";
/// There are too many ports.
pub const PORTS_IN_ALL: &str = "at most 128 ports in total, since Docker runs a proxy process for each published \
     port; use shorter ranges";
/// Two ports have the same host port.
pub const HOST_PORT_TWICE: &str = "two ports have the same hostPort on the same address; change one of them, or \
     leave hostPort out to have a free port allocated";
/// A port has the host port of the API.
pub const API_HOST_PORT: &str = "one of the ports has the same hostPort as spec.api; change one of them, or \
     leave hostPort out to have a free port allocated";
/// The name of a referenced object is invalid.
pub const OBJECT_NAME: &str = "must be a valid object name: lowercase letters, digits, hyphens and dots";
/// The key of a Secret or ConfigMap is invalid.
pub const SECRET_KEY: &str = "must be a valid key: letters, digits, hyphens, underscores and dots";
/// The host name of a registry is invalid.
pub const HOSTNAME: &str = "must be a lowercase DNS name of at most 63 characters other than localhost";
/// The host name of a registry is that of a container or a volume of a cluster.
pub const HOSTNAME_OF_NODE: &str = "containers and volumes of a cluster have such names: k3d-dev-server-0, \
     k3d-dev-serverlb, k3d-dev-agent-0-state; use another name, such as registry.localhost";
/// The name of a Docker volume is invalid.
pub const VOLUME_NAME: &str = "must be a valid Docker volume name: at least two letters, digits, underscores, \
     dots and hyphens, starting with a letter or digit";
/// The path of a host directory is invalid.
pub const HOST_PATH: &str = "must be the absolute path of a directory or file on the Docker host without /./, /../, // \
     or a trailing slash: /srv/registry";
/// A Registry has a host directory and settings of a volume.
pub const HOST_PATH_ALONE: &str = "hostPath excludes volumeName and retain: the content of a host directory is \
     never removed; remove the other fields";
/// A schedule is invalid.
pub const SCHEDULE: &str =
    "must be a cron expression: minute, hour, day of the month, month and day of the week in UTC: 0 3 * * *";
/// A cache has a garbage collection.
pub const SCHEDULE_OF_CACHE: &str = "garbageCollection is not possible with proxy: a cache removes expired images itself, see proxy.ttl; remove it";
/// A cache has a retention.
pub const RETENTION_OF_CACHE: &str =
    "retention is not possible with proxy: a cache removes expired images itself, see proxy.ttl; remove it";
/// The size of the storage of a registry is invalid.
pub const MAX_SIZE: &str =
    "must be at least 1Mi, with a unit of Ki, Mi, Gi, Ti, k, M, G or T, or with b, m, g or t: 20Gi, 500Mi";
/// A retention has no rule.
pub const RETENTION: &str =
    "has no rule: set keepTags, keepFor or both, or remove retention to keep all tags";
/// The number of tags to keep is invalid.
pub const KEEP_TAGS: &str = "must be between 1 and 10000";
/// The time to keep a tag is invalid.
pub const KEEP_FOR: &str =
    "must be a positive number of hours, minutes and seconds in this order: 720h, 1h30m";
/// The URL of a cached registry is invalid.
pub const REMOTE_URL: &str = "must be the URL of a registry without a path: https://registry-1.docker.io for \
     Docker Hub, https://quay.io";
/// The time that images are cached is invalid.
pub const TTL: &str =
    "must be hours, minutes and seconds in this order: 168h, 1h30m, or 0s to keep images indefinitely";
/// The time to live of a cluster is invalid.
pub const LIFETIME: &str = "must be a positive number of hours, minutes and seconds in this order: 8h, 1h30m, \
     90s; leave it out for a cluster that does not expire";
/// The life of the token in a kubeconfig is invalid.
pub const TOKEN_TTL: &str =
    "must be 10m to 8760h, in hours, minutes and seconds in this order: 24h, 1h30m, 10m";
/// There is a life of a token that does not exist.
pub const KUBECONFIG_WITHOUT_TTL: &str =
    "must not be set when access is None, which hands out no token: remove ttl, or use Admin, Edit or View";
/// An allowed namespace is invalid.
pub const ALLOWED_NAMESPACE: &str = "must be the name of a namespace, or * for all namespaces";
/// The namespace of a reference is invalid.
pub const NAMESPACE: &str = "must be the name of a namespace; leave it out for the namespace of this object";
/// A mirrored registry is invalid.
pub const MIRRORED: &str = "must be a registry as it appears in image names, without a scheme or path: docker.io \
     (not index.docker.io), registry.example:5000, or * for all registries without an entry";
/// A mirrored registry cannot appear in image names.
pub const MIRRORED_WORD: &str = "matches no image name: a name without a dot or colon other than localhost is a \
     path on Docker Hub; use docker.io, or the full name of the registry: registry.example, cache:5000";
/// The host of a registry configuration is invalid.
pub const CONFIG_HOST: &str = "must be the host of an endpoint, with its port if the URL has one and without a \
     scheme: registry.example:5443; for Docker Hub use docker.io";
/// The endpoint of a mirror is invalid.
pub const ENDPOINT: &str = "must be a URL: https://mirror.example, or http://cache:5000 for plain HTTP";
/// The path of an endpoint is not below /v2.
pub const ENDPOINT_PATH: &str = "K3s replaces /v2 by this path, where no registry responds; write the path below \
     /v2: https://mirror.example/v2/path";
/// The pattern of a rewrite starts with a slash.
pub const PATTERN_SLASH: &str = "never matches: image names have no leading slash; remove it: ^library/(.*)";
/// The replacement of a rewrite starts with a slash.
pub const REPLACEMENT_SLASH: &str =
    "produces names that do not exist: image names have no leading slash; remove it";
/// There are two sources of CA certificates.
pub const ONE_CA: &str = "caSecretName and caConfigMapName are mutually exclusive; remove one of them";
/// The registries file has no source, or more than one.
pub const ONE_SOURCE: &str = "exactly one of inline, secretName and configMapName is required, and key only \
     applies to secretName and configMapName";
/// A file or manifest has no content, or more than one.
pub const ONE_CONTENT: &str = "exactly one of inline, secret and configMap is required";
/// The path of a file is invalid.
pub const FILE_PATH: &str = "must be an absolute path of letters, digits and -_.+@ without . or .. as a \
     component: /etc/ssl/certs/corp.pem";
/// The address of a host alias is invalid.
pub const ALIAS_IP: &str =
    "must be an IPv4 or IPv6 address, or host-gateway for the Docker host: 10.0.0.5, 2001:db8::5";
/// The name of a host alias is invalid.
pub const ALIAS_NAME: &str = "must be a lowercase DNS name: db.internal";
/// Two host aliases have the same name.
pub const ALIAS_TWICE: &str = "a hostname may have only one address; remove it from all entries but one";
/// A host alias is the name of a registry container.
pub const ALIAS_OF_CONTAINER: &str = "a hostname of hostAliases is also in registries.containers, which \
     determines its address; remove it from one of them";
/// The name of a process limit is invalid.
pub const ULIMIT_NAME: &str = "must be a limit that docker run --ulimit supports: core, cpu, data, fsize, locks, \
     memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack";
/// The hard limit is below the soft limit.
pub const ULIMIT_ORDER: &str = "hard must not be less than soft; raise it, or leave it out to use the value of \
     soft (-1 means unlimited)";
/// The number of open files is unlimited.
pub const ULIMIT_NOFILE: &str =
    "nofile must not be unlimited, since the kernel does not allow it; use a number such as 1048576";
/// The path of a volume in the nodes is invalid.
pub const MOUNT_PATH: &str =
    "must be an absolute path of letters, digits and -_.+@ without . or .. as a component: /data";
/// A volume has no source, or two.
pub const ONE_VOLUME_SOURCE: &str = "exactly one of hostPath (a directory or file of the Docker host) and volumeName (a Docker volume) is required";
/// A volume is mounted below another one.
pub const MOUNTS_APART: &str =
    "mountPath must be unique and must not be below another mountPath; change one of them";
/// A file is in a volume.
pub const FILE_IN_VOLUME: &str = "a path of spec.files is in a volume, so the file would be written to the \
     directory, file or volume of the Docker host; use another path, or create the file there";
/// The number of GPUs is invalid.
pub const GPUS: &str = "must be all, or a quoted number of GPUs between 1 and 128, such as \"1\"";
/// The name of an OCI runtime is invalid.
pub const RUNTIME: &str =
    "must be the name of an OCI runtime that `docker info` lists, of letters, digits and _.-: sysbox-runc";
/// A list contains a name twice.
pub const TWICE: &str = "duplicate entry: a name may appear only once; remove one of them";

/// All messages.
pub const ALL: &[&str] = &[
    VERSION,
    VERSION_OR_IMAGE,
    IMAGE,
    PRELOAD_IMAGE,
    MANIFEST_NAME,
    NAME,
    POOL_OBJECT_NAME,
    CLAIM_NAME,
    TEMPLATE_NAME,
    REGISTRY_NAME,
    CLUSTER_NAME,
    SERVERS,
    AGENTS,
    EXCLUDED,
    AGENTS_IN_ALL,
    POOL_NAME,
    MAX_UNAVAILABLE,
    PIDS,
    ARG,
    TWO_ARGS,
    FILTERED_ARG,
    ENV_NAME,
    LABEL_KEY,
    LABEL_VALUE,
    CONTAINER_LABEL,
    CONTAINER_LABEL_VALUE,
    CONTAINER_LABELS,
    TAINT,
    TAINT_TWICE,
    MEMORY,
    CPUS,
    SUBNET,
    SUBNET_RANGE,
    NETWORK_NAME,
    JOINED,
    HOST_IP,
    PORT,
    SAN,
    SERVER_NAME,
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
    HOSTNAME_OF_NODE,
    VOLUME_NAME,
    HOST_PATH,
    HOST_PATH_ALONE,
    SCHEDULE,
    SCHEDULE_OF_CACHE,
    RETENTION_OF_CACHE,
    MAX_SIZE,
    RETENTION,
    KEEP_TAGS,
    KEEP_FOR,
    REMOTE_URL,
    TTL,
    LIFETIME,
    TOKEN_TTL,
    KUBECONFIG_WITHOUT_TTL,
    ALLOWED_NAMESPACE,
    NAMESPACE,
    MIRRORED,
    MIRRORED_WORD,
    CONFIG_HOST,
    ENDPOINT,
    ENDPOINT_PATH,
    PATTERN_SLASH,
    REPLACEMENT_SLASH,
    ONE_CA,
    ONE_SOURCE,
    ONE_CONTENT,
    FILE_PATH,
    ALIAS_IP,
    ALIAS_NAME,
    ALIAS_TWICE,
    ALIAS_OF_CONTAINER,
    ULIMIT_NAME,
    ULIMIT_ORDER,
    ULIMIT_NOFILE,
    MOUNT_PATH,
    ONE_VOLUME_SOURCE,
    MOUNTS_APART,
    FILE_IN_VOLUME,
    GPUS,
    RUNTIME,
    TWICE,
];
