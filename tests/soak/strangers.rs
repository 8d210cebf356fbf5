//! What is nobody's business but its owner's: containers, a volume and a network without labels of the operator.

use serde_json::Value;

use crate::live::{Foreign, docker, eventually, holds, inspect, scene::Scene, try_docker};

/// What is written into the volume.
const SAID: &str = "not yours";

/// Dropped, they go, and what uses another one goes before that.
pub struct Strangers {
    /// One on its own network, with the volume, and one on the cluster's network.
    containers: [Foreign; 2],
    _volume: Foreign,
    _network: Foreign,
    names: [String; 4],
    before: Vec<String>,
    started: [String; 2],
}

impl Strangers {
    pub fn new(scene: &Scene) -> Self {
        let names = ["alone", "guest", "volume", "network"].map(|n| format!("{}-{n}", scene.namespace));
        let [alone, guest, volume, network] = &names;
        let _volume = Foreign::create("volume", &[], volume);
        let _network = Foreign::create("network", &[], network);
        let mount = format!("{volume}:/kept");
        let cluster = scene.network("c");
        // They come back when Docker starts anew.
        let up = "--restart=unless-stopped";
        let containers = [
            Foreign::container(&[up, "--network", network, "-v", &mount], alone),
            Foreign::container(&[up, "--network", &cluster], guest),
        ];
        docker(&["exec", alone, "sh", "-c", &format!("echo {SAID} >/kept/file")]);
        let started = containers.each_ref().map(Foreign::state);
        let mut new = Self { containers, _volume, _network, names, before: Vec::new(), started };
        new.before = new.seen().unwrap_or_else(|e| panic!("{e}"));
        new
    }

    /// What of them must not change, also when Docker starts anew.
    fn seen(&self) -> Result<Vec<String>, String> {
        let [alone, guest, volume, network] = &self.names;
        let container = |name: &str| {
            let one = inspect(name).ok_or(format!("{name} is gone"))?;
            let mut on = networks(&one);
            // It goes with the cluster.
            on.retain(|n| !n.starts_with("k3d-"));
            let (id, mounts, config) = (&one["Id"], &one["Mounts"], &one["HostConfig"]);
            Ok::<_, String>(format!("{name} {id} {} {on:?} {mounts} {config}", one["State"]["Status"]))
        };
        let of_network = "{{.Id}} {{json .IPAM}} {{json .Options}} {{json .Labels}}";
        Ok(vec![
            container(alone)?,
            container(guest)?,
            try_docker(&["volume", "inspect", "-f", "{{json .}}", volume])?,
            try_docker(&["network", "inspect", "-f", of_network, network])?,
            try_docker(&["exec", alone, "cat", "/kept/file"])?,
        ])
    }

    /// Docker started them, and nobody else.
    pub fn were_started_anew(&mut self) {
        eventually(120, "what is somebody else's runs again", || {
            let seen = self.seen()?;
            holds(seen == self.before, || format!("{seen:#?}"))
        });
        self.started = self.containers.each_ref().map(Foreign::state);
    }

    /// Nobody did anything to them.
    pub fn are_untouched(&self) {
        let seen = self.seen().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(seen, self.before, "what is somebody else's was touched");
        let started = self.containers.each_ref().map(Foreign::state);
        assert_eq!(started, self.started, "what is somebody else's was restarted");
    }

    /// Nobody took the guest off the cluster's network.
    pub fn guest_is_there(&self) {
        let on = inspect(&self.names[1]).map(|guest| networks(&guest)).unwrap_or_default();
        assert!(on.iter().any(|n| n.starts_with("k3d-")), "it is on {on:?}");
    }
}

/// The networks that a container is on.
fn networks(container: &Value) -> Vec<String> {
    let networks = container["NetworkSettings"]["Networks"].as_object();
    networks.into_iter().flat_map(|n| n.keys().cloned()).collect()
}
