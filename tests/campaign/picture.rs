//! All that a cluster or a registry is, as lines that two objects with the same spec have in common: `docker inspect`
//! of its containers, their files, Node objects, ConfigMaps and status. What differs between any two objects (names, IDs,
//! addresses, automatic ports, times) has the same word in both.

use std::{collections::BTreeSet, sync::LazyLock};

use localcluster_operator::api::names;
use regex::Regex;
use serde_json::{Value, json};

use crate::live::{
    docker,
    scene::{self, Scene},
};

/// The lines of an object: `where = value`.
pub type Picture = BTreeSet<String>;

/// Files of nodes, load balancers and registries whose content follows from the spec. `-prune` leaves out credentials,
/// which are of each cluster alone.
const FILES: &str = r#"
for dir in /etc/rancher /etc/hosts /etc/resolv.conf /etc/nginx/nginx.conf /etc/localcluster/registry.yml \
    /campaign /etc/campaign.d /var/lib/rancher/k3s/server/manifests /var/lib/rancher/k3s/agent/etc/containerd/certs.d; do
    [ -e "$dir" ] || continue
    find "$dir" \( -name k3s.yaml -o -name 'token*' -o -name password \) -prune -o -type f -print | sort
done | while read -r file; do
    echo "=== $file $(stat -c %a "$file")"
    cat "$file"
    echo
done"#;

/// An object, and what stands for it in a picture.
pub struct Subject<'a> {
    pub scene: &'a Scene,
    /// `LocalCluster` or `Registry`.
    pub kind: &'a str,
    pub name: &'a str,
}

