//! Files of k3d: `Simple`, v1alpha2 to v1alpha5.

use regex::Regex;
use serde_json::{Map, Value, json};

use super::{
    object,
    part::Part,
    pools::{self, Chosen, Pools},
};
use crate::{api::rules::labels, cli::ports};

/// Converts a file.
pub(super) fn simple(mut file: Part) -> Value {
    let mut metadata = file.part("metadata");
    let name = metadata.text("name").or_else(|| file.text("name")).unwrap_or_else(|| "k3s-default".into());
    object("LocalCluster", &name, spec(&mut file))
}

/// Converts the fields of a file to a spec.
pub(super) fn spec(file: &mut Part) -> Value {
    let mut pools = Pools::new(file.number("servers").unwrap_or(1), file.number("agents").unwrap_or(0));
    let mut spec = json!({});
    if let Some(image) = file.text("image") {
        set_image(file, &mut spec, &image);
    }
    api(file.part("kubeAPI"), &mut spec);
    for key in ["token", "clusterToken"] {
        file.instead(
            key,
            "put the token into a Secret, and name it in spec.token.secretName before the cluster is created",
        );
    }
    network(file, &mut spec);
    match file.text("subnet").as_deref() {
        None | Some("auto") => {}
        Some(subnet) => spec["network"]["subnet"] = subnet.into(),
    }
    volumes(file, &mut pools);
    env(file, &mut pools);
    ports(file, &pools, &mut spec);
    for alias in file.parts("hostAliases") {
        let mut alias = alias;
        let item = json!({"ip": alias.text("ip"), "hostnames": alias.texts("hostnames")});
        push(&mut spec["hostAliases"], item);
    }
    files(file, &pools, &mut spec);
    container_labels(file, &mut pools);
    registries(file.part("registries"), &mut spec);
    options(file.part("options"), &mut pools, &mut spec);
    for note in pools.into_spec(&mut spec) {
        file.note("agents", &note);
    }
    spec
}

/// Converts the network that k3d puts the containers on. Those of Docker itself have no equal.
fn network(file: &mut Part, spec: &mut Value) {
    match file.text("network").as_deref() {
        None => {}
        Some("bridge" | "host" | "none") => {
            file.note("network", "every cluster has a network of its own, left out");
        }
        Some(name) => {
            spec["network"]["join"] = json!([name]);
            file.note(
                "network",
                "joined besides a network of the cluster's own; it must exist, with the label \
                 localcluster.dev/allow-namespaces",
            );
        }
    }
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(item),
        None => *list = json!([item]),
    }
}

/// Sets the version for an image of K3s by Rancher, or else the image.
fn set_image(file: &Part, spec: &mut Value, image: &str) {
    let version = Regex::new(r"^(?:docker\.io/)?rancher/k3s:(v\d+\.\d+\.\d+(?:-rc\d+)?)-k3s(\d+)$").ok();
    if let Some(found) = version.and_then(|version| version.captures(image)) {
        spec["version"] = format!("{}+k3s{}", &found[1], &found[2]).into();
        return;
    }
    let tag = image.rsplit('/').next().unwrap_or_default();
    if !tag.contains([':', '@']) || image.starts_with('+') || tag.ends_with(":latest") {
        file.note(
            "image",
            "it has no fixed version, left out: the default of the operator applies; set spec.version",
        );
    } else {
        spec["image"] = image.into();
    }
}

fn api(mut api: Part, spec: &mut Value) {
    if let Some(ip) = api.text("hostIP") {
        spec["api"]["hostIP"] = ip.into();
    }
    // 0 is any free port.
    if let Some(port) = api.number("hostPort").filter(|port| *port > 0) {
        spec["api"]["hostPort"] = port.into();
    }
    if let Some(host) = api.text("host") {
        spec["api"]["serverName"] = host.into();
    }
}

fn volumes(file: &mut Part, pools: &mut Pools) {
    for mut volume in file.parts("volumes") {
        let mapping = volume.text("volume").unwrap_or_default();
        let parts: Vec<&str> = mapping.split(':').collect();
        let (host, inner, mode) = match parts[..] {
            [host, inner] => (host, inner, ""),
            [host, inner, mode] => (host, inner, mode),
            _ => ("", "", ""),
        };
        let named = !host.is_empty() && !host.starts_with('.') && !host.contains('/');
        if !(host.starts_with('/') || named) || !inner.starts_with('/') {
            volume.take("nodeFilters");
            volume.note(
                "volume",
                "only paths of the Docker host that begin with / and names of Docker volumes, left out; see \
                 spec.servers.volumes",
            );
            continue;
        }
        if pools::is_socket(host) {
            volume.take("nodeFilters");
            volume.note("volume", pools::SOCKET);
            continue;
        }
        let Some(chosen) = pools.of(&mut volume, Chosen::ALL) else { continue };
        let mut item = match named {
            true => json!({"volumeName": host, "mountPath": inner}),
            false => json!({"hostPath": host, "mountPath": inner}),
        };
        volume.note(
            "volume",
            match named {
                true => "the Docker volume must exist, with the label localcluster.dev/allow-namespaces",
                false => "the operator must allow the path with --allow-host-path",
            },
        );
        if mode.split(',').any(|mode| mode == "ro") {
            item["readOnly"] = true.into();
        }
        pools.add(&chosen, "volumes", None, &item);
    }
}

