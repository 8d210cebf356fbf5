//! Containers whose processes do not wait for the disk.

use super::*;

/// A device without a disk refuses to flush, so that nothing but a flush that is left out succeeds there.
const FLUSH: &str = "dd if=/dev/zero of=/dev/null count=1 conv=fsync";

/// The engine heeds a profile for a privileged container from 27 on (moby/moby#47500); earlier ones flush.
fn heeds_profiles() -> bool {
    let version = docker(&["version", "-f", "{{.Server.Version}}"]);
    version.split('.').next().and_then(|major| major.parse::<u32>().ok()).expect("a version") >= 27
}

#[tokio::test]
async fn flushes_are_left_out_and_what_was_written_outlives_a_kill() {
    let world = World::new("flushes");
    let made = async |thing: &str, skips_flushes: bool| {
        let volume = BTreeMap::from([("/data".into(), world.volume(thing).await)]);
        let spec = ContainerSpec { privileged: true, skips_flushes, mounts: volume, ..world.spec(thing) };
        let id = world.engine.create_container(&spec, None).await.unwrap();
        world.engine.start(&id).await.unwrap();
        id
    };
    let run = async |id: &str, script: &str| {
        let command = ["/bin/sh", "-c", script].map(String::from);
        world.engine.exec(id, &command).await.unwrap()
    };
    let (durable, ephemeral) = (made("durable", false).await, made("ephemeral", true).await);
    let ended = run(&durable, FLUSH).await;
    assert_ne!(ended.code, 0, "of a device without a disk: {ended:?}");
    let ended = run(&ephemeral, FLUSH).await;
    assert_eq!(ended.code == 0, heeds_profiles(), "{ended:?}");
    // All other calls are as they were.
    let ended =
        run(&ephemeral, "mkdir /m && mount -t tmpfs t /m && umount /m && sync && echo kept >/data/x").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    docker(&["kill", &ephemeral]);
    world.engine.start(&ephemeral).await.unwrap();
    assert_eq!(docker(&["exec", &ephemeral, "cat", "/data/x"]), "kept");
}
