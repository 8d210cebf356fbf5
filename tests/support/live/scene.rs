//! The part of the world that belongs to one group of tests: a namespace, the Docker objects of its objects, and the
//! check that all are removed.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Mutex,
};

use localcluster_operator::api::names;
use serde_json::Value;

use super::{
    DEPLOYMENT, Kubectl, SYSTEM, engines, eventually, holds, inspect_at, manager, scratch, try_docker,
    try_docker_at,
};

/// Time limit of anything on a busy machine.
pub const LIMIT: u64 = 240;

/// A namespace of the management cluster. Everything in it is removed on drop.
pub struct Scene {
    /// kubectl for the management cluster.
    pub k: Kubectl,
    /// The namespace.
    pub namespace: String,
    /// Volumes that containers of this scene used; anonymous ones have no labels to find them by.
    volumes: Mutex<BTreeSet<String>>,
    /// Other fixtures that its tests share.
    stage: Option<Box<dyn Any + Send + Sync>>,
    /// Another namespace with objects that use some of this one's.
    guest: Option<Box<Scene>>,
}

/// The state of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub id: String,
    pub started: String,
    pub running: bool,
    /// Address by network.
    pub networks: BTreeMap<String, String>,
    /// Published ports, such as `80/tcp 127.0.0.1:8080`.
    pub ports: BTreeSet<String>,
}

impl Scene {
    /// Creates a unique namespace, even if this test runs twice at a time.
    pub fn new(tag: &str) -> Self {
        let namespace = format!("e2e-{:x}-{tag}", std::process::id() & 0xffff);
        let k = Kubectl::management();
        k.run(&["create", "namespace", &namespace]);
        Self { k, namespace, volumes: Mutex::default(), stage: None, guest: None }
    }

    /// Adds fixtures that its tests share, dropped with the scene.
    pub fn with(self, stage: impl Any + Send + Sync) -> Self {
        // `..self` is not possible, since it implements Drop.
        let mut scene = self;
        scene.stage = Some(Box::new(stage));
        scene
    }

    /// Adds another namespace with objects that use some of this one's and are removed before them.
    pub fn with_guest(self, guest: Scene) -> Self {
        let mut scene = self;
        scene.guest = Some(Box::new(guest));
        scene
    }

    /// Returns this namespace and the other one, if any.
    pub fn all(&self) -> Vec<&Scene> {
        [self].into_iter().chain(self.guest.as_deref()).collect()
    }

    /// Returns the other namespace.
    pub fn guest(&self) -> &Scene {
        self.guest.as_ref().expect("the setup of the group created it")
    }

    /// Returns the fixtures that its tests share.
    pub fn stage<T: Any>(&self) -> &T {
        self.stage.as_ref().and_then(|s| s.downcast_ref()).expect("the setup of the group created it")
    }

    /// Runs kubectl in the namespace; a failure fails the test.
    pub fn run(&self, args: &[&str]) -> String {
        self.k.run(&[&["-n", &self.namespace], args].concat())
    }

    /// Runs kubectl in the namespace.
    pub fn attempt(&self, args: &[&str]) -> Result<String, String> {
        self.k.attempt(&[&["-n", &self.namespace], args].concat())
    }

    /// Applies objects of both kinds of the operator, each given as `name` and the YAML of its spec.
    pub fn apply(&self, kind: &str, name: &str, spec: &str) -> String {
        self.k.apply(&format!(
            "{{apiVersion: localcluster.dev/v1alpha1, kind: {kind}, metadata: {{name: {name}, namespace: {}}}, \
             spec: {spec}}}",
            self.namespace
        ))
    }

    /// Merges this JSON into the spec of an object.
    pub fn patch(&self, object: &str, spec: &str) {
        self.run(&["patch", object, "--type=merge", "-p", &format!("{{\"spec\": {spec}}}")]);
    }

    /// Applies a Secret with these keys.
    pub fn secret(&self, name: &str, type_: &str, data: &[(&str, &str)]) {
        self.keys("Secret", name, &format!(", type: \"{type_}\", stringData"), data);
    }

    /// Applies a ConfigMap with these keys.
    pub fn config_map(&self, name: &str, data: &[(&str, &str)]) {
        self.keys("ConfigMap", name, ", data", data);
    }

