//! The sentences that both the schema and the operator say.

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
pub const TWO_ARGS: &str = "these are two arguments in one, and K3s takes the second for a part of the first one's value: write each as one item";
pub const FILTERED_ARG: &str = "the filter at the end is k3d's, and K3s takes it for a part of the value: leave it out, as \
     what is in args of a pool is for all of its nodes";
pub const ENV_NAME: &str = "write letters, digits and underscores, with no digit in front: HTTP_PROXY";
pub const LABEL_KEY: &str = "write label keys as Kubernetes does, a name of at most 63 characters with an optional \
     DNS name before it: example.com/tier";
pub const LABEL_VALUE: &str =
    "write label values as Kubernetes does, at most 63 letters, digits, hyphens, underscores and dots";
pub const TAINT: &str =
    "write key=value:Effect or key:Effect, the effect being NoSchedule, PreferNoSchedule or NoExecute";
pub const TAINT_TWICE: &str = "a key may be there only once for each effect: remove one of the two taints";
pub const MEMORY: &str =
    "write an amount of memory from 6Mi up with a unit of Ki, Mi, Gi, Ti, k, M, G or T: 2Gi";
pub const CPUS: &str = "write a number of cores from 0.01 to 1024, in quotes and without a unit: \"1.5\"";
pub const SUBNET: &str =
    "write an IPv4 subnet from /16 to /25 by its first address: 10.231.16.0/24, not 10.231.16.1/24";
pub const SUBNET_RANGE: &str = "nodes can't have these addresses, as they are loopback, link-local, multicast or \
     what K3s gives Pods and Services (10.42.0.0/15): use a private subnet such as 10.231.16.0/24";
pub const HOST_IP: &str = "write an IPv4 address of the Docker host: 127.0.0.1, or 0.0.0.0 for all of them";
pub const PORT: &str = "write a port from 1 to 65535";
pub const SAN: &str = "write a DNS name in lower case or an IP address";
pub const PORT_NAME: &str =
    "write at most 63 lower-case letters, digits and hyphens, with a letter or digit at both ends";
pub const API_PORT: &str = "6443/TCP is the Kubernetes API, which is always published: use spec.api.hostPort";
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
pub const HOSTNAME: &str = "write a DNS name of at most 63 characters in lower case, other than localhost";
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
pub const MIRRORED_WORD: &str = "no image name begins with it, as a word without a dot and a colon that is not \
     localhost is a path on Docker Hub: write docker.io, or the registry's full name: registry.example, cache:5000";
pub const CONFIG_HOST: &str = "write the host of an endpoint, with its port where the URL has one and without a \
     scheme: registry.example:5443; for Docker Hub docker.io";
pub const ENDPOINT: &str = "write a URL: https://mirror.example, or http://cache:5000 for plain HTTP";
pub const ENDPOINT_PATH: &str = "K3s puts the path in the place of /v2, where no registry answers: write it below /v2: \
     https://mirror.example/v2/path";
pub const PATTERN_SLASH: &str =
    "names have no slash in front, so that it never matches: leave it out: ^library/(.*)";
pub const REPLACEMENT_SLASH: &str =
    "names have no slash in front, and none with one is found: write the replacement without it";
pub const ONE_CA: &str = "caSecretName and caConfigMapName exclude each other: remove one";
pub const ONE_SOURCE: &str =
    "write one of inline, secretName and configMapName, and key only with one of the last two";
pub const ONE_CONTENT: &str = "write one of inline, secret and configMap";
pub const FILE_PATH: &str =
    "write an absolute path of letters, digits and -_.+@, without steps such as ..: /etc/ssl/certs/corp.pem";
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
pub const ULIMIT_NOFILE: &str = "no process can open files without a limit: write a number, such as 1048576";
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
    TWO_ARGS,
    FILTERED_ARG,
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
