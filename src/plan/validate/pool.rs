//! Parsing of pools of nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use regex::Regex;

use super::checker::{Checker, is, whole};
use crate::{
    api::{
        LocalClusterSpec,
        local_cluster::{AgentPool, NodePool},
        rules::{self, format, hostnames, pattern, text},
    },
    docker::spec::{Bind, Gpus, Isolation, Ulimit, VolumeMount},
};

/// A pool of nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValidPool {
    /// Number of nodes.
    pub count: usize,
    /// Number of nodes that may be unavailable during a rolling update.
    pub max_unavailable: usize,
    /// Indexes that no node has.
    pub excluded: BTreeSet<usize>,
    /// Additional K3s arguments.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Labels of the Nodes.
    pub labels: BTreeMap<String, String>,
    /// Labels of the containers.
    pub container_labels: BTreeMap<String, String>,
    /// Taints of the Nodes, as `key=value:Effect` or `key:Effect`.
    pub taints: Vec<String>,
    /// Memory limit in bytes.
    pub memory: Option<i64>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<i64>,
    /// CPU limit in billionths of a CPU.
    pub nano_cpus: Option<i64>,
    /// Highest number of processes and threads.
    pub pids: Option<i64>,
    /// Process limits, by name.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Host directories and files, by path in the nodes.
    pub volumes: BTreeMap<String, Bind>,
    /// Docker volumes, by path in the nodes.
    pub named_volumes: BTreeMap<String, VolumeMount>,
    /// GPUs of the Docker host.
    pub gpus: Option<Gpus>,
    /// OCI runtime and privileges.
    pub isolation: Isolation,
}

impl ValidPool {
    /// Returns the indexes of the nodes: the lowest that are not excluded. They follow from the spec alone, so that a node
    /// that was lost comes back under its name, and nothing depends on the order of changes.
    pub fn indexes(&self) -> impl Iterator<Item = usize> {
        (0..).filter(|index| !self.excluded.contains(index)).take(self.count)
    }
}

impl Checker {
    /// Parses the pools of servers and agents.
    pub(super) fn pools(&mut self, servers: &NodePool, agents: &NodePool) -> (ValidPool, ValidPool) {
        self.check(matches!(servers.count, 1 | 3 | 5), "spec.servers.count", text::SERVERS);
        let none = servers.excluded_indexes.is_empty();
        self.check(none, "spec.servers.excludedIndexes", text::EXCLUDED_SERVER);
        let valid = (self.pool("spec.servers", servers), self.agents("spec.agents", agents));
        for (i, arg) in servers.args.iter().enumerate() {
            let path = format!("spec.servers.args[{i}]");
            self.check(!rules::AGENT_FLAGS.has(flag(arg)), &path, rules::AGENT_FLAGS.instead);
            for (shape, instead) in SERVER_ARGS.iter() {
                self.check(!shape.is_match(arg), &path, instead);
            }
        }
        valid
    }

    /// Parses the further pools of agents.
    pub(super) fn agent_pools(
        &mut self,
        pools: &[AgentPool],
        spec: &LocalClusterSpec,
    ) -> BTreeMap<String, ValidPool> {
        let mut valid = BTreeMap::new();
        for (i, AgentPool { name, pool }) in pools.iter().enumerate() {
            let path = format!("spec.agentPools[{i}]");
            self.fits(format_args!("{path}.name"), name, &format::POOL_NAME);
            self.refuse(&format!("{path}.name"), name, hostnames::POOLS, "");
            valid.insert(name.clone(), self.agents(&path, pool));
        }
        self.distinct("spec.agentPools", pools.iter().map(|p| &p.name));
        let all = pools.iter().fold(spec.agents.count, |all, p| all.saturating_add(p.pool.count));
        self.check(pools.is_empty() || all <= 32, "spec.agentPools", text::AGENTS_IN_ALL);
        valid
    }

    /// Parses a pool of agents.
    fn agents(&mut self, path: &str, pool: &NodePool) -> ValidPool {
        self.check((0..=32).contains(&pool.count), format_args!("{path}.count"), text::AGENTS);
        let places = pool.max_unavailable.is_none_or(|n| (1..=32).contains(&n));
        self.check(places, format_args!("{path}.maxUnavailable"), text::MAX_UNAVAILABLE);
        let valid = self.pool(path, pool);
        let distinct = valid.excluded.len() == pool.excluded_indexes.len();
        let few = valid.excluded.len().saturating_add(valid.count) <= 32;
        let sound = pool.excluded_indexes.is_empty() || (distinct && few);
        let sound = sound && valid.excluded.iter().all(|index| *index < 32);
        self.check(sound, format_args!("{path}.excludedIndexes"), text::EXCLUDED);
        for (i, arg) in pool.args.iter().enumerate() {
            let path = format!("{path}.args[{i}]");
            self.check(!rules::SERVER_FLAGS.has(flag(arg)), &path, rules::SERVER_FLAGS.instead);
        }
        valid
    }

