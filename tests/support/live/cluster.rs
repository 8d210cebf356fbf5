//! The cluster `c` and the registry `r` of a scene, which all tests of whole clusters share.

use super::{Kubectl, docker, eventually, holds, scene::Scene, try_docker, world};

/// Returns the name of a container of the cluster.
pub fn container(scene: &Scene, short: &str) -> String {
    format!("{}-{short}", scene.network("c"))
}

/// Pushes a small web server to the registry and returns its name there.
pub fn push(scene: &Scene, name: &str) -> String {
    let host = scene.get("lreg/r")["status"]["host"].as_str().expect("the status has its host").to_owned();
    let image = format!("{host}/e2e/{name}:1");
    docker(&["tag", &world("HTTP_IMAGE"), &image]);
    let pushed = std::panic::catch_unwind(|| docker(&["push", "-q", &image]));
    docker(&["rmi", &image]);
    pushed.expect("the push succeeds");
    image
}

/// Returns an error unless a cluster has this many Nodes, all Ready and with this version.
pub fn nodes_are_ready(child: &Kubectl, count: usize, version: &str) -> Result<(), String> {
    let list = child.json(&["nodes"])?;
    let nodes = list["items"].as_array().cloned().unwrap_or_default();
    holds(nodes.len() == count, || format!("{} Nodes and not {count}", nodes.len()))?;
    for node in &nodes {
        let name = &node["metadata"]["name"];
        let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.clone().any(|c| c["type"] == "Ready" && c["status"] == "True");
        holds(ready, || format!("{name} is not Ready"))?;
        let runs = &node["status"]["nodeInfo"]["kubeletVersion"];
        holds(runs == version, || format!("{name} runs {runs}"))?;
    }
    Ok(())
}

/// Removes a container and its volumes, like the loss of its disk.
pub fn lose(name: &str) {
    let volumes = docker(&["volume", "ls", "-q", "--filter", &format!("name={name}-")]);
    // The operator may have created a new container before the volumes are removed.
    eventually(30, "the volumes are gone", || {
        try_docker(&["rm", "-f", name])?;
        try_docker(&[&["volume", "rm", "-f"], &volumes.lines().collect::<Vec<_>>()[..]].concat())
    });
}
