//! Processes of containers: what keeps them from starting, their ports and addresses, and their ends.

use super::*;

impl World {
    /// A garbage collection has the data for itself.
    pub(super) fn check_data(&self, id: &str) {
        let me = &self.containers[id];
        let data =
            |c: &Container| c.mounts.get("/var/lib/registry").or(c.binds.get("/var/lib/registry")).cloned();
        for other in self.containers.iter().filter(|(other, c)| *other != id && c.is_up()).map(|(_, c)| c) {
            let shared = data(me).is_some() && data(me) == data(other);
            assert!(
                !(shared && (me.collects() || other.collects())),
                "{} and {} at once",
                me.name,
                other.name
            );
        }
    }

    pub fn start(&mut self, key: &str) -> Result<()> {
        let Some(id) = self.id(key) else { return missing(key) };
        let container = &self.containers[&id];
        match container.state {
            State::Running => return Ok(()),
            State::Paused => return Err(Error::Busy("cannot start a paused container".into())),
            _ => {}
        }
        let failure = self.hindrance(&id);
        if let Some(error) = failure {
            let disconnects = self.failed_starts_disconnect;
            let container = self.containers.get_mut(&id).unwrap();
            container.error = Some(error.to_string());
            if disconnects {
                container.networks.clear();
            }
            return Err(error);
        }
        self.check_data(&id);
        let networks: Vec<String> = container.networks.keys().cloned().collect();
        for network in networks {
            let ip = self.address(&network, &id);
            self.containers.get_mut(&id).unwrap().networks.get_mut(&network).unwrap().ip = ip;
        }
        let (loaded, resolvers) = (self.read(&id, CONFIG_FILE), self.resolvers);
        // After the report of the last tick, never at the same time.
        let started = self.clock + 1;
        let container = self.containers.get_mut(&id).unwrap();
        container.state = State::Running;
        container.started = Some(started);
        (container.exit_code, container.error) = (None, None);
        (container.loaded, container.resolvers, container.serving) = (loaded, resolvers, false);
        (container.frozen, container.hung, container.cut_off) = (false, None, false);
        Ok(())
    }

    /// What keeps a container from being started.
    pub(super) fn hindrance(&self, id: &str) -> Option<Error> {
        let container = &self.containers[id];
        for (network, place) in &container.networks {
            if !self.networks.contains_key(network) {
                return Some(Error::NotFound(format!("network {network} not found")));
            }
            if place.pinned.is_some_and(|ip| self.addresses(network, id).contains(&ip)) {
                return Some(Error::Address("Address already in use".into()));
            }
        }
        let taken = container.wanted_ports.iter().find(|p| self.port_taken(p, id))?;
        let PortBinding { host_ip, host_port, .. } = taken;
        Some(Error::PortTaken(format!("Bind for {host_ip}:{host_port} failed: port is already allocated")))
    }

    pub(super) fn port_taken(&self, port: &PortBinding, but: &str) -> bool {
        let clash = |p: &PortBinding| {
            p.host_port == port.host_port
                && p.protocol == port.protocol
                && (p.host_ip == port.host_ip || p.host_ip == "0.0.0.0" || port.host_ip == "0.0.0.0")
        };
        let others = self.containers.iter().filter(|(id, c)| *id != but && c.is_up());
        self.held_ports.contains(&port.host_port)
            || others.flat_map(|(_, c)| c.wanted_ports.iter()).any(clash)
    }

    /// The addresses that others have on a network.
    pub(super) fn addresses(&self, network: &str, but: &str) -> BTreeSet<Ipv4Addr> {
        let others = self.containers.iter().filter(|(id, _)| *id != but);
        others.filter_map(|(_, c)| c.networks.get(network)?.ip).collect()
    }

    /// The address that a container gets on a network.
    pub(super) fn address(&self, network: &str, id: &str) -> Option<Ipv4Addr> {
        let pinned = self.containers[id].networks.get(network)?.pinned;
        let taken = self.addresses(network, id);
        pinned.or_else(|| self.networks[network].ip_range.hosts().skip(1).find(|ip| !taken.contains(ip)))
    }

    /// Ends a container's process.
    pub fn end(&mut self, key: &str, code: i64) -> Result<()> {
        let clock = self.clock;
        let container = self.container(key)?;
        if container.is_up() {
            let leaves = container.created.is_some() && container.restart_policy == RestartPolicy::No;
            container.ended = leaves.then_some(clock);
            container.state = State::Exited;
            container.exit_code = Some(code);
            container.serving = false;
            container.networks.values_mut().for_each(|place| place.ip = None);
        }
        Ok(())
    }

    /// Ends all containers that run, and returns which.
    pub fn lose_power(&mut self) -> Vec<String> {
        let up = self.containers.iter().filter(|(_, c)| c.is_up());
        let up: Vec<String> = up.map(|(id, _)| id.clone()).collect();
        up.iter().for_each(|id| self.end(id, 255).unwrap());
        up
    }

    /// Starts those of the containers that ran when the power was lost that Docker is to start again.
    pub fn boot(&mut self, ran: Vec<String>) {
        for id in ran {
            if self.containers[&id].restart_policy == RestartPolicy::UnlessStopped {
                drop(self.start(&id));
            }
        }
    }

    pub fn pause(&mut self, key: &str) -> Result<()> {
        let container = self.container(key)?;
        if container.state == State::Running {
            container.state = State::Paused;
        }
        Ok(())
    }

    pub fn unpause(&mut self, key: &str) -> Result<()> {
        let container = self.container(key)?;
        if container.state == State::Paused {
            container.state = State::Running;
        }
        Ok(())
    }

    /// SIGHUP. What does not run reads everything anew when it starts.
    pub fn hangup(&mut self, key: &str) -> Result<()> {
        let loaded = self.read(key, CONFIG_FILE);
        let container = self.container(key)?;
        if container.is_up() {
            container.loaded = loaded;
        }
        Ok(())
    }

    pub fn update(&mut self, key: &str, change: &Update) -> Result<()> {
        let container = self.container(key)?;
        container.restart_policy = change.restart_policy.unwrap_or(container.restart_policy);
        Ok(())
    }
}
