//! Regular expressions that match the whole value. RE2 (used by the API server) and Rust agree on the syntax used here.

/// DNS label.
pub const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
/// DNS name of lowercase labels.
pub const DNS: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
/// Name of a container or a volume of a cluster.
pub const NODE: &str = "k3d-.+-(serverlb|(server|agent)-[0-9]+(-(state|etc|kubelet|cni|log))?)";
/// Name of a pool of agents. Without a hyphen, since names of clusters contain hyphens: pool `b-c` of cluster `a` would have
/// the nodes of pool `c` of cluster `a-b`.
pub const POOL_NAME: &str = "[a-z][a-z0-9]*";
/// K3s version.
pub const VERSION: &str = r"v1\.[0-9]{1,3}\.[0-9]{1,3}(-rc[0-9]{1,2})?\+k3s[0-9]{1,2}";
/// Image reference with a tag or a digest.
pub const IMAGE: &str = concat!(
    r"([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?/)?",
    r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*",
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?@sha256:[0-9a-f]{64})"
);
/// [`IMAGE`] without a digest, since `docker save` keeps no name for one.
pub const TAGGED_IMAGE: &str = concat!(
    r"([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?/)?",
    r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*",
    r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
);
/// K3s argument.
pub const ARG: &str = "--[a-z0-9][-a-z0-9]*(=.*)?";
/// Two arguments in one item: K3s reads the text after the blank as part of the first value.
pub const TWO_ARGS: &str = r"[^=]*=.*[ \t]--[A-Za-z0-9].*";
/// An argument that ends with a k3d node filter, which K3s reads as part of the value.
pub const FILTERED_ARG: &str = r".*@(all|loadbalancer|(servers?|agents?)(:[-0-9*,]+)?)";
/// Name of an environment variable.
pub const ENV_NAME: &str = "[A-Za-z_][A-Za-z0-9_]*";
/// Key of a label, with an optional DNS prefix.
pub const LABEL_KEY: &str = concat!(
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?",
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
);
/// Key of a label of a container.
pub const CONTAINER_LABEL: &str = r"[A-Za-z0-9]([-A-Za-z0-9_./]{0,126}[A-Za-z0-9])?";
/// Value of a label.
pub const LABEL_VALUE: &str = "([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?";
/// Taint: `key=value:Effect` or `key:Effect`.
pub const TAINT: &str = concat!(
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?",
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
    r"(=([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?)?",
    r":(NoSchedule|PreferNoSchedule|NoExecute)"
);
/// Quantity of memory, with the lowercase units of Docker too.
pub const MEMORY: &str = r"[0-9]{1,15}(\.[0-9]{1,9})?(Ki|Mi|Gi|Ti|k|M|G|T|b|m|g|t)?";
/// Decimal number of CPUs.
pub const CPUS: &str = r"[0-9]{1,4}(\.[0-9]{1,9})?";
/// Key of a Secret or ConfigMap.
pub const SECRET_KEY: &str = "[-._a-zA-Z0-9]+";
/// Five fields of a cron expression, without a time zone.
pub const SCHEDULE: &str = "[-0-9A-Za-z*/,?#]+( [-0-9A-Za-z*/,?#]+){4}";
/// Name of a Docker volume.
pub const VOLUME_NAME: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]+";
/// Name of a Docker network.
pub const NETWORK_NAME: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]*";
/// Absolute path on the Docker host, which may contain `.` and `..`.
pub const HOST_PATH: &str = "(/[-A-Za-z0-9_.@+=~]+)+";
/// URL of a registry without a path.
pub const REMOTE_URL: &str = r"https?://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?";
/// Hours, minutes and seconds, each optional.
pub const TTL: &str = "([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?";
/// Host with an optional port.
pub const HOST: &str = r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?";
/// Absolute path in a node, without `.` and `..`.
pub const FILE_PATH: &str = r"(/\.?[A-Za-z0-9_+@-][A-Za-z0-9._+@-]*)+";
/// `all`, or a number from 1 to 128.
pub const GPUS: &str = "all|[1-9][0-9]?|1[01][0-9]|12[0-8]";
/// Name of an OCI runtime. Engines also take paths of programs, which are not meant.
pub const RUNTIME: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]*";
/// Name of a process limit.
pub const ULIMIT: &str =
    "core|cpu|data|fsize|locks|memlock|msgqueue|nice|nofile|nproc|rss|rtprio|rttime|sigpending|stack";
/// URL of a mirror, with an optional scheme and path.
pub const ENDPOINT: &str =
    r"(https?://)?[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[-A-Za-z0-9._~/]*)?";
/// Endpoints below /v2 or without a path.
pub const ENDPOINT_PATH: &str = "(https?://)?[^/]*(/?|/(.*/)?v2(/.*)?)";

/// All patterns.
pub const ALL: &[&str] = &[
    LABEL,
    DNS,
    NODE,
    POOL_NAME,
    VERSION,
    IMAGE,
    TAGGED_IMAGE,
    ARG,
    TWO_ARGS,
    FILTERED_ARG,
    ENV_NAME,
    LABEL_KEY,
    LABEL_VALUE,
    CONTAINER_LABEL,
    TAINT,
    MEMORY,
    CPUS,
    SECRET_KEY,
    SCHEDULE,
    VOLUME_NAME,
    NETWORK_NAME,
    HOST_PATH,
    REMOTE_URL,
    TTL,
    HOST,
    FILE_PATH,
    GPUS,
    RUNTIME,
    ULIMIT,
    ENDPOINT,
    ENDPOINT_PATH,
];
