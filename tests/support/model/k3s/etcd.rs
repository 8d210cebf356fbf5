//! Members of etcd, their votes, and the lead of K3s's own controllers.

use super::*;

/// A member as etcd lists it.
pub fn member(node: &str, votes: bool) -> Member {
    let [node, name, address] = [node.to_owned(), format!("{node}-0a1b2c3d"), format!("address of {node}")];
    Member { node, name, address, learner: !votes }
}

impl World {
    /// A server without data joins the one at this address, as a learner at first.
    #[expect(clippy::too_many_arguments, reason = "what a starting server knows of itself, once")]
    pub(super) fn join_etcd(&mut self, id: &str, name: &str, state: &str, token: &Bytes, ip: Ipv4Addr) {
        self.containers.get_mut(id).unwrap().serving = false;
        let host = self.containers.values().find(|c| {
            c.state == State::Running && c.serving && c.networks.values().any(|p| p.ip == Some(ip))
        });
        let incarnation = host
            .and_then(|c| volume(c, STATE_VOLUME))
            .and_then(|v| self.volumes[&v].incarnation)
            .filter(|i| self.quorum(*i));
        let Some(incarnation) = incarnation else { return self.end(id, 1).unwrap() };
        let admitted = self.admits(incarnation, token);
        let cluster = self.clusters.get_mut(&incarnation).unwrap();
        let learner = cluster.members.values().any(|votes| !votes);
        if !cluster.etcd || !admitted || cluster.members.contains_key(name) {
            return self.end(id, 1).unwrap();
        }
        if !learner {
            cluster.members.insert(name.to_owned(), false);
            self.volumes.get_mut(state).unwrap().incarnation = Some(incarnation);
        }
    }

    /// Whether most of a cluster's voters are up.
    pub fn quorum(&self, incarnation: u8) -> bool {
        let cluster = &self.clusters[&incarnation];
        let voters: Vec<&String> =
            cluster.members.iter().filter(|(_, votes)| **votes).map(|(n, _)| n).collect();
        let up = voters.iter().filter(|name| {
            self.named(name).is_some_and(|c| {
                let state = volume(c, STATE_VOLUME).and_then(|v| self.volumes.get(&v)?.incarnation);
                // The others know it by the address that it was made with.
                c.state == State::Running
                    && !c.cut_off
                    && c.networks.values().any(|p| p.ip.is_some() && p.ip == p.pinned)
                    && state == Some(incarnation)
            })
        });
        !cluster.etcd || up.count() * 2 > voters.len()
    }

    /// Whether the etcd of a running server has a leader; `None` if it runs none, or hangs.
    pub fn has_leader(&self, id: &str) -> Option<bool> {
        let c = self.containers.get(id).filter(|c| c.state == State::Running && c.hung.is_none())?;
        let incarnation = self.volumes.get(&volume(c, STATE_VOLUME)?)?.incarnation?;
        let cluster = self.clusters.get(&incarnation)?;
        (cluster.etcd && cluster.members.contains_key(&c.name))
            .then(|| !c.cut_off && self.quorum(incarnation))
    }

    /// The servers of a cluster that could run K3s's own controllers.
    pub(super) fn leaders(&self, incarnation: u8) -> Vec<String> {
        let cluster = &self.clusters[&incarnation];
        let up = self.containers.values().filter(|c| {
            let of = volume(c, STATE_VOLUME).and_then(|v| self.volumes.get(&v)?.incarnation);
            let serves = c.serving && c.hung.is_none() && !c.cut_off && c.state == State::Running;
            serves && of == Some(incarnation) && cluster.members.get(&c.name) == Some(&true)
        });
        let mut names: Vec<String> = up.map(|c| c.name.clone()).collect();
        names.sort();
        names
    }

    /// Whoever runs K3s's own controllers goes on, or another one takes over, at once where they were given back.
    pub(super) fn lead(&mut self) {
        for incarnation in self.clusters.keys().copied().collect::<Vec<_>>() {
            if !self.clusters[&incarnation].etcd || !self.quorum(incarnation) {
                continue;
            }
            let (clock, able) = (self.clock, self.leaders(incarnation));
            let cluster = self.clusters.get_mut(&incarnation).unwrap();
            let next = match &cluster.lead {
                Some((holder, _)) if able.contains(holder) => Some(holder),
                Some((_, renewed)) if clock < renewed + LEASE => None,
                _ => able.first(),
            };
            let Some(next) = next.cloned() else { continue };
            cluster.lead = Some((next, clock));
            let going: Vec<String> =
                cluster.nodes.iter().filter(|(_, n)| n.going).map(|(name, _)| name.clone()).collect();
            going.iter().for_each(|name| cluster.let_go(name));
        }
    }

    /// Whether a server that lives runs K3s's own controllers.
    pub(super) fn is_led(&self, incarnation: u8) -> bool {
        let cluster = &self.clusters[&incarnation];
        !cluster.etcd
            || cluster.lead.as_ref().is_some_and(|(holder, _)| self.leaders(incarnation).contains(holder))
    }

    /// They are given back for a server that has ended, if that is still how it was seen.
    pub fn release_lease(&mut self, cluster: &str, version: &str) -> Result<(), String> {
        let incarnation = self.reach(cluster, &self.kubeconfig_of(cluster)?)?;
        let known = self.clusters.get_mut(&incarnation).unwrap();
        if known.lead.as_ref().is_some_and(|lead| lead_version(lead) == version) {
            let holder = known.lead.take().unwrap().0;
            assert!(!self.leaders(incarnation).contains(&holder), "it was taken from {holder}, which lives");
            self.lead();
        }
        Ok(())
    }

    /// Learners become voters, and who was asked to go is taken out.
    pub(super) fn vote(&mut self) {
        for incarnation in self.clusters.keys().copied().collect::<Vec<_>>() {
            if !self.quorum(incarnation) {
                continue;
            }
            let up: BTreeSet<String> = self
                .containers
                .values()
                .filter(|c| c.state == State::Running)
                .map(|c| c.name.clone())
                .collect();
            let led = self.is_led(incarnation);
            let cluster = self.clusters.get_mut(&incarnation).unwrap();
            // One that does not get on is removed, without its having a Node.
            cluster.members.retain(|name, votes| *votes || up.contains(name));
            // Its Node comes after: K3s starts the API when it votes.
            for votes in cluster.members.values_mut() {
                *votes = true;
            }
            for (name, node) in &mut cluster.nodes {
                if led && node.leaving && cluster.members.iter().any(|(other, votes)| *votes && other != name)
                {
                    cluster.members.remove(name);
                    (node.leaving, node.left) = (false, true);
                }
            }
        }
    }
}
