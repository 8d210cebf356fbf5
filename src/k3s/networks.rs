//! Networks of Pods and Services and the cluster domain, by the arguments of a server.

use ipnet::{IpNet, Ipv4Net};

use crate::api::rules::hostnames::CLUSTER_DOMAIN;

/// Default network of Pods.
pub const PODS: &str = "10.42.0.0/16";
/// Default network of Services.
pub const SERVICES: &str = "10.43.0.0/16";

/// IPv4 networks of Pods and Services. Nodes cannot be in them, since K3s routes them and responds for their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks {
    /// Networks of Pods, `--cluster-cidr`.
    pub pods: Vec<Ipv4Net>,
    /// Networks of Services, `--service-cidr`.
    pub services: Vec<Ipv4Net>,
}

impl Networks {
    /// Returns the networks of a cluster by the arguments of its servers. Values that K3s does not start with are left
    /// to K3s.
    pub fn of(args: &[String]) -> Self {
        let networks = |flag: &str, default: &str| {
            let mut given = values(args, flag).flat_map(|value| value.split(',')).peekable();
            let all: Vec<&str> = if given.peek().is_some() { given.collect() } else { vec![default] };
            let four = |net: &str| match net.trim().parse() {
                Ok(IpNet::V4(net)) => Some(net.trunc()),
                Ok(IpNet::V6(_)) | Err(_) => None,
            };
            all.into_iter().filter_map(four).collect()
        };
        Self { pods: networks("--cluster-cidr=", PODS), services: networks("--service-cidr=", SERVICES) }
    }

    /// Returns all networks.
    pub fn all(&self) -> impl Iterator<Item = &Ipv4Net> {
        self.pods.iter().chain(&self.services)
    }

    /// Returns a network that overlaps `subnet`.
    pub fn overlapping(&self, subnet: Ipv4Net) -> Option<Ipv4Net> {
        self.all().find(|n| n.contains(&subnet) || subnet.contains(*n)).copied()
    }
}

/// Returns an IPv6 network of Pods or Services.
pub fn ipv6(args: &[String]) -> Option<&str> {
    let given = ["--cluster-cidr=", "--service-cidr="].into_iter().flat_map(|flag| values(args, flag));
    let is_ipv6 = |net: &&str| matches!(net.parse(), Ok(IpNet::V6(_)));
    given.flat_map(|value| value.split(',')).map(str::trim).find(is_ipv6)
}

/// Returns the number of nodes that the Pod network has subnets for, with the prefix length of each; `None` if K3s does
/// not allocate them.
pub fn room(args: &[String], pods: Ipv4Net) -> Option<(usize, u8)> {
    let argument = |name: &str| {
        values(args, "--kube-controller-manager-arg=")
            .filter_map(|arg| arg.strip_prefix(name)?.strip_prefix('='))
            .last()
    };
    let elsewhere = values(args, "--flannel-backend=").last() == Some("none");
    if elsewhere || argument("allocate-node-cidrs") == Some("false") {
        return None;
    }
    let mask = argument("node-cidr-mask-size-ipv4").or_else(|| argument("node-cidr-mask-size"));
    let mask: u8 = mask.map_or(Ok(24), str::parse).ok().filter(|mask| *mask <= 32)?;
    let bits = mask.checked_sub(pods.prefix_len());
    Some((bits.map_or(0, |bits| 1_usize.checked_shl(bits.into()).unwrap_or(usize::MAX)), mask))
}

/// Returns the domain of Services and Pods.
pub fn domain(args: &[String]) -> String {
    values(args, "--cluster-domain=").last().unwrap_or(CLUSTER_DOMAIN).trim_matches('.').to_lowercase()
}

fn values<'a>(args: &'a [String], flag: &str) -> impl Iterator<Item = &'a str> {
    args.iter().filter_map(move |arg| arg.strip_prefix(flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(list: &[&str]) -> Vec<String> {
        list.iter().map(|arg| (*arg).to_owned()).collect()
    }

    fn net(s: &str) -> Ipv4Net {
        s.parse().unwrap()
    }

    #[test]
    fn arguments_take_the_place_of_what_k3s_chooses() {
        for (list, pods, services) in [
            (&["--disable=traefik"][..], &["10.42.0.0/16"][..], &["10.43.0.0/16"][..]),
            (&["--cluster-cidr=10.1.0.0/16"], &["10.1.0.0/16"], &["10.43.0.0/16"]),
            (&["--service-cidr=10.0.0.0/16,fd00::/112"], &["10.42.0.0/16"], &["10.0.0.0/16"]),
            (
                &["--cluster-cidr=10.1.0.0/16", "--cluster-cidr=10.2.0.1/16"],
                &["10.1.0.0/16", "10.2.0.0/16"],
                &["10.43.0.0/16"],
            ),
            (&["--cluster-cidr=fd01::/56", "--service-cidr=x"], &[], &[]),
        ] {
            let found = Networks::of(&args(list));
            let text = |nets: &[Ipv4Net]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!((text(&found.pods), text(&found.services)), (args(pods), args(services)), "{list:?}");
        }
    }

    #[test]
    fn a_subnet_meets_what_has_a_part_of_it_or_has_it_whole() {
        let networks = Networks::of(&args(&["--cluster-cidr=172.20.0.0/16", "--service-cidr=172.21.0.0/24"]));
        for (subnet, other) in [
            ("172.20.7.0/24", Some("172.20.0.0/16")),
            ("172.21.0.0/16", Some("172.21.0.0/24")),
            ("172.22.0.0/24", None),
            ("10.42.0.0/24", None),
        ] {
            assert_eq!(networks.overlapping(net(subnet)), other.map(net), "{subnet}");
        }
    }

    #[test]
    fn each_node_gets_a_part() {
        let manager = |arg: &str| format!("--kube-controller-manager-arg={arg}");
        let room = |pods: &str, list: &[&str]| super::room(&args(list), net(pods));
        assert_eq!(room("10.42.0.0/16", &[]), Some((256, 24)));
        assert_eq!(room("172.20.1.0/24", &[]), Some((1, 24)));
        assert_eq!(room("172.20.1.0/25", &[]), Some((0, 24)));
        assert_eq!(room("172.20.1.0/24", &[&manager("node-cidr-mask-size=27")]), Some((8, 27)));
        assert_eq!(room("172.20.1.0/24", &[&manager("node-cidr-mask-size-ipv4=26")]), Some((4, 26)));
        assert_eq!(room("172.20.1.0/24", &[&manager("allocate-node-cidrs=false")]), None);
        assert_eq!(room("172.20.1.0/24", &["--flannel-backend=none"]), None);
    }

    #[test]
    fn the_last_domain_counts() {
        assert_eq!(domain(&[]), "cluster.local");
        assert_eq!(
            domain(&args(&["--cluster-domain=a.example", "--cluster-domain=Lab.example."])),
            "lab.example"
        );
    }
}
