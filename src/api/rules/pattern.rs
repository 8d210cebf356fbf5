//! Regular expressions that match the whole value. RE2 (used by the API server) and Rust agree on the syntax used here.

pub const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
pub const DNS: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
pub const VERSION: &str = r"v1\.[0-9]{1,3}\.[0-9]{1,3}(-rc[0-9]{1,2})?\+k3s[0-9]{1,2}";
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
pub const ARG: &str = "--[a-z0-9][-a-z0-9]*(=.*)?";
/// Two arguments in one item: K3s reads the text after the blank as part of the first value.
pub const TWO_ARGS: &str = r"[^=]*=.*[ \t]--[A-Za-z0-9].*";
/// An argument that ends with a k3d node filter, which K3s reads as part of the value.
pub const FILTERED_ARG: &str = r".*@(all|loadbalancer|(servers?|agents?)(:[-0-9*,]+)?)";
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
/// Endpoints below /v2 or without a path.
pub const ENDPOINT_PATH: &str = "(https?://)?[^/]*(/?|/(.*/)?v2(/.*)?)";

/// All patterns.
pub const ALL: &[&str] = &[
    LABEL,
    DNS,
    VERSION,
    IMAGE,
    TAGGED_IMAGE,
    ARG,
    TWO_ARGS,
    FILTERED_ARG,
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
    ENDPOINT_PATH,
];
