//! Usage of a namespace, and the quota for it.
//!
//! Objects get their share in the order of their creation, and keep it: of twenty that are created at once, those that
//! were created first get what there is. A share is granted in one place and counted from then on, so an object that grows
//! competes for the difference like a new one.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::rules::{self, Violation};
use crate::{
    api::{
        LocalCluster, RegistrySpec,
        local_cluster::{EffectiveNodes, NodePool, PortSpec},
    },
    docker::spec::Limits,
    plan::validate::quantity,
};

/// Usage of an object or of a namespace, or a limit for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage<T = u64> {
    /// LocalClusters.
    pub clusters: T,
    /// Registries.
    pub registries: T,
    /// Nodes.
    pub nodes: T,
    /// CPUs in billionths.
    pub nano_cpus: T,
    /// Memory in bytes.
    pub memory: T,
    /// Host ports.
    pub host_ports: T,
}

impl Usage {
    /// Returns the usage of a LocalCluster, whose spec need not be valid. A pool without a limit of its own counts with the
    /// default of the policy, or with what its nodes still have of an earlier, higher one. One without any counts nothing.
    pub fn of_cluster(cluster: &LocalCluster, defaults: Limits) -> Self {
        let spec = &cluster.spec;
        let effective = cluster.status.as_ref().and_then(|status| status.effective.as_ref());
        let had = |name: &str| {
            let pool = effective?.agent_pools.iter().find(|pool| pool.name == name);
            pool.map(|pool| &pool.nodes)
        };
        let pools: Vec<(&NodePool, Option<&EffectiveNodes>)> = [
            (&spec.servers, effective.and_then(|e| e.servers.as_ref())),
            (&spec.agents, effective.and_then(|e| e.agents.as_ref())),
        ]
        .into_iter()
        .chain(spec.agent_pools.iter().map(|pool| (&pool.pool, had(&pool.name))))
        .collect();
        let sum = |of: fn(&NodePool) -> Option<i64>,
                   had: fn(&EffectiveNodes) -> Option<i64>,
                   default: Option<i64>|
         -> u64 {
            let each = |(pool, has): &(&NodePool, Option<&EffectiveNodes>)| {
                let limit = of(pool).or_else(|| has.and_then(had).max(default));
                unsigned(limit).saturating_mul(count(pool))
            };
            pools.iter().fold(0, |sum, pool| sum.saturating_add(each(pool)))
        };
        let port = |p: &PortSpec| {
            u64::try_from(p.end_port.map_or(0, |end| end.saturating_sub(p.port))).unwrap_or(0) + 1
        };
        Self {
            clusters: 1,
            registries: 0,
            nodes: pools.iter().map(|(pool, _)| count(pool)).sum(),
            nano_cpus: sum(
                |pool| quantity::nano_cpus(pool.cpus.as_deref()?),
                |has| quantity::nano_cpus(has.cpus.as_deref()?),
                defaults.nano_cpus,
            ),
            memory: sum(
                |pool| quantity::bytes(pool.memory.as_deref()?),
                |has| quantity::bytes(has.memory.as_deref()?),
                defaults.memory,
            ),
            host_ports: spec.ports.iter().map(port).sum::<u64>() + 1,
        }
    }

    /// Returns the usage of a Registry, whose spec need not be valid.
    pub fn of_registry(spec: &RegistrySpec) -> Self {
        let memory = unsigned(spec.memory.as_deref().and_then(quantity::bytes));
        Self { registries: 1, memory, host_ports: 1, ..Self::default() }
    }

    /// Returns the sum of two usages.
    pub fn plus(self, other: Self) -> Self {
        Self {
            clusters: self.clusters.saturating_add(other.clusters),
            registries: self.registries.saturating_add(other.registries),
            nodes: self.nodes.saturating_add(other.nodes),
            nano_cpus: self.nano_cpus.saturating_add(other.nano_cpus),
            memory: self.memory.saturating_add(other.memory),
            host_ports: self.host_ports.saturating_add(other.host_ports),
        }
    }

    /// Reports whether no part exceeds that of another usage.
    fn fits(&self, other: &Self) -> bool {
        self.parts().into_iter().zip(other.parts()).all(|(own, other)| own <= other)
    }

    fn parts(&self) -> [u64; 6] {
        let Self { clusters, registries, nodes, nano_cpus, memory, host_ports } = *self;
        [clusters, registries, nodes, nano_cpus, memory, host_ports]
    }
}

fn count(pool: &NodePool) -> u64 {
    pool.count.try_into().unwrap_or_default()
}

fn unsigned(n: Option<i64>) -> u64 {
    n.and_then(|n| n.try_into().ok()).unwrap_or_default()
}

/// Limits for the sum over all objects of a namespace.
pub type Quota = Usage<Option<u64>>;

