//! Input files of K3s and the load balancer, and parsing of their output: pure functions, tested against golden files.

pub mod args;
pub mod certificate;
pub mod dns;
pub mod etcd;
pub mod hosts_file;
pub mod hosts_toml;
pub mod images;
pub mod kube_proxy;
pub mod kubeconfig;
pub mod load_balancer;
pub mod log;
pub mod manifests;
pub mod networks;
pub mod own_image;
pub mod proxy;
pub mod registries;
pub mod registry_hosting;
pub mod reserved;
pub mod token;
pub mod versions;

/// Directories of a node that outlive its container, each with the kind of its volume. The image declares all but
/// `/etc/rancher` as volumes; that one contains the node password, without which a node of the same name is rejected
/// (k3s-io/k3s#802).
pub const NODE_VOLUMES: [(&str, &str); 5] = [
    ("state", "/var/lib/rancher/k3s"),
    ("etc", "/etc/rancher"),
    ("kubelet", "/var/lib/kubelet"),
    ("cni", "/var/lib/cni"),
    ("log", "/var/log"),
];

/// Kind of the volume that contains the datastore or, on agents, the state of containerd.
pub const STATE_VOLUME: &str = "state";
/// Files that exist in the state volume of a server with data: the SQLite file or the etcd log, one of the two.
pub const DATA: [&str; 2] =
    ["/var/lib/rancher/k3s/server/db/state.db", "/var/lib/rancher/k3s/server/db/etcd/member/wal"];
/// File with the password that a node registered with.
pub const PASSWORD_FILE: &str = "/etc/rancher/node/password";
/// Kind of the volume that contains the node password.
pub const ETC_VOLUME: &str = "etc";

/// File with the join token in a node.
pub const TOKEN_FILE: &str = "/etc/rancher/k3s/token";
/// Configuration for the first start of a server: whether it initializes a cluster or joins one. K3s ignores it once
/// the server has data, so it is not part of the command line, of which any change replaces the container.
pub const JOIN_FILE: &str = "/etc/rancher/k3s/config.yaml.d/join.yaml";
/// Temporary file with the next join token during a rotation.
pub const NEXT_TOKEN_FILE: &str = "/etc/rancher/k3s/token.new";
/// File in which a server stores the join token that it last started to use.
pub const SERVER_TOKEN_FILE: &str = "/var/lib/rancher/k3s/server/token";
/// Registries file that K3s reads when it starts.
pub const REGISTRIES_FILE: &str = "/etc/rancher/k3s/registries.yaml";
/// Directory in which K3s generates a directory for each registry from the registries file.
pub const HOSTS_DIR: &str = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d";
/// File with the resolvers that the kubelet passes to Pods.
pub const RESOLV_CONF_FILE: &str = "/etc/rancher/k3s/resolv.conf";
/// Admin kubeconfig that a server writes.
pub const KUBECONFIG_FILE: &str = "/etc/rancher/k3s/k3s.yaml";
/// Socket of containerd in a node.
pub const CONTAINERD_SOCKET: &str = "/run/k3s/containerd/containerd.sock";
/// Leases in `kube-system` with which K3s elects a server for its own controllers, each with the finalizer on Nodes
/// that only its holder removes (k3s-io/k3s#10046).
pub const LEASES: [(&str, &str); 2] =
    [("k3s", "wrangler.cattle.io/node"), ("k3s-etcd", "wrangler.cattle.io/managed-etcd-controller")];
/// Port of the supervisor and the Kubernetes API.
pub const API_PORT: u16 = 6443;
/// Port of the load balancer on the network of the cluster at which nodes ask for images of the Docker host. K3s listens
/// there on nodes, so no port of theirs with this number is published.
pub const HOST_IMAGES_PORT: u16 = 6444;
