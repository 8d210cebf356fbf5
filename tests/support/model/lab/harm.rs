//! Steps in an order of chance, and what must not come of any order.

use super::*;

impl Lab {
    /// Does steps in an order that chance picks among those that are ready.
    #[expect(clippy::too_many_arguments, reason = "what a pass knows of the cluster, once")]
    pub(super) fn execute(
        &mut self,
        steps: &[Step],
        cluster: &str,
        limit: usize,
        wanted: &BTreeSet<String>,
        most: usize,
    ) -> (Vec<usize>, Vec<(usize, Failure)>) {
        let (mut done, mut failed, mut made) = (Vec::new(), Vec::new(), Made::new());
        let mut waiting: BTreeSet<usize> = (0..steps.len()).collect();
        while done.len() < limit {
            let ready: Vec<usize> = waiting
                .iter()
                .copied()
                .filter(|i| steps[*i].after.iter().all(|a| done.contains(a)))
                .collect();
            if ready.is_empty() {
                break;
            }
            let next = ready[self.chance.below(ready.len())];
            waiting.remove(&next);
            let goes = |name: &str| {
                let removes = |s: &Step| matches!(&s.action, Action::RemoveContainer { container } if container.name == name);
                steps.iter().any(removes)
            };
            self.disturb(&steps[next].action, wanted, most, goes);
            self.lose_a_volume();
            match self.world.act(&steps[next].action, cluster, &mut made) {
                Ok(()) => done.push(next),
                Err(failure) => failed.push((next, failure)),
            }
        }
        (done, failed)
    }

    /// Somebody removes the volumes of a container that is gone one by one, while a plan goes on.
    pub(super) fn lose_a_volume(&mut self) {
        if !self.loses_volumes || self.chance.below(6) > 0 {
            return;
        }
        let used =
            |name: &String| self.world.containers.values().any(|c| c.mounts.values().any(|v| v == name));
        let free: Vec<String> = self.world.volumes.keys().filter(|name| !used(name)).cloned().collect();
        if !free.is_empty() {
            let pick = self.chance.below(free.len());
            self.world.interfere(&Outside::RemoveVolume(free[pick].clone()));
        }
    }

    /// Notes an agent that works and is about to be stopped: only so many at a time may be.
    pub(super) fn disturb(
        &mut self,
        action: &Action,
        wanted: &BTreeSet<String>,
        most: usize,
        goes: impl Fn(&str) -> bool,
    ) {
        self.disturbed = std::mem::take(&mut self.disturbed)
            .into_iter()
            .filter(|n| wanted.contains(n) && !self.world.works(n))
            .collect();
        if let Action::Stop { container, .. } | Action::RemoveContainer { container } = action
            && wanted.contains(&container.name)
            && self.world.works(&container.name)
        {
            self.nobody_is_led_to(&container.name);
            self.disturbed.insert(container.name.clone());
            assert!(self.disturbed.len() <= most, "{:?} are all down by us", self.disturbed);
        }
        if let Action::RemoveMember(member) = action {
            self.keeps_quorum_without(&member.node);
        }
        if let Action::Stop { container, .. } | Action::RemoveContainer { container } = action {
            self.keeps_quorum(&container.name, goes(&container.name));
        }
    }

    /// An agent that works loses its place in published ports before it is stopped, where others have one.
    pub(super) fn nobody_is_led_to(&self, agent: &str) {
        let running = |c: &&ClusterObject| !c.deleted && c.spec.state == ClusterState::Running;
        let Some(cluster) = self
            .clusters
            .iter()
            .filter(running)
            .find(|c| ClusterNames::new(c.name.clone()).parse_node(agent).is_some())
        else {
            return;
        };
        let balancer = self.world.named(&format!("k3d-{}-serverlb", cluster.name)).filter(|b| b.is_up());
        let Some(file) = balancer.and_then(|b| b.loaded.as_ref()) else { return };
        let placed = load_balancer::placed(&String::from_utf8_lossy(file));
        let container = self.world.named(agent).unwrap();
        let led = container.networks.values().any(|p| p.ip.is_some_and(|ip| placed.contains(&ip)));
        assert!(!led || placed.len() == 1, "{agent} is stopped while published ports lead to it");
    }

    /// A member is only ever taken out while the others can agree.
    fn keeps_quorum_without(&self, name: &str) {
        for (incarnation, _) in self.world.clusters.iter().filter(|(i, _)| self.world.quorum(**i)) {
            let mut after = self.world.clone();
            after.clusters.get_mut(incarnation).unwrap().members.remove(name);
            assert!(after.quorum(*incarnation), "without the member {name} there is no majority");
        }
    }

    /// A voter that works is only ever stopped while the others can agree without it. One whose Node somebody deleted
    /// has to be started again, unless it `goes`.
    pub(super) fn keeps_quorum(&self, name: &str, goes: bool) {
        let clusters =
            || self.clusters.iter().filter(|c| !c.deleted && c.spec.state == ClusterState::Running);
        for (incarnation, cluster) in &self.world.clusters {
            let voters: Vec<_> = cluster.members.iter().filter(|(_, votes)| **votes).collect();
            let works = goes || cluster.nodes.contains_key(name);
            if !works
                || voters.len() < 2
                || !cluster.members.contains_key(name)
                || !self.world.quorum(*incarnation)
            {
                continue;
            }
            let mut after = self.world.clone();
            drop(after.end(name, 0));
            let ours = clusters().any(|c| name.starts_with(&format!("k3d-{}-", c.name)));
            assert!(!ours || after.quorum(*incarnation), "without {name} there is no majority");
        }
    }
}