impl Quota {
    /// Returns what a sum exceeds of the quota with this object, which uses something of it.
    pub fn exceeded(&self, own: &Usage, sum: &Usage, namespace: &str) -> Vec<Violation> {
        let (cpus, memory) = (|n: u64| rules::cpus(n.into()), |n: u64| rules::bytes(n.into()));
        let plain = |n: u64| n.to_string();
        type Row<'a> = (&'static str, &'a str, Option<u64>, u64, u64, &'a dyn Fn(u64) -> String);
        let rows: [Row<'_>; 6] = [
            ("quota.clusters", "LocalClusters", self.clusters, own.clusters, sum.clusters, &plain),
            ("quota.registries", "Registries", self.registries, own.registries, sum.registries, &plain),
            ("quota.nodes", "nodes", self.nodes, own.nodes, sum.nodes, &plain),
            ("quota.cpus", "CPUs", self.nano_cpus, own.nano_cpus, sum.nano_cpus, &cpus),
            ("quota.memory", "of memory", self.memory, own.memory, sum.memory, &memory),
            ("quota.hostPorts", "host ports", self.host_ports, own.host_ports, sum.host_ports, &plain),
        ];
        let exceeded = rows.into_iter().filter_map(|(rule, what, limit, own, sum, told)| {
            let limit = limit.filter(|limit| own > 0 && sum > *limit)?;
            let what = format!("{} {what} in namespace {namespace}", told(sum));
            Some(Violation::new(what, rule, format!("at most {}", told(limit))))
        });
        exceeded.collect()
    }
}

/// What an object of a namespace uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// UID of the object.
    pub uid: String,
    /// Time of its creation.
    pub created: Option<Timestamp>,
    /// Usage according to its spec.
    pub usage: Usage,
    /// True if its status shows that it runs with this spec: a restarted operator has granted nothing yet.
    pub runs: bool,
}

impl Claim {
    fn order(&self) -> (Option<Timestamp>, &str) {
        (self.created, &self.uid)
    }
}

/// Usage that objects were granted, by UID.
pub type Grants = BTreeMap<String, Usage>;

