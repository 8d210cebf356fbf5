//! Mounts that are shared at each start.

use super::*;

/// Makes an image of the test's own, by instructions of a Dockerfile. Without the cache: Docker looks for a match through
/// all images on the same base, and fails when another test deletes one of them at that moment.
pub(super) fn build(world: &World, thing: &str, dockerfile: &str) -> String {
    use std::{io::Write, process::Stdio};
    let name = world.name(thing);
    let mut build = std::process::Command::new("docker");
    let mut build =
        build.args(["build", "--no-cache", "-q", "-t", &name, "-"]).stdin(Stdio::piped()).spawn().unwrap();
    build.stdin.take().unwrap().write_all(dockerfile.as_bytes()).unwrap();
    assert!(build.wait().unwrap().success());
    name
}

#[tokio::test]
async fn mounts_are_shared_at_each_start_and_reach_nobody_else() {
    let world = World::new("mounts");
    let image =
        build(&world, "image", &format!("FROM {}\nENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"no\"]\n", image()));
    let mut spec = world.spec("c");
    let script = spec.command[2].clone();
    (spec.image, spec.privileged, spec.shares_mounts) = (image.clone(), true, true);
    spec.command = vec![script.clone()];
    spec.mounts = BTreeMap::from([("/data".into(), world.volume("data").await)]);
    let id = world.engine.create_container(&spec, None).await.unwrap();
    // All that is mounted here, but for what the engine mounts for each container.
    let host = || {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = |line: &&str| !line.contains("/docker/") && !line.contains(" nsfs ");
        mounts.lines().filter(own).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let before = host();
    world.engine.start(&id).await.unwrap();
    for _ in 0..2 {
        let mounts = docker(&["exec", &id, "cat", "/proc/1/mountinfo"]);
        for at in ["/", "/data"] {
            let line = mounts.lines().find(|l| l.split(' ').nth(4) == Some(at)).unwrap();
            assert!(line.contains(" shared:"), "{line}");
        }
        let first = docker(&["exec", &id, "sh", "-c", "tr '\\0' '\\n' </proc/1/cmdline"]);
        assert_eq!(first, ["sh", "-c", &script].join("\n"), "the image's own process took the shell's place");
        docker(&["exec", &id, "mount", "-t", "tmpfs", "lco-live", "/data"]);
        assert_eq!(host(), before);
        docker(&["restart", "-t", "5", &id]);
    }
    world.engine.stop(&id, 5).await.unwrap();
    assert_eq!(world.engine.inspect(&id).await.unwrap().unwrap().exit_code, Some(7), "it heard the signal");
    world.engine.remove_container(&id).await.unwrap();
    docker(&["rmi", &image]);
}

#[tokio::test]
async fn an_image_without_a_shell_can_not_share_mounts() {
    let world = World::new("noshell");
    let image = build(&world, "image", "FROM scratch\nLABEL a=b\nENTRYPOINT [\"/none\"]\n");
    let mut spec = world.spec("c");
    (spec.image, spec.shares_mounts) = (image.clone(), true);
    let id = world.engine.create_container(&spec, None).await.unwrap();
    let error = world.engine.start(&id).await.unwrap_err();
    let problem =
        failures::docker(&Action::Start { container: Target { name: spec.name, id: None } }, &error, None);
    assert_eq!(problem.map(|p| p.reason), Some(Reason::NodeImageInvalid), "{error:?}");
    world.engine.remove_container(&id).await.unwrap();
    docker(&["rmi", &image]);
}
