//! Allocation of subnets, addresses and host ports, each chosen once and kept for the lifetime of the object.
//!
//! Every managed container has a pinned address in the lower half of the subnet of its cluster; Docker allocates
//! addresses of the upper half to unmanaged containers. A K3s server does not recover from a change of its address
//! (k3s-io/k3s#2732, k3d#550), and Docker reallocates the address of a stopped container.

use std::{collections::BTreeSet, net::Ipv4Addr, ops::RangeInclusive};

use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use crate::{api::local_cluster::NodeRole, docker::engine::Network};

/// Offsets into the subnet. 0 is the address of the network and 1 that of the host.
const LOAD_BALANCER: u32 = 2;
const SERVERS: u32 = 10;
const AGENTS: u32 = 20;
const REGISTRIES: u32 = 52;
/// Number of addresses that few clusters have more registries than.
const FEW_REGISTRIES: u32 = 12;
/// Number of addresses among which agents of `spec.agentPools` choose.
const POOLS: u32 = 64;

/// Addresses of the network of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Subnet, /16 to /25.
    pub subnet: Ipv4Net,
}

impl Addresses {
    fn at(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()) + offset)
    }

    /// Returns the address of the Docker host.
    pub fn gateway(self) -> Ipv4Addr {
        self.at(1)
    }

    /// Returns the address of the load balancer.
    pub fn load_balancer(self) -> Ipv4Addr {
        self.at(LOAD_BALANCER)
    }

    /// Returns the address of a node.
    pub fn node(self, role: NodeRole, index: usize) -> Ipv4Addr {
        let index = u32::try_from(index).expect("node counts are bounded by the API");
        self.at(index + if role == NodeRole::Server { SERVERS } else { AGENTS })
    }

    /// Returns the upper half, from which Docker allocates addresses to unmanaged containers.
    pub fn foreign(self) -> Ipv4Net {
        let prefix = self.subnet.prefix_len() + 1;
        self.subnet.subnets(prefix).ok().and_then(|mut halves| halves.nth(1)).unwrap_or(self.subnet)
    }

    /// Reports whether an address is in the range of registries, which agents of `spec.agentPools` share.
    pub fn is_registry(self, ip: Ipv4Addr) -> bool {
        self.subnet.contains(&ip) && !self.foreign().contains(&ip) && ip >= self.at(REGISTRIES)
    }

    /// Returns the addresses for an agent of `spec.agentPools`, the first choice first, so that a pool tends to get the same
    /// ones again. They are in the range of registries, mostly beyond the first ones of it, which registries get first.
    pub fn of_pool(self, pool: &str, index: usize) -> impl Iterator<Item = Ipv4Addr> {
        let half = u32::from(self.foreign().network()) - u32::from(self.subnet.network());
        let end = half.min(REGISTRIES + FEW_REGISTRIES + POOLS);
        let first = if end > REGISTRIES + FEW_REGISTRIES { REGISTRIES + FEW_REGISTRIES } else { REGISTRIES };
        let size = end - first;
        let start = u64::from(place(pool, size).unwrap_or_default());
        let start = start.saturating_add(u64::try_from(index).unwrap_or_default()) % u64::from(size.max(1));
        let start = u32::try_from(start).unwrap_or_default();
        let chosen = (0..size).map(move |i| first + (start + i) % size);
        chosen.chain(REGISTRIES..first).map(move |offset| self.at(offset))
    }

    /// Returns the first address for a registry that is not in `taken`; `None` if there is none.
    pub fn free_registry(self, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let end = u32::from(self.foreign().network()) - u32::from(self.subnet.network());
        (REGISTRIES..end).map(|o| self.at(o)).find(|ip| !taken.contains(ip))
    }
}

/// Returns the first /24 of `pool` that overlaps no network of the engine and nothing in `others`. After the engine
/// has refused a subnet that another object took a moment before, `seed` determines the choice, since objects that
/// lost the same race would otherwise collide on the first subnet again.
pub fn free_subnet(
    pool: Ipv4Net,
    networks: &[Network],
    others: &[Ipv4Net],
    refused: &BTreeSet<Ipv4Net>,
    seed: &str,
) -> Option<Ipv4Net> {
    let prefix = pool.prefix_len().max(24);
    let free = |c: &Ipv4Net| is_free(*c, networks, others) && !refused.contains(c);
    let mut candidates = pool.subnets(prefix).ok()?.filter(free);
    if refused.is_empty() {
        return candidates.next();
    }
    let all: Vec<_> = candidates.collect();
    let place = place(seed, u32::try_from(all.len()).ok()?)?;
    all.get(usize::try_from(place).ok()?).copied()
}

