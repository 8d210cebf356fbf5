//! The security settings of each role, as docs/security.md lists them.

use localcluster_operator::{
    api::local_cluster::NodeRole,
    docker::{
        engine::Engine,
        spec::{ContainerSpec, Role},
    },
};
use serde_json::Value;

use super::{World, docker, hardening::table, image};

#[tokio::test]
async fn each_role_has_the_documented_settings() {
    let world = World::new("hardening");
    let (_, network) = world.network("net").await;
    let mut checked = Vec::new();
    for row in table() {
        let role = match row.role.as_str() {
            "server" => Role::Node(NodeRole::Server),
            "agent" => Role::Node(NodeRole::Agent),
            "loadbalancer" => Role::LoadBalancer,
            "registry" => Role::Registry,
            "registry-gc" | "registry-path" => Role::RegistryHelper,
            "path" => Role::NodeHelper,
            other => panic!("no container has the role {other}"),
        };
        let helper = matches!(role, Role::RegistryHelper | Role::NodeHelper);
        for memory in [None, Some(64 << 20)] {
            let name = format!("{}-{}", row.role, memory.is_some());
            let spec = ContainerSpec {
                memory,
                privileged: matches!(role, Role::Node(_)),
                labels: world.labels(),
                ..ContainerSpec::bare(world.name(&name), role, image())
            };
            let on = (!helper).then_some(network.as_str());
            let id = world.engine.create_container(&spec, on).await.unwrap();
            let shown: Vec<Value> = serde_json::from_str(&docker(&["inspect", &id])).unwrap();
            row.check(&shown[0], memory);
        }
        checked.push(row.role);
    }
    assert_eq!(checked.len(), 7, "{checked:?}");
}
