//! Nodes that join a cluster, register there, and report.

use super::*;

impl World {
    /// An agent joins; whether its kubelet can report.
    pub(super) fn join(&mut self, id: &str) -> bool {
        let container = &self.containers[id];
        let name = container.name.clone();
        let Some(incarnation) = cluster_of(&name).and_then(|c| self.incarnation(c)) else { return false };
        let Some(state) = volume(container, STATE_VOLUME) else { return false };
        let on = container.networks.iter().filter(|(_, p)| p.ip.is_some());
        let networks: BTreeSet<_> = on.map(|(id, _)| id.clone()).collect();
        if container.serving {
            // An agent that has joined knows the servers themselves.
            return self.volumes[&state].incarnation == Some(incarnation) && !networks.is_empty();
        }
        let balancer = cluster_of(&name).map(|c| names::ClusterNames::new(c).load_balancer());
        let reached = balancer.is_some_and(|b| self.forwards(&b, cluster_of(&name).unwrap(), &networks));
        let token = self.read(id, TOKEN_FILE);
        if !reached || !token.is_some_and(|token| self.admits(incarnation, &token)) {
            return false;
        }
        if self.volumes[&state].incarnation.is_some_and(|i| i != incarnation) {
            return false;
        }
        self.volumes.get_mut(&state).unwrap().incarnation = Some(incarnation);
        if !self.register(incarnation, id) {
            return false;
        }
        self.containers.get_mut(id).unwrap().serving = true;
        true
    }

    /// A kubelet that starts makes its Node. `false`: its password is another one than the Node was made with.
    pub(super) fn register(&mut self, incarnation: u8, id: &str) -> bool {
        let container = self.containers[id].clone();
        let Some(etc) = volume(&container, ETC_VOLUME) else { return false };
        let cluster = self.clusters.get_mut(&incarnation).unwrap();
        let known = cluster.passwords.get(&container.name).copied();
        let volume = self.volumes.get_mut(&etc).unwrap();
        let password = *volume.password.get_or_insert_with(|| known.map_or(0, |k| (k + 1) % 4));
        if known.is_some_and(|k| k != password) {
            return false;
        }
        cluster.passwords.insert(container.name.clone(), password);
        let clock = self.clock;
        let version = versions::of_image(&container.image).unwrap_or_default();
        let node = cluster.nodes.entry(container.name.clone()).or_insert_with(|| Node {
            renewed: clock,
            since: clock,
            pods: 1,
            taints: container
                .command
                .iter()
                .filter_map(|a| a.strip_prefix("--node-taint=").map(str::to_owned))
                .collect(),
            ..Node::default()
        });
        (node.version, node.made) = (version, false);
        true
    }

    /// Whether a node has another password than its Node was made with.
    pub fn is_refused(&self, id: &str) -> bool {
        let container = &self.containers[id];
        let incarnation = cluster_of(&container.name).and_then(|c| self.incarnation(c));
        let known = incarnation.and_then(|i| self.clusters[&i].passwords.get(&container.name));
        let own = volume(container, ETC_VOLUME).and_then(|v| self.volumes.get(&v)?.password);
        known.is_some_and(|known| own.is_some_and(|own| own != *known))
    }

    /// A kubelet reports, if its Node was there when it started.
    pub(super) fn report(&mut self, name: &str) {
        let clock = self.clock;
        let Some(incarnation) = cluster_of(name).and_then(|c| self.incarnation(c)) else { return };
        let container = self.named(name).unwrap();
        let etc = volume(container, ETC_VOLUME).unwrap();
        let password = self.volumes[&etc].password;
        let broken = volume(container, KUBELET_VOLUME).is_some_and(|v| self.volumes[&v].broken)
            || self.no_network_plugin;
        let cluster = self.clusters.get_mut(&incarnation).unwrap();
        if cluster.passwords.get(name).copied() != password {
            return;
        }
        let Some(node) = cluster.nodes.get_mut(name) else { return };
        // It is made in one tick and ready in the next.
        node.turn(!broken && (node.ready || node.renewed < clock), clock);
        node.renewed = clock;
        match node.draining {
            Some(_) => node.pods = node.pods.saturating_sub(1),
            None if node.ready => node.pods = 1,
            None => {}
        }
    }

    /// Nodes whose kubelet does not report become NotReady; clusters that no volume holds are gone.
    pub(super) fn forget(&mut self, alive: &BTreeSet<String>) {
        let clock = self.clock;
        let held: BTreeSet<u8> = self.volumes.values().filter_map(|v| v.incarnation).collect();
        self.clusters.retain(|i, _| held.contains(i));
        let serving: BTreeSet<u8> = self
            .containers
            .values()
            .filter(|c| c.serving && c.command.first().is_some_and(|a| a == "server"))
            .filter_map(|c| self.volumes[&volume(c, STATE_VOLUME)?].incarnation)
            .collect();
        for (incarnation, cluster) in &mut self.clusters {
            if serving.contains(incarnation) {
                for (name, node) in &mut cluster.nodes {
                    node.turn(node.ready && alive.contains(name), clock);
                }
            }
        }
    }
}
