//! **Pure**: descriptions and logs without secrets, for a report that a user sends to others.
//!
//! Two rules: what can be a secret by its place (an environment variable, an inline file) is left out, whatever it is, and
//! its value wherever else it appears; and what looks like a secret (a token, a private key, a password in a URL) is left
//! out wherever it is.

use std::{collections::BTreeSet, sync::LazyLock};

use regex::Regex;
use serde_json::Value;

/// What a secret is replaced with.
const HIDDEN: &str = "***";
/// Shorter values are no secrets, and leaving them out everywhere would only hide the rest.
const SHORTEST: usize = 6;
/// Shorter lines of a value are not left out where they stand alone.
const LONG_LINE: usize = 16;
/// Annotation with the whole object, as its file had it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotations whose values are those of the operator.
const OWN: &str = "localcluster.dev/";
/// Variables that every container has, whose values appear everywhere.
const PLAIN: [&str; 6] = ["PATH", "HOME", "LANG", "TERM", "KUBECONFIG", "CRI_CONFIG_FILE"];
/// Parts of the names of fields and flags that hold secrets.
const SECRET: [&str; 9] = [
    "password",
    "passwd",
    "token",
    "secret",
    "credential",
    "datastore-endpoint",
    "private",
    "apikey",
    "auth",
];
/// Fields with lists of arguments.
const ARGUMENTS: [&str; 4] = ["args", "cmd", "command", "entrypoint"];

