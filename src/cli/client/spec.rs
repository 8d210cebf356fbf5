//! **Pure**: the objects that `create` applies, from flags or from a file.

use clap::Args;
use kube::Resource;
use serde_json::{Value, json};

use crate::{
    api::LocalCluster,
    cli::{
        ports::{self, Nodes},
        valid,
    },
    k3s::{
        registries::EMBEDDED_REGISTRY,
        versions::{self, Version},
    },
};

/// What can be said of a cluster without a file.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// Number of servers: 1, 3 or 5
    #[arg(short, long, value_name = "N")]
    servers: Option<i32>,
    /// Number of agents
    #[arg(short, long, value_name = "N")]
    agents: Option<i32>,
    /// Publishes a port of the nodes on the Docker host: [HOST-IP:][HOST-PORT:]PORT[/udp][@servers|@agents]. May be repeated
    #[arg(short, long = "port", value_name = "PORTS")]
    ports: Vec<String>,
    /// K3s version, such as v1.36.2+k3s1
    #[arg(long)]
    version: Option<String>,
    /// Image of the nodes, instead of a version
    #[arg(short, long, conflicts_with = "version")]
    image: Option<String>,
    /// Registry object to pull images from, as NAME or NAMESPACE/NAME. May be repeated
    #[arg(long = "registry", value_name = "NAME")]
    registries: Vec<String>,
    /// Argument of K3s, such as --disable=traefik, for servers unless it ends in @agents or @all. May be repeated
    #[arg(long = "k3s-arg", value_name = "ARG[@NODES]", allow_hyphen_values = true)]
    k3s_args: Vec<String>,
    /// Deletes the cluster this long after its creation, such as 8h
    #[arg(long)]
    ttl: Option<String>,
    /// Has nodes pull all images from registries, also those that Docker has already
    #[arg(long)]
    no_host_images: bool,
}

impl Flags {
    /// Reports whether nodes get images of the Docker host when they ask for them, as they do unless the flags say
    /// otherwise or K3s cannot: the operator would report that. `args` are those of the servers.
    fn images_from_host(&self, args: &[Value]) -> bool {
        let version = self.version.clone().or_else(|| versions::of_image(self.image.as_deref()?));
        let old = version.and_then(|v| Version::parse(&v)).is_some_and(|v| !v.has_mirrors_of_all());
        let is_embedded = |arg: &Value| arg.as_str().is_some_and(|arg| arg.starts_with(EMBEDDED_REGISTRY));
        !self.no_host_images && !old && !args.iter().any(is_embedded)
    }
}

/// Objects to apply.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Objects {
    /// The cluster.
    pub cluster: Value,
    /// Registries, which are applied before it.
    pub registries: Vec<Value>,
}

