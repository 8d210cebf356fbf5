//! Reads a hub: Docker's objects, and its API through a command in its container. So nothing but Docker has to be
//! reachable, from a container or another machine as from the host.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::names,
    docker::{
        engine::{Engine, Result, State},
        error::Error,
    },
    k3s::kubeconfig,
    plan::hub::{
        desired::{HubNames, KUBECONFIG},
        down::Objects,
        manifests::{self, Installation},
        observed::{Answer, Api, Host, Object},
    },
};

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// Largest kubeconfig that is read.
const LIMIT: usize = 256 << 10;
/// K3s's kubeconfig in its container.
const ADMIN: &str = "/etc/rancher/k3s/k3s.yaml";
/// What an installation consists of.
const KINDS: &str = "customresourcedefinitions,namespaces,serviceaccounts,secrets,clusterroles,clusterrolebindings,\
                     roles,rolebindings";

/// Returns the objects on the Docker host that have the hub's names, and which of these images exist.
pub async fn host(engine: &dyn Engine, names: &HubNames, images: &[&str]) -> Result<Host> {
    let (server, operator) = (names.server(), names.operator());
    let containers = engine.containers().await?;
    let others = containers.iter().filter(|c| c.name != server);
    let used_ports = others.flat_map(|c| &c.ports).map(|port| port.host_port).collect();
    let networks = engine.networks().await?;
    let volumes = engine.volumes().await?;
    let all = containers.iter().map(|c| (&c.name, &c.labels));
    let all = all.chain(networks.iter().map(|n| (&n.name, &n.labels)));
    let all = all.chain(volumes.iter().map(|v| (&v.name, &v.labels)));
    let managed = all.filter(|(_, labels)| labels.contains_key(names::MANAGER));
    let managed = managed.map(|(name, _)| name.clone()).collect();
    let mut networks: Vec<_> = networks.into_iter().filter(|n| n.name == server).collect();
    networks.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
    let mut found = BTreeMap::new();
    for image in images {
        if let Some(id) = engine.image(image).await? {
            found.insert((*image).to_owned(), id);
        }
    }
    let named = |name: &str| containers.iter().find(|c| c.name == name).map(|c| c.id.clone());
    Ok(Host {
        volume: volumes.into_iter().find(|v| v.name == server),
        server: inspect(engine, named(&server)).await?,
        operator: inspect(engine, named(&operator)).await?,
        networks,
        images: found,
        used_ports,
        managed,
    })
}

async fn inspect(
    engine: &dyn Engine,
    id: Option<String>,
) -> Result<Option<crate::docker::engine::ContainerDetail>> {
    match id {
        Some(id) => engine.inspect(&id).await,
        None => Ok(None),
    }
}

/// Returns the kubeconfig in the operator's container.
pub async fn given(engine: &dyn Engine, host: &Host) -> Result<Option<Vec<u8>>> {
    match &host.operator {
        Some(operator) => engine.read_file(&operator.container.id, KUBECONFIG, LIMIT).await,
        None => Ok(None),
    }
}

/// Returns what the API of the hub says.
pub async fn api(engine: &dyn Engine, host: &Host, installation: &Installation) -> Result<Api> {
    let Some(hub) = running(host) else { return Ok(Api::Away) };
    match answer(engine, hub, installation).await {
        Ok(answer) => Ok(Api::Answers(Box::new(answer))),
        Err(error) => silent(error).map(Api::Silent),
    }
}

/// Returns the LocalClusters and Registries of the hub.
pub async fn objects(engine: &dyn Engine, host: &Host) -> Result<Objects> {
    let Some(hub) = running(host) else { return Ok(Objects::Unknown) };
    match list(engine, hub).await {
        Ok(objects) => Ok(Objects::Known(objects)),
        Err(error) => silent(error).map(Objects::Silent),
    }
}

fn running(host: &Host) -> Option<&str> {
    let server = host.server.as_ref().map(|detail| &detail.container);
    server.filter(|container| container.state == State::Running).map(|container| container.id.as_str())
}

/// An API that does not answer yet, or whose container ends meanwhile, is no failure of Docker.
fn silent(error: Error) -> Result<String> {
    match error {
        Error::Unavailable(_) | Error::Denied(_) => Err(error),
        other => Ok(other.to_string()),
    }
}

/// Runs kubectl in the hub's container, as its administrator.
pub async fn kubectl(engine: &dyn Engine, hub: &str, args: &[&str]) -> Result<String> {
    let command = [&["k3s", "kubectl", "--request-timeout=20s"], args].concat();
    let command: Vec<String> = command.into_iter().map(str::to_owned).collect();
    engine.exec(hub, &command).await?.succeeded()
}

