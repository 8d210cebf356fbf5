//! Parsing of pools of nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use regex::Regex;

use super::checker::{Checker, is, whole};
use crate::{
    api::{
        local_cluster::NodePool,
        rules::{self, format, pattern, text},
    },
    docker::spec::{Bind, Gpus, Ulimit, VolumeMount},
};

/// A pool of nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValidPool {
    /// Number of nodes.
    pub count: usize,
    /// Number of nodes that may be unavailable during a rolling update.
    pub max_unavailable: usize,
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
}

impl Checker {
    /// Parses the pools of servers and agents.
    pub(super) fn pools(&mut self, servers: &NodePool, agents: &NodePool) -> (ValidPool, ValidPool) {
        self.check(matches!(servers.count, 1 | 3 | 5), "spec.servers.count", text::SERVERS);
        self.check((0..=32).contains(&agents.count), "spec.agents.count", text::AGENTS);
        let places = agents.max_unavailable.is_none_or(|n| (1..=32).contains(&n));
        self.check(places, "spec.agents.maxUnavailable", text::MAX_UNAVAILABLE);
        let valid = (self.pool("spec.servers", servers), self.pool("spec.agents", agents));
        for (i, arg) in agents.args.iter().enumerate() {
            let path = format!("spec.agents.args[{i}]");
            self.check(!rules::SERVER_FLAGS.has(flag(arg)), &path, rules::SERVER_FLAGS.instead);
        }
        for (i, arg) in servers.args.iter().enumerate() {
            let path = format!("spec.servers.args[{i}]");
            self.check(!rules::AGENT_FLAGS.has(flag(arg)), &path, rules::AGENT_FLAGS.instead);
            for (shape, instead) in SERVER_ARGS.iter() {
                self.check(!shape.is_match(arg), &path, instead);
            }
        }
        valid
    }

    fn pool(&mut self, path: &str, pool: &NodePool) -> ValidPool {
        // Every field is named: a new one does not compile until it is validated.
        let NodePool {
            count,
            max_unavailable,
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
        } = pool;
        self.args(&format!("{path}.args"), args);
        self.labels(&format!("{path}.labels"), labels);
        self.taints(&format!("{path}.taints"), taints);
        let (paths, named_volumes) = self.volumes(&format!("{path}.volumes"), volumes);
        ValidPool {
            count: (*count).try_into().unwrap_or(0),
            max_unavailable: max_unavailable.and_then(|n| n.try_into().ok()).unwrap_or(1),
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