fn env(file: &mut Part, pools: &mut Pools) {
    for mut env in file.parts("env") {
        let variable = env.text("envVar").unwrap_or_default();
        let Some(chosen) = pools.of(&mut env, Chosen::ALL) else { continue };
        let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
        pools.add(&chosen, "env", None, &json!({"name": name, "value": value}));
    }
}

fn ports(file: &mut Part, pools: &Pools, spec: &mut Value) {
    let mut all: Vec<Map<String, Value>> = Vec::new();
    let mut local = false;
    for mut part in file.parts("ports") {
        let text = part.text("port").unwrap_or_default();
        let filters = part.texts("nodeFilters");
        let nodes: Vec<String> = filters.iter().filter(|filter| *filter != "loadbalancer").cloned().collect();
        let chosen = if nodes.len() < filters.len() || nodes.is_empty() {
            Some(Chosen::ALL)
        } else {
            pools.chosen(&nodes)
        };
        let mut port = match ports::port(&text) {
            Ok(port) => port,
            Err(why) => {
                part.note("port", &format!("left out: {why}"));
                continue;
            }
        };
        let Some(chosen) = chosen else {
            part.note("nodeFilters", "chooses no nodes, so the port is left out");
            continue;
        };
        if !chosen.is_whole() || filters.iter().any(|filter| filter.ends_with(":direct")) {
            part.note("nodeFilters", "the load balancer distributes connections to all nodes of the role");
        }
        match (chosen.servers, chosen.agents) {
            (true, false) => drop(port.insert("nodes".into(), "Servers".into())),
            (false, true) => drop(port.insert("nodes".into(), "Agents".into())),
            _ => {}
        }
        local |= !port.contains_key("hostIP");
        all.push(port);
    }
    if local {
        file.note("ports", "without an address they are published on 127.0.0.1 only; hostIP: 0.0.0.0 publishes one everywhere");
    }
    if !all.is_empty() {
        spec["ports"] = ports::named(all).into();
    }
}

fn files(file: &mut Part, pools: &Pools, spec: &mut Value) {
    for mut entry in file.parts("files") {
        let (source, path) =
            (entry.text("source").unwrap_or_default(), entry.text("destination").unwrap_or_default());
        entry.without(&["description"]);
        let Some(chosen) = pools.of(&mut entry, Chosen::ALL) else { continue };
        if chosen.only.is_some() {
            entry.note("nodeFilters", "files are for all nodes of a role, so it applies to all agents");
        }
        if path.contains("manifests") {
            entry.note("destination", "a manifest, left out; put it into spec.manifests");
        } else if source.contains('\n') && path.starts_with('/') {
            let mut item = json!({"path": path, "inline": source});
            match (chosen.servers, chosen.agents) {
                (true, false) => item["nodes"] = "Servers".into(),
                (false, true) => item["nodes"] = "Agents".into(),
                _ => {}
            }
            push(&mut spec["files"], item);
        } else {
            entry.note("source", "a file of this machine, left out; put it into a ConfigMap or Secret, and name that in spec.files");
        }
    }
}

fn registries(mut registries: Part, spec: &mut Value) {
    let mut create = registries.part("create");
    let wanted = create.whole();
    let name = create.text("name");
    if wanted.as_deref() == Some("true") || name.is_some() {
        spec["registries"]["create"] = registry(&mut create, name);
    }
    drop(create);
    for name in registries.texts("use") {
        let (name, port) = name.split_once(':').unwrap_or((&name, ""));
        let mut item = json!({"name": name});
        if let Ok(port) = port.parse::<u16>() {
            item["port"] = port.into();
        }
        push(&mut spec["registries"]["containers"], item);
        registries.note(
            "use",
            "these containers must allow it with the label localcluster.dev/allow-namespaces; better make Registry \
             objects of them, and name those in spec.registries.use",
        );
    }
    match registries.text("config") {
        Some(config) if config.contains('\n') => {
            spec["registries"]["config"]["inline"] = config.into();
            registries.note("config", "if it contains passwords, put it into a Secret, and name that in spec.registries.config");
        }
        Some(_) => registries.note(
            "config",
            "a file of this machine, left out; put it into a ConfigMap, and name that in spec.registries.config",
        ),
        None => {}
    }
}