/// What looks like a secret, each with what is left of it.
static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let all = [
        (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", HIDDEN),
        // Tokens of K3s, of ServiceAccounts, and of kubeadm.
        (r"K10[0-9a-f]{16,}::\S+", HIDDEN),
        (r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*)?", HIDDEN),
        (r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b", HIDDEN),
        (r#"://[^/\s"']+@"#, "://***@"),
        (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", "$1 ***"),
        (r"(client-key-data|client-certificate-data)(\W+)[A-Za-z0-9+/=]+", "$1$2***"),
        (
            r#"(?i)([\w.-]*(?:password|passwd|token|secret|credential|datastore-endpoint|access-key|apikey|api-key)[\w.-]*"?\s*(?:=|:\s*"))[^\s",}]+"#,
            "$1***",
        ),
        (r"(?i)(--[\w-]*(?:password|token|secret|datastore-endpoint)[\w-]*\s+)[^\s-]\S*", "$1***"),
    ];
    all.into_iter().map(|(pattern, left)| (Regex::new(pattern).expect("it is valid"), left)).collect()
});

/// Values that were found where secrets can be.
#[derive(Debug, Default)]
pub struct Secrets {
    found: BTreeSet<String>,
}

impl Secrets {
    /// Returns a description without what can be a secret by its place, and remembers that.
    pub fn json(&mut self, mut value: Value) -> Value {
        self.walk("", &mut value);
        value
    }

    /// Returns a text without what was found in any description, and what looks like a secret.
    pub fn text(&self, text: &str) -> String {
        let mut known: Vec<&String> = self.found.iter().collect();
        // One may be a part of another.
        known.sort_by_key(|value| std::cmp::Reverse(value.len()));
        let text =
            known.into_iter().fold(text.to_owned(), |text, value| text.replace(value.as_str(), HIDDEN));
        PATTERNS.iter().fold(text, |text, (pattern, left)| pattern.replace_all(&text, *left).into_owned())
    }

    fn hide(&mut self, value: &mut Value) {
        if let Some(text) = value.as_str() {
            self.remember(text);
        }
        *value = HIDDEN.into();
    }

    /// Remembers a value, as it is written in JSON, too, and its lines, since a log has one at a time.
    fn remember(&mut self, text: &str) {
        let plain = ["true", "false", "unless-stopped"].contains(&text);
        if text.len() < SHORTEST || plain {
            return;
        }
        let escaped = Value::from(text).to_string();
        self.found.insert(escaped.trim_matches('"').to_owned());
        self.found.insert(text.to_owned());
        let lines = text.lines().map(str::trim).filter(|line| line.len() >= LONG_LINE);
        self.found.extend(lines.map(str::to_owned));
    }

    fn walk(&mut self, key: &str, value: &mut Value) {
        match value {
            Value::Array(items) if key.eq_ignore_ascii_case("env") => {
                items.iter_mut().for_each(|item| self.variable(item));
            }
            Value::Array(items) if ARGUMENTS.iter().any(|name| key.eq_ignore_ascii_case(name)) => {
                self.arguments(items)
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk("", item)),
            Value::Object(fields) => {
                fields.remove("managedFields");
                for (key, value) in fields.iter_mut() {
                    match key.as_str() {
                        "annotations" => self.annotations(value),
                        "inline" if value.is_string() => *value = HIDDEN.into(),
                        name if value.is_string() && is_secret(name) => self.hide(value),
                        name => self.walk(name, value),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// A variable of Kubernetes (name and value) or of Docker (`NAME=value`).
    fn variable(&mut self, variable: &mut Value) {
        if let Some((name, value)) = variable.as_str().and_then(|text| text.split_once('=')) {
            if !PLAIN.contains(&name) {
                self.remember(value);
                *variable = format!("{name}={HIDDEN}").into();
            }
        } else if variable["value"].is_string() {
            self.hide(&mut variable["value"]);
        }
    }

    /// Values of flags that hold secrets: `--token=x`, `--token x`, and flags within flags.
    fn arguments(&mut self, items: &mut [Value]) {
        let mut is_next = false;
        for item in items {
            let Some(text) = item.as_str().map(str::to_owned) else { continue };
            if std::mem::replace(&mut is_next, false) {
                self.hide(item);
                continue;
            }
            let Some(at) = text.find('=') else {
                is_next = text.starts_with('-') && is_secret(&text);
                continue;
            };
            let last = text.rfind('=').unwrap_or(at);
            let (name, value) = text.split_at(if is_secret(&text[..at]) { at } else { last });
            if is_secret(name) {
                self.remember(&value[1..]);
                *item = format!("{name}={HIDDEN}").into();
            }
        }
    }

    fn annotations(&mut self, annotations: &mut Value) {
        let Some(annotations) = annotations.as_object_mut() else { return };
        annotations.remove(LAST_APPLIED);
        for (_, value) in annotations.iter_mut().filter(|(key, _)| !key.starts_with(OWN)) {
            *value = HIDDEN.into();
        }
    }
}

/// Reports whether a field or flag holds a secret by its name. The names of Secrets are none.
fn is_secret(name: &str) -> bool {
    let is_name = name.ends_with("Secret") || name.ends_with("ecretName");
    let name = name.to_ascii_lowercase();
    !is_name && SECRET.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_be_a_secret_by_its_place_is_left_out() {
        let object = json!({
            "metadata": {
                "name": "dev", "managedFields": [{"manager": "hush-fields"}],
                "annotations": {LAST_APPLIED: "hush-applied", "team": "hush-team", "localcluster.dev/hold": "true"},
            },
            "spec": {
                "servers": {
                    "env": [{"name": "A", "value": "hush-env"}, {"name": "B"}],
                    "args": ["--token=hush-arg", "--agent-token", "hush-next", "--tls-san=plain",
                        "--kube-apiserver-arg=oidc-client-secret=hush-nested", "--datastore-endpoint=postgres://u:hush-db@h"],
                },
                "files": [{"path": "/x", "inline": "hush-file"}, {"secret": {"name": "s", "key": "k"}}],
                "registries": {"configs": [{"auth": {"secretName": "plain-name"}}]},
            },
            "status": {"kubeconfigSecret": "dev-kubeconfig", "password": "hush-password"},
            "Config": {"Env": ["PATH=/usr/bin", "K=hush=docker"], "Cmd": ["server", "--token", "hush-cmd"]},
        });
        let mut secrets = Secrets::default();
        let text = secrets.json(object).to_string();
        assert!(!text.contains("hush"), "{text}");
        for kept in [
            "plain-name",
            "dev-kubeconfig",
            "--tls-san=plain",
            "PATH=/usr/bin",
            "\"hold\"",
            "K=***",
            "\"path\":\"/x\"",
        ] {
            assert!(text.contains(kept.trim_matches('"')), "{kept} is not in {text}");
        }
        assert_eq!(
            secrets.text("the value is hush-env, and hush=docker too"),
            "the value is ***, and *** too"
        );
    }

    #[test]
    fn what_looks_like_a_secret_is_left_out_anywhere() {
        let secrets = Secrets::default();
        let token = format!("K10{}::server:hush", "0a".repeat(32));
        for text in [
            token.as_str(),
            "jwt eyJhbGciOiJIUzI1NiJ9.eyJodXNoIjoiaHVzaCJ9.hush",
            "-----BEGIN EC PRIVATE KEY-----\nhush\nhush\n-----END EC PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nhush cut off",
            "pull from https://me:hush@r.example/v2",
            "pull from https://me:hu@hush@r.example/v2",
            "proxy http://hush@proxy:3128",
            "Authorization: Bearer hushhushhush",
            "password=hush, more",
            "{\"token\": \"hush\"}",
            "K3S_TOKEN=hush",
            "client-key-data: hush==",
            "k3s server --token hush --x",
            "MY_API-KEY=hush",
            "abcdef.hush5678hush5678",
        ] {
            let clean = secrets.text(text);
            assert!(!clean.contains("hush"), "{text} became {clean}");
            assert!(clean.contains(HIDDEN), "{clean}");
        }
        for text in [
            "Secret default/x not found: create it",
            "level=info msg=\"starting k3s\"",
            "https://127.0.0.1:6443/readyz",
            "the token expires in 5m",
            "image docker.io/rancher/k3s:v1.36.2-k3s1",
        ] {
            assert_eq!(secrets.text(text), text);
        }
    }

    #[test]
    fn a_value_of_several_lines_is_left_out_however_it_is_written() {
        let mut secrets = Secrets::default();
        let value = "first \"hush\" line of it\nthe second hush line";
        secrets.json(json!({"env": [{"name": "A", "value": value}]}));
        for text in
            [value.to_owned(), json!({"message": value}).to_string(), "the second hush line".to_owned()]
        {
            assert!(!secrets.text(&text).contains("hush"), "{text}");
        }
    }

    #[test]
    fn short_values_hide_nothing_else() {
        let mut secrets = Secrets::default();
        secrets.json(json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "false"}]}));
        assert_eq!(secrets.text("1 of 10 is false"), "1 of 10 is false");
    }
}
