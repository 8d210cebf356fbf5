//! Docker's part of a report: the engine, and what is on it of the operator, its objects and the hub.

use serde_json::{Value, json};

use super::bundle::Bundle;
use crate::{
    api::names,
    cli::engine::words,
    docker::{
        bollard::BollardEngine,
        engine::{Container, Engine, Network},
        error::Error,
    },
    plan::hub::desired::HubNames,
};

/// Lines of each log.
const LINES: u32 = 1000;

/// Collects what belongs to objects with these UIDs, and to the hub.
pub(super) async fn collect(
    bundle: &mut Bundle,
    engine: &BollardEngine,
    (uids, hub): (&[String], &HubNames),
) {
    let is_own = |labels: &std::collections::BTreeMap<String, String>| {
        labels.get(names::UID).is_some_and(|uid| uids.contains(uid)) || hub.owns(labels)
    };
    let told = |error: Error| words(&error);
    bundle.found("docker/info.json", engine.raw_info().await.map_err(told));
    bundle.found("docker/version.json", engine.raw_version().await.map_err(told));
    match engine.networks().await {
        Ok(all) => {
            let own: Vec<Value> = all.iter().filter(|network| is_own(&network.labels)).map(network).collect();
            bundle.json("docker/networks.json", own.into());
        }
        Err(error) => bundle.missing("docker/networks.json", &words(&error)),
    }
    match engine.containers().await {
        Ok(all) => {
            for container in all.iter().filter(|container| is_own(&container.labels)) {
                container_of(bundle, engine, container).await;
            }
        }
        Err(error) => bundle.missing("docker/containers", &words(&error)),
    }
}

async fn container_of(bundle: &mut Bundle, engine: &BollardEngine, container: &Container) {
    let (name, id) = (&container.name, &container.id);
    let path = format!("docker/containers/{name}.json");
    match engine.raw_container(id).await {
        Ok(Some(description)) => bundle.json(&path, description),
        Ok(None) => bundle.missing(&path, &"it was removed meanwhile"),
        Err(error) => bundle.missing(&path, &words(&error)),
    }
    let path = format!("docker/logs/{name}.log");
    match engine.logs(id, LINES).await {
        Ok(lines) => bundle.text(&path, lines.join("\n") + "\n"),
        Err(error) => bundle.missing(&path, &words(&error)),
    }
}

fn network(network: &Network) -> Value {
    let Network { id, name, labels, subnets, driver, created } = network;
    let subnets: Vec<String> = subnets.iter().map(ToString::to_string).collect();
    json!({"id": id, "name": name, "labels": labels, "subnets": subnets, "driver": driver, "created": created})
}
