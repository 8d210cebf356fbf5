//! The hosts that `tests/world/hosts` created: their engines, their Nodes, and what can happen to them.

use std::{
    collections::BTreeMap,
    sync::{Once, OnceLock},
};

use serde_json::Value;

use crate::live::{
    Kubectl, SYSTEM, command, engines, eventually, holds, inspect_at, manager,
    scene::{LIMIT, Scene, condition, name, seen},
    try_docker_at, world,
};

/// Label by which a node is a Docker host.
pub const HOST_LABEL: &str = "localcluster.dev/docker-host";
/// Taint by which users say that a host is gone for good.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// One of the hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Number in the words of `tests/world/hosts`.
    pub number: usize,
    /// Name of its Node.
    pub node: String,
    /// Address of its engine.
    pub engine: String,
    /// Address of its Node.
    pub address: String,
}

/// Returns all hosts.
pub fn all() -> &'static [Host] {
    static HOSTS: OnceLock<Vec<Host>> = OnceLock::new();
    HOSTS.get_or_init(|| {
        let words = |name: &str| world(name).split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (nodes, addresses) = (words("HOST_NODES"), words("HOST_ADDRESSES"));
        let three = nodes.into_iter().zip(engines()).zip(addresses);
        let hosts = three.enumerate().map(|(i, ((node, engine), address))| Host {
            number: i + 1,
            node,
            engine,
            address,
        });
        let hosts: Vec<Host> = hosts.collect();
        assert!(hosts.len() >= 3, "these tests need three hosts: run `make hosts`");
        hosts
    })
}

/// Returns a host by its number.
pub fn host(number: usize) -> &'static Host {
    &all()[number - 1]
}

/// Returns the host with this Node.
pub fn host_of(node: &str) -> &'static Host {
    all().iter().find(|h| h.node == node).unwrap_or_else(|| panic!("there is no host {node}"))
}

/// Runs `tests/world/hosts`.
pub fn hosts(args: &[&str]) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/hosts");
    command(script, args, "").unwrap_or_else(|e| panic!("{e}"))
}

/// Installs the operator with the roles of many hosts, once.
pub fn install() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        println!("{}", hosts(&["install"]));
        all().iter().for_each(|host| host.is_offered());
    });
}

/// Returns an image for nodes that start at once and do nothing, on all engines.
pub fn idle_image() -> &'static str {
    const NAME: &str = "localhost/hosts-idle:1";
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let run = r#"ENTRYPOINT ["sh", "-c", "trap 'exit 0' TERM; sleep 2147483 & wait"]"#;
        let dockerfile = format!("FROM {}\n{run}\n", world("BUSYBOX_IMAGE"));
        for engine in engines() {
            let built = command("docker", &["--host", &engine, "build", "-q", "-t", NAME, "-"], &dockerfile);
            built.unwrap_or_else(|e| panic!("{e}"));
        }
    });
    NAME
}

impl Host {
    /// Does something to the host, or to its Node, that ends with `heal`.
    pub fn suffers(&self, kind: &str, what: &str) -> Suffering {
        let suffering = Suffering { host: self.number };
        hosts(&[kind, what, &self.number.to_string()]);
        suffering
    }

    /// Waits until its agent offers it: the Node is Ready and has the label that placeholders select.
    pub fn is_offered(&self) {
        eventually(LIMIT, &format!("{} is offered", self.node), || {
            let node = Kubectl::management().json(&["node", &self.node])?;
            let ready = condition(&node, "Ready")?;
            let label = &node["metadata"]["labels"]["localcluster.dev/docker"];
            holds(ready["status"] == "True" && label == "ready", || format!("{label}, {ready}"))
        });
    }

    /// Waits until its agent does not offer it any more.
    pub fn is_withdrawn(&self) {
        eventually(LIMIT, &format!("{} is withdrawn", self.node), || {
            let node = Kubectl::management().json(&["node", &self.node])?;
            let label = &node["metadata"]["labels"]["localcluster.dev/docker"];
            holds(label != "ready", || format!("it has the label: {label}"))
        });
    }