    fn pool(&mut self, path: &str, pool: &NodePool) -> ValidPool {
        // Every field is named: a new one does not compile until it is validated.
        let NodePool {
            count,
            max_unavailable,
            excluded_indexes,
            args,
            env,
            labels,
            container_labels,
            taints,
            memory,
            shm_size,
            cpus,
            pids,
            ulimits,
            volumes,
            gpus,
            runtime,
            privileged,
        } = pool;
        if let Some(runtime) = runtime {
            self.fits(format_args!("{path}.runtime"), runtime, &format::RUNTIME);
        }
        self.args(&format!("{path}.args"), args);
        self.labels(&format!("{path}.labels"), labels);
        self.taints(&format!("{path}.taints"), taints);
        let (paths, named_volumes) = self.volumes(&format!("{path}.volumes"), volumes);
        ValidPool {
            count: (*count).try_into().unwrap_or(0),
            max_unavailable: max_unavailable.and_then(|n| n.try_into().ok()).unwrap_or(1),
            excluded: excluded_indexes.iter().filter_map(|index| usize::try_from(*index).ok()).collect(),
            args: args.clone(),
            env: self.env(&format!("{path}.env"), env, rules::NODE_ENV),
            labels: labels.clone(),
            container_labels: self.container_labels(&format!("{path}.containerLabels"), container_labels),
            taints: taints.clone(),
            memory: self.memory(&format!("{path}.memory"), memory.as_deref()),
            shm_size: self.memory(&format!("{path}.shmSize"), shm_size.as_deref()),
            nano_cpus: self.nano_cpus(&format!("{path}.cpus"), cpus.as_deref()),
            pids: self.pids(&format!("{path}.pids"), *pids),
            ulimits: self.ulimits(&format!("{path}.ulimits"), ulimits),
            volumes: paths,
            named_volumes,
            gpus: self.gpus(&format!("{path}.gpus"), gpus.as_deref()),
            isolation: Isolation { runtime: runtime.clone(), privileged: *privileged },
        }
    }

    fn pids(&mut self, path: &str, pids: Option<i32>) -> Option<i64> {
        self.check(pids.is_none_or(|n| format::PIDS.contains(&n)), path, text::PIDS);
        pids.map(i64::from)
    }

    fn args(&mut self, path: &str, args: &[String]) {
        for (i, arg) in args.iter().enumerate() {
            let path = format!("{path}[{i}]");
            self.fits(&path, arg, &format::ARG);
            self.check(!is(pattern::TWO_ARGS, arg), &path, text::TWO_ARGS);
            self.check(!is(pattern::FILTERED_ARG, arg), &path, text::FILTERED_ARG);
            self.refuse(&path, flag(arg), rules::FLAGS, "--");
        }
    }

    fn labels(&mut self, path: &str, labels: &BTreeMap<String, String>) {
        for (key, value) in labels {
            let path = format!("{path}[{key}]");
            let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
            self.fits(&path, key, &format::LABEL_KEY);
            self.check(prefix.len() <= 253, &path, text::LABEL_KEY);
            self.fits(&path, value, &format::LABEL_VALUE);
            self.refuse(&path, key, rules::NODE_LABELS, "");
        }
    }

    fn container_labels(
        &mut self,
        path: &str,
        labels: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        self.check(labels.len() <= 64, path, text::CONTAINER_LABELS);
        for (key, value) in labels {
            let path = format!("{path}[{key}]");
            self.fits(&path, key, &format::CONTAINER_LABEL);
            let sound = value.chars().count() <= 1024 && !value.contains(|c: char| c.is_ascii_control());
            self.check(sound, &path, text::CONTAINER_LABEL_VALUE);
            self.refuse(&path, key, rules::labels::CONTAINER_LABELS, "");
        }
        labels.clone()
    }

    fn taints(&mut self, path: &str, taints: &[String]) {
        let mut seen = BTreeSet::new();
        for (i, taint) in taints.iter().enumerate() {
            let path = format!("{path}[{i}]");
            self.fits(&path, taint, &format::TAINT);
            let (left, effect) = taint.split_once(':').unwrap_or((taint, ""));
            let key = left.split('=').next().unwrap_or(left);
            self.check(seen.insert((key, effect)), &path, text::TAINT_TWICE);
        }
    }
}

