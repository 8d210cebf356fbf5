//! Files of kind: `Cluster`, v1alpha4.

use serde_json::{Value, json};

use super::{
    object,
    part::Part,
    pools::{self, Chosen, Pools},
};
use crate::cli::ports;

/// Converts a file.
pub(super) fn cluster(mut file: Part) -> Value {
    let name = file.text("name").unwrap_or_else(|| "kind".into());
    let spec = spec(&mut file);
    object("LocalCluster", &name, spec)
}

/// Converts the fields of a file to a spec.
pub(super) fn spec(file: &mut Part) -> Value {
    let mut nodes: Vec<(Part, bool)> = file
        .parts("nodes")
        .into_iter()
        .map(|mut node| {
            let agent = node.text("role").as_deref() == Some("worker");
            (node, agent)
        })
        .collect();
    let count = |of: bool| i64::try_from(nodes.iter().filter(|(_, agent)| *agent == of).count()).unwrap_or(0);
    let (servers, agents) = (count(false).max(1), count(true));
    let mut pools = Pools::new(servers, agents);
    let mut spec = json!({});
    let mut all = Vec::new();
    let mut workers = 0;
    for (node, agent) in &mut nodes {
        let chosen = if *agent { Chosen::agent(workers) } else { Chosen::SERVERS };
        workers += usize::from(*agent);
        one(node, (&chosen, servers > 1), &mut pools, &mut all);
    }
    if all.iter().any(|port: &serde_json::Map<String, Value>| !port.contains_key("hostIP")) {
        file.note("nodes", "ports are published on 127.0.0.1 only; hostIP: 0.0.0.0 publishes one everywhere");
    }
    if !all.is_empty() {
        spec["ports"] = ports::named(all).into();
    }
    drop(nodes);
    networking(file.part("networking"), &mut spec, &mut pools);
    settings(file, &mut pools);
    for key in ["kubeadmConfigPatches", "kubeadmConfigPatchesJSON6902"] {
        file.instead(key, "K3s has no kubeadm, left out; see spec.servers.args");
    }
    for key in ["containerdConfigPatches", "containerdConfigPatchesJSON6902"] {
        file.instead(key, "left out; for mirrors of registries, see spec.registries");
    }
    for note in pools.into_spec(&mut spec) {
        file.note("nodes", &note);
    }
    spec
}

/// What to know about what is meant for one of several servers.
const ALIKE: &str = "servers are all alike, so it applies to all of them";

/// Converts a node. What is meant for one of several servers applies to all of them.
fn one(
    node: &mut Part,
    (chosen, several): (&Chosen, bool),
    pools: &mut Pools,
    all: &mut Vec<serde_json::Map<String, Value>>,
) {
    node.instead("image", "an image of kind, left out; set spec.version to a version of K3s");
    for key in ["kubeadmConfigPatches", "kubeadmConfigPatchesJSON6902"] {
        node.instead(key, "K3s has no kubeadm, left out; for labels and taints, see spec.servers");
    }
    let shared = |node: &Part, key: &str| {
        if chosen.servers && several {
            node.note(key, ALIKE);
        }
    };
    if let Some(Value::Object(labels)) = node.take("labels") {
        shared(node, "labels");
        for (key, value) in &labels {
            pools.add(chosen, "labels", Some(key), value);
        }
    }
    for mount in node.parts("extraMounts") {
        shared(&mount, "hostPath");
        extra_mount(mount, chosen, pools);
    }
    for mut mapping in node.parts("extraPortMappings") {
        let mut port = serde_json::Map::new();
        for (from, to) in [("containerPort", "port"), ("hostPort", "hostPort")] {
            if let Some(number) = mapping.number(from).filter(|number| *number > 0) {
                port.insert(to.into(), number.into());
            }
        }
        if let Some(ip) = mapping.text("listenAddress") {
            port.insert("hostIP".into(), ip.into());
        }
        match mapping.text("protocol").as_deref() {
            None | Some("TCP" | "tcp") => {}
            Some("UDP" | "udp") => drop(port.insert("protocol".into(), "UDP".into())),
            Some(_) => {
                mapping.note("protocol", "only TCP and UDP, so the port is left out");
                continue;
            }
        }
        port.insert("nodes".into(), if chosen.agents { "Agents" } else { "Servers" }.into());
        if !all.contains(&port) {
            all.push(port);
        }
    }
}