impl Objects {
    /// Returns the name of the cluster.
    pub fn name(&self) -> &str {
        self.cluster["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Returns all objects in the order in which they are applied.
    pub fn all(&self) -> impl Iterator<Item = &Value> {
        self.registries.iter().chain([&self.cluster])
    }
}

/// Returns a cluster from flags.
pub(super) fn from_flags(name: &str, namespace: Option<&str>, flags: &Flags) -> Result<Objects, String> {
    let mut spec = json!({});
    for (pool, count) in [("servers", flags.servers), ("agents", flags.agents)] {
        if let Some(count) = count {
            spec[pool]["count"] = count.into();
        }
    }
    for (field, value) in [("version", &flags.version), ("image", &flags.image), ("ttl", &flags.ttl)] {
        if let Some(value) = value {
            spec[field] = value.as_str().into();
        }
    }
    let ports: Vec<_> = flags.ports.iter().map(|text| ports::port(text)).collect::<Result<_, _>>()?;
    if !ports.is_empty() {
        spec["ports"] = ports::named(ports).into();
    }
    let used: Vec<Value> = flags.registries.iter().map(|name| registry(name)).collect();
    if !used.is_empty() {
        spec["registries"]["use"] = used.into();
    }
    for text in &flags.k3s_args {
        let (arg, nodes) = argument(text)?;
        for (pool, _) in [("servers", Nodes::Servers), ("agents", Nodes::Agents)]
            .into_iter()
            .filter(|(_, of)| nodes == Nodes::All || nodes == *of)
        {
            match spec[pool]["args"].as_array_mut() {
                Some(args) => args.push(arg.into()),
                None => spec[pool]["args"] = json!([arg]),
            }
        }
    }
    let args = spec["servers"]["args"].as_array().cloned().unwrap_or_default();
    if flags.images_from_host(&args) {
        spec["images"] = json!({"fromDockerHost": true});
    }
    let cluster = json!({"metadata": {"name": name}, "spec": spec});
    complete(Objects { cluster, registries: Vec::new() }, namespace)
}

fn registry(name: &str) -> Value {
    match name.split_once('/') {
        Some((namespace, name)) => json!({"name": name, "namespace": namespace}),
        None => json!({"name": name}),
    }
}

/// Parses an argument of K3s and the nodes that it is for.
fn argument(text: &str) -> Result<(&str, Nodes), String> {
    let word = |filter: &str| {
        let role = filter.split(':').next().unwrap_or_default();
        ["all", "server", "servers", "agent", "agents", "loadbalancer"].contains(&role)
    };
    match text.rsplit_once('@').filter(|(_, filter)| word(filter)) {
        Some((arg, filter)) => {
            Ok((arg, ports::filter(filter).map_err(|why| format!("--k3s-arg {text}: {why}"))?))
        }
        None => Ok((text, Nodes::Servers)),
    }
}

/// Returns the objects of a file: one LocalCluster and any number of Registries.
pub(super) fn from_file(
    (file, text): (&str, &str),
    name: Option<&str>,
    namespace: Option<&str>,
) -> Result<Objects, String> {
    let documents: Result<Vec<Value>, _> = serde_saphyr::from_multiple(text);
    let documents = documents.map_err(|e| format!("cannot read {file}: {e}; correct the YAML"))?;
    let (mut clusters, mut registries) = (Vec::new(), Vec::new());
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        match (document["apiVersion"].as_str(), document["kind"].as_str()) {
            (Some(version), Some("LocalCluster")) if version == api_version() => clusters.push(document),
            (Some(version), Some("Registry")) if version == api_version() => registries.push(document),
            (version, kind) => {
                let (version, kind) = (version.unwrap_or("no apiVersion"), kind.unwrap_or("no kind"));
                return Err(format!(
                    "cannot create {kind} ({version}) from {file}: it may contain a LocalCluster and Registries of {}; \
                     apply other objects with kubectl",
                    api_version()
                ));
            }
        }
    }
    let [mut cluster] = <[Value; 1]>::try_from(clusters).map_err(|found| {
        format!(
            "{file} has {} LocalClusters: the command waits for one; apply several with kubectl",
            found.len()
        )
    })?;
    let of_file = cluster["metadata"]["name"].as_str();
    match (name, of_file) {
        (Some(name), Some(other)) if name != other => {
            return Err(format!(
                "the LocalCluster in {file} is named {other}, not {name}; leave out one of the names"
            ));
        }
        (None, None) => return Err(format!("the LocalCluster in {file} has no name; give one")),
        (Some(name), None) => cluster["metadata"]["name"] = name.into(),
        (_, Some(_)) => {}
    }
    complete(Objects { cluster, registries }, namespace)
}

fn api_version() -> String {
    LocalCluster::api_version(&()).into_owned()
}

/// Completes and validates objects, as the operator does.
fn complete(mut objects: Objects, namespace: Option<&str>) -> Result<Objects, String> {
    let kinds = objects.registries.iter_mut().map(|registry| ("Registry", registry));
    for (kind, object) in kinds.chain([("LocalCluster", &mut objects.cluster)]) {
        object["apiVersion"] = api_version().into();
        object["kind"] = kind.into();
        if object["spec"].is_null() {
            object["spec"] = json!({});
        }
        let metadata = &mut object["metadata"];
        match (metadata["namespace"].as_str(), namespace) {
            (Some(one), Some(other)) if one != other => {
                return Err(format!(
                    "the {kind} {} is in the namespace {one}, not {other}; leave out one of them",
                    metadata["name"].as_str().unwrap_or_default()
                ));
            }
            (None, Some(namespace)) => metadata["namespace"] = namespace.into(),
            _ => {}
        }
        if metadata["namespace"].is_null()
            && let Some(metadata) = metadata.as_object_mut()
        {
            metadata.remove("namespace");
        }
        valid::check(kind, object)?;
    }
    Ok(objects)
}

#[cfg(test)]
mod tests;
