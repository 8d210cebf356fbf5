//! The containers, the network and the volume of a hub.

use std::collections::BTreeMap;

use super::super::hash;
use crate::{
    api::names,
    docker::spec::{Bind, ContainerSpec, FileChange, FileSpec, NetworkSpec, PortBinding, Role, VolumeSpec},
    k3s::kubeconfig::{self, Credentials, Place},
};

/// Names of a hub's objects on the Docker host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubNames(String);

impl HubNames {
    /// Returns the names that begin with this one.
    pub fn new(name: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if name.is_empty()
            || name.len() > 40
            || !name.chars().all(plain)
            || !name.starts_with(edge)
            || !name.ends_with(edge)
        {
            return Err(
                "must be at most 40 lower-case letters, digits and hyphens, for example localcluster".into(),
            );
        }
        Ok(Self(name.to_owned()))
    }

    /// Returns the name of the hub, which is that of the context of its kubeconfig.
    pub fn hub(&self) -> &str {
        &self.0
    }

    /// Returns the name of the K3s server, and of its volume and network.
    pub fn server(&self) -> String {
        format!("{}-hub", self.0)
    }

    /// Returns the name of the operator.
    pub fn operator(&self) -> String {
        format!("{}-operator", self.0)
    }

    /// Returns the labels of everything on the Docker host.
    pub fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(names::HUB.to_owned(), self.0.clone())])
    }

    /// Reports whether a container, network or volume with these labels belongs to the hub.
    pub fn owns(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(names::HUB) == Some(&self.0)
    }
}

/// A hub as a user wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Names.
    pub names: HubNames,
    /// K3s image.
    pub image: String,
    /// Host port of its API; `None` for the present one, or a free one.
    pub api_port: Option<u16>,
    /// Image of the operator.
    pub operator_image: String,
    /// Arguments of the operator, after `run`.
    pub operator_args: Vec<String>,
    /// Path of the engine's socket on its host.
    pub socket: String,
}

/// Port of the API in the container.
const API: u16 = 6443;
/// Mount of the volume: all that K3s keeps.
const STATE: &str = "/var/lib/rancher/k3s";
/// The operator's kubeconfig in its container.
pub const KUBECONFIG: &str = "/etc/localcluster/kubeconfig";
/// The user of that kubeconfig.
const USER: &str = "localcluster-operator";

/// Arguments of K3s: an API server with its datastore and the controllers of Kubernetes, without a kubelet, so the
/// container needs no privileges.
const ARGS: [&str; 6] = [
    "server",
    "--disable-agent",
    "--disable-scheduler",
    "--disable-cloud-controller",
    "--disable-helm-controller",
    "--disable=coredns,servicelb,traefik,local-storage,metrics-server",
];

impl Wanted {
    /// Returns the network.
    pub fn network(&self) -> NetworkSpec {
        NetworkSpec { name: self.names.server(), addressing: None, labels: self.names.labels() }
    }

    /// Returns the volume.
    pub fn volume(&self) -> VolumeSpec {
        VolumeSpec { name: self.names.server(), labels: self.names.labels() }
    }

    /// Returns the container of the K3s server, with its hash for this image ID and network.
    pub fn server(&self, port: u16, image_id: &str, network: &str) -> ContainerSpec {
        let mut spec = ContainerSpec::bare(self.names.server(), Role::Hub, &self.image);
        spec.command = ARGS.map(str::to_owned).into();
        spec.command.push(format!("--tls-san={}", self.names.server()));
        spec.labels = self.names.labels();
        spec.volume_labels = self.names.labels();
        spec.mounts = BTreeMap::from([(STATE.to_owned(), self.names.server())]);
        let (host_ip, protocol) = ("127.0.0.1".to_owned(), "tcp".to_owned());
        spec.ports = vec![PortBinding { host_ip, host_port: port, port: API, protocol }];
        hashed(spec, image_id, network)
    }

    /// Returns the container of the operator, with its hash for this image ID and network.
    pub fn operator(&self, image_id: &str, network: &str) -> ContainerSpec {
        let mut spec = ContainerSpec::bare(self.names.operator(), Role::Hub, &self.operator_image);
        spec.command = ["run".to_owned()].into_iter().chain(self.operator_args.iter().cloned()).collect();
        spec.env = BTreeMap::from([("KUBECONFIG".to_owned(), KUBECONFIG.to_owned())]);
        spec.labels = self.names.labels();
        let socket = Bind { source: self.socket.clone(), read_only: false };
        spec.binds = BTreeMap::from([("/var/run/docker.sock".to_owned(), socket)]);
        hashed(spec, image_id, network)
    }

