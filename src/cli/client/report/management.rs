//! The management cluster's part of a report: its objects, their Events, and the operator with its log. No Secrets.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, LogParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::bundle::Bundle;
use crate::{
    api::{ADOPTS_ANNOTATION, HostPolicy, LocalCluster, Registry},
    cli::client::management::{Management, OPERATOR},
    plan::adoption,
};

/// Lines of each log.
const LINES: i64 = 5000;

/// Collects the objects of one or of all namespaces, and returns their UIDs.
pub(super) async fn collect(bundle: &mut Bundle, management: &Management, all: bool) -> Vec<String> {
    let version = management.client().apiserver_version().await;
    bundle.found(
        "management/version.json",
        told(management, "the version of the API", version.map(|v| json!(v))),
    );
    let params = ListParams::default();
    let clusters = list(api::<LocalCluster>(management, all), &params).await;
    let registries = list(api::<Registry>(management, all), &params).await;
    let mut uids = Vec::new();
    for (path, found) in [("localclusters", clusters), ("registries", registries)] {
        let items = found.as_ref().ok().and_then(Value::as_array).into_iter().flatten();
        let adopted =
            items.clone().filter_map(|item| item["metadata"]["annotations"][ADOPTS_ANNOTATION].as_str());
        uids.extend(adopted.flat_map(|text| adoption::parse(text).0).map(|pair| pair.uid));
        uids.extend(items.filter_map(|item| item["metadata"]["uid"].as_str().map(str::to_owned)));
        bundle.found(&format!("management/{path}.json"), told(management, path, found));
    }
    let policies = list(Api::<HostPolicy>::all(management.client()), &params).await;
    bundle.found("management/hostpolicies.json", told(management, "HostPolicies", policies));
    let events = list(api::<Event>(management, all), &params).await.map(own_events);
    bundle.found("management/events.json", told(management, "Events", events));
    operators(bundle, management).await;
    uids
}

fn api<K>(management: &Management, all: bool) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    let client: Client = management.client();
    if all { Api::all(client) } else { Api::namespaced(client, &management.namespace) }
}

async fn list<K>(api: Api<K>, params: &ListParams) -> kube::Result<Value>
where
    K: Clone + DeserializeOwned + Serialize + Debug,
{
    api.list(params).await.map(|list| json!(list.items))
}

fn told(management: &Management, what: &str, found: kube::Result<Value>) -> Result<Value, String> {
    found.map_err(|error| management.told(&format!("cannot read {what}"), &error).to_string())
}

/// Returns those that are about objects of this API: others are of others.
fn own_events(events: Value) -> Value {
    let is_own = |event: &&Value| {
        event["involvedObject"]["apiVersion"]
            .as_str()
            .is_some_and(|version| version.starts_with("localcluster.dev/"))
    };
    events.as_array().into_iter().flatten().filter(is_own).cloned().collect()
}

async fn operators(bundle: &mut Bundle, management: &Management) {
    let pods: Api<Pod> = Api::all(management.client());
    let found = match pods.list(&ListParams::default().labels(OPERATOR)).await {
        Ok(found) => found.items,
        Err(error) => {
            let why = management.told("cannot list the Pods of operators", &error);
            return bundle.missing("management/operator", &why);
        }
    };
    for pod in found {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        bundle.json(&format!("management/operator/{namespace}-{name}.json"), json!(pod));
        let path = format!("management/operator/{namespace}-{name}.log");
        let params = LogParams { tail_lines: Some(LINES), ..LogParams::default() };
        let api: Api<Pod> = Api::namespaced(management.client(), &namespace);
        match api.logs(&name, &params).await {
            Ok(log) => bundle.text(&path, log),
            Err(error) => bundle.missing(&path, &management.told("cannot read the log", &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_events_are_collected() {
        let of = |version: &str| json!({"involvedObject": {"apiVersion": version}});
        let all = json!([of("localcluster.dev/v1alpha1"), of("v1"), {}]);
        assert_eq!(own_events(all), json!([of("localcluster.dev/v1alpha1")]));
    }
}
