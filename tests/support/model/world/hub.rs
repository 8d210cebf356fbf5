//! The API of a hub, as kubectl in its container shows it. Its state is in its volume.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use localcluster_operator::plan::hub::{desired::KUBECONFIG, manifests};
use serde_json::{Value, json};

use super::*;

/// The file of the volume that holds the state.
const STATE: &str = "/var/lib/rancher/k3s/api.json";
const ADMIN: &str = "/etc/rancher/k3s/k3s.yaml";

impl World {
    /// Whether a container is a K3s server without an agent.
    pub fn is_hub(&self, key: &str) -> bool {
        self.id(key).is_some_and(|id| self.containers[&id].command.iter().any(|arg| arg == "--disable-agent"))
    }

    fn hub_state(&self, key: &str) -> Value {
        let text = self.read(key, STATE).unwrap_or_else(|| b"{}".as_slice().into());
        serde_json::from_slice(&text).unwrap()
    }

    fn set_hub_state(&mut self, key: &str, state: &Value) {
        self.write(key, STATE, state.to_string().as_bytes()).unwrap();
    }

    /// A user creates an object.
    pub fn create_in_hub(&mut self, key: &str, object: &str) {
        let mut state = self.hub_state(key);
        state["objects"][object] = json!("");
        self.set_hub_state(key, &state);
    }

    pub(super) fn hub_exec(&mut self, key: &str, command: &[String]) -> Ended {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let has = |word: &str| words.contains(&word);
        let failed = |stderr: &str| Ended { code: 1, stderr: stderr.to_owned(), ..Ended::default() };
        if has("/readyz") {
            return self.hub_ready(key);
        }
        if !self.container(key).unwrap().serving {
            return failed("connection refused");
        }
        if has("apply") {
            return self.hub_apply(key, words[words.len() - 1]).map_or_else(|e| failed(&e), |()| said(""));
        }
        if has("delete") {
            let mut state = self.hub_state(key);
            for time in state["objects"].as_object_mut().unwrap().values_mut() {
                *time = json!("2026-11-30T09:00:00Z");
            }
            self.set_hub_state(key, &state);
            return said("");
        }
        if has("-l") {
            return said(&self.hub_installed(key, words[words.iter().position(|w| *w == "-l").unwrap() + 1]));
        }
        if has("customresourcedefinitions") {
            let there =
                self.hub_state(key)["applied"]["CustomResourceDefinition/localclusters.localcluster.dev"]
                    .is_string();
            return said(if there {
                "customresourcedefinition/localclusters.localcluster.dev\n"
            } else {
                ""
            });
        }
        if has("json") {
            return said(&self.hub_objects(key, has(&format!("hostpolicy/{}", manifests::POLICY_NAME))));
        }
        said(&self.hub_list(key))
    }

    /// It answers the second question after its start, and then has written the administrator's kubeconfig.
    fn hub_ready(&mut self, key: &str) -> Ended {
        let container = self.container(key).unwrap();
        if !std::mem::replace(&mut container.serving, true) {
            return Ended { code: 1, stderr: "connection refused".into(), ..Ended::default() };
        }
        let file = "{current-context: d, contexts: [{name: d, context: {cluster: d, user: d}}], clusters: [{name: d, \
                    cluster: {certificate-authority-data: Q0E=}}], users: [{name: d, user: \
                    {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}}]}";
        container.files.insert(ADMIN.into(), file.as_bytes().into());
        said("ok")
    }

    fn hub_apply(&mut self, key: &str, path: &str) -> std::result::Result<(), String> {
        let list: Value = serde_json::from_slice(&self.read(key, path).ok_or("no such file")?).unwrap();
        let mut state = self.hub_state(key);
        for object in list["items"].as_array().unwrap() {
            let name = format!(
                "{}/{}",
                object["kind"].as_str().unwrap(),
                object["metadata"]["name"].as_str().unwrap()
            );
            let before = match object["kind"].as_str().unwrap() {
                "HostPolicy" => "CustomResourceDefinition/hostpolicies.localcluster.dev",
                "ConfigMap" | "Secret" => "Namespace/localcluster-system",
                _ => name.as_str(),
            };
            if before != name && !state["applied"][before].is_string() {
                return Err(format!("{name}: {before} does not exist"));
            }
            let hash = object["metadata"]["labels"][manifests::LABEL].as_str().unwrap_or_default();
            state["applied"][&name] = json!(hash);
        }
        // Another volume has other tokens.
        if !state["token"].is_string() {
            state["token"] =
                json!(format!("token-{key}-{}", self.made.values().map(|n| u32::from(*n)).sum::<u32>()));
        }
        self.set_hub_state(key, &state);
        Ok(())
    }

    fn hub_installed(&self, key: &str, selector: &str) -> String {
        let state = self.hub_state(key);
        let (_, hash) = selector.split_once('=').unwrap();
        let applied = state["applied"].as_object().cloned().unwrap_or_default();
        let of = applied.into_iter().filter(|(_, label)| label == hash);
        let line = |(name, _): (String, Value)| {
            let established = if name.starts_with("CustomResourceDefinition/") { "True" } else { "" };
            format!("{name} {established}\n")
        };
        of.map(line).collect()
    }

    fn hub_objects(&self, key: &str, policy: bool) -> String {
        let state = self.hub_state(key);
        let there = |name: &str| state["applied"][name].is_string();
        let mut items = Vec::new();
        if there(&format!("Secret/{}", manifests::TOKEN)) {
            let token = BASE64_STANDARD.encode(state["token"].as_str().unwrap());
            items.push(json!({"kind": "Secret", "data": {"token": token}}));
        }
        if let Some(operator) = self.operator_of(&state) {
            let renewed = jiff::Timestamp::from_second(operator.started.unwrap() + 1).unwrap();
            let spec = json!({"holderIdentity": operator.name, "renewTime": renewed.to_string()});
            items.push(json!({"kind": "Lease", "spec": spec}));
        }
        if there(&format!("ConfigMap/{}", manifests::INITIALIZED)) {
            items.push(json!({"kind": "ConfigMap"}));
        }
        if policy && there(&format!("HostPolicy/{}", manifests::POLICY_NAME)) {
            items.push(json!({"kind": "HostPolicy"}));
        }
        match items.len() {
            0 => String::new(),
            1 => items[0].to_string(),
            _ => json!({"kind": "List", "items": items}).to_string(),
        }
    }

    /// The operator that works: it runs, and was started with the token.
    fn operator_of(&self, state: &Value) -> Option<&Container> {
        let token = state["token"].as_str()?;
        self.containers.values().find(|c| {
            let file = c.files.get(KUBECONFIG).map(|file| String::from_utf8_lossy(file));
            c.state == State::Running && file.is_some_and(|text| text.contains(&format!("token: {token}")))
        })
    }

    /// The operator removes one object at each look.
    fn hub_list(&mut self, key: &str) -> String {
        let mut state = self.hub_state(key);
        let objects = state["objects"].as_object().cloned().unwrap_or_default();
        let lines =
            objects.iter().map(|(name, time)| format!("{name} [{}] \n", time.as_str().unwrap())).collect();
        let gone = objects.iter().find(|(_, time)| *time != "");
        if let Some((name, _)) = gone.filter(|_| self.operator_of(&state).is_some()) {
            state["objects"].as_object_mut().unwrap().remove(name);
            self.set_hub_state(key, &state);
        }
        lines
    }
}
