//! Settings of the operator: flags with environment variables, parsed once into plain values.
//!
//! Every error says what to write instead, since it is read in the log of a Pod that does not start.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{Args, builder::NonEmptyStringValueParser};
use ipnet::Ipv4Net;
use jiff::SignedDuration;

mod choices;

pub use choices::{LogFormat, Role, WithoutPolicy};

use crate::{docker::host::DockerHost, plan::expiry};

/// Default image of K3s nodes, without a tag.
pub const NODE_IMAGE_REPOSITORY: &str = "docker.io/rancher/k3s";
/// K3s version of clusters that do not specify one.
pub const DEFAULT_VERSION: &str = "v1.36.2+k3s1";

/// Settings of `run`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Part that this process has
    #[arg(long, env = "LOCALCLUSTER_ROLE", default_value = "all", value_enum)]
    pub role: Role,

    /// Image of the placeholder Pods by which objects are placed on one of several Docker hosts. Defaults to that of the
    /// Pod of this process
    #[arg(long, env = "LOCALCLUSTER_HOLD_IMAGE", value_name = "IMAGE")]
    pub hold_image: Option<String>,

    /// Docker Engine to run clusters on: unix://<path of its socket>, or tcp://<host>:<port> on another machine, with TLS
    #[arg(
        long,
        env = "LOCALCLUSTER_DOCKER_HOST",
        default_value = "unix:///var/run/docker.sock",
        value_name = "URL",
        value_parser = DockerHost::from_str
    )]
    pub docker_host: DockerHost,

    /// Directory with ca.pem, cert.pem and key.pem for an engine at tcp://. They are read when the operator connects first
    #[arg(long, env = "LOCALCLUSTER_DOCKER_CERT_PATH", value_name = "PATH")]
    pub docker_cert_path: Option<PathBuf>,

    /// Image of K3s nodes, without a tag: the tag is the version of the cluster
    #[arg(
        long,
        env = "LOCALCLUSTER_NODE_IMAGE_REPOSITORY",
        default_value = NODE_IMAGE_REPOSITORY,
        value_name = "REPOSITORY",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub node_image_repository: String,

    /// K3s version of clusters that do not specify one
    #[arg(
        long,
        env = "LOCALCLUSTER_DEFAULT_VERSION",
        default_value = DEFAULT_VERSION,
        value_name = "VERSION",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub default_version: String,

    /// nginx image of the load balancers
    #[arg(
        long,
        env = "LOCALCLUSTER_LOAD_BALANCER_IMAGE",
        default_value = "docker.io/library/nginx:1.29",
        value_name = "IMAGE",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub load_balancer_image: String,

    /// Image of registries
    #[arg(
        long,
        env = "LOCALCLUSTER_REGISTRY_IMAGE",
        default_value = "docker.io/library/registry:3",
        value_name = "IMAGE",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub registry_image: String,

    /// IPv4 network from which every cluster is allocated a /24, and every registry a /28. Docker does not check it against the routes of the host.
    /// By default, Docker chooses each subnet from its own address pools, and none to which the host is attached
    #[arg(
        long,
        env = "LOCALCLUSTER_NETWORK_POOL",
        value_name = "CIDR",
        value_parser = network_pool
    )]
    pub network_pool: Option<Ipv4Net>,

    /// Subnets that specs may use in addition to the pool; by default none. May be repeated. The Docker host routes
    /// traffic for such a subnet to the cluster: do not include networks that it needs to reach
    #[arg(
        long,
        env = "LOCALCLUSTER_ALLOW_SUBNET",
        value_name = "CIDR,CIDR",
        value_delimiter = ',',
        value_parser = allowed_subnet
    )]
    pub allow_subnet: Vec<Ipv4Net>,

    /// Host ports to allocate for objects that do not specify one
    #[arg(
        long,
        env = "LOCALCLUSTER_PORT_RANGE",
        default_value = "20000-29999",
        value_name = "FIRST-LAST",
        value_parser = port_range
    )]
    pub port_range: RangeInclusive<u16>,

    /// DNS servers of Pods, instead of those of the Docker host, which they otherwise use through the load balancer of
    /// their cluster. A change replaces the nodes of all clusters
    #[arg(
        long,
        env = "LOCALCLUSTER_NODE_DNS",
        value_name = "IP,IP",
        value_delimiter = ',',
        value_parser = dns_server
    )]
    pub node_dns: Vec<IpAddr>,

    /// Directories of the Docker host below which specs may mount directories; by default none. May be repeated. Anyone
    /// who can create objects can read and write everything below them
    #[arg(
        long,
        env = "LOCALCLUSTER_ALLOW_HOST_PATH",
        value_name = "PATH,PATH",
        value_delimiter = ',',
        value_parser = host_path
    )]
    pub allow_host_path: Vec<String>,

    /// What objects may do in a namespace that no HostPolicy selects: Refuse creates nothing, Unrestricted everything that
    /// the other settings allow
    #[arg(long, env = "LOCALCLUSTER_WITHOUT_POLICY", default_value = "Refuse", value_enum)]
    pub without_policy: WithoutPolicy,

    /// Namespaces whose LocalClusters and Registries the operator manages; by default all. May be repeated. The operator
    /// needs permissions for Secrets in these only
    #[arg(
        long,
        env = "LOCALCLUSTER_NAMESPACES",
        value_name = "NAME,NAME",
        value_delimiter = ',',
        value_parser = namespace
    )]
    pub namespaces: Vec<String>,

    /// Time after which a node with a running container is restarted while its Node is NotReady; it is replaced if the
    /// Node is still NotReady after twice that time. In hours, minutes and seconds; never disables repairs
    #[arg(
        long,
        env = "LOCALCLUSTER_NODE_REPAIR_AFTER",
        default_value = "5m",
        value_name = "DURATION",
        value_parser = repair_after
    )]
    pub node_repair_after: RepairAfter,

    /// Time after which Docker objects are removed whose LocalCluster or Registry no longer exists, although it was not
    /// deleted by the operator: somebody removed its finalizer. Data of its nodes is lost; images of registries stay. In
    /// hours, minutes and seconds, for example 24h; never only reports them
    #[arg(
        long,
        env = "LOCALCLUSTER_REMOVE_ORPHANS_AFTER",
        default_value = "never",
        value_name = "DURATION",
        value_parser = orphans_after
    )]
    pub remove_orphans_after: OrphansAfter,

    /// Node that this process runs on, which the role agent needs. No Registry may have its name
    #[arg(long, env = "NODE_NAME", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub node_name: Option<String>,

    /// Address of that node (status.hostIP)
    #[arg(long, env = "HOST_IP", value_name = "IP")]
    pub host_ip: Option<IpAddr>,

    /// Container of that node, on the network of which load balancers are reachable: auto for the
    /// container with the address HOST_IP, if any; the name of the container; or none
    #[arg(
        long,
        env = "LOCALCLUSTER_MANAGEMENT_CONTAINER",
        default_value = "auto",
        value_name = "auto|NAME|none",
        value_parser = management_container
    )]
    pub management_container: ManagementContainer,

    /// Namespace of the Lease for leader election
    #[arg(
        long,
        env = "POD_NAMESPACE",
        default_value = "localcluster-system",
        value_name = "NAMESPACE",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub namespace: String,

    /// Address that serves /healthz, /readyz and /metrics
    #[arg(long, env = "LOCALCLUSTER_HTTP_LISTEN", default_value = "0.0.0.0:8080", value_name = "IP:PORT")]
    pub http_listen: SocketAddr,

    /// Address that serves /metrics instead, for example 127.0.0.1:8081. Without it, --http-listen serves them too
    #[arg(long, env = "LOCALCLUSTER_METRICS_LISTEN", value_name = "IP:PORT")]
    pub metrics_listen: Option<SocketAddr>,

    /// Highest number of LocalClusters, of Registries, and of LocalClusterPools with metrics of their own, whose labels
    /// contain their names. The oldest have them; 0 for none
    #[arg(long, env = "LOCALCLUSTER_METRICS_OBJECTS", default_value_t = 1000, value_name = "NUMBER")]
    pub metrics_objects: usize,

    /// Format of log lines
    #[arg(long, env = "LOCALCLUSTER_LOG_FORMAT", default_value = "text", value_enum)]
    pub log_format: LogFormat,

    /// Filter of log lines in the syntax of EnvFilter of tracing: info, or localcluster_operator=debug,warn
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub log_filter: String,

    /// Interval at which every object is reconciled without a change. In hours, minutes and seconds, or a number of
    /// seconds
    #[arg(
        long,
        env = "LOCALCLUSTER_RESYNC",
        default_value = "5m",
        value_name = "DURATION",
        value_parser = resync
    )]
    pub resync: Duration,
}