    /// Waits until Kubernetes says that the Node is not ready.
    pub fn is_not_ready(&self) {
        eventually(LIMIT, &format!("{} is not ready", self.node), || {
            let node = Kubectl::management().json(&["node", &self.node])?;
            let ready = condition(&node, "Ready")?;
            holds(ready["status"] != "True", || ready.to_string())
        });
    }

    /// Runs a command in the container of its Node.
    pub fn in_node(&self, command: &[&str]) -> Result<String, String> {
        let containers = world("HOST_CONTAINERS");
        let container = containers.split(' ').nth(self.number - 1).expect("each host has a Node");
        try_docker_at(&self.engine, &[&["exec", container], command].concat())
    }

    /// Returns the Pods of the operator on this host that run as DaemonSets do: its agent.
    pub fn agents(&self) -> Vec<Value> {
        let pods = Kubectl::management().json(&["-n", SYSTEM, "pods"]).unwrap_or_default();
        let of = |pod: &Value| {
            pod["spec"]["nodeName"] == self.node.as_str()
                && pod["metadata"]["ownerReferences"][0]["kind"] == "DaemonSet"
        };
        pods["items"].as_array().into_iter().flatten().filter(|pod| of(pod)).cloned().collect()
    }
}

/// Kills the process of a Pod's first container with SIGKILL, as the kernel does when memory runs out.
pub fn kill_process(pod: &Value) {
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().expect("it runs");
    let id = id.trim_start_matches("containerd://");
    let socket = "/run/k3s/containerd/containerd.sock";
    let kill = ["ctr", "-a", socket, "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", id];
    let node = pod["spec"]["nodeName"].as_str().expect("it is bound");
    host_of(node).in_node(&kill).unwrap_or_else(|e| panic!("{e}"));
}

/// Something that was done to a host. On drop, the host, its network and its Node are whole again.
pub struct Suffering {
    host: usize,
}

impl Suffering {
    /// Ends it, and waits until the host is offered again.
    pub fn heal(self) {
        let host = host(self.host);
        drop(self);
        host.is_offered();
    }
}

impl Drop for Suffering {
    fn drop(&mut self) {
        let number = self.host.to_string();
        for (kind, what) in [("host", "start"), ("host", "plug"), ("node", "start")] {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/hosts");
            if let Err(why) = command(script, &[kind, what, &number], "") {
                eprintln!("{kind} {what} {number}: {why}");
            }
        }
    }
}

/// A change of a Node that is taken back on drop.
pub struct Marked {
    undo: Vec<String>,
}

impl Marked {
    /// Cordons it.
    pub fn cordon(host: &Host) -> Self {
        Kubectl::management().run(&["cordon", &host.node]);
        Self { undo: vec!["uncordon".to_owned(), host.node.clone()] }
    }

    /// Says that it is gone for good.
    pub fn out_of_service(host: &Host) -> Self {
        let taint = format!("{OUT_OF_SERVICE}=nodeshutdown:NoExecute");
        Kubectl::management().run(&["taint", "node", &host.node, &taint]);
        let undo = ["taint", "node", &host.node, &format!("{OUT_OF_SERVICE}-")];
        Self { undo: undo.map(str::to_owned).to_vec() }
    }

    /// Takes the label by which it is a Docker host, and with it its agent.
    pub fn without_agent(host: &Host) -> Self {
        Kubectl::management().run(&["label", "node", &host.node, &format!("{HOST_LABEL}-")]);
        let undo = ["label", "node", "--overwrite", &host.node, &format!("{HOST_LABEL}=true")];
        Self { undo: undo.map(str::to_owned).to_vec() }
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        let undo: Vec<&str> = self.undo.iter().map(String::as_str).collect();
        if let Err(why) = Kubectl::management().attempt(&undo) {
            eprintln!("{why}");
        }
    }
}

/// State and start of all containers of an object, by name.
pub type Picture = BTreeMap<String, (String, String, bool)>;

