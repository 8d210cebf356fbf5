//! Random edits of a spec, generated from the schema of its CustomResourceDefinition: a function of the seed. What the
//! schema cannot say (which Secrets exist, how much memory a node needs) is in [`WORDS`]; whether the CEL rules admit an
//! edit is for the API server to say.

use std::{collections::BTreeSet, sync::Arc};

use proptest::{
    strategy::{Strategy, ValueTree},
    string::string_regex,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use regex::Regex;
use serde_json::{Map, Value, json};

/// Regular expressions of texts for fields whose own admits too much, by the end of their path; items of a list end
/// with `[]`. A word in braces is replaced by the world's. `None` leaves the field out: it cannot change after creation, or
/// deletes the object.
const WORDS: &[(&str, Option<&str>)] = &[
    ("clusterName", None),
    ("token", None),
    ("network", None),
    ("create.hostname", None),
    ("registry.hostname", None),
    ("storage.volumeName", None),
    ("storage.hostPath", None),
    // Not heeded where there is one Docker host.
    ("placement", None),
    ("schedule", Some("0 [0-9] 1 [1-9] \\*")),
    ("keepFor", Some("[1-9]{1,3}h|90m")),
    // More than the images of a campaign.
    ("maxSize", Some("[1-9]Ti|900Gi|1T|2t")),
    (
        "args[]",
        Some(
            "--kubelet-arg=max-pods=1[0-9]{2}|--node-label=campaign.example/arg=[a-c]|--debug|--no-such-flag",
        ),
    ),
    ("memory", Some("1Gi|1536Mi|2G|1g|1536m")),
    ("registry.memory", Some("64Mi|96Mi")),
    ("cpus", Some("1|1\\.5|2")),
    ("shmSize", Some("64Mi|96Mi|128M|64m")),
    ("gpus", Some("all|1")),
    ("runtime", Some("no-such-runtime")),
    // The runtimes of this machine run no K3s without privileges.
    ("privileged", None),
    ("env[].name", Some("CAMPAIGN_[A-C]")),
    ("value", Some("[ -~]{0,12}")),
    ("containerLabels{}", Some("campaign\\.example\\.[a-c]")),
    ("labels{}", Some("campaign\\.example/[a-c]")),
    ("taints[]", Some("campaign\\.example/[a-c](=[a-c])?:(NoSchedule|PreferNoSchedule)")),
    ("ulimits[].name", Some("nofile|nproc|core|memlock")),
    ("agentPools[].name", Some("gpu|big")),
    ("volumes[].hostPath", Some("/no/such/directory")),
    ("volumes[].volumeName", Some("campaign-no-volume")),
    ("mountPath", Some("/mnt/[a-c]")),
    ("sans[]", Some("[a-c]\\.campaign\\.example|10\\.9\\.9\\.[1-9]")),
    ("serverName", Some("[a-c]\\.campaign\\.example|127\\.0\\.0\\.1")),
    ("hostIP", Some("127\\.0\\.0\\.1|0\\.0\\.0\\.0")),
    ("hostAliases[].ip", Some("10\\.9\\.9\\.[1-5]|host-gateway")),
    ("hostnames[]", Some("[a-e]\\.campaign\\.example")),
    ("files[].path", Some("/campaign/[a-c]|/etc/campaign\\.d/[a-c]\\.conf")),
    ("files[].inline", Some("[ -~\n]{0,40}")),
    (
        "manifests[].inline",
        Some(
            "\\{apiVersion: v1, kind: ConfigMap, metadata: \\{name: campaign-[a-c], namespace: default\\}, data: \\{k: [a-z]{1,4}\\}\\}",
        ),
    ),
    ("manifests[].name", Some("[a-c]")),
    ("manifests[].secret.name", Some("manifest")),
    ("manifests[].configMap.name", Some("manifest|missing")),
    ("secret.name", Some("contents|missing")),
    ("configMap.name", Some("contents")),
    ("key", Some("key")),
    ("image", Some("{image}|localhost/campaign-does-not-exist:1")),
    ("create.image", Some("{registry-image}")),
    ("registry.image", Some("{registry-image}")),
    ("version", Some("{version}|{next-version}")),
    ("imagePullSecret.name", Some("pull")),
    ("ports[].name", Some("[a-c]")),
    ("preloadImages[]", Some("{app-image}")),
    (
        "config.inline",
        Some("mirrors: \\{\"file[a-c]\\.example\": \\{endpoint: \\[\"http://127\\.0\\.0\\.1:1\"\\]\\}\\}"),
    ),
    ("config.secretName", Some("registries")),
    ("config.configMapName", Some("registries")),
    ("auth.secretName", Some("login")),
    ("htpasswdSecret", Some("users")),
    ("clientSecret", Some("login")),
    ("credentialsSecret", Some("login")),
    ("caSecretName", Some("authority")),
    ("caConfigMapName", Some("authority")),
    ("clientSecretName", Some("certificate")),
    ("tls.secretName", Some("certificate")),
    ("remoteURL", Some("https?://[a-c]\\.campaign\\.example")),
    ("proxy.ttl", Some("[1-9]h|0s")),
    ("localcluster.ttl", Some("[1-9]00h")),
    ("kubeconfig.ttl", Some("[1-9]h|30m")),
    ("host", Some("[a-c]\\.campaign\\.example(:5000)?")),
    ("mirrors[].registry", Some("[a-c]\\.campaign\\.example|docker\\.io|\\*")),
    ("endpoints[]", Some("https?://[a-c]\\.campaign\\.example(:5000)?(/v2)?")),
    ("pattern", Some("\\^[a-c]/\\(\\.\\*\\)")),
    ("replacement", Some("[a-c]/\\$1")),
    ("containers[].name", Some("campaign-no-container")),
    ("use[].name", Some("shared|missing")),
    ("use[].namespace", Some("")),
    ("allowedNamespaces[]", Some("[a-c]|\\*")),
];

/// The least and the greatest number of fields that admit more than a machine has, or than is seen in a minute.
const NUMBERS: &[(&str, i64, i64)] = &[
    ("agents.count", 0, 2),
    ("agentPools[].count", 0, 1),
    ("excludedIndexes[]", 0, 2),
    ("soft", 4096, 8192),
    ("hard", 8192, 9000),
    ("hostPort", 17_000, 19_999),
    ("port", 30_000, 30_040),
    ("endPort", 30_000, 30_060),
    ("pids", 1024, 9000),
    ("maxUnavailable", 1, 3),
];

/// How deep objects are generated at once.
const DEPTH: usize = 4;

/// The words of the world by name, see [`WORDS`].
pub type World<'a> = &'a [(&'a str, String)];

/// Generates edits of the specs of one kind.
pub struct Edits {
    /// In lowercase, the first name of each path.
    kind: String,
    schema: Arc<Value>,
    runner: TestRunner,
    words: Vec<(&'static str, Option<String>)>,
    /// Fields that were set, changed or removed.
    pub touched: BTreeSet<String>,
}

impl Edits {
    /// Takes the schema of a `spec`, and the name of its kind in lowercase.
    pub fn new(seed: u64, kind: &str, schema: Value, world: World<'_>) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..8 + kind.len()].copy_from_slice(kind.as_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let fill = |text: &str| {
            let put = |text: String, (name, value): &(&str, String)| {
                text.replace(&format!("{{{name}}}"), &regex::escape(value))
            };
            world.iter().fold(text.to_owned(), put)
        };
        let words = WORDS.iter().map(|(path, text)| (*path, text.map(fill))).collect();
        Self {
            kind: kind.to_owned(),
            schema: Arc::new(schema),
            runner: TestRunner::new_with_rng(Config::default(), rng),
            words,
            touched: BTreeSet::new(),
        }
    }

    /// Returns the spec with one random edit. The API server may refuse it.
    pub fn edit(&mut self, spec: &Value) -> Value {
        loop {
            let (mut edited, schema, mut touched) = (spec.clone(), self.schema.clone(), String::new());
            self.change(&schema, &self.kind.clone(), &mut edited, &mut touched);
            if edited != *spec {
                self.touched.insert(touched);
                return edited;
            }
        }
    }

    fn below(&mut self, end: usize) -> usize {
        (0..end).new_tree(&mut self.runner).expect("a range has values").current()
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// Changes something of a value that exists.
    fn change(&mut self, schema: &Value, path: &str, value: &mut Value, touched: &mut String) {
        match value {
            Value::Object(fields) if schema["properties"].is_object() => {
                self.change_field(schema, path, fields, touched);
            }
            Value::Object(fields) => {
                let key = self.word(&format!("{path}{{}}"), &Value::Null);
                *touched = format!("{path}{{}}");
                if fields.remove(&key).is_none() {
                    fields.insert(key, json!(self.text("[a-z]{0,3}")));
                }
            }
            Value::Array(items) => self.change_item(schema, path, items, touched),
            leaf => {
                *touched = path.to_owned();
                *leaf = self.value(schema, path, 0);
            }
        }
    }

    fn change_field(
        &mut self,
        schema: &Value,
        path: &str,
        fields: &mut Map<String, Value>,
        touched: &mut String,
    ) {
        let properties = schema["properties"].as_object().expect("the caller looked");
        let names: Vec<&String> =
            properties.keys().filter(|n| self.admitted(&format!("{path}.{n}"))).collect();
        let name = names[self.below(names.len())];
        let (inner, at) = (&properties[name], format!("{path}.{name}"));
        let required = required(schema).contains(name.as_str());
        match fields.get_mut(name) {
            Some(_) if !required && self.one_in(4) => {
                *touched = at;
                fields.remove(name);
            }
            Some(value) => self.change(inner, &at, value, touched),
            None => {
                *touched = at.clone();
                let value = self.value(inner, &at, DEPTH);
                // Of fields that exclude each other, the new one.
                for others in ALTERNATIVES.iter().filter(|all| all.contains(&name.as_str())) {
                    others.iter().for_each(|other| drop(fields.remove(*other)));
                }
                fields.insert(name.clone(), value);
            }
        }
    }

    fn change_item(&mut self, schema: &Value, path: &str, items: &mut Vec<Value>, touched: &mut String) {
        let (at, item) = (format!("{path}[]"), &schema["items"]);
        let chosen = self.below(items.len() + 1);
        *touched = at.clone();
        if items.is_empty() || self.one_in(3) {
            items.insert(chosen, self.value(item, &at, DEPTH));
        } else if self.one_in(3) {
            items.remove(chosen.min(items.len() - 1));
        } else {
            let last = items.len() - 1;
            self.change(item, &at, &mut items[chosen.min(last)], touched);
        }
    }

    /// Generates a value of a schema.
    fn value(&mut self, schema: &Value, path: &str, depth: usize) -> Value {
        if let Some(all) = schema["enum"].as_array() {
            return all[self.below(all.len())].clone();
        }
        match schema["type"].as_str() {
            Some("boolean") => json!(self.one_in(2)),
            Some("integer") => json!(self.number(schema, path)),
            Some("string") => json!(self.word(path, schema)),
            Some("array") => {
                let many = 1 + self.below(2);
                let items = (0..many)
                    .map(|_| self.value(&schema["items"], &format!("{path}[]"), depth.saturating_sub(1)));
                json!(items.collect::<Vec<_>>())
            }
            _ if schema["properties"].is_object() => self.object(schema, path, depth),
            _ => {
                let key = self.word(&format!("{path}{{}}"), &Value::Null);
                json!({ key: self.text("[a-z]{0,3}") })
            }
        }
    }

    fn object(&mut self, schema: &Value, path: &str, depth: usize) -> Value {
        let properties = schema["properties"].as_object().expect("the caller looked");
        let required = required(schema);
        let mut fields = Map::new();
        let exclusive: Vec<&[&str]> = ALTERNATIVES
            .iter()
            .copied()
            .filter(|all| all.iter().all(|a| properties.contains_key(*a)))
            .collect();
        let chosen: Vec<&str> = exclusive.iter().map(|all| all[self.below(all.len())]).collect();
        for (name, inner) in properties {
            let at = format!("{path}.{name}");
            let alternative = exclusive.iter().any(|all| all.contains(&name.as_str()));
            let wanted = match () {
                () if !self.admitted(&at) => false,
                () if alternative => chosen.contains(&name.as_str()),
                () => required.contains(name.as_str()) || depth > 0 && self.one_in(4),
            };
            if wanted {
                fields.insert(name.clone(), self.value(inner, &at, depth.saturating_sub(1)));
            }
        }
        Value::Object(fields)
    }

    fn number(&mut self, schema: &Value, path: &str) -> i64 {
        if path.ends_with("servers.count") {
            // Each change of it takes minutes.
            return if self.one_in(6) { 3 } else { 1 };
        }
        let own = NUMBERS.iter().find(|(end, ..)| ends_with(path, end));
        let limit = |name: &str, default| schema[name].as_f64().map_or(default, |n| n as i64);
        let (low, high) =
            own.map_or((limit("minimum", 0), limit("maximum", 100)), |(_, low, high)| (*low, *high));
        (low..=high).new_tree(&mut self.runner).expect("a range has values").current()
    }

    /// Reports whether a field is edited at all.
    fn admitted(&self, path: &str) -> bool {
        self.words.iter().filter(|(end, _)| ends_with(path, end)).all(|(_, text)| text.is_some())
    }

    /// Generates a text for a field: of the longest entry for it, or else of the schema's own expressions.
    fn word(&mut self, path: &str, schema: &Value) -> String {
        let of = |(end, text): &(&'static str, Option<String>)| {
            text.clone().filter(|_| ends_with(path, end)).map(|text| (end.len(), text))
        };
        let entry = self.words.iter().filter_map(of).max();
        let pattern = entry.map(|(_, text)| text).or_else(|| pattern(schema));
        let pattern = pattern.unwrap_or_else(|| panic!("{path} has no pattern: add it to WORDS"));
        self.text(&pattern)
    }

    fn text(&mut self, pattern: &str) -> String {
        let strategy = string_regex(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        strategy.new_tree(&mut self.runner).expect("it has values").current()
    }
}

/// Fields of which an object has exactly one.
const ALTERNATIVES: &[&[&str]] = &[
    &["inline", "secret", "configMap"],
    &["inline", "secretName", "configMapName"],
    &["caSecretName", "caConfigMapName"],
    &["version", "image"],
    &["hostPath", "volumeName"],
];

fn required(schema: &Value) -> BTreeSet<String> {
    let names = schema["required"].as_array().into_iter().flatten();
    names.filter_map(|n| n.as_str().map(str::to_owned)).collect()
}

/// Reports whether the last names of a path are these.
fn ends_with(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Returns the expression that the first CEL rule of a text demands.
fn pattern(schema: &Value) -> Option<String> {
    let rules = schema["x-kubernetes-validations"].as_array()?;
    let matches = Regex::new(r"^self\.matches\(r'\^(.*)\$'\)").expect("it is valid");
    rules.iter().find_map(|r| Some(matches.captures(r["rule"].as_str()?)?[1].to_owned()))
}
