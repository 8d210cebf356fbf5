//! What containers are told about the resolvers of the host.

use localcluster_operator::plan::{owner::Owner, resolvers};

use super::*;

/// The operator reads them in a container that has exited.
#[tokio::test]
async fn a_container_on_the_default_network_has_the_resolvers_of_the_host() {
    let world = World::new("resolvers");
    let owner = Owner { uid: "u".into(), manager: "m".into(), object: "default/dev".into() };
    let mut helper = resolvers::helper(&owner, &world.name("lb"), &image());
    helper.labels = world.spec("c").labels;
    let id = world.engine.create_container(&helper, None).await.unwrap();
    world.engine.start(&id).await.unwrap();
    let seen = world.engine.read_file(&id, resolvers::FILE, 1 << 20).await.unwrap().expect("Docker wrote it");
    world.engine.remove_container(&id).await.unwrap();
    let seen = resolvers::parse(&String::from_utf8_lossy(&seen));
    let by_docker = docker(&["run", "--rm", &image(), "cat", resolvers::FILE]);
    assert!(!seen.is_empty());
    assert_eq!(seen, resolvers::parse(&by_docker));
}