/// Returns the containers of a cluster that a host has, without the one that reads the host's resolvers and ends; none if
/// its engine does not answer.
pub fn picture(scene: &Scene, cluster: &str, host: &Host) -> Picture {
    let filter = format!("name=^{}-", scene.network(cluster));
    let list = try_docker_at(&host.engine, &["ps", "-aq", "--no-trunc", "--filter", &filter]);
    let ids = list.unwrap_or_default();
    let containers = ids.lines().filter_map(|id| inspect_at(&host.engine, id));
    containers
        .filter(|c| !name(c).ends_with("-resolvers"))
        .map(|c| (name(&c).to_owned(), seen(&c)))
        .map(|(name, s)| (name, (s.id, s.started, s.running)))
        .collect()
}

/// Returns the names of the hosts that have containers of a cluster, also stopped ones.
pub fn hosts_with(scene: &Scene, cluster: &str) -> Vec<&'static str> {
    let with = all().iter().filter(|host| !picture(scene, cluster, host).is_empty());
    with.map(|host| host.node.as_str()).collect()
}

/// Fails if any other host has containers of a cluster, also stopped ones.
pub fn is_nowhere_else(scene: &Scene, cluster: &str, host: &Host) {
    let with = hosts_with(scene, cluster);
    assert!(with.iter().all(|with| *with == host.node), "{cluster} is on {with:?}");
}

/// Waits until an object is bound to a host that is none of these, and returns the host.
pub fn bound(scene: &Scene, object: &str, none_of: &[&Host]) -> &'static Host {
    eventually(LIMIT, &format!("{object} has a host"), || {
        let seen = scene.try_get(object)?;
        let found = seen["status"]["host"].as_str().ok_or("no status.host yet".to_owned())?;
        holds(!none_of.iter().any(|h| h.node == found), || format!("it is {found}"))?;
        Ok(host_of(found))
    })
}

/// Waits until all containers of a cluster run on this host, of which there are this many, and no other host has any.
pub fn runs_on(scene: &Scene, cluster: &str, host: &Host, containers: usize) {
    eventually(LIMIT, &format!("{cluster} runs on {}", host.node), || {
        let there = picture(scene, cluster, host);
        let running = there.values().filter(|(_, _, running)| *running).count();
        holds(running == containers && there.len() == containers, || format!("{there:#?}"))?;
        let hosts = hosts_with(scene, cluster);
        holds(hosts == [host.node.as_str()], || format!("it is on {hosts:?}"))
    });
}

/// Waits until no container of a cluster runs on this host.
pub fn runs_not_on(scene: &Scene, cluster: &str, host: &Host) {
    eventually(LIMIT, &format!("{cluster} does not run on {}", host.node), || {
        let there = picture(scene, cluster, host);
        holds(there.values().all(|(_, _, running)| !running), || format!("{there:#?}"))
    });
}

/// The spec of a cluster of one node that does nothing, with this placement. Its node and its load balancer are its
/// [`IDLE`] containers.
pub fn idle(placement: &str) -> String {
    format!("{{image: \"{}\", servers: {{count: 1}}, placement: {placement}}}", idle_image())
}

/// Number of containers of [`idle`].
pub const IDLE: usize = 2;

/// A placement on one host, with further fields.
pub fn on(host: &Host, rest: &str) -> String {
    format!("{{nodeSelector: {{kubernetes.io/hostname: {}}}{rest}}}", host.node)
}

/// Returns names of running containers of this operator with the hosts on which they run, as far as the engines answer.
pub fn running() -> BTreeMap<String, Vec<String>> {
    let filter = format!("label=localcluster.dev/manager={}", manager());
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for host in all() {
        let list = try_docker_at(&host.engine, &["ps", "--filter", &filter, "--format", "{{.Names}}"]);
        for name in list.unwrap_or_default().lines() {
            found.entry(name.to_owned()).or_default().push(host.node.clone());
        }
    }
    found
}