/// Converts a mount of a path of the host.
fn extra_mount(mut mount: Part, chosen: &Chosen, pools: &mut Pools) {
    let (host, inner) = (mount.text("hostPath").unwrap_or_default(), mount.text("containerPath"));
    if pools::is_socket(&host) || !host.starts_with('/') {
        mount.ignore();
        let why = match pools::is_socket(&host) {
            true => pools::SOCKET,
            false => "only absolute paths of the Docker host, left out; see spec.servers.volumes",
        };
        mount.note("hostPath", why);
        return;
    }
    let mut item = json!({"hostPath": host, "mountPath": inner});
    if mount.text("readOnly").as_deref() == Some("true") {
        item["readOnly"] = true.into();
    }
    mount.note("hostPath", "the operator must allow the path with --allow-host-path");
    pools.add(chosen, "volumes", None, &item);
}

fn networking(mut networking: Part, spec: &mut Value, pools: &mut Pools) {
    if let Some(ip) = networking.text("apiServerAddress") {
        spec["api"]["hostIP"] = ip.into();
    }
    if let Some(port) = networking.number("apiServerPort").filter(|port| *port > 0) {
        spec["api"]["hostPort"] = port.into();
    }
    if networking.text("ipFamily").is_some_and(|family| family != "ipv4") {
        networking.note("ipFamily", "clusters have IPv4 only");
    }
    for (key, arg) in [("podSubnet", "--cluster-cidr"), ("serviceSubnet", "--service-cidr")] {
        if let Some(subnet) = networking.text(key) {
            pools.add(&Chosen::SERVERS, "args", None, &format!("{arg}={subnet}").into());
        }
    }
    if networking.text("disableDefaultCNI").as_deref() == Some("true") {
        for arg in ["--flannel-backend=none", "--disable-network-policy"] {
            pools.add(&Chosen::SERVERS, "args", None, &arg.into());
        }
    }
    match networking.text("kubeProxyMode").as_deref() {
        None | Some("iptables") => {}
        Some("none") => pools.add(&Chosen::SERVERS, "args", None, &"--disable-kube-proxy".into()),
        Some(mode) => {
            pools.add(&Chosen::ALL, "args", None, &format!("--kube-proxy-arg=proxy-mode={mode}").into())
        }
    }
}

/// Converts feature gates, and which APIs are served.
fn settings(file: &mut Part, pools: &mut Pools) {
    let mut pairs = |key: &str| {
        let Some(Value::Object(fields)) = file.take(key) else { return String::new() };
        let pair = |(key, value): (&String, &Value)| format!("{key}={}", value.to_string().trim_matches('"'));
        fields.iter().map(pair).collect::<Vec<_>>().join(",")
    };
    let gates = pairs("featureGates");
    if !gates.is_empty() {
        for component in ["apiserver", "controller-manager", "scheduler"] {
            let arg = format!("--kube-{component}-arg=feature-gates={gates}");
            pools.add(&Chosen::SERVERS, "args", None, &arg.into());
        }
        pools.add(&Chosen::ALL, "args", None, &format!("--kubelet-arg=feature-gates={gates}").into());
    }
    let served = pairs("runtimeConfig");
    if !served.is_empty() {
        pools.add(
            &Chosen::SERVERS,
            "args",
            None,
            &format!("--kube-apiserver-arg=runtime-config={served}").into(),
        );
    }
}