/// Returns the name of the flag in `--name=value`, without hyphens.
fn flag(arg: &str) -> &str {
    let name = arg.trim_start_matches('-');
    name.split_once('=').map_or(name, |(name, _)| name)
}

static SERVER_ARGS: LazyLock<Vec<(Regex, String)>> = LazyLock::new(|| {
    rules::server_args().into_iter().map(|(shape, instead)| (whole(&shape), instead)).collect()
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::validate::{self, tests::problems};

    fn pool(name: &str, count: i32) -> AgentPool {
        AgentPool { name: name.into(), pool: NodePool { count, ..NodePool::default() } }
    }

    #[test]
    fn pools_of_agents_have_names_that_nodes_can_have() {
        let said = |pools: &[AgentPool]| problems(|s| s.agent_pools = pools.to_vec());
        assert!(said(&[pool("gpu", 1), pool("pool1", 29)]).is_empty());
        for bad in ["", "a-b", "Gpu", "1a", "a.b", "a2345678901234567890x"] {
            assert_eq!(
                said(&[pool(bad, 1)]),
                [format!("spec.agentPools[0].name: {}", text::POOL_NAME)],
                "{bad}"
            );
        }
        for bad in ["agent", "server", "serverlb", "tools", "registry"] {
            let said = said(&[pool("a", 0), pool(bad, 1)]);
            assert!(
                said.len() == 1 && said[0].starts_with("spec.agentPools[1].name: agent, agents"),
                "{said:?}"
            );
        }
        assert_eq!(said(&[pool("a", 1), pool("a", 1)]), [format!("spec.agentPools: {}", text::TWICE)]);
        // With the two of spec.agents.
        assert_eq!(
            said(&[pool("a", 30), pool("b", 1)]),
            [format!("spec.agentPools: {}", text::AGENTS_IN_ALL)]
        );
    }

    #[test]
    fn pools_of_agents_have_the_rules_of_agents() {
        let mut gpu = pool("gpu", 33);
        gpu.pool.max_unavailable = Some(0);
        gpu.pool.args = vec!["--disable=traefik".into(), "--token=x".into()];
        gpu.pool.memory = Some("2GB".into());
        let said = problems(|s| {
            s.agents.count = 0;
            s.agent_pools = vec![gpu];
        });
        let begin = ["count: ", "maxUnavailable: ", "args[1]: --token", "memory: ", "args[0]: only servers"];
        let begin = begin.map(|end| format!("spec.agentPools[0].{end}"));
        assert!(said.iter().zip(&begin).all(|(said, begin)| said.starts_with(begin)), "{said:?}");
        assert_eq!(said.len(), begin.len() + 1, "{said:?}");
    }

    #[test]
    fn indexes_are_the_lowest_that_are_not_excluded() {
        let indexes = |count, excluded: &[usize]| {
            let pool =
                ValidPool { count, excluded: excluded.iter().copied().collect(), ..ValidPool::default() };
            pool.indexes().collect::<Vec<_>>()
        };
        assert_eq!(indexes(3, &[]), [0, 1, 2]);
        assert_eq!(indexes(2, &[0]), [1, 2]);
        assert_eq!(indexes(2, &[1, 9]), [0, 2]);
        assert_eq!(indexes(0, &[0]), [0; 0]);
        let said = |count, excluded: &[i32]| {
            problems(|s| {
                s.agents.count = count;
                s.agents.excluded_indexes = excluded.to_vec();
            })
        };
        assert!(said(2, &[31, 0]).is_empty() && said(31, &[5]).is_empty());
        for (count, excluded) in [(1, &[-1][..]), (1, &[32]), (1, &[1, 1]), (31, &[0, 1])] {
            let expected = [format!("spec.agents.excludedIndexes: {}", text::EXCLUDED)];
            assert_eq!(said(count, excluded), expected, "{excluded:?}");
        }
        let server = problems(|s| s.servers.excluded_indexes = vec![0]);
        assert_eq!(server, [format!("spec.servers.excludedIndexes: {}", text::EXCLUDED_SERVER)]);
    }

    #[test]
    fn the_order_of_pools_has_no_meaning() {
        let parsed = |pools: Vec<AgentPool>| {
            let mut spec = LocalClusterSpec { agent_pools: pools, ..LocalClusterSpec::default() };
            spec.servers.count = 1;
            validate::local_cluster("default", "dev", &spec).unwrap()
        };
        assert_eq!(parsed(vec![pool("a", 1), pool("b", 2)]), parsed(vec![pool("b", 2), pool("a", 1)]));
    }
}
