//! The operator's settings: flags, each with an environment variable, parsed once into plain values.
//!
//! Every refusal says what to write instead, since the reader is looking at a Pod that does not start.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};
use ipnet::Ipv4Net;
use jiff::SignedDuration;

use crate::plan::expiry;

/// Everything that `run` can be told.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The Docker Engine to make clusters on: unix://<path of its socket>
    #[arg(
        long,
        env = "LOCALCLUSTER_DOCKER_HOST",
        default_value = "unix:///var/run/docker.sock",
        value_name = "URL",
        value_parser = docker_host
    )]
    pub docker_host: DockerHost,

    /// The image of K3s nodes, without a tag: the tag is the cluster's version
    #[arg(
        long,
        env = "LOCALCLUSTER_NODE_IMAGE_REPOSITORY",
        default_value = "docker.io/rancher/k3s",
        value_name = "REPOSITORY",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub node_image_repository: String,

    /// The K3s version of clusters that name none
    #[arg(
        long,
        env = "LOCALCLUSTER_DEFAULT_VERSION",
        default_value = "v1.36.2+k3s1",
        value_name = "VERSION",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub default_version: String,

    /// The nginx image that holds each cluster's ports
    #[arg(
        long,
        env = "LOCALCLUSTER_LOAD_BALANCER_IMAGE",
        default_value = "docker.io/library/nginx:1.29",
        value_name = "IMAGE",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub load_balancer_image: String,

    /// The image of registries
    #[arg(
        long,
        env = "LOCALCLUSTER_REGISTRY_IMAGE",
        default_value = "docker.io/library/registry:3",
        value_name = "IMAGE",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub registry_image: String,

    /// The IPv4 network that every cluster gets a /24 of
    #[arg(
        long,
        env = "LOCALCLUSTER_NETWORK_POOL",
        default_value = "10.231.0.0/16",
        value_name = "CIDR",
        value_parser = network_pool
    )]
    pub network_pool: Ipv4Net,

    /// Where specs may choose a subnet besides in the pool; by default nowhere. May be given several times. The Docker host
    /// sends what is for such a subnet to the cluster: leave out networks that it has to reach
    #[arg(
        long,
        env = "LOCALCLUSTER_ALLOW_SUBNET",
        value_name = "CIDR,CIDR",
        value_delimiter = ',',
        value_parser = allowed_subnet
    )]
    pub allow_subnet: Vec<Ipv4Net>,

    /// The host ports to choose from where an object names none
    #[arg(
        long,
        env = "LOCALCLUSTER_PORT_RANGE",
        default_value = "20000-29999",
        value_name = "FIRST-LAST",
        value_parser = port_range
    )]
    pub port_range: RangeInclusive<u16>,

    /// The DNS servers that nodes ask. Docker's own, 127.0.0.11, can't be reached from Pods
    #[arg(
        long,
        env = "LOCALCLUSTER_NODE_DNS",
        default_value = "1.1.1.1,8.8.8.8",
        value_name = "IP,IP",
        value_delimiter = ',',
        value_parser = dns_server
    )]
    pub node_dns: Vec<IpAddr>,

    /// The directories of the Docker host that specs may mount something below of; by default none. May be given
    /// several times. Whoever may make objects can read and write everything below
    #[arg(
        long,
        env = "LOCALCLUSTER_ALLOW_HOST_PATH",
        value_name = "PATH,PATH",
        value_delimiter = ',',
        value_parser = host_path
    )]
    pub allow_host_path: Vec<String>,

    /// How long a Node may be NotReady while its container runs, before it is restarted; still NotReady after twice that
    /// time, it is replaced. In hours, minutes and seconds; never turns it off
    #[arg(
        long,
        env = "LOCALCLUSTER_NODE_REPAIR_AFTER",
        default_value = "5m",
        value_name = "DURATION",
        value_parser = repair_after
    )]
    pub node_repair_after: RepairAfter,

    /// The node that this process runs on. No Registry may have its name
    #[arg(long, env = "NODE_NAME", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub node_name: Option<String>,

    /// The address of that node (status.hostIP)
    #[arg(long, env = "HOST_IP", value_name = "IP")]
    pub host_ip: Option<IpAddr>,

    /// The container that is that node, whose network load balancers and registries join to be reached from here: auto for
    /// the one that has the address HOST_IP, if any; the container's name; or none
    #[arg(
        long,
        env = "LOCALCLUSTER_MANAGEMENT_CONTAINER",
        default_value = "auto",
        value_name = "auto|NAME|none",
        value_parser = management_container
    )]
    pub management_container: ManagementContainer,

    /// The namespace of the Lease that keeps a second operator waiting
    #[arg(
        long,
        env = "POD_NAMESPACE",
        default_value = "localcluster-system",
        value_name = "NAMESPACE",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub namespace: String,

    /// Where /healthz, /readyz and /metrics are served
    #[arg(long, env = "LOCALCLUSTER_HTTP_LISTEN", default_value = "0.0.0.0:8080", value_name = "IP:PORT")]
    pub http_listen: SocketAddr,

    /// How log lines look
    #[arg(long, env = "LOCALCLUSTER_LOG_FORMAT", default_value = "text", value_enum)]
    pub log_format: LogFormat,

    /// Which log lines are written, in the syntax of tracing's EnvFilter: info, or localcluster_operator=debug,warn
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub log_filter: String,

    /// How often every object is looked at without a reason. In hours, minutes and seconds, or a number of seconds
    #[arg(
        long,
        env = "LOCALCLUSTER_RESYNC",
        default_value = "5m",
        value_name = "DURATION",
        value_parser = resync
    )]
    pub resync: Duration,
}