/// Converts a registry that k3d creates with the cluster.
fn registry(create: &mut Part, name: Option<String>) -> Value {
    let mut spec = json!({});
    if let Some(name) = name {
        spec["hostname"] = name.into();
    }
    if let Some(ip) = create.text("host") {
        spec["hostIP"] = ip.into();
    }
    match create.number("hostPort") {
        Some(port) => spec["hostPort"] = port.into(),
        None => create.without(&["hostPort"]),
    }
    if let Some(image) = create.text("image") {
        spec["image"] = image.into();
    }
    let mut proxy = create.part("proxy");
    if let Some(url) = proxy.text("remoteURL") {
        spec["proxy"]["remoteURL"] = url.into();
    }
    for key in ["username", "password"] {
        proxy.instead(key, "put username and password into a Secret, and name it in proxy.credentialsSecret");
    }
    spec
}

fn options(mut options: Part, pools: &mut Pools, spec: &mut Value) {
    // Whoever applies the object decides whether to wait; nothing is rolled back, since a cluster is repaired.
    let mut k3d = options.part("k3d");
    k3d.without(&["wait", "timeout", "disableImageVolume", "disableRollback", "noRollback"]);
    k3d.instead("disableLoadbalancer", "every cluster has a load balancer");
    k3d.instead("loadbalancer", "the load balancer has no settings, left out");
    // `localcluster create` does both unless it is told not to.
    options.part("kubeconfig").without(&["updateDefaultKubeconfig", "switchCurrentContext"]);
    let mut k3s = options.part("k3s");
    for mut arg in k3s.parts("extraArgs") {
        let text = arg.text("arg").unwrap_or_default();
        if let Some(name) = text.strip_prefix("--tls-san=") {
            arg.without(&["nodeFilters"]);
            push(&mut spec["api"]["sans"], name.into());
            continue;
        }
        if let Some(chosen) = pools.of(&mut arg, Chosen::SERVERS) {
            argument(&text, &chosen, pools);
        }
    }
    for (key, chosen) in [("extraServerArgs", Chosen::SERVERS), ("extraAgentArgs", Chosen::AGENTS)] {
        for arg in k3s.texts(key) {
            argument(&arg, &chosen, pools);
        }
    }
    for mut label in k3s.parts("nodeLabels") {
        let text = label.text("label").unwrap_or_default();
        if let Some(chosen) = pools.of(&mut label, Chosen::ALL) {
            let (key, value) = text.split_once('=').unwrap_or((&text, ""));
            pools.add(&chosen, "labels", Some(key), &value.into());
        }
    }
    runtime(options.part("runtime"), pools);
}

/// Converts an argument of K3s. Taints and labels of Nodes have fields of their own, and what K3s once called `--no-deploy`
/// is `--disable`.
fn argument(text: &str, chosen: &Chosen, pools: &mut Pools) {
    if let Some(taint) = text.strip_prefix("--node-taint=") {
        pools.add(chosen, "taints", None, &taint.into());
    } else if let Some((key, value)) = text.strip_prefix("--node-label=").and_then(|l| l.split_once('=')) {
        pools.add(chosen, "labels", Some(key), &value.into());
    } else if let Some(names) = text.strip_prefix("--no-deploy=") {
        pools.add(chosen, "args", None, &format!("--disable={names}").into());
    } else {
        pools.add(chosen, "args", None, &text.into());
    }
}

fn runtime(mut runtime: Part, pools: &mut Pools) {
    if let Some(gpus) = runtime.text("gpuRequest") {
        pools.set(&Chosen::ALL, "gpus", &gpus.into());
    }
    for (key, chosen) in [("serversMemory", Chosen::SERVERS), ("agentsMemory", Chosen::AGENTS)] {
        if let Some(memory) = runtime.text(key) {
            pools.set(&chosen, "memory", &quantity(&memory).into());
        }
    }
    for mut ulimit in runtime.parts("ulimits") {
        let item = json!({"name": ulimit.text("name"), "soft": ulimit.number("soft"), "hard": ulimit.number("hard")});
        pools.add(&Chosen::ALL, "ulimits", None, &item);
    }
    container_labels(&mut runtime, pools);
}

/// Converts labels of containers. Those of the load balancer have no equal.
fn container_labels(part: &mut Part, pools: &mut Pools) {
    for mut label in part.parts("labels") {
        let text = label.text("label").unwrap_or_default();
        let Some(chosen) = pools.of(&mut label, Chosen::ALL) else { continue };
        let (key, value) = text.split_once('=').unwrap_or((&text, ""));
        if labels::CONTAINER_LABELS.iter().any(|refused| refused.has(key)) {
            label.note("label", "other tools take containers with such a label for their own, left out");
            continue;
        }
        pools.add(&chosen, "containerLabels", Some(key), &value.into());
    }
}

/// Returns a size in Docker's units as a quantity: `1g` are 1Gi.
fn quantity(text: &str) -> String {
    let lower = text.to_lowercase();
    let plain = lower.trim_end_matches("ib").trim_end_matches('b');
    let units = [('k', "Ki"), ('m', "Mi"), ('g', "Gi"), ('t', "Ti")];
    match units.into_iter().find_map(|(unit, binary)| Some((plain.strip_suffix(unit)?, binary))) {
        Some((number, binary)) => format!("{number}{binary}"),
        None => plain.to_owned(),
    }
}