async fn answer(engine: &dyn Engine, hub: &str, installation: &Installation) -> Result<Answer> {
    kubectl(engine, hub, &["get", "--raw", "/readyz"]).await?;
    let mut answer = Answer::default();
    let selector = format!("{}={}", manifests::LABEL, installation.hash);
    let line = "{.kind}/{.metadata.name} {.status.conditions[?(@.type==\"Established\")].status}{\"\\n\"}";
    let output = format!("jsonpath={{range .items[*]}}{line}{{end}}");
    let lines = kubectl(engine, hub, &["get", KINDS, "-A", "-l", &selector, "-o", &output]).await?;
    for line in lines.lines() {
        let (key, established) = line.split_once(' ').unwrap_or((line, ""));
        answer.applied.insert(key.to_owned());
        if established.trim() == "True" {
            answer.established.insert(key.to_owned());
        }
    }
    let (token, lease) = (format!("secret/{}", manifests::TOKEN), format!("lease/{}", manifests::LEASE));
    let initialized = format!("configmap/{}", manifests::INITIALIZED);
    let policy = format!("hostpolicy/{}", manifests::POLICY_NAME);
    let mut args = vec![
        "get",
        "-n",
        manifests::NAMESPACE,
        "--ignore-not-found",
        "-o",
        "json",
        &token,
        &lease,
        &initialized,
    ];
    // Without its definition there is no such kind.
    if installation.definitions.is_subset(&answer.established) {
        args.push(&policy);
    }
    for object in parsed(&kubectl(engine, hub, &args).await?)? {
        note(&mut answer, &object);
    }
    let admin = engine.read_file(hub, ADMIN, LIMIT).await?;
    answer.credentials = admin.and_then(|file| kubeconfig::parse(&String::from_utf8(file).ok()?).ok());
    Ok(answer)
}

/// Returns the objects that kubectl printed: none, one, or a list.
fn parsed(text: &str) -> Result<Vec<Value>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    // The message of the parser would quote the token.
    let value: Value =
        serde_json::from_str(text).map_err(|_| Error::Engine("kubectl printed no JSON".to_owned()))?;
    match value.get("items").and_then(Value::as_array) {
        Some(items) => Ok(items.clone()),
        None => Ok(vec![value]),
    }
}

fn note(answer: &mut Answer, object: &Value) {
    match object["kind"].as_str().unwrap_or_default() {
        "Secret" => {
            let token = object["data"]["token"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
            answer.token = token.and_then(|token| String::from_utf8(token).ok());
        }
        "Lease" => {
            let holder = object["spec"]["holderIdentity"].as_str().map(str::to_owned);
            let renewed = object["spec"]["renewTime"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
            answer.leader = holder.zip(renewed);
        }
        "ConfigMap" => answer.initialized = true,
        "HostPolicy" => answer.has_policy = true,
        _ => {}
    }
}

async fn list(engine: &dyn Engine, hub: &str) -> Result<BTreeSet<Object>> {
    kubectl(engine, hub, &["get", "--raw", "/readyz"]).await?;
    let definitions = "customresourcedefinitions";
    let kinds = ["localclusters", "registries"];
    let names = kinds.map(|kind| format!("{kind}.localcluster.dev"));
    let args = ["get", definitions, "--ignore-not-found", "-o", "name", &names[0], &names[1]];
    let there = kubectl(engine, hub, &args).await?;
    // `up` was interrupted before it applied them.
    let served: Vec<&str> =
        names.iter().filter(|name| there.contains(name.as_str())).map(String::as_str).collect();
    if served.is_empty() {
        return Ok(BTreeSet::new());
    }
    let line = "{.kind} {.metadata.namespace}/{.metadata.name} [{.metadata.deletionTimestamp}] \
                {.metadata.annotations.localcluster\\.dev/paused}{\"\\n\"}";
    let output = format!("jsonpath={{range .items[*]}}{line}{{end}}");
    let lines = kubectl(engine, hub, &["get", &served.join(","), "-A", "-o", &output]).await?;
    Ok(lines.lines().filter_map(object).collect())
}

fn object(line: &str) -> Option<Object> {
    let mut words = line.split(' ');
    let (kind, name, deletion) = (words.next()?, words.next()?, words.next()?);
    let paused = words.next().is_some_and(|value| value == "true");
    Some(Object { kind: kind.to_owned(), name: name.to_owned(), deleting: deletion != "[]", paused })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_prints_nothing_one_object_or_a_list() {
        assert_eq!(parsed("\n").unwrap(), Vec::<Value>::new());
        assert_eq!(parsed(r#"{"kind": "Lease"}"#).unwrap().len(), 1);
        assert_eq!(parsed(r#"{"kind": "List", "items": [{}, {}]}"#).unwrap().len(), 2);
        let error = parsed("secret: x").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn what_is_asked_for_is_noted() {
        let mut answer = Answer::default();
        for object in [
            serde_json::json!({"kind": "Secret", "data": {"token": "dG9r"}}),
            serde_json::json!({"kind": "Lease", "spec": {"holderIdentity": "h", "renewTime": "2026-11-30T09:00:00.000000Z"}}),
            serde_json::json!({"kind": "ConfigMap"}),
        ] {
            note(&mut answer, &object);
        }
        assert_eq!(
            (answer.token.as_deref(), answer.initialized, answer.has_policy),
            (Some("tok"), true, false)
        );
        assert_eq!(answer.leader.unwrap().0, "h");
    }

    #[test]
    fn a_line_is_an_object() {
        let there = object("LocalCluster default/dev [] true").unwrap();
        assert_eq!((there.name.as_str(), there.deleting, there.paused), ("default/dev", false, true));
        let going = object("Registry a/r [2026-11-30T09:00:00Z] ").unwrap();
        assert!(going.deleting && !going.paused);
        assert_eq!(object(""), None);
    }
}