/// The address of a Docker Engine. Only local sockets: bind mounts and the addresses on Docker's networks mean
/// something on its own host only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerHost(PathBuf);

impl DockerHost {
    /// The path of the engine's socket.
    pub fn socket(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for DockerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

/// How long a Node may be NotReady before its node is repaired; `None` for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairAfter(pub Option<SignedDuration>);

/// Which container is the management cluster's Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagementContainer {
    /// The one that has the Node's address.
    Auto,
    /// The one of this name.
    Named(String),
    /// None is.
    None,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

fn docker_host(s: &str) -> Result<DockerHost, String> {
    match s.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => Ok(DockerHost(path.into())),
        _ => Err("only the socket of a local engine can be used: write unix://<absolute path>, for example \
                  unix:///var/run/docker.sock"
            .into()),
    }
}

fn network_pool(s: &str) -> Result<Ipv4Net, String> {
    network(s, 8..=24, "write an IPv4 network of /8 to /24, for example 10.231.0.0/16")
}

fn allowed_subnet(s: &str) -> Result<Ipv4Net, String> {
    network(s, 8..=25, "write an IPv4 network of /8 to /25, for example 192.168.64.0/20")
}

fn network(s: &str, prefixes: RangeInclusive<u8>, write: &str) -> Result<Ipv4Net, String> {
    let net: Ipv4Net = s.parse().map_err(|_| write.to_owned())?;
    if !prefixes.contains(&net.prefix_len()) {
        return Err(write.into());
    }
    // A pool that is not what was meant would collide with networks that nobody thinks of.
    if net != net.trunc() {
        return Err(format!(
            "{} is not the first address of a /{1}: write {2}",
            net.addr(),
            net.prefix_len(),
            net.trunc()
        ));
    }
    Ok(net)
}

fn port_range(s: &str) -> Result<RangeInclusive<u16>, String> {
    const WRITE: &str = "write FIRST-LAST, two ports from 1 to 65535, for example 20000-29999";
    let (first, last) = s.split_once('-').ok_or(WRITE)?;
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err(WRITE.into()),
    }
}

fn dns_server(s: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = s
        .trim()
        .parse()
        .map_err(|_| "write IP addresses with commas between, for example 1.1.1.1,8.8.8.8")?;
    if ip.is_loopback() {
        return Err("Pods can't reach a DNS server on a loopback address: write the address of one on the network, for \
             example 1.1.1.1"
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
            Err("that would be the whole host: write the absolute paths of directories, for example /srv"
                .into())
        }
        path if plain(path) => Ok(path.to_owned()),
        _ => Err(
            "write absolute paths of directories, without /./, /../, // and a slash at the end, with commas \
                  between, for example /srv,/data/registries"
                .into(),
        ),
    }
}

fn management_container(s: &str) -> Result<ManagementContainer, String> {
    match s.trim() {
        "auto" => Ok(ManagementContainer::Auto),
        "none" => Ok(ManagementContainer::None),
        // As Docker has it.
        name if name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) =>
        {
            Ok(ManagementContainer::Named(name.to_owned()))
        }
        _ => Err("write auto, none, or the name of a container, for example kind-control-plane".into()),
    }
}

fn repair_after(s: &str) -> Result<RepairAfter, String> {
    match s.trim() {
        "0" | "never" => Ok(RepairAfter(None)),
        // So that a doubled wait is still a time.
        time => expiry::parse(time)
            .filter(|t| *t <= SignedDuration::from_hours(1000))
            .map(Some)
            .map(RepairAfter)
            .ok_or(
                "write hours, minutes and seconds, at most 1000h, for example 5m or 1h30m; or never"
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
        .ok_or("write hours, minutes and seconds, at least 1s and at most 24h, for example 5m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools() {
        assert_eq!(network_pool("10.0.0.0/8"), Ok("10.0.0.0/8".parse().unwrap()));
        assert_eq!(network_pool("172.31.4.0/24"), Ok("172.31.4.0/24".parse().unwrap()));
        assert!(network_pool("172.31.5.0/16").unwrap_err().ends_with("write 172.31.0.0/16"));
        for bad in ["", "172.31.0.0", "10.0.0.0/7", "10.0.0.0/25", "fd00::/16"] {
            assert!(network_pool(bad).unwrap_err().contains("for example 10.231.0.0/16"), "{bad:?}");
        }
    }

    #[test]
    fn subnets_that_specs_may_choose() {
        assert_eq!(allowed_subnet("192.168.7.128/25"), Ok("192.168.7.128/25".parse().unwrap()));
        assert!(allowed_subnet("192.168.7.1/24").unwrap_err().ends_with("write 192.168.7.0/24"));
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
    fn docker_hosts() {
        let host = docker_host("unix:///run/user/1000/docker.sock").unwrap();
        assert_eq!(host.socket(), Path::new("/run/user/1000/docker.sock"));
        assert_eq!(host.to_string(), "unix:///run/user/1000/docker.sock");
        for bad in [
            "",
            "/var/run/docker.sock",
            "unix://",
            "unix://docker.sock",
            "tcp://1.2.3.4:2375",
            "ssh://me@host",
        ] {
            assert!(docker_host(bad).unwrap_err().contains("unix:///var/run/docker.sock"), "{bad:?}");
        }
    }

    #[test]
    fn dns_servers_are_reachable_from_pods() {
        assert_eq!(dns_server(" 1.1.1.1"), Ok("1.1.1.1".parse().unwrap()));
        assert_eq!(dns_server("2606:4700:4700::1111"), Ok("2606:4700:4700::1111".parse().unwrap()));
        for bad in ["127.0.0.11", "::1", "dns.google", ""] {
            assert!(dns_server(bad).unwrap_err().contains("1.1.1.1"), "{bad:?}");
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
