//! The management cluster: its API, definitions, operator, and clusters.

use k8s_openapi::{
    api::apps::v1::Deployment,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, api::ListParams};

use crate::{
    api::{LocalCluster, crds},
    cli::{
        client::management::{Management, OPERATOR, Target},
        kubeconfig::Files,
    },
    plan::checkup::{self, Finding, Installed, Level},
};

/// Looks at the management cluster.
pub(super) async fn look(target: &Target, has_hub: bool) -> Vec<Finding> {
    let of = |level, message: String| vec![Finding::new("management", level, message)];
    if target.context.is_none() && !has_context(target.files().ok()) {
        let (level, message) = match has_hub {
            true => (
                Level::Warning,
                "the kubeconfig has no current context; `localcluster up` merges that of the hub",
            ),
            false => (
                Level::Error,
                "there is no hub, and the kubeconfig has no current context; make a hub with `localcluster up`",
            ),
        };
        return of(level, message.into());
    }
    let management = match target.connect().await {
        Ok(management) => management,
        Err(why) => return of(Level::Error, why.to_string()),
    };
    let context = &management.context;
    let version = match management.client().apiserver_version().await {
        Ok(version) => version.git_version,
        Err(error) => {
            let what = "cannot read the version of the API";
            return of(Level::Error, management.told(what, &error).to_string());
        }
    };
    let mut found = of(Level::Ok, format!("{context} at {}: Kubernetes {version}", management.server));
    found.extend(definitions(&management).await);
    found.extend(operators(&management).await);
    found.extend(clusters(&management).await);
    found
}

fn has_context(files: Option<Files>) -> bool {
    files.is_some_and(|files| files.management().is_ok_and(|context| context.is_some()))
}

async fn definitions(management: &Management) -> Vec<Finding> {
    let api: Api<CustomResourceDefinition> = Api::all(management.client());
    let mut seen = Vec::new();
    for (_, own) in crds::all() {
        let name = own.metadata.name.clone().unwrap_or_default();
        let installed = match api.get_opt(&name).await {
            Ok(Some(there)) => Installed::There(Box::new(there)),
            Ok(None) => Installed::Missing,
            Err(error) => {
                Installed::Unknown(management.told(&format!("cannot read {name}"), &error).to_string())
            }
        };
        seen.push((own, installed));
    }
    checkup::definitions(&management.context, &seen)
}

async fn operators(management: &Management) -> Vec<Finding> {
    let api: Api<Deployment> = Api::all(management.client());
    let list = match api.list(&ListParams::default().labels(OPERATOR)).await {
        Ok(list) => list.items,
        Err(error) => {
            let why = management.told("cannot list the Deployments of operators", &error).to_string();
            return vec![Finding::new("operator", Level::Unknown, why)];
        }
    };
    let summary = |deployment: Deployment| {
        let text = |text: Option<String>| text.unwrap_or_default();
        let name = format!("{}/{}", text(deployment.metadata.namespace), text(deployment.metadata.name));
        let pod = deployment.spec.and_then(|spec| spec.template.spec);
        let image =
            pod.and_then(|pod| pod.containers.into_iter().next()).and_then(|container| container.image);
        let available = deployment.status.and_then(|status| status.available_replicas).unwrap_or_default();
        (name, text(image), available)
    };
    let all: Vec<_> = list.into_iter().map(summary).collect();
    checkup::operators(&all, env!("CARGO_PKG_VERSION"))
}

async fn clusters(management: &Management) -> Vec<Finding> {
    match management.api::<LocalCluster>().list(&ListParams::default()).await {
        Ok(list) => checkup::clusters(&list.items),
        // Of missing definitions there is a finding already.
        Err(kube::Error::Api(status)) if status.is_not_found() => Vec::new(),
        Err(error) => {
            let why = management.told("cannot list LocalClusters", &error).to_string();
            vec![Finding::new("clusters", Level::Unknown, why)]
        }
    }
}
