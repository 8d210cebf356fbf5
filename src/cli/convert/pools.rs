//! Servers and agents, and what is meant for some of them. Agents with other settings than most become pools of their own.

use std::{cmp::Reverse, collections::BTreeSet};

use serde_json::{Value, json};

use super::part::Part;
use crate::api::local_cluster::{POOL_ARGS, POOL_LABELS, POOL_TAINTS};

/// What to know about the mount of a socket.
pub(super) const SOCKET: &str = "a socket, left out: only directories and regular files can be mounted";

/// Reports whether a path is that of a socket, by its name.
pub(super) fn is_socket(path: &str) -> bool {
    path.ends_with(".sock")
}

/// The pools of a LocalCluster.
pub(super) struct Pools {
    count: i64,
    servers: Value,
    /// One for each agent.
    agents: Vec<Value>,
}

/// The nodes that something is meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub servers: bool,
    pub agents: bool,
    /// The agents by their numbers, if it is not meant for all of them.
    pub only: Option<BTreeSet<usize>>,
    /// Whether these are all servers, or none.
    whole: bool,
}

impl Chosen {
    pub const ALL: Self = Self { servers: true, agents: true, only: None, whole: true };
    pub const SERVERS: Self = Self { servers: true, agents: false, only: None, whole: true };
    pub const AGENTS: Self = Self { servers: false, agents: true, only: None, whole: true };

    /// Chooses one agent.
    pub fn agent(index: usize) -> Self {
        Self { only: Some([index].into()), ..Self::AGENTS }
    }

    /// Reports whether these are all nodes of their roles.
    pub fn is_whole(&self) -> bool {
        self.whole && self.only.is_none()
    }
}

impl Pools {
    pub fn new(servers: i64, agents: i64) -> Self {
        let agents = usize::try_from(agents).unwrap_or(0).min(MOST);
        Self { count: servers, servers: json!({}), agents: vec![json!({}); agents] }
    }

    /// Parses k3d's filters, those of v1alpha2 too (`server[0]`). `None` if one of them chooses no pool.
    pub fn chosen(&self, filters: &[String]) -> Option<Chosen> {
        let mut chosen = Chosen { servers: false, agents: false, only: None, whole: true };
        let (mut only, mut every) = (BTreeSet::new(), false);
        for filter in filters {
            let filter = filter.replace('[', ":").replace(']', "");
            let filter = filter.trim_end_matches(":direct").trim_end_matches(":proxy");
            let (role, index) = filter.split_once(':').unwrap_or((filter, "*"));
            let numbers = if index == "*" { None } else { Some(indices(index)?) };
            match role {
                "all" => (chosen.servers, chosen.agents, every) = (true, true, true),
                "server" | "servers" => {
                    chosen.servers = true;
                    let all =
                        |numbers: BTreeSet<usize>| i64::try_from(numbers.len()).unwrap_or(0) >= self.count;
                    chosen.whole &= numbers.is_none_or(all);
                }
                "agent" | "agents" => {
                    chosen.agents = true;
                    every |= numbers.is_none();
                    only.extend(numbers.unwrap_or_default());
                }
                _ => return None,
            }
        }
        every |= (0..self.agents.len()).all(|index| only.contains(&index));
        chosen.only = (chosen.agents && !every).then_some(only);
        Some(chosen)
    }

    /// Returns the settings of the chosen nodes.
    fn settings(&mut self, chosen: &Chosen) -> impl Iterator<Item = &mut Value> {
        let agents = self.agents.iter_mut().enumerate().filter(|(index, _)| {
            chosen.agents && chosen.only.as_ref().is_none_or(|only| only.contains(index))
        });
        Some(&mut self.servers).filter(|_| chosen.servers).into_iter().chain(agents.map(|(_, agent)| agent))
    }

    /// Adds an item to a list of the chosen pools, or sets a key of a mapping.
    pub fn add(&mut self, chosen: &Chosen, field: &str, key: Option<&str>, item: &Value) {
        for settings in self.settings(chosen) {
            let field = &mut settings[field];
            match (key, field.as_array_mut()) {
                (Some(key), _) => field[key] = item.clone(),
                (None, Some(list)) if list.contains(item) => {}
                (None, Some(list)) => list.push(item.clone()),
                (None, None) => *field = json!([item]),
            }
        }
    }