impl Subject<'_> {
    /// Returns the object's name for kubectl.
    pub fn object(&self) -> String {
        format!("{}/{}", if self.kind == "Registry" { "lreg" } else { "lc" }, self.name)
    }

    /// Takes its picture. It is Ready.
    pub fn picture(&self) -> Picture {
        let object = self.scene.get(&self.object());
        let containers = self.containers();
        let words = self.words(&object);
        let mut lines = Picture::new();
        for container in &containers {
            let name = scene::name(container);
            let mut add = |at: &str, value: &Value| {
                draw(&format!("{} {at}", words.of(name)), value, &words, &mut lines)
            };
            add("inspect", &inspected(container));
            if container["State"]["Running"] == true {
                add("files", &files(name));
            }
        }
        draw("status", &status(&object), &words, &mut lines);
        if self.kind == "LocalCluster" {
            draw("inside", &self.inside(), &words, &mut lines);
        }
        lines
    }

    /// Returns `docker inspect` of its containers. Those of a registry that a cluster creates are of another object.
    fn containers(&self) -> Vec<Value> {
        let owner = format!("{}/{}", self.scene.namespace, self.name);
        let own = |c: &Value| c["Config"]["Labels"]["localcluster.dev/owner"] == owner.as_str();
        let role = |c: &Value| c["Config"]["Labels"]["k3d.role"].as_str() == Some("registry");
        let mut all = self.scene.containers();
        all.retain(|c| own(c) && role(c) == (self.kind == "Registry"));
        all
    }

    fn words(&self, object: &Value) -> Words {
        let (scene, name) = (self.scene, self.name);
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let own = names::own_registry(name);
        let mut words = vec![
            (scene.network(name), "CLUSTER".to_owned()),
            (names::cluster(&scene.namespace, name, None), "CLUSTER-NAME".to_owned()),
            (scene.registry(&own), "OWN-REGISTRY".to_owned()),
            (format!("{}/{own}", scene.namespace), "OWN-REGISTRY".to_owned()),
            (format!("{}/{name}", scene.namespace), "OBJECT".to_owned()),
            (text(&object["metadata"]["uid"]), "UID".to_owned()),
        ];
        if self.kind == "Registry" {
            words.push((scene.registry(name), "REGISTRY".to_owned()));
        }
        let names = Words(words.clone());
        for container in &self.scene.containers() {
            let short = format!(" {}", names.of(scene::name(container)));
            words.push((text(&container["Id"]), format!("ID{short}")));
            words.push((text(&container["Id"]).chars().take(12).collect(), format!("ID{short}")));
            for place in
                container["NetworkSettings"]["Networks"].as_object().into_iter().flatten().map(|(_, p)| p)
            {
                words.push((text(&place["IPAddress"]), format!("IP{short}")));
                words.push((text(&place["Gateway"]), "GATEWAY".to_owned()));
                words.push((text(&place["NetworkID"]), "NETWORK".to_owned()));
            }
            // The port of the registry that a cluster creates is in the cluster's ConfigMap.
            let bound = container["HostConfig"]["PortBindings"].as_object().into_iter().flatten();
            let ports = bound.flat_map(|(_, hosts)| hosts.as_array().into_iter().flatten());
            words.extend(ports.map(|p| (format!(":{}", text(&p["HostPort"])), ":PORT".to_owned())));
            let volumes = container["Mounts"].as_array().into_iter().flatten();
            let anonymous = volumes.filter(|m| text(&m["Name"]).len() == 64);
            words.extend(anonymous.map(|m| (text(&m["Name"]), "ANONYMOUS".to_owned())));
        }
        words.push((text(&object["status"]["network"]["subnet"]), "SUBNET".to_owned()));
        words.retain(|(from, _)| !from.is_empty());
        // Of two that begin alike, the longer one.
        words.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        Words(words)
    }

    /// Returns what the operator keeps in the created cluster.
    fn inside(&self) -> Value {
        // In the server, since the kubeconfig in the Secret has the rights that the spec gives it.
        let server = format!("{}-server-0", self.scene.network(self.name));
        let kubectl =
            ["exec", &server, "kubectl", "--kubeconfig=/etc/rancher/k3s/k3s.yaml", "get", "-o", "json"];
        let get = |args: &[&str]| {
            let text = docker(&[&kubectl[..], &["--ignore-not-found"], args].concat());
            if text.trim().is_empty() {
                Value::Null
            } else {
                serde_json::from_str(&text).expect("it is JSON")
            }
        };
        let nodes = get(&["nodes"]);
        let nodes = nodes["items"].as_array().cloned().unwrap_or_default();
        let node = |n: &Value| {
            let (meta, spec) = (&n["metadata"], &n["spec"]);
            json!({"name": meta["name"], "labels": meta["labels"], "taints": spec["taints"], "cordoned": spec["unschedulable"],
                "cpu": n["status"]["allocatable"]["cpu"], "pods": n["status"]["allocatable"]["pods"]})
        };
        let map = |namespace: &str, name: &str| {
            get(&["-n", namespace, &format!("configmap/{name}")])["data"].clone()
        };
        let own = "app.kubernetes.io/managed-by=localcluster-operator";
        let accounts = get(&["-A", "-l", own, "serviceaccounts,clusterrolebindings"]);
        let accounts = accounts["items"].as_array().cloned().unwrap_or_default();
        let account = |a: &Value| json!({"kind": a["kind"], "name": a["metadata"]["name"], "role": a["roleRef"]["name"]});
        let campaign: Vec<Value> =
            ["a", "b", "c"].iter().map(|end| map("default", &format!("campaign-{end}"))).collect();
        json!({
            "nodes": nodes.iter().map(node).collect::<Vec<_>>(),
            "dns": map("kube-system", "coredns-custom"),
            "hosting": map("kube-public", "local-registry-hosting"),
            "manifests": campaign,
            "accounts": accounts.iter().map(account).collect::<Vec<_>>(),
        })
    }
}

/// Texts of one object with the words that stand for them.
struct Words(Vec<(String, String)>);

impl Words {
    fn of(&self, text: &str) -> String {
        // The operator applies a change for CoreDNS a second time, half a minute later.
        static AGAIN: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"(?m)^# Applied again.*\n?").expect("it is valid"));
        static TIME: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z").expect("it is valid"));
        let once = AGAIN.replace_all(text, "").into_owned();
        let text = self.0.iter().fold(once, |text, (from, to)| text.replace(from, to));
        TIME.replace_all(&text, "TIME").into_owned()
    }
}