    fn keys(&self, kind: &str, name: &str, rest: &str, data: &[(&str, &str)]) {
        let data: BTreeMap<&str, &str> = data.iter().copied().collect();
        let metadata = format!("{{name: {name}, namespace: {}}}", self.namespace);
        let data = serde_json::json!(data);
        self.k.apply(&format!("{{apiVersion: v1, kind: {kind}, metadata: {metadata}{rest}: {data}}}"));
    }

    /// Runs `kubectl wait` for Ready.
    pub fn ready(&self, object: &str) {
        let timeout = format!("--timeout={LIMIT}s");
        self.run(&["wait", "--for=condition=Ready", object, &timeout]);
    }

    /// Returns an object as JSON.
    pub fn get(&self, object: &str) -> Value {
        self.try_get(object).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Returns an object as JSON, or an error.
    pub fn try_get(&self, object: &str) -> Result<Value, String> {
        self.k.json(&["-n", &self.namespace, object])
    }

    /// Waits until a condition of an object has a reason, and returns its message.
    pub fn reason(&self, object: &str, type_: &str, reason: &str) -> String {
        eventually(LIMIT, &format!("{object} has {type_} with reason {reason}"), || {
            let seen = self.try_get(object)?;
            let condition = condition(&seen, type_)?;
            holds(condition["reason"] == reason, || condition.to_string())?;
            Ok(condition["message"].as_str().unwrap_or_default().to_owned())
        })
    }

    /// Returns a kubectl for a cluster of this namespace, with the key `kubeconfig` of its Secret.
    pub fn child(&self, cluster: &str) -> Kubectl {
        let path = scratch(&format!("{}-{cluster}.kubeconfig", self.namespace));
        fs::write(&path, self.kubeconfig(cluster, "kubeconfig")).expect("the file can be written");
        Kubectl::new(path)
    }

    /// Returns a kubeconfig from a cluster's Secret.
    pub fn kubeconfig(&self, cluster: &str, key: &str) -> String {
        let template = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
        self.run(&["get", "secret", &format!("{cluster}-kubeconfig"), "-o", &template])
    }

    /// Returns reason and note of all Events of the namespace that were seen since `since`.
    pub fn events(&self, since: &str) -> Vec<String> {
        let list = self.k.json(&["-n", &self.namespace, "events.events.k8s.io"]).unwrap_or_default();
        let after = |e: &Value| {
            let seen = e["series"]["lastObservedTime"].as_str().or(e["eventTime"].as_str());
            // The first 19 characters are date and time in UTC in both formats.
            seen.is_some_and(|seen| seen.get(..19) >= since.get(..19))
        };
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let notes = items.iter().filter(|e| after(e)).map(|e| {
            let text = |key: &str| e[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("reason"), text("note"))
        });
        notes.collect()
    }

    /// Returns `docker inspect` of all containers that objects of this namespace own.
    pub fn containers(&self) -> Vec<Value> {
        engines().iter().flat_map(|engine| self.containers_at(engine)).collect()
    }

    /// Returns those of them that one of several engines has.
    pub fn containers_at(&self, engine: &str) -> Vec<Value> {
        let filter = format!("label=localcluster.dev/manager={}", manager());
        let ids = all_of(engine, &["ps", "-aq", "--no-trunc", "--filter", &filter]);
        let all = ids.split_whitespace().filter_map(|id| inspect_at(engine, id));
        let mine: Vec<Value> = all.filter(|c| self.owns(&c["Config"]["Labels"])).collect();
        let mounts = mine.iter().flat_map(|c| c["Mounts"].as_array().into_iter().flatten());
        let names = mounts.filter_map(|m| m["Name"].as_str().map(str::to_owned));
        self.volumes.lock().unwrap_or_else(|e| e.into_inner()).extend(names);
        mine
    }

    fn owns(&self, labels: &Value) -> bool {
        let owner = labels["localcluster.dev/owner"].as_str();
        owner.is_some_and(|o| o.starts_with(&format!("{}/", self.namespace)))
    }

    /// Returns the name of a cluster's Docker network, which is the prefix of its containers' names.
    pub fn network(&self, cluster: &str) -> String {
        format!("k3d-{}", names::cluster(&self.namespace, cluster, None))
    }

    /// Returns the name of a registry's container.
    pub fn registry(&self, name: &str) -> String {
        names::registry(&self.namespace, name, None)
    }

    /// Returns all containers by name.
    pub fn picture(&self) -> BTreeMap<String, Seen> {
        self.containers().iter().map(|c| (name(c).to_owned(), seen(c))).collect()
    }

    /// Returns a line for each Docker object of this namespace.
    pub fn in_docker(&self) -> Vec<String> {
        engines().iter().flat_map(|engine| self.in_docker_at(engine)).collect()
    }

    /// Returns those of them that one of several engines has.
    pub fn in_docker_at(&self, engine: &str) -> Vec<String> {
        let containers = self.containers_at(engine);
        let mut left: Vec<String> = containers.iter().map(|c| format!("container {}", name(c))).collect();
        let filter = format!("label=localcluster.dev/manager={}", manager());
        for kind in ["network", "volume"] {
            for one in all_of(engine, &[kind, "ls", "-q", "--filter", &filter]).split_whitespace() {
                let Ok(text) = try_docker_at(engine, &[kind, "inspect", one]) else { continue };
                let Ok(found) = serde_json::from_str::<Value>(&text) else { continue };
                if self.owns(&found[0]["Labels"]) {
                    left.push(format!("{kind} {}", found[0]["Name"].as_str().unwrap_or(one)));
                }
            }
        }
        left
    }

    /// Returns an error if Docker has anything of this namespace, including volumes without labels.
    pub fn is_gone(&self, kept: &[&str]) -> Result<(), String> {
        let mut left = self.in_docker();
        let noted = self.volumes.lock().unwrap_or_else(|e| e.into_inner());
        for engine in engines() {
            let volumes = all_of(&engine, &["volume", "ls", "-q"]);
            left.extend(volumes.lines().filter(|v| noted.contains(*v)).map(|v| format!("volume {v}")));
            let names = all_of(&engine, &["ps", "-a", "--format", "{{.Names}}"]);
            let prefix = format!("k3d-{}", self.namespace);
            left.extend(names.lines().filter(|n| n.starts_with(&prefix)).map(|n| format!("container {n}")));
        }
        left.retain(|l| !kept.iter().any(|k| l.ends_with(k)));
        holds(left.is_empty(), || format!("left in Docker: {left:?}"))
    }

    /// Deletes all objects and checks that nothing of them is left.
    pub fn end(&self) {
        self.guest.iter().for_each(|guest| guest.end());
        self.containers();
        let timeout = format!("--timeout={LIMIT}s");
        let deleted = self.attempt(&["delete", "lc,lreg", "--all", &timeout]);
        let kept = deleted.map(|_| Vec::new()).unwrap_or_else(|why| self.kept_by_the_engine().expect(&why));
        let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
        self.is_gone(&kept).unwrap_or_else(|e| panic!("{e}"));
        // Owner references delete the Secrets.
        eventually(60, "the Secrets are gone", || {
            let secrets = self.run(&["get", "secrets", "-l", "app.kubernetes.io/managed-by", "-o", "name"]);
            holds(secrets.is_empty(), || secrets)
        });
    }

    /// Returns the networks that engines before 28.1 sometimes do not remove any more, since their count of endpoints is
    /// wrong (moby#43286): the only cure is a restart, which would end all other tests. `None` if the deletion of an
    /// object waits for something else. Removes the finalizers, as the documentation says for a host that will not come
    /// back.
    fn kept_by_the_engine(&self) -> Option<Vec<String>> {
        let mut kept = Vec::new();
        for object in self.attempt(&["get", "lc,lreg", "-o", "name"]).ok()?.lines() {
            let ready = condition(&self.try_get(object).ok()?, "Ready").ok()?;
            let message =
                ready["message"].as_str().filter(|m| m.contains("its count of endpoints is wrong"))?;
            let (_, name) = object.split_once('/')?;
            let network = self.network(name);
            // The engine itself says the same.
            let containers =
                try_docker(&["network", "inspect", "-f", "{{len .Containers}}", &network]).ok()?;
            let refused = try_docker(&["network", "rm", &network]).err()?;
            holds(containers == "0" && refused.contains("has active endpoints"), || refused).ok()?;
            println!("        {network} is left: {message}");
            self.patch_finalizers(object);
            kept.push(network);
        }
        Some(kept)
    }

    fn patch_finalizers(&self, object: &str) {
        let nothing = r#"{"metadata": {"finalizers": null}}"#;
        let _ = self.attempt(&["patch", object, "--type=merge", "-p", nothing]);
    }

    /// Prints state that may explain a failure.
    pub fn explain(&self) {
        self.guest.iter().for_each(|guest| guest.explain());
        let print = |what: Result<String, String>| eprintln!("{}", what.unwrap_or_else(|e| e));
        print(self.attempt(&["get", "lc,lreg", "-o", "wide"]));
        print(self.attempt(&["get", "events", "--sort-by=.metadata.creationTimestamp"]));
        print(self.k.attempt(&["-n", SYSTEM, "logs", "--tail=40", DEPLOYMENT]));
        for engine in engines() {
            print(try_docker_at(&engine, &["ps", "-a", "--filter", &format!("name={}", self.namespace)]));
        }
    }
}

impl Drop for Scene {
    /// Also cleans up after a failure: through the operator if it still works, else directly.
    fn drop(&mut self) {
        drop(self.guest.take());
        if std::thread::panicking() {
            self.explain();
        }
        let _ = self.attempt(&["annotate", "lc,lreg", "--all", "localcluster.dev/paused-"]);
        // A pool would make others.
        let _ = self.attempt(&["delete", "lcclaim,lcpool", "--all", "--timeout=60s"]);
        let _ = self.attempt(&["delete", "lc,lreg", "--all", "--timeout=60s"]);
        for kind in ["lc", "lreg"] {
            for object in self.attempt(&["get", kind, "-o", "name"]).unwrap_or_default().lines() {
                self.patch_finalizers(object);
            }
        }
        for engine in engines() {
            for left in self.in_docker_at(&engine) {
                let (kind, name) = left.split_once(' ').expect("a kind and a name");
                let _ = match kind {
                    "container" => try_docker_at(&engine, &["rm", "-fv", name]),
                    _ => try_docker_at(&engine, &[kind, "rm", name]),
                };
            }
        }
        let _ = self.k.attempt(&["delete", "namespace", &self.namespace, "--timeout=60s"]);
    }
}

/// Runs the docker command line with an engine; a failure fails the test.
fn all_of(engine: &str, args: &[&str]) -> String {
    try_docker_at(engine, args).unwrap_or_else(|e| panic!("{e}"))
}

/// Returns a container's name from `docker inspect`.
pub fn name(container: &Value) -> &str {
    container["Name"].as_str().unwrap_or_default().trim_start_matches('/')
}

/// Returns the state of a container that users notice from `docker inspect`.
pub fn seen(container: &Value) -> Seen {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let networks = container["NetworkSettings"]["Networks"].as_object().cloned().unwrap_or_default();
    let bound = container["HostConfig"]["PortBindings"].as_object().cloned().unwrap_or_default();
    let ports = bound.iter().flat_map(|(port, hosts)| {
        let hosts = hosts.as_array().cloned().unwrap_or_default();
        hosts.into_iter().map(move |h| format!("{port} {}:{}", text(&h["HostIp"]), text(&h["HostPort"])))
    });
    Seen {
        id: text(&container["Id"]),
        started: text(&container["State"]["StartedAt"]),
        running: container["State"]["Status"] == "running",
        // Its address on Docker's default network is not pinned, and nothing uses it.
        networks: networks
            .iter()
            .filter(|(n, _)| n.starts_with("k3d-"))
            .map(|(n, place)| (n.clone(), text(&place["IPAddress"])))
            .collect(),
        ports: ports.collect(),
    }
}

/// Returns a condition of an object.
pub fn condition(object: &Value, type_: &str) -> Result<Value, String> {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.clone().find(|c| c["type"] == type_).cloned().ok_or(format!("no condition {type_} yet"))
}

/// Returns an error unless an object is Ready for its newest generation.
pub fn is_ready(object: &Value) -> Result<(), String> {
    let ready = condition(object, "Ready")?;
    let current = ready["observedGeneration"] == object["metadata"]["generation"];
    holds(ready["status"] == "True" && current, || ready.to_string())
}