    /// Sets a field of the chosen pools.
    pub fn set(&mut self, chosen: &Chosen, field: &str, value: &Value) {
        for settings in self.settings(chosen) {
            settings[field] = value.clone();
        }
    }

    /// Adds what a part is for: the nodes of its filters, which are `default` if there are none.
    pub fn of(&self, part: &mut Part, default: Chosen) -> Option<Chosen> {
        let filters = part.texts("nodeFilters");
        let chosen = if filters.is_empty() { Some(default) } else { self.chosen(&filters) };
        match &chosen {
            None => part.note("nodeFilters", "chooses no nodes, so what it is about is left out"),
            Some(Chosen { whole: false, .. }) => {
                part.note("nodeFilters", "servers are all alike, so it applies to all of them");
            }
            Some(_) => {}
        }
        chosen
    }

    /// Writes the pools into a spec, and returns what to tell about agents that become pools of their own. A pool that has
    /// no nodes has no settings either.
    pub fn into_spec(self, spec: &mut Value) -> Vec<String> {
        let Self { count, mut servers, agents } = self;
        servers["count"] = count.into();
        spec["servers"] = servers;
        let mut alike: Vec<(Value, Vec<usize>)> = Vec::new();
        for (index, settings) in agents.into_iter().enumerate() {
            match alike.iter_mut().find(|(of, _)| *of == settings) {
                Some((_, indices)) => indices.push(index),
                None => alike.push((settings, vec![index])),
            }
        }
        // Most are what spec.agents is for, and of equally many those with the fewest settings.
        let most = (0..alike.len()).max_by_key(|at| {
            let (settings, indices) = &alike[*at];
            (indices.len(), Reverse(settings.to_string().len()), Reverse(*at))
        });
        let Some((mut settings, indices)) = most.map(|at| alike.remove(at)) else { return Vec::new() };
        settings["count"] = indices.len().into();
        spec["agents"] = settings;
        let (mut pools, mut notes) = (Vec::new(), Vec::new());
        for (number, (mut settings, indices)) in alike.into_iter().enumerate() {
            let name = format!("pool{}", number + 1);
            settings["name"] = name.as_str().into();
            settings["count"] = indices.len().into();
            notes.extend(fit(&mut settings, &name));
            let which: Vec<String> = indices.iter().map(usize::to_string).collect();
            notes.push(format!(
                "agent {} differs from spec.agents, so it is in the pool {name} of spec.agentPools, whose nodes are named \
                 k3d-NAME-{name}-0 and so on",
                which.join(", ")
            ));
            pools.push(settings);
        }
        if !pools.is_empty() {
            spec["agentPools"] = pools.into();
        }
        notes
    }
}

/// Leaves out what a pool of agents cannot have, and returns what to tell about it.
fn fit(settings: &mut Value, name: &str) -> Vec<String> {
    let mut notes = Vec::new();
    let mut left = |number: usize, what: &str, most: String| {
        if number > 0 {
            notes.push(format!(
                "{number} of the {what} of the pool {name} are left out: a pool of spec.agentPools has at most {most}; \
                 have these agents in spec.agents, which may have more"
            ));
        }
    };
    let (args, length) = POOL_ARGS;
    if let Some(list) = settings["args"].as_array_mut() {
        let before = list.len();
        list.retain(|arg| arg.as_str().is_none_or(|arg| arg.chars().count() <= length));
        list.truncate(args);
        left(before - list.len(), "arguments", format!("{args}, of at most {length} characters each"));
    }
    if let Some(list) = settings["taints"].as_array_mut() {
        left(list.len().saturating_sub(POOL_TAINTS), "taints", POOL_TAINTS.to_string());
        list.truncate(POOL_TAINTS);
    }
    if let Some(labels) = settings["labels"].as_object_mut() {
        left(labels.len().saturating_sub(POOL_LABELS), "labels", POOL_LABELS.to_string());
        let keys: Vec<String> = labels.keys().skip(POOL_LABELS).cloned().collect();
        keys.iter().for_each(|key| drop(labels.remove(key)));
    }
    // An index of what is missing is null.
    if let Some(settings) = settings.as_object_mut() {
        settings.retain(|_, value| !value.is_null());
    }
    notes
}

/// The number of agents that are told apart; no LocalCluster has more than 32, and the file may contain any number.
const MOST: usize = 64;

