//! The size of a storage, and a registry that is full.

use localcluster_operator::plan::registry::{config, fill};

use super::{contents::*, *};

async fn size(world: &World, id: &str) -> i64 {
    let ended = world.engine.exec(id, &fill::COMMAND.map(String::from)).await.unwrap();
    fill::parse(&ended.stdout).unwrap_or_else(|| panic!("{ended:?}"))
}

#[tokio::test]
async fn the_storage_is_measured_and_a_full_registry_only_serves() {
    let world = World::new("full");
    let mut spec = RegistrySpec { delete_enabled: true, ..RegistrySpec::default() };
    spec.storage.volume_name = Some(world.volume("images").await);
    let subject = Subject::new(&world, spec, Secrets::default());
    let mut wanted = subject.desired().container;
    let id = make(&world, &wanted).await;
    let base = format!("{}/app", up(&world, &id, &wanted.name).await);
    let empty = size(&world, &id).await;
    let (config, layer) = (b"{}".as_slice(), vec![7; 3 << 20]);
    push_blob(&base, config).await;
    push_blob(&base, &layer).await;
    let image = manifest(config, &layer);
    assert_eq!(call("PUT", &format!("{base}/manifests/1"), &image, MANIFEST).await.0, 201);
    let grown = size(&world, &id).await - empty;
    assert!((3 << 20..4 << 20).contains(&grown), "{grown}");

    world.engine.remove_container(&id).await.unwrap();
    wanted.files = config::files(&subject.valid, &subject.secrets, true);
    let id = make(&world, &wanted).await;
    let base = format!("{}/app", up(&world, &id, &wanted.name).await);
    assert_eq!(call("GET", &format!("{base}/manifests/1"), b"", BINARY).await.0, 200);
    let (status, _, body) = exchange("GET", &format!("{base}/blobs/{}", digest(&layer)), b"", BINARY).await;
    assert_eq!((status, digest(&body)), (200, digest(&layer)));
    for (method, path) in [
        ("POST", "blobs/uploads/".to_owned()),
        ("PUT", "manifests/2".to_owned()),
        ("DELETE", format!("manifests/{}", digest(&image))),
    ] {
        assert_eq!(call(method, &format!("{base}/{path}"), &image, MANIFEST).await.0, 405, "{method} {path}");
    }
    // Garbage is collected all the same.
    world.engine.stop(&id, 15).await.unwrap();
    assert_eq!(collect(&world, &subject).await, (true, "nothing to remove".into()));
}