    /// Returns the operator's kubeconfig, with which it reaches the API on their network.
    pub fn operator_kubeconfig(&self, token: &str, credentials: &Credentials) -> FileSpec {
        let host = self.names.server();
        let server = format!("https://{host}:{API}");
        let place =
            Place { ca: &credentials.ca, cluster: self.names.hub(), server: &server, tls_server_name: &host };
        let content = kubeconfig::render_token(token, USER, place).into_bytes();
        FileSpec { path: KUBECONFIG.to_owned(), mode: 0o600, content, change: FileChange::Live }
    }
}

/// Returns a container with the label by which a changed one is recognized. It covers the ID of the image: an image that
/// was built again under its name is another one.
fn hashed(mut spec: ContainerSpec, image_id: &str, network: &str) -> ContainerSpec {
    let hash = format!("{}-{}", hash::of(&spec, Some(network)), image_id.trim_start_matches("sha256:"));
    spec.labels.insert(names::SPEC_HASH.to_owned(), hash);
    spec
}

/// Returns the kubeconfig of the hub's administrator for the host.
pub fn admin_kubeconfig(names: &HubNames, port: u16, credentials: &Credentials) -> String {
    let server = format!("https://127.0.0.1:{port}");
    let host = names.server();
    let place = Place { ca: &credentials.ca, cluster: names.hub(), server: &server, tls_server_name: &host };
    kubeconfig::render_as(names.hub(), credentials, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            names: HubNames::new("localcluster").unwrap(),
            image: "rancher/k3s:v1.36.2-k3s1".into(),
            api_port: None,
            operator_image: "localcluster-operator:1".into(),
            operator_args: vec!["--resync=1h".into()],
            socket: "/var/run/docker.sock".into(),
        }
    }

    #[test]
    fn names_begin_with_the_hubs() {
        let names = HubNames::new("try-1").unwrap();
        assert_eq!((names.server(), names.operator()), ("try-1-hub".into(), "try-1-operator".into()));
        assert!(names.owns(&names.labels()) && !names.owns(&HubNames::new("try-2").unwrap().labels()));
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", &"a".repeat(41)] {
            assert!(HubNames::new(bad).unwrap_err().contains("for example localcluster"), "{bad:?}");
        }
    }

    #[test]
    fn the_server_has_no_privileges_and_no_secret() {
        let spec = wanted().server(16443, "sha256:1", "net");
        assert!(!spec.privileged && spec.env.is_empty() && spec.binds.is_empty());
        assert!(spec.command.contains(&"--disable-agent".to_owned()));
        assert!(!format!("{spec:?}").contains("token"));
        assert_eq!((spec.ports[0].host_ip.as_str(), spec.ports[0].host_port), ("127.0.0.1", 16443));
    }

    #[test]
    fn a_change_of_a_flag_or_of_an_image_changes_the_hash() {
        let hash = |spec: ContainerSpec| spec.labels[names::SPEC_HASH].clone();
        let first = hash(wanted().operator("sha256:1", "net"));
        assert_eq!(hash(wanted().operator("sha256:1", "net")), first);
        assert_ne!(hash(wanted().operator("sha256:2", "net")), first);
        assert_ne!(hash(wanted().operator("sha256:1", "other")), first);
        let other = Wanted { operator_args: Vec::new(), ..wanted() };
        assert_ne!(hash(other.operator("sha256:1", "net")), first);
        let other = Wanted { socket: "/run/docker.sock".into(), ..wanted() };
        assert_ne!(hash(other.operator("sha256:1", "net")), first);
        let port = |port| hash(wanted().server(port, "sha256:1", "net"));
        assert_ne!(port(16443), port(16444));
    }

    #[test]
    fn kubeconfigs_lead_to_the_api_from_both_sides() {
        let credentials =
            Credentials { ca: "Q0E=".into(), certificate: "Q0VSVA==".into(), key: "S0VZ".into() };
        let file = wanted().operator_kubeconfig("secret", &credentials);
        let text = String::from_utf8(file.content).unwrap();
        assert!(text.contains("server: https://localcluster-hub:6443") && text.contains("token: secret"));
        assert_eq!(file.mode, 0o600);
        let text = admin_kubeconfig(&wanted().names, 16443, &credentials);
        assert!(text.contains("server: https://127.0.0.1:16443"), "{text}");
        assert!(text.contains("current-context: localcluster\n"), "{text}");
        assert!(text.contains("tls-server-name: localcluster-hub"), "{text}");
    }
}