/// Returns the last /28 of `pool` that overlaps no network of the engine and nothing in `others`: enough for a registry,
/// and far from the /24 of the next cluster. `seed` has the meaning that it has for [`free_subnet`].
pub fn free_small_subnet(
    pool: Ipv4Net,
    networks: &[Network],
    others: &[Ipv4Net],
    refused: &BTreeSet<Ipv4Net>,
    seed: &str,
) -> Option<Ipv4Net> {
    // Block by block: a /8 has a million of them.
    let blocks: Vec<Ipv4Net> = pool.subnets(pool.prefix_len().max(24)).ok()?.collect();
    let free = |c: &Ipv4Net| is_free(*c, networks, others) && !refused.contains(c);
    blocks.into_iter().rev().find_map(|block| {
        let mut all: Vec<Ipv4Net> = block.subnets(block.prefix_len().max(28)).ok()?.filter(free).collect();
        let last = u32::try_from(all.len()).ok()?.checked_sub(1)?;
        let chosen = if refused.is_empty() { last } else { place(seed, last + 1)? };
        Some(all.swap_remove(usize::try_from(chosen).ok()?))
    })
}

/// Returns the number of subnets of /24 in `pool` that overlap a network of the engine, and the number of all.
pub fn pool_usage(pool: Ipv4Net, networks: &[Network]) -> (u64, u64) {
    let prefix = pool.prefix_len().max(24);
    let size = |net: Ipv4Net| 1_u64 << (prefix - net.prefix_len());
    let whole = |net: &Ipv4Net| {
        let net = Ipv4Net::new(net.network(), net.prefix_len().min(prefix)).unwrap_or(*net).trunc();
        if net.contains(&pool) { pool } else { net }
    };
    let used = networks.iter().flat_map(|n| &n.subnets).filter(|net| overlap(**net, pool)).map(whole);
    let used: BTreeSet<Ipv4Net> = used.collect();
    // One network can be a part of another one.
    let outermost = used.iter().filter(|net| !used.iter().any(|other| other != *net && other.contains(*net)));
    (outermost.map(|net| size(*net)).sum(), size(pool))
}

fn is_free(subnet: Ipv4Net, networks: &[Network], others: &[Ipv4Net]) -> bool {
    overlapping(subnet, networks).is_none() && !others.iter().any(|o| overlap(*o, subnet))
}

/// Returns a number below `size` that `seed` determines; `None` if `size` is 0.
fn place(seed: &str, size: u32) -> Option<u32> {
    let digest = Sha256::digest(seed.as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]).checked_rem(size)
}

/// Returns a network of the engine that overlaps `subnet`.
pub fn overlapping<'a>(
    subnet: Ipv4Net,
    networks: impl IntoIterator<Item = &'a Network>,
) -> Option<&'a Network> {
    networks.into_iter().find(|n| n.subnets.iter().any(|s| overlap(*s, subnet)))
}