/// Time that a Node may be NotReady before its node is repaired; `None` for never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairAfter(pub Option<SignedDuration>);

/// Time after which orphans are removed; `None` for never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrphansAfter(pub Option<SignedDuration>);

/// Selection of the container that is the Node of the management cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagementContainer {
    /// The container with the address of the Node.
    Auto,
    /// The container with this name.
    Named(String),
    /// No container.
    None,
}

fn network_pool(s: &str) -> Result<Ipv4Net, String> {
    network(s, 8..=24, "must be an IPv4 network between /8 and /24, for example 10.231.0.0/16")
}

fn allowed_subnet(s: &str) -> Result<Ipv4Net, String> {
    network(s, 8..=25, "must be an IPv4 network between /8 and /25, for example 192.168.64.0/20")
}

fn network(s: &str, prefixes: RangeInclusive<u8>, write: &str) -> Result<Ipv4Net, String> {
    let net: Ipv4Net = s.parse().map_err(|_| write.to_owned())?;
    if !prefixes.contains(&net.prefix_len()) {
        return Err(write.into());
    }
    // A mistyped pool would collide with unexpected networks.
    if net != net.trunc() {
        return Err(format!(
            "{} is not the first address of a /{1}; use {2}",
            net.addr(),
            net.prefix_len(),
            net.trunc()
        ));
    }
    Ok(net)
}

