//! The operator is killed at any moment and continues: nothing is created twice, and nothing is left over.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{
    cluster::{nodes_are_ready, objects},
    live::{
        eventually,
        harness::{Group, all},
        holds, idle_image, install,
        operator::{Operator, Victim},
        pause,
        proxy::{Kill, Proxy},
        scene::{LIMIT, Scene},
        world,
    },
};

pub const GROUP: Group = Group {
    name: "kills",
    setup: || {
        install();
        Scene::new("kill")
    },
    tests: &[("at_random_moments", at_random_moments), ("at_docker_calls", at_docker_calls)],
};

/// How often the operator is killed at random.
const KILLS: u32 = 20;

fn at_random_moments(scene: &Scene) {
    let seed = std::env::var("E2E_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        now.as_micros() as u64
    });
    println!("to repeat: E2E_SEED={seed}");
    let mut random = seed;
    let operator = Operator::new(&world("DOCKER_HOST"), &[], Victim::default());
    scene.k.apply(&objects(&scene.namespace));
    for _ in 0..KILLS {
        operator.start();
        // Knuth's MMIX generator; its upper bits are the random ones.
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        pause(Duration::from_millis((random >> 33) % 2000));
        assert!(operator.kill());
    }
    operator.start();
    scene.ready("lc/c");
    nodes_are_ready(&scene.child("c"), 3, &world("NODE_VERSION")).unwrap_or_else(|e| panic!("{e}"));
    no_duplicates(scene, 5);
    scene.run(&["delete", "lc,lreg", "--all", "--timeout=120s"]);
    scene.is_gone(&[]).unwrap_or_else(|e| panic!("{e}"));
}

/// Asserts that every object exists once. The registry has a network of its own.
fn no_duplicates(scene: &Scene, containers: usize) {
    let all = scene.in_docker();
    let of = |kind: &str| all.iter().filter(|l| l.starts_with(kind)).count();
    let nodes = containers - 2;
    assert_eq!((of("container"), of("network"), of("volume")), (containers, 2, nodes * 5 + 1), "{all:#?}");
}

/// Number of containers that a round creates.
fn containers() -> usize {
    3 + usize::from(all())
}

/// The containers of one round: registry, load balancer, server, and with E2E_ALL an agent, which takes the same
/// calls. K3s does not run in them.
fn apply(scene: &Scene) {
    let agents = usize::from(all());
    let image = idle_image();
    scene.apply("Registry", "r", "{}");
    scene.apply(
        "LocalCluster",
        "c",
        &format!(
            "{{image: \"{image}\", servers: {{count: 1}}, agents: {{count: {agents}}}, registries: {{use: [{{name: r}}]}}}}"
        ),
    );
}

fn complete(scene: &Scene) -> Result<(), String> {
    let picture = scene.picture();
    holds(picture.len() == containers(), || format!("{:?}", picture.keys()))?;
    for (name, seen) in &picture {
        let network = scene.network("c");
        holds(seen.running && seen.networks.contains_key(&network), || format!("{name}: {seen:?}"))?;
    }
    Ok(())
}

fn at_docker_calls(scene: &Scene) {
    let victim = Victim::default();
    let proxy = Proxy::new(victim.clone());
    let operator = Operator::new(&proxy.docker_host(), &[], victim);
    // Kills alternate between before Docker receives a call and after it carried it out. E2E_ALL kills at each call
    // in both ways; otherwise at every third one, since each takes ten seconds.
    let (sweeps, step) = if all() { (2, 1) } else { (1, 3) };
    for sweep in 0..sweeps {
        let mut number = 1;
        while one_round(scene, &proxy, &operator, number, (number + sweep) % 2 == 0) {
            number += step;
        }
        println!("killed at one of {step} of {} calls", number - step);
        assert!(number > 15, "that can't have been all calls");
    }
}

/// Creates and deletes everything with one kill in each. Reports whether there was a call to be killed at.
fn one_round(scene: &Scene, proxy: &Proxy, operator: &Operator, number: usize, before: bool) -> bool {
    let kinds = if before { [Kill::Before, Kill::After] } else { [Kill::After, Kill::Before] };
    apply(scene);
    let created = killed_once(proxy, operator, number, kinds[0], || complete(scene));
    no_duplicates(scene, containers());

    scene.run(&["delete", "lc,lreg", "--all", "--wait=false"]);
    let deleted = killed_once(proxy, operator, number, kinds[1], || {
        let left = scene.attempt(&["get", "lc,lreg", "-o", "name"])?;
        holds(left.is_empty(), || left)
    });
    scene.is_gone(&[]).unwrap_or_else(|e| panic!("killed {:?} call {number} of a deletion: {e}", kinds[1]));
    created || deleted
}

/// Runs the operator with one pending kill until `done`. Reports whether it was killed.
fn killed_once(
    proxy: &Proxy,
    operator: &Operator,
    number: usize,
    when: Kill,
    mut done: impl FnMut() -> Result<(), String>,
) -> bool {
    proxy.arm(number, when);
    operator.start();
    // It is killed, or there are fewer calls.
    let struck = eventually(LIMIT, &format!("kill {when:?} call {number}"), || {
        if !proxy.is_armed() {
            return Ok(true);
        }
        // The last calls are concurrent: one of them may have been the one while this was checked.
        done().map(|()| !proxy.is_armed())
    });
    let changes = proxy.disarm();
    if struck {
        operator.start();
        eventually(LIMIT, &format!("all is done after a kill {when:?} {:?}", changes.get(number - 1)), done);
    }
    operator.kill();
    struck
}
