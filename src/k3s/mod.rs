//! What K3s and the load balancer read: pure rendering, tested against golden files.

pub mod args;
pub mod certificate;
pub mod dns;
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

/// The directories of a node that outlive its container, each with the kind of its volume. The image declares all but
/// `/etc/rancher` as volumes; that one holds the node's password, without which a node of the same name is refused
/// (k3s-io/k3s#802).
pub const NODE_VOLUMES: [(&str, &str); 5] = [
    ("state", "/var/lib/rancher/k3s"),
    ("etc", "/etc/rancher"),
    ("kubelet", "/var/lib/kubelet"),
    ("cni", "/var/lib/cni"),
    ("log", "/var/log"),
];

/// The kind of the volume that holds the datastore or, on agents, containerd.
pub const STATE_VOLUME: &str = "state";
/// What there is in a server's state volume once it has data: SQLite's file, or etcd's log. One of them.
pub const DATA: [&str; 2] =
    ["/var/lib/rancher/k3s/server/db/state.db", "/var/lib/rancher/k3s/server/db/etcd/member/wal"];
/// The password that a node registered with.
pub const PASSWORD_FILE: &str = "/etc/rancher/node/password";
/// The kind of the volume that holds the node's password.
pub const ETC_VOLUME: &str = "etc";

/// The join secret's file in a node.
pub const TOKEN_FILE: &str = "/etc/rancher/k3s/token";
/// What a server is told for its first start alone: whether it begins a cluster of its own or joins one. Once a server
/// has data, K3s pays no attention to it, so it is no part of the command line, of which any change replaces the
/// container.
pub const JOIN_FILE: &str = "/etc/rancher/k3s/config.yaml.d/join.yaml";
/// The join secret that is to take its place, for a moment.
pub const NEXT_TOKEN_FILE: &str = "/etc/rancher/k3s/token.new";
/// The join token that a server wrote when it last began to work with it.
pub const SERVER_TOKEN_FILE: &str = "/var/lib/rancher/k3s/server/token";
/// The registry configuration that K3s reads when it starts.
pub const REGISTRIES_FILE: &str = "/etc/rancher/k3s/registries.yaml";
/// The directory in which K3s has a directory for each registry, with what it made of that configuration.
pub const HOSTS_DIR: &str = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d";
/// The resolvers that kubelet hands to Pods.
pub const RESOLV_CONF_FILE: &str = "/etc/rancher/k3s/resolv.conf";
/// The admin kubeconfig that a server writes.
pub const KUBECONFIG_FILE: &str = "/etc/rancher/k3s/k3s.yaml";
/// The socket of a node's containerd.
pub const CONTAINERD_SOCKET: &str = "/run/k3s/containerd/containerd.sock";
/// The Leases in `kube-system` by which K3s has controllers of its own run on one server at a time, each with the
/// finalizer on Nodes that only its holder takes off (k3s-io/k3s#10046).
pub const LEASES: [(&str, &str); 2] =
    [("k3s", "wrangler.cattle.io/node"), ("k3s-etcd", "wrangler.cattle.io/managed-etcd-controller")];
/// The port of the supervisor and the Kubernetes API.
pub const API_PORT: u16 = 6443;
