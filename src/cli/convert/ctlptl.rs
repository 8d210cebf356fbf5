//! Files of ctlptl: `Cluster` and `Registry`.

use serde_json::{Value, json};

use super::{k3d, kind, object, part::Part};

/// Converts a registry.
pub(super) fn registry(mut file: Part) -> Value {
    let name = file.text("name").unwrap_or_else(|| "ctlptl-registry".into());
    let mut spec = json!({});
    // ctlptl names the container like the object.
    spec["hostname"] = name.as_str().into();
    if let Some(port) = file.number("port").filter(|port| *port > 0) {
        spec["hostPort"] = port.into();
    }
    if let Some(ip) = file.text("listenAddress") {
        spec["hostIP"] = ip.into();
    }
    if let Some(image) = file.text("image") {
        spec["image"] = image.into();
    }
    file.instead("labels", "labels of containers have no equal, left out");
    object("Registry", &name, spec)
}

/// Converts a cluster.
pub(super) fn cluster(mut file: Part) -> Value {
    let product = file.text("product").unwrap_or_default();
    let name = file.text("name").unwrap_or_else(|| product.clone());
    let prefix = format!("{product}-");
    let name = name.strip_prefix(&prefix).unwrap_or(&name).to_owned();
    let mut k3d = file.part("k3d");
    let mut simple = ["v1alpha5Simple", "v1alpha4Simple"].map(|key| k3d.part(key));
    let mut of_kind = file.part("kindV1Alpha4Cluster");
    of_kind.without(&["apiVersion", "kind", "name"]);
    let mut spec = match product.as_str() {
        "kind" => kind::spec(&mut of_kind),
        "k3d" => {
            let [new, old] = &mut simple;
            for file in [&mut *new, &mut *old] {
                file.without(&["apiVersion", "kind", "metadata"]);
            }
            let file = if new.is_some() { new } else { old };
            k3d::spec(file)
        }
        _ => {
            file.note("product", "the settings of the product have no equal");
            json!({})
        }
    };
    if let Some(registry) = file.text("registry") {
        let list = json!([{"name": registry}]);
        match spec["registries"]["use"].as_array_mut() {
            Some(used) => used.push(list[0].clone()),
            None => spec["registries"]["use"] = list,
        }
    }
    file.instead("kubernetesVersion", "set spec.version to the version of K3s, such as v1.36.2+k3s1");
    file.instead("minCPUs", "limits are for each node: spec.servers.cpus");
    file.instead(
        "registryAuths",
        "put the credentials into a Secret, and name it in spec.registries.configs",
    );
    object("LocalCluster", &name, spec)
}