/// Reports whether two networks overlap.
pub fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// Returns a free port of `range`. `seed` determines where the search starts, so that an object tends to get the same
/// port again and different objects rarely collide. Only Docker knows whether a port is free: the Pod of the operator
/// cannot probe the host.
pub fn free_port(range: &RangeInclusive<u16>, seed: &str, taken: &BTreeSet<u16>) -> Option<u16> {
    let (first, size) =
        (u32::from(*range.start()), u32::from(*range.end()).checked_sub(u32::from(*range.start()))? + 1);
    let start = place(seed, size)?;
    (0..size)
        .map(|i| u16::try_from(first + (start + i) % size).expect("within a range of u16"))
        .find(|p| !taken.contains(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(s: &str) -> Ipv4Net {
        s.parse().unwrap()
    }

    #[test]
    fn pinned_addresses_never_meet_nor_lie_in_the_foreign_range() {
        for subnet in ["172.31.0.0/24", "10.0.0.0/16", "10.0.0.128/25"] {
            let a = Addresses { subnet: net(subnet) };
            let mut all = BTreeSet::from([a.gateway(), a.load_balancer()]);
            all.extend((0..5).map(|i| a.node(NodeRole::Server, i)));
            all.extend((0..32).map(|i| a.node(NodeRole::Agent, i)));
            while let Some(ip) = a.free_registry(&all) {
                assert!(all.insert(ip));
                if all.len() > 60 {
                    break;
                }
            }
            assert!(all.len() >= 39 + 12);
            assert!(all.iter().all(|ip| a.subnet.contains(ip) && !a.foreign().contains(ip)), "{subnet}");
        }
    }

    #[test]
    fn agents_of_pools_have_addresses_by_pool_and_number_that_nodes_do_not_have() {
        for (subnet, many) in [("172.31.0.0/24", 76), ("10.0.0.0/16", 76), ("10.0.0.128/25", 12)] {
            let a = Addresses { subnet: net(subnet) };
            let all: Vec<Ipv4Addr> = a.of_pool("gpu", 0).collect();
            assert_eq!((all.len(), BTreeSet::from_iter(&all).len()), (many, many), "{subnet}");
            assert!(all.iter().all(|ip| a.is_registry(*ip)), "{subnet}");
            assert_eq!(a.of_pool("gpu", 1).next(), all.get(1).copied(), "{subnet}");
            assert_eq!(a.of_pool("gpu", usize::MAX).count(), many);
        }
        let wide = Addresses { subnet: net("172.31.0.0/24") };
        let registries = BTreeSet::from_iter((0..12).map(|i| wide.at(REGISTRIES + i)));
        assert!(wide.of_pool("gpu", 0).take(64).all(|ip| !registries.contains(&ip)));
        assert_ne!(wide.of_pool("gpu", 0).next(), wide.of_pool("big", 0).next());
    }

    #[test]
    fn subnets_avoid_all_networks_of_the_engine() {
        let taken = |s: &str| Network { subnets: vec![net(s)], ..Network::default() };
        let (none, seed) = (BTreeSet::new(), "uid");
        let free_subnet = |pool, networks: &[Network]| super::free_subnet(pool, networks, &[], &none, seed);
        assert_eq!(free_subnet(net("172.31.0.0/16"), &[]), Some(net("172.31.0.0/24")));
        assert_eq!(free_subnet(net("172.31.0.0/16"), &[taken("172.31.0.0/20")]), Some(net("172.31.16.0/24")));
        assert_eq!(
            free_subnet(net("172.31.0.0/23"), &[taken("172.31.0.0/24"), taken("172.31.1.8/29")]),
            None
        );
        let others = [net("172.31.0.0/20"), net("172.31.16.53/32")];
        assert_eq!(
            super::free_subnet(net("172.31.0.0/16"), &[], &others, &none, seed),
            Some(net("172.31.17.0/24"))
        );
        // Who lost one to others does not run after them.
        let (pool, refused) = (net("172.31.0.0/16"), BTreeSet::from([net("172.31.0.0/24")]));
        let next: BTreeSet<_> = (0..20)
            .map(|uid| super::free_subnet(pool, &[], &[], &refused, &uid.to_string()).unwrap())
            .collect();
        assert!(next.len() > 15 && next.is_disjoint(&refused), "{next:?}");
        assert_eq!(super::free_subnet(net("172.31.0.0/24"), &[], &[], &refused, seed), None);
    }

    #[test]
    fn registries_share_the_last_subnets_of_a_pool() {
        let pool = net("172.31.0.0/22");
        let mut networks = Vec::new();
        let mut take = |refused: &BTreeSet<Ipv4Net>| {
            let subnet = free_small_subnet(pool, &networks, &[net("172.31.3.250/32")], refused, "uid")?;
            networks.push(Network { subnets: vec![subnet], ..Network::default() });
            Some((subnet, free_subnet(pool, &networks, &[], &BTreeSet::new(), "uid")))
        };
        let first = Some(net("172.31.0.0/24"));
        assert_eq!(take(&BTreeSet::new()), Some((net("172.31.3.224/28"), first)));
        assert_eq!(take(&BTreeSet::new()), Some((net("172.31.3.208/28"), first)));
        let refused = BTreeSet::from([net("172.31.3.192/28")]);
        let (other, _) = take(&refused).unwrap();
        assert!(net("172.31.3.0/24").contains(&other) && !refused.contains(&other), "{other}");
        let taken = [Network { subnets: vec![pool], ..Network::default() }];
        assert_eq!(free_small_subnet(pool, &taken, &[], &BTreeSet::new(), "uid"), None);
    }

    #[test]
    fn each_subnet_of_the_pool_is_in_use_once() {
        let used = |pool: &str, networks: &[&str]| {
            let network = |subnet: &&str| Network { subnets: vec![net(subnet)], ..Network::default() };
            pool_usage(net(pool), &networks.iter().map(network).collect::<Vec<_>>())
        };
        assert_eq!(used("10.0.0.0/16", &[]), (0, 256));
        assert_eq!(
            used("10.0.0.0/16", &["10.0.1.0/24", "10.0.1.16/28", "10.0.2.0/28", "10.1.0.0/16"]),
            (2, 256)
        );
        assert_eq!(used("10.0.0.0/16", &["10.0.0.0/20", "10.0.3.0/24"]), (16, 256));
        assert_eq!(used("10.0.0.0/16", &["10.0.0.0/8", "10.0.3.0/24"]), (256, 256));
        assert_eq!(used("10.0.0.0/25", &["10.0.0.64/28"]), (1, 1));
    }

    #[test]
    fn ports_wrap_round_and_run_out() {
        let range = 100..=102;
        let first = free_port(&range, "a", &BTreeSet::new()).unwrap();
        assert_eq!(free_port(&range, "a", &BTreeSet::new()), Some(first));
        let mut taken = BTreeSet::new();
        while let Some(p) = free_port(&range, "a", &taken) {
            assert!(range.contains(&p) && taken.insert(p));
        }
        assert_eq!(taken.len(), 3);
    }
}
