//! Servers and agents, and what is meant for some of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::part::Part;

/// What to know about the mount of a socket.
pub(super) const SOCKET: &str = "a socket, left out: only directories and regular files can be mounted";

/// Reports whether a path is that of a socket, by its name.
pub(super) fn is_socket(path: &str) -> bool {
    path.ends_with(".sock")
}

/// The two pools of a LocalCluster.
pub(super) struct Pools {
    servers: Pool,
    agents: Pool,
}

struct Pool {
    count: i64,
    spec: Value,
}

/// The nodes that something is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub servers: bool,
    pub agents: bool,
    /// Whether these are all nodes of the pools.
    pub whole: bool,
}

impl Chosen {
    pub const ALL: Self = Self { servers: true, agents: true, whole: true };
    pub const SERVERS: Self = Self { servers: true, agents: false, whole: true };
    pub const AGENTS: Self = Self { servers: false, agents: true, whole: true };
}

impl Pools {
    pub fn new(servers: i64, agents: i64) -> Self {
        let pool = |count| Pool { count, spec: json!({"count": count}) };
        Self { servers: pool(servers), agents: pool(agents) }
    }

    /// Parses k3d's filters, those of v1alpha2 too (`server[0]`). `None` if one of them chooses no pool.
    pub fn chosen(&self, filters: &[String]) -> Option<Chosen> {
        let mut all = Chosen { servers: false, agents: false, whole: true };
        for filter in filters {
            let filter = filter.replace('[', ":").replace(']', "");
            let filter = filter.trim_end_matches(":direct").trim_end_matches(":proxy");
            let (role, index) = filter.split_once(':').unwrap_or((filter, "*"));
            let count = match role {
                "all" => {
                    (all.servers, all.agents) = (true, true);
                    continue;
                }
                "server" | "servers" => {
                    all.servers = true;
                    self.servers.count
                }
                "agent" | "agents" => {
                    all.agents = true;
                    self.agents.count
                }
                _ => return None,
            };
            all.whole &= index == "*" || indices(index)? >= count;
        }
        Some(all)
    }

    /// Adds an item to a list of the chosen pools, or sets a key of a mapping.
    pub fn add(&mut self, chosen: Chosen, field: &str, key: Option<&str>, item: &Value) {
        let pools = [(chosen.servers, &mut self.servers), (chosen.agents, &mut self.agents)];
        for (_, pool) in pools.into_iter().filter(|(wanted, _)| *wanted) {
            let field = &mut pool.spec[field];
            match (key, field.as_array_mut()) {
                (Some(key), _) => field[key] = item.clone(),
                (None, Some(list)) if list.contains(item) => {}
                (None, Some(list)) => list.push(item.clone()),
                (None, None) => *field = json!([item]),
            }
        }
    }

    /// Sets a field of the chosen pools.
    pub fn set(&mut self, chosen: Chosen, field: &str, value: &Value) {
        for (_, pool) in [(chosen.servers, &mut self.servers), (chosen.agents, &mut self.agents)]
            .into_iter()
            .filter(|(wanted, _)| *wanted)
        {
            pool.spec[field] = value.clone();
        }
    }

    /// Adds what a part is for: the nodes of its filters, which are `default` if there are none.
    pub fn of(&self, part: &mut Part, default: Chosen) -> Option<Chosen> {
        let filters = part.texts("nodeFilters");
        let chosen = if filters.is_empty() { Some(default) } else { self.chosen(&filters) };
        match chosen {
            None => part.note("nodeFilters", "chooses no nodes, so what it is about is left out"),
            Some(Chosen { whole: false, .. }) => {
                part.note("nodeFilters", "the nodes of a role are all alike, so it applies to all of them");
            }
            Some(_) => {}
        }
        chosen
    }

    /// Writes the pools into a spec. A pool that has no nodes has no settings either.
    pub fn into_spec(self, spec: &mut Value) {
        spec["servers"] = self.servers.spec;
        if self.agents.count > 0 {
            spec["agents"] = self.agents.spec;
        }
    }
}

/// Returns how many nodes an index such as `0,2-3` chooses.
fn indices(text: &str) -> Option<i64> {
    let mut all = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u8>().ok()?, last.parse::<u8>().ok()?);
        all.extend(first..=last);
    }
    i64::try_from(all.len()).ok()
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
        let part = |servers, agents| Some(Chosen { servers, agents, whole: false });
        for (filters, expected) in [
            (&["all"][..], Some(Chosen::ALL)),
            (&["server:*", "agent:*"], Some(Chosen::ALL)),
            (&["servers"], Some(Chosen::SERVERS)),
            (&["server:0"], Some(Chosen::SERVERS)),
            (&["server[0]"], Some(Chosen::SERVERS)),
            (&["agent:0,1"], Some(Chosen::AGENTS)),
            (&["agents:0-1:direct"], Some(Chosen::AGENTS)),
            (&["agent:1"], part(false, true)),
            (&["server:0", "agent[1]"], part(true, true)),
            (&["loadbalancer"], None),
            (&["agent:x"], None),
        ] {
            assert_eq!(chosen(filters), expected, "{filters:?}");
        }
    }
}