fn port_range(s: &str) -> Result<RangeInclusive<u16>, String> {
    const WRITE: &str = "must be FIRST-LAST with two ports between 1 and 65535, for example 20000-29999";
    let (first, last) = s.split_once('-').ok_or(WRITE)?;
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err(WRITE.into()),
    }
}

fn namespace(s: &str) -> Result<String, String> {
    let s = s.trim();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if s.is_empty() || s.len() > 63 || !s.chars().all(plain) || s.starts_with('-') || s.ends_with('-') {
        return Err("must be comma-separated names of namespaces, for example team-a,team-b".into());
    }
    Ok(s.to_owned())
}

fn dns_server(s: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = s
        .trim()
        .parse()
        .map_err(|_| "must be comma-separated IP addresses, for example 10.0.0.53,10.0.1.53")?;
    if ip.is_loopback() {
        return Err("Pods cannot reach a DNS server on a loopback address; use the address of a server on the network, \
            for example 10.0.0.53"
            .into());
    }
    Ok(ip)
}

fn host_path(s: &str) -> Result<String, String> {
    let plain = |path: &str| {
        path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|p| !matches!(p, "" | "." | "..")))
    };
    match s.trim() {
        "/" => {
            Err("/ would allow the whole file system of the host; use absolute paths of directories, for example /srv"
                .into())
        }
        path if plain(path) => Ok(path.to_owned()),
        _ => Err(
            "must be comma-separated absolute paths of directories without /./, /../, // or a trailing slash, for \
             example /srv,/data/registries"
                .into(),
        ),
    }
}

fn management_container(s: &str) -> Result<ManagementContainer, String> {
    match s.trim() {
        "auto" => Ok(ManagementContainer::Auto),
        "none" => Ok(ManagementContainer::None),
        // The syntax of Docker.
        name if name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) =>
        {
            Ok(ManagementContainer::Named(name.to_owned()))
        }
        _ => Err("must be auto, none, or the name of a container, for example kind-control-plane".into()),
    }
}

fn orphans_after(s: &str) -> Result<OrphansAfter, String> {
    match s.trim() {
        "never" => Ok(OrphansAfter(None)),
        // An object may be away for a moment while somebody moves it.
        time => expiry::parse(time)
            .filter(|t| (SignedDuration::from_mins(1)..=SignedDuration::from_hours(1000)).contains(t))
            .map(Some)
            .map(OrphansAfter)
            .ok_or(
                "must be never, or hours, minutes and seconds from 1m to 1000h, for example 24h".to_owned(),
            ),
    }
}

fn repair_after(s: &str) -> Result<RepairAfter, String> {
    match s.trim() {
        "0" | "never" => Ok(RepairAfter(None)),
        // The limit keeps a doubled delay within the range of timestamps.
        time => expiry::parse(time)
            .filter(|t| *t <= SignedDuration::from_hours(1000))
            .map(Some)
            .map(RepairAfter)
            .ok_or(
                "must be never, or hours, minutes and seconds up to 1000h, for example 5m or 1h30m"
                    .to_owned(),
            ),
    }
}

