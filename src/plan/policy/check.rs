//! Judgement of files by a policy, without a cluster: for CI.

use kube::ResourceExt;
use serde_json::Value;

use super::{judge, parse, rules::Violation, select::Policy, usage::Usage};
use crate::{
    api::{HostPolicy, Registry, local_cluster},
    plan::{settings::Settings, validate},
};

/// Outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Name of the policy.
    pub policy: String,
    /// Number of objects.
    pub objects: usize,
    /// Messages about the objects that violate the policy or are invalid.
    pub refused: Vec<String>,
    /// Messages about the objects that violate a policy whose mode is Audit.
    pub audited: Vec<String>,
}

/// Judges the objects of files, given by name and content, by the only HostPolicy in another. Objects without a
/// namespace are in `namespace`. Returns an error if a file cannot be read or the policy is invalid.
pub fn files(
    (name, text): (&str, &str),
    objects: &[(String, String)],
    namespace: &str,
    settings: &Settings,
) -> Result<Checked, String> {
    let policy = policy(name, text)?;
    let mut sums = std::collections::BTreeMap::<String, Usage>::new();
    let mut checked =
        Checked { policy: policy.name.clone(), objects: 0, refused: Vec::new(), audited: Vec::new() };
    for (file, text) in objects {
        for mut value in documents(file, text)? {
            let kind = value["kind"].as_str().unwrap_or_default().to_owned();
            if !matches!(kind.as_str(), "LocalCluster" | "Registry") {
                continue;
            }
            if value["metadata"]["namespace"].is_null() {
                value["metadata"]["namespace"] = namespace.into();
            }
            if value["spec"].is_null() {
                value["spec"] = Value::Object(Default::default());
            }
            checked.objects += 1;
            let own = value["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
            let object = format!("{kind} {own}/{}", value["metadata"]["name"].as_str().unwrap_or_default());
            let judged = if kind == "LocalCluster" {
                cluster(&policy, value, settings)
            } else {
                registry(&policy, value, settings)
            };
            match judged.map_err(|error| format!("{file}: {object}: {error}"))? {
                Judged::Invalid(problems) => {
                    checked.refused.push(format!("{object}: {}", problems.join("; ")))
                }
                Judged::Valid(usage, mut violations) => {
                    let sum = sums.entry(own.clone()).or_default();
                    let with = sum.plus(usage);
                    violations.extend(policy.rules.quota.exceeded(&usage, &with, &own));
                    let told = violations.iter().map(|violation| format!("{object}: {violation}"));
                    if policy.rules.audit {
                        checked.audited.extend(told);
                        *sum = with;
                    } else {
                        checked.refused.extend(told);
                        if violations.is_empty() {
                            *sum = with;
                        }
                    }
                }
            }
        }
    }
    Ok(checked)
}

enum Judged {
    Invalid(Vec<String>),
    Valid(Usage, Vec<Violation>),
}

fn cluster(policy: &Policy, value: Value, settings: &Settings) -> Result<Judged, String> {
    let cluster = local_cluster::from_file(value).map_err(|e| e.to_string())?;
    let namespace = cluster.namespace().unwrap_or_default();
    Ok(match validate::local_cluster(&namespace, &cluster.name_any(), &cluster.spec) {
        Err(problems) => Judged::Invalid(problems),
        Ok(valid) => {
            let violations = judge::cluster(&policy.rules, &cluster, &valid, settings);
            Judged::Valid(Usage::of_cluster(&cluster, policy.rules.defaults), violations)
        }
    })
}

fn registry(policy: &Policy, value: Value, settings: &Settings) -> Result<Judged, String> {
    let registry: Registry = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let (namespace, name) = (registry.namespace().unwrap_or_default(), registry.name_any());
    Ok(match validate::registry(&namespace, &name, &registry.spec) {
        Err(problems) => Judged::Invalid(problems),
        Ok(valid) => {
            let violations = judge::registry(&policy.rules, (&namespace, &name), &valid, settings);
            Judged::Valid(Usage::of_registry(&registry.spec), violations)
        }
    })
}

/// Returns the only policy of a file.
fn policy(file: &str, text: &str) -> Result<Policy, String> {
    let documents = documents(file, text)?;
    let policies: Vec<Value> = documents.into_iter().filter(|d| d["kind"] == "HostPolicy").collect();
    let [policy] = <[Value; 1]>::try_from(policies)
        .map_err(|found| format!("{file} has {} HostPolicies; give a file with one", found.len()))?;
    let policy: HostPolicy = serde_json::from_value(policy).map_err(|e| format!("{file}: {e}"))?;
    let policy = parse::policy(&policy.name_any(), &policy.spec);
    if policy.errors.is_empty() {
        Ok(policy)
    } else {
        Err(format!("the HostPolicy {} is invalid: {}", policy.name, policy.errors.join("; ")))
    }
}

fn documents(file: &str, text: &str) -> Result<Vec<Value>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|e| format!("{file}: {e}"))?;
    Ok(documents.into_iter().filter(|d| !d.is_null()).collect())
}