/// Returns the sum that a quota is compared with for an object of a namespace: what it uses, and what objects that come
/// before it have or get.
pub fn sum(quota: &Quota, claims: &[Claim], own: &Claim, grants: &Grants) -> Usage {
    let held = |c: &Claim| grants.get(&c.uid).copied().or_else(|| c.runs.then_some(c.usage));
    let before = |c: &Claim| c.order() < own.order();
    // What it has, it keeps, even if younger ones have too much. If it grows, all that is granted counts.
    let grows = held(own).is_none_or(|has| !own.usage.fits(&has));
    let mut others: Vec<&Claim> = claims.iter().filter(|c| c.uid != own.uid).collect();
    others.sort_by(|a, b| a.order().cmp(&b.order()));
    let counted = others.iter().filter(|c| grows || before(c)).filter_map(|c| held(c));
    let mut sum = counted.fold(Usage::default(), Usage::plus);
    for waiting in others.iter().filter(|c| grows && before(c) && held(c).is_none()) {
        let with = sum.plus(waiting.usage);
        if quota.exceeded(&waiting.usage, &with, "").is_empty() {
            sum = with;
        }
    }
    sum.plus(own.usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(uid: &str, created: i64, memory: u64) -> Claim {
        let usage = Usage { clusters: 1, memory, ..Usage::default() };
        Claim { uid: uid.into(), created: Timestamp::from_second(created).ok(), usage, runs: false }
    }

    fn quota(clusters: u64, memory: u64) -> Quota {
        Quota { clusters: Some(clusters), memory: Some(memory), ..Quota::default() }
    }

    /// Grants what fits, as the operator does, and returns who got something.
    fn grant(quota: &Quota, claims: &[Claim], grants: &mut Grants, order: &[usize]) -> Vec<String> {
        for i in order {
            let own = &claims[*i];
            if quota.exceeded(&own.usage, &sum(quota, claims, own, grants), "ns").is_empty() {
                grants.insert(own.uid.clone(), own.usage);
            }
        }
        grants.keys().cloned().collect()
    }

    #[test]
    fn twenty_at_once_get_no_more_than_there_is_whoever_asks_first() {
        let claims: Vec<Claim> = (0..20).map(|i| claim(&format!("{:02}", 19 - i), 100, 1)).collect();
        let orders: [Vec<usize>; 3] =
            [(0..20).collect(), (0..20).rev().collect(), vec![7, 3, 19, 0, 18, 17, 16]];
        for order in orders {
            let mut grants = Grants::new();
            let got = grant(&quota(3, 100), &claims, &mut grants, &order);
            assert!(got.iter().all(|uid| ["00", "01", "02"].contains(&uid.as_str())), "{got:?}");
        }
    }

    #[test]
    fn a_default_counts_and_so_does_what_nodes_have_of_an_earlier_one() {
        let yaml = "{metadata: {name: dev}, spec: {servers: {count: 1, cpus: '2'}, agents: {count: 2}},
            status: {effective: {servers: {memory: 1Gi}, agents: {memory: 3Gi, cpus: '1'}}}}";
        let cluster: LocalCluster = serde_saphyr::from_str(yaml).unwrap();
        let defaults = Limits { memory: Some(2 << 30), ..Limits::default() };
        let usage = |cluster: &LocalCluster| {
            let usage = Usage::of_cluster(cluster, defaults);
            (usage.memory >> 30, usage.nano_cpus / 1_000_000_000)
        };
        assert_eq!(usage(&cluster), (2 + 2 * 3, 2 + 2));
        assert_eq!(usage(&LocalCluster { status: None, ..cluster }), (6, 2));
    }

    #[test]
    fn every_port_of_the_host_counts() {
        let yaml = "{metadata: {name: dev}, spec: {ports: [{name: a, port: 80}, {name: b, port: 30000, endPort: 30009}]}}";
        let cluster: LocalCluster = serde_saphyr::from_str(yaml).unwrap();
        // That of the API too.
        assert_eq!(Usage::of_cluster(&cluster, Limits::default()).host_ports, 1 + 10 + 1);
        let spec = RegistrySpec { memory: Some("2Gi".into()), ..RegistrySpec::default() };
        let usage = Usage { registries: 1, memory: 2 << 30, host_ports: 1, ..Usage::default() };
        assert_eq!(Usage::of_registry(&spec), usage);
    }

    #[test]
    fn a_quota_that_is_used_up_is_not_exceeded() {
        let quota = Quota { clusters: Some(2), registries: Some(0), ..Quota::default() };
        let usage = |clusters, registries| Usage { clusters, registries, ..Usage::default() };
        let told =
            |own, sum| quota.exceeded(&own, &sum, "ns").iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told(usage(1, 0), usage(2, 9)), [""; 0], "it has no registry");
        assert_eq!(
            told(usage(1, 1), usage(3, 1)),
            [
                "3 LocalClusters in namespace ns (quota.clusters: at most 2)",
                "1 Registries in namespace ns (quota.registries: at most 0)"
            ]
        );
    }

    #[test]
    fn pools_of_agents_count_with_their_own_limits() {
        let yaml = "{metadata: {name: dev}, spec: {servers: {count: 1, memory: 1Gi}, agentPools: [{name: big, count: 3, \
            memory: 4Gi}, {name: gpu, count: 2}, {name: new, count: 1}]},
            status: {effective: {agentPools: [{name: gpu, memory: 3Gi}]}}}";
        let cluster: LocalCluster = serde_saphyr::from_str(yaml).unwrap();
        let defaults = Limits { memory: Some(2 << 30), ..Limits::default() };
        let usage = Usage::of_cluster(&cluster, defaults);
        assert_eq!((usage.nodes, usage.memory >> 30), (7, 1 + 3 * 4 + 2 * 3 + 2));
    }

    #[test]
    fn one_that_does_not_fit_leaves_room_for_younger_ones() {
        let claims = [claim("a", 1, 100), claim("b", 2, 3), claim("c", 3, 3)];
        let mut grants = Grants::new();
        assert_eq!(grant(&quota(9, 4), &claims, &mut grants, &[2, 1, 0]), ["b"]);
    }

    #[test]
    fn one_that_grows_does_not_take_from_younger_ones() {
        let mut claims = [claim("a", 1, 2), claim("b", 2, 2)];
        let (quota, mut grants) = (quota(9, 4), Grants::new());
        grant(&quota, &claims, &mut grants, &[0, 1]);
        claims[0].usage.memory = 4;
        let told = |own: &Claim, claims: &[Claim], grants: &Grants| {
            quota.exceeded(&own.usage, &sum(&quota, claims, own, grants), "ns")
        };
        let told_first = told(&claims[0], &claims, &grants);
        assert_eq!(told_first[0].to_string(), "6 of memory in namespace ns (quota.memory: at most 4)");
        assert!(told(&claims[1], &claims, &grants).is_empty());
        // The younger one goes.
        assert!(told(&claims[0], &claims[..1], &grants).is_empty());
    }

    #[test]
    fn a_lower_quota_concerns_the_youngest_and_a_restart_forgets_nothing() {
        let mut claims = [claim("a", 1, 1), claim("b", 2, 1), claim("c", 3, 1)];
        claims.iter_mut().for_each(|c| c.runs = true);
        let quota = quota(2, 9);
        let over = |own: &Claim| {
            !quota.exceeded(&own.usage, &sum(&quota, &claims, own, &Grants::new()), "").is_empty()
        };
        assert_eq!(claims.each_ref().map(over), [false, false, true]);
        // An older one that was created meanwhile and is seen late gets nothing that others have.
        let late = claim("d", 0, 1);
        assert_eq!(sum(&quota, &claims, &late, &Grants::new()).clusters, 4);
    }
}