/// Returns the configuration of a container without what differs by itself.
fn inspected(container: &Value) -> Value {
    let mut config = container["Config"].clone();
    let mut host = container["HostConfig"].clone();
    if let Some(labels) = config["Labels"].as_object_mut() {
        // They are of names and automatic choices.
        labels.retain(|key, _| {
            !key.ends_with("/spec-hash")
                && !key.ends_with("/api-port")
                && !key.ends_with("port.external")
                && !key.ends_with("/subnet")
        });
    }
    for sorted in [&mut config["Env"], &mut host["Binds"]] {
        if let Some(items) = sorted.as_array_mut() {
            items.sort_by_key(Value::to_string);
        }
    }
    for ports in host["PortBindings"].as_object_mut().into_iter().flat_map(|p| p.values_mut()) {
        for port in ports.as_array_mut().into_iter().flatten() {
            port["HostPort"] = json!("PORT");
        }
    }
    let mut mounts = container["Mounts"].as_array().cloned().unwrap_or_default();
    mounts.sort_by_key(|m| m["Destination"].to_string());
    let networks = container["NetworkSettings"]["Networks"].as_object().cloned().unwrap_or_default();
    let network = |(name, place): (&String, &Value)| json!({"name": name, "aliases": place["Aliases"], "pinned": place["IPAMConfig"]});
    json!({
        "Config": config,
        "HostConfig": host,
        "Mounts": mounts,
        "Networks": networks.iter().map(network).collect::<Vec<_>>(),
        "Running": container["State"]["Running"],
    })
}

/// Returns the lines of a container's files by path.
fn files(container: &str) -> Value {
    let text = docker(&["exec", container, "sh", "-c", FILES]);
    let file = |text: &str| {
        let (head, content) = text.split_once('\n').unwrap_or((text, ""));
        // A file cannot be deleted from outside of a node, so one that is no longer wanted is emptied.
        if content.trim().is_empty() {
            return None;
        }
        // Files of containerd may contain logins: the operator writes them for root only, and K3s at its next start for all.
        let head = if head.contains("/certs.d/") { head.split(' ').next().unwrap_or_default() } else { head };
        let lines = content.lines().filter(|l| !l.to_lowercase().contains("token"));
        Some((head.to_owned(), json!(lines.collect::<Vec<_>>())))
    };
    Value::Object(text.split("=== ").skip(1).filter_map(file).collect())
}

fn status(object: &Value) -> Value {
    // The way by which the operator reaches a cluster is chosen again when a connection fails, not by the spec.
    let of_spec = |c: &&Value| c["type"] != "ReachableFromPods";
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten().filter(of_spec);
    // Their order is that in which they were set first.
    let condition = |c: &Value| {
        (c["type"].as_str().unwrap_or_default().to_owned(), json!(format!("{} {}", c["status"], c["reason"])))
    };
    let nodes = &object["status"];
    json!({
        "conditions": Value::Object(conditions.map(condition).collect()),
        "servers": nodes["servers"],
        "agents": nodes["agents"],
        "agentPools": nodes["agentPools"],
    })
}

/// Draws a value as lines. Order counts in lists of texts, as arguments and lines of files are.
fn draw(at: &str, value: &Value, words: &Words, lines: &mut Picture) {
    match value {
        Value::Object(fields) => {
            fields
                .iter()
                .for_each(|(key, value)| draw(&format!("{at}.{}", words.of(key)), value, words, lines));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| draw(&format!("{at}[{n}]"), item, words, lines))
        }
        Value::Null => {}
        leaf => {
            let text = leaf.as_str().map_or_else(|| leaf.to_string(), str::to_owned);
            lines.insert(format!("{at} = {}", words.of(&text)));
        }
    }
}
