//! Calls to the created cluster's API.

use super::*;

impl World {
    /// What a node's kube-proxy tells: it has set up the Services a tick after its Node is Ready.
    pub fn kube_proxy(&self, name: &str) -> ProbeResult {
        let serves = self.named(name).filter(|c| c.serving && c.state == State::Running && c.hung.is_none());
        let Some(container) = serves else { return ProbeResult::Unsure };
        let ready = |cluster: &Cluster| {
            let node = cluster.nodes.get(name)?;
            let started = container.started.unwrap_or_default();
            Some(node.ready && node.since.max(started) < self.clock)
        };
        match self.clusters.values().find_map(ready) {
            Some(true) => ProbeResult::Answers,
            Some(false) | None => ProbeResult::Behind,
        }
    }

    /// The incarnation of a cluster whose server serves.
    pub fn incarnation(&self, cluster: &str) -> Option<u8> {
        let of = |server: &Container| {
            let state = volume(server, STATE_VOLUME)?;
            let serves = server.serving && server.state == State::Running;
            serves.then(|| self.volumes.get(&state)?.incarnation).flatten()
        };
        self.servers(cluster).find_map(of).filter(|incarnation| self.quorum(*incarnation))
    }

    /// The containers of a cluster's servers.
    pub(super) fn servers<'a>(&'a self, cluster: &str) -> impl Iterator<Item = &'a Container> + use<'a> {
        let prefix = format!("k3d-{cluster}-server-");
        self.containers.values().filter(move |c| c.name.starts_with(&prefix))
    }

    /// A kubeconfig that one of a cluster's servers wrote.
    pub(super) fn kubeconfig_of(&self, cluster: &str) -> Result<String, String> {
        let mut files = self.servers(cluster).filter_map(|c| self.read(&c.name, KUBECONFIG_FILE));
        Ok(String::from_utf8_lossy(&files.next().ok_or("no kubeconfig")?).into_owned())
    }

    /// Whether a load balancer on one of these networks leads to the cluster's server.
    pub(super) fn forwards(&self, balancer: &str, cluster: &str, networks: &BTreeSet<String>) -> bool {
        let Some(balancer) = self.named(balancer) else { return false };
        let Some(config) = balancer.loaded.as_ref().map(|c| String::from_utf8_lossy(c)) else { return false };
        let leads = |ip: Ipv4Addr| config.contains(&format!("server {ip}:6443 "));
        // Requests go to all of them in turn.
        let all_agree = self
            .servers(cluster)
            .filter(|s| s.cut_off)
            .flat_map(|s| s.networks.values())
            .all(|p| !p.ip.is_some_and(leads));
        balancer.state == State::Running
            && all_agree
            && networks.iter().any(|n| balancer.networks.get(n).is_some_and(|p| p.ip.is_some()))
            && self
                .servers(cluster)
                .filter(|s| s.serving && s.hung.is_none())
                .flat_map(|s| s.networks.iter())
                .any(|(n, p)| balancer.networks.contains_key(n) && p.ip.is_some_and(leads))
    }

    /// The created cluster as the operator reaches it by its name and kubeconfig.
    pub fn reach(&self, cluster: &str, file: &str) -> Result<u8, String> {
        let incarnation = self.incarnation(cluster).ok_or("connection refused")?;
        let names = names::ClusterNames::new(cluster);
        let networks = self.networks.keys().cloned().collect();
        if !self.forwards(&names.load_balancer(), cluster, &networks) {
            return Err("no way to the API".into());
        }
        if file.replace(&*self.certificate, CERTIFICATE) != kubeconfig(incarnation) {
            return Err("certificate signed by unknown authority".into());
        }
        Ok(incarnation)
    }

    /// A Node of the cluster that a node belongs to, for calls to its API.
    pub fn node(&mut self, name: &str) -> Result<&mut Node, String> {
        let cluster = cluster_of(name).ok_or("no node")?;
        let incarnation = self.reach(cluster, &self.kubeconfig_of(cluster)?)?;
        let cluster = self.clusters.get_mut(&incarnation).unwrap();
        cluster.nodes.get_mut(name).ok_or_else(|| format!("nodes {name} not found"))
    }

    pub fn drain(&mut self, name: &str) -> Result<(), String> {
        let clock = self.clock;
        self.node(name)?.draining.get_or_insert(clock);
        Ok(())
    }

    pub fn uncordon(&mut self, name: &str) -> Result<(), String> {
        self.node(name)?.draining = None;
        Ok(())
    }

    pub fn configure(&mut self, name: &str, config: &NodeConfig) -> Result<(), String> {
        let node = self.node(name)?;
        let before = node.configured.replace(config.into()).unwrap_or_default();
        node.labels.retain(|k, _| !before.labels.contains_key(k));
        node.labels.extend(config.labels.clone());
        node.taints.retain(|t| !before.taints.contains(t));
        node.taints.extend(config.taints.iter().cloned());
        node.taints.sort();
        node.taints.dedup();
        Ok(())
    }

    pub fn set_config(&mut self, cluster: &str, wanted: &ClusterConfigMap) -> Result<(), String> {
        let incarnation = self.reach(cluster, &self.kubeconfig_of(cluster)?)?;
        let config = &mut self.clusters.get_mut(&incarnation).unwrap().config;
        let theirs = config.get(&wanted.key).is_some_and(|held| !held.ours);
        match &wanted.content {
            Some(_) if theirs && !wanted.claimed => return Err("409 somebody else's".into()),
            Some(content) => {
                let held = Held { content: content.clone(), ours: true, written: None };
                config.insert(wanted.key, held);
            }
            None if theirs && !wanted.claimed => {}
            None => drop(config.remove(&wanted.key)),
        }
        Ok(())
    }

    /// The Node, where the API answers and has it.
    pub(super) fn known(&mut self, name: &str) -> Result<Option<&mut Node>, String> {
        match self.node(name) {
            Ok(node) => Ok(Some(node)),
            Err(gone) if gone.ends_with("not found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn delete_node(&mut self, name: &str) -> Result<(), String> {
        let there = self.known(name)?.is_some();
        let incarnation = self.incarnation(cluster_of(name).unwrap()).unwrap();
        let led = self.is_led(incarnation);
        let cluster = self.clusters.get_mut(&incarnation).unwrap();
        if let Some(node) = cluster.nodes.get_mut(name)
            && !led
        {
            node.going = true;
            return Err(format!("{WAITS}a server that lets it go"));
        }
        if there {
            cluster.let_go(name);
        }
        self.forget_password(name)
    }

    pub fn forget_password(&mut self, name: &str) -> Result<(), String> {
        self.known(name)?;
        let incarnation = self.incarnation(cluster_of(name).unwrap()).unwrap();
        self.clusters.get_mut(&incarnation).unwrap().passwords.remove(name);
        Ok(())
    }

    /// A Node for a member that has none, which asks K3s to take it out.
    pub fn remove_member(&mut self, member: &Member) -> Result<(), String> {
        if self.known(&member.node)?.is_some() {
            return Ok(());
        }
        assert_eq!(*member, etcd::member(&member.node, !member.learner), "K3s would not find it");
        let incarnation = self.incarnation(cluster_of(&member.node).unwrap()).unwrap();
        let clock = self.clock;
        let node = Node { since: clock, leaving: true, made: true, ..Node::default() };
        self.clusters.get_mut(&incarnation).unwrap().nodes.insert(member.node.clone(), node);
        Ok(())
    }

    pub fn leave_etcd(&mut self, name: &str) -> Result<(), String> {
        if let Some(node) = self.known(name)? {
            node.leaving = !node.left;
        }
        Ok(())
    }
}