/// Returns the nodes that an index such as `0,2-3` chooses.
fn indices(text: &str) -> Option<BTreeSet<usize>> {
    let mut all = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u8>().ok()?, last.parse::<u8>().ok()?);
        all.extend((first..=last).map(usize::from));
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose_pools() {
        let pools = Pools::new(1, 2);
        let chosen = |filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(|filter| (*filter).to_owned()).collect();
            pools.chosen(&filters)
        };
        let second = Chosen::agent(1);
        for (filters, expected) in [
            (&["all"][..], Some(Chosen::ALL)),
            (&["server:*", "agent:*"], Some(Chosen::ALL)),
            (&["servers"], Some(Chosen::SERVERS)),
            (&["server:0"], Some(Chosen::SERVERS)),
            (&["server[0]"], Some(Chosen::SERVERS)),
            (&["agent:0,1"], Some(Chosen::AGENTS)),
            (&["agents:0-1:direct"], Some(Chosen::AGENTS)),
            (&["agent:1"], Some(second.clone())),
            (&["agent:1", "agent:*"], Some(Chosen::AGENTS)),
            (&["server:0", "agent[1]"], Some(Chosen { servers: true, ..second.clone() })),
            (&["loadbalancer"], None),
            (&["agent:x"], None),
        ] {
            assert_eq!(chosen(filters), expected, "{filters:?}");
        }
        let one_of_three = Pools::new(3, 0).chosen(&["server:1".to_owned()]).unwrap();
        assert!(!one_of_three.is_whole() && !second.is_whole() && Chosen::ALL.is_whole());
    }

    #[test]
    fn agents_that_differ_become_pools() {
        let mut pools = Pools::new(1, 4);
        pools.set(&Chosen::AGENTS, "memory", &"1Gi".into());
        pools.add(&Chosen::agent(0), "labels", Some("tier"), &"front".into());
        pools.add(&Chosen::agent(2), "taints", None, &"gpu:NoSchedule".into());
        let mut spec = json!({});
        let notes = pools.into_spec(&mut spec);
        assert_eq!(
            spec,
            json!({
                "servers": {"count": 1},
                "agents": {"count": 2, "memory": "1Gi"},
                "agentPools": [
                    {"name": "pool1", "count": 1, "memory": "1Gi", "labels": {"tier": "front"}},
                    {"name": "pool2", "count": 1, "memory": "1Gi", "taints": ["gpu:NoSchedule"]},
                ],
            })
        );
        assert_eq!(notes.len(), 2);
        assert!(notes[1].starts_with("agent 2 differs from spec.agents"), "{notes:?}");
    }

    /// API servers refuse more, and a user would learn it only there.
    #[test]
    fn a_pool_gets_no_more_than_it_can_have() {
        let mut pools = Pools::new(1, 3);
        for number in 0..18 {
            pools.add(&Chosen::agent(0), "args", None, &format!("--node-label=n{number}=x").into());
        }
        pools.add(&Chosen::agent(0), "args", None, &format!("--kubelet-arg={}", "x".repeat(300)).into());
        (0..9).for_each(|n| pools.add(&Chosen::agent(0), "taints", None, &format!("t{n}:NoSchedule").into()));
        (0..33).for_each(|n| pools.add(&Chosen::agent(0), "labels", Some(&format!("l{n}")), &"x".into()));
        let mut spec = json!({});
        let notes = pools.into_spec(&mut spec);
        let pool = &spec["agentPools"][0];
        let counts = ["args", "taints"].map(|field| pool[field].as_array().unwrap().len());
        assert_eq!((counts, pool["labels"].as_object().unwrap().len()), ([16, 8], 32));
        for (note, begins) in
            notes.iter().zip(["3 of the arguments", "1 of the taints", "1 of the labels", "agent 0"])
        {
            assert!(note.starts_with(begins), "{note}");
        }
        assert_eq!(notes.len(), 4);
    }

    #[test]
    fn no_agents_have_no_settings() {
        let mut pools = Pools::new(1, 0);
        pools.set(&Chosen::ALL, "memory", &"1Gi".into());
        let mut spec = json!({});
        assert!(pools.into_spec(&mut spec).is_empty());
        assert_eq!(spec, json!({"servers": {"count": 1, "memory": "1Gi"}}));
    }
}