fn resync(s: &str) -> Result<Duration, String> {
    let number = s.trim().parse::<u32>().ok().map(|n| Duration::from_secs(n.into()));
    let time = || Duration::try_from(expiry::parse(s.trim())?).ok();
    number
        .or_else(time)
        .filter(|t| (1..=86_400).contains(&t.as_secs()))
        .ok_or("must be hours, minutes and seconds between 1s and 24h, for example 5m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools() {
        assert_eq!(network_pool("10.0.0.0/8"), Ok("10.0.0.0/8".parse().unwrap()));
        assert_eq!(network_pool("172.31.4.0/24"), Ok("172.31.4.0/24".parse().unwrap()));
        assert!(network_pool("172.31.5.0/16").unwrap_err().ends_with("use 172.31.0.0/16"));
        for bad in ["", "172.31.0.0", "10.0.0.0/7", "10.0.0.0/25", "fd00::/16"] {
            assert!(network_pool(bad).unwrap_err().contains("for example 10.231.0.0/16"), "{bad:?}");
        }
    }

    #[test]
    fn subnets_that_specs_may_choose() {
        assert_eq!(allowed_subnet("192.168.7.128/25"), Ok("192.168.7.128/25".parse().unwrap()));
        assert!(allowed_subnet("192.168.7.1/24").unwrap_err().ends_with("use 192.168.7.0/24"));
        for bad in ["", "192.168.0.0", "0.0.0.0/0", "10.0.0.0/26", "fd00::/16"] {
            assert!(allowed_subnet(bad).unwrap_err().contains("for example 192.168.64.0/20"), "{bad:?}");
        }
    }

    #[test]
    fn port_ranges() {
        assert_eq!(port_range("20000-29999"), Ok(20000..=29999));
        assert_eq!(port_range("1-65535"), Ok(1..=65535));
        assert_eq!(port_range("80-80"), Ok(80..=80));
        for bad in ["", "-", "80", "0-10", "10-9", "1-65536", "a-b", "1-2-3"] {
            assert!(port_range(bad).unwrap_err().contains("20000-29999"), "{bad:?}");
        }
    }

    #[test]
    fn dns_servers_are_reachable_from_pods() {
        assert_eq!(dns_server(" 1.1.1.1"), Ok("1.1.1.1".parse().unwrap()));
        assert_eq!(dns_server("2606:4700:4700::1111"), Ok("2606:4700:4700::1111".parse().unwrap()));
        for bad in ["127.0.0.11", "::1", "dns.google", ""] {
            assert!(dns_server(bad).unwrap_err().contains("10.0.0.53"), "{bad:?}");
        }
    }

    #[test]
    fn namespaces_are_names() {
        assert_eq!(namespace(" team-1"), Ok("team-1".to_owned()));
        for bad in ["", "*", "-a", "a-", "a/b", "Team", &"a".repeat(64)] {
            assert!(namespace(bad).unwrap_err().contains("team-a,team-b"), "{bad:?}");
        }
    }

    #[test]
    fn host_paths_are_plain() {
        for good in ["/srv", "/srv/a.b/c", " /srv"] {
            assert_eq!(host_path(good), Ok(good.trim().to_owned()));
        }
        for bad in ["", "/", "srv", "/srv/", "//srv", "/srv/..", "/srv/./a", "/srv//a"] {
            assert!(host_path(bad).unwrap_err().contains("for example /srv"), "{bad:?}");
        }
    }

    #[test]
    fn the_management_container_is_found_named_or_none() {
        assert_eq!(management_container("auto"), Ok(ManagementContainer::Auto));
        assert_eq!(management_container("none"), Ok(ManagementContainer::None));
        let named = ManagementContainer::Named("kind-control-plane".into());
        assert_eq!(management_container(" kind-control-plane"), Ok(named));
        for bad in ["", "-x", "a/b", "a b"] {
            assert!(management_container(bad).unwrap_err().contains("kind-control-plane"), "{bad:?}");
        }
    }

    #[test]
    fn repairs_are_after_a_time_or_never() {
        let after = |s| repair_after(s).unwrap().0;
        assert_eq!(after("5m"), Some(SignedDuration::from_mins(5)));
        assert_eq!(after("1h1s"), Some(SignedDuration::from_secs(3601)));
        assert_eq!((after("0"), after("never"), after(" never")), (None, None, None));
        for bad in ["", "5", "0s", "-5m", "5min", "always", "1001h"] {
            assert!(repair_after(bad).unwrap_err().contains("for example 5m"), "{bad:?}");
        }
    }

    #[test]
    fn resync_is_not_zero() {
        assert_eq!(resync("5"), Ok(Duration::from_secs(5)));
        assert_eq!(resync("1h5m"), Ok(Duration::from_secs(3900)));
        for bad in ["0", "0s", "-1", "25h", "", "often"] {
            assert!(resync(bad).unwrap_err().contains("for example 5m"), "{bad:?}");
        }
    }
}
