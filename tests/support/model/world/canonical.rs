//! Equal situations as equal values.

use super::*;

impl World {
    /// The same world as if it were the beginning: how long ago something was counts, up to a while, and when it was
    /// does not. So equal situations are equal values, and there is an end to them.
    pub fn canonical(&mut self) {
        const WHILE: i64 = 300;
        let past = self.clock - BEGIN;
        let shift = |t: i64| (t - past).max(BEGIN - WHILE);
        let starts: BTreeMap<String, i64> =
            self.containers.values().filter_map(|c| Some((c.name.clone(), c.started?))).collect();
        for container in self.containers.values_mut() {
            container.created = container.created.map(shift);
            container.started = container.started.map(shift);
        }
        for cluster in self.clusters.values_mut() {
            cluster.lead = cluster.lead.take().map(|(holder, renewed)| (holder, shift(renewed)));
            for (name, node) in &mut cluster.nodes {
                let started = starts.get(name).copied();
                // What was said before the last start stays so.
                let shift_said = |at: i64| {
                    let before = started.filter(|started| at < *started);
                    before.map_or(shift(at), |started| shift(at).min(shift(started) - 1))
                };
                node.api_renewed = node.api_renewed.map(shift_said);
                node.renewed = shift_said(node.renewed);
                node.draining = node.draining.map(shift);
                // Nothing is counted here that a Ready one would end.
                node.since = if node.ready { BEGIN - WHILE } else { shift(node.since) };
            }
        }
        for network in self.networks.values_mut() {
            network.created = shift(network.created);
        }
        self.clock = BEGIN;
        // No plan refers to containers that are gone; to networks, the containers on them do.
        let networks: BTreeSet<String> = self.networks.values().map(|n| n.name.clone()).collect();
        let places: BTreeSet<String> =
            self.containers.values().flat_map(|c| c.networks.values().map(|p| p.name.clone())).collect();
        self.made.retain(|name, _| networks.contains(name) || places.contains(name));
    }
}
