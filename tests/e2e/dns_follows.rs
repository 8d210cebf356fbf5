//! Running clusters follow a change of the host's resolvers.

use crate::{
    cluster::container,
    dns::{ASKER, resolves},
    live::{
        docker, eventually, gateway, holds, inspect, now,
        operator::{Operator, Victim},
        scene::{LIMIT, Scene},
        world,
    },
    resolver::{HostResolvers, Server},
};

/// The load balancer is restarted, and no node.
pub fn a_change_of_the_hosts_resolvers_is_followed(scene: &Scene) {
    let operator = Operator::new(&world("DOCKER_HOST"), &["--resync=10s"], Victim::default());
    let child = scene.child("c");
    let balancer = container(scene, "serverlb");
    let starts = || -> Vec<(String, String)> {
        let of = |name: &str| inspect(name).expect("it exists")["State"]["StartedAt"].to_string();
        [container(scene, "server-0"), balancer.clone()].map(|name| (name.clone(), of(&name))).into()
    };
    let (before, since) = (starts(), now());
    operator.start();
    eventually(LIMIT, "the operator knows the resolvers of the host", || {
        let helper = format!("container={balancer}-resolvers");
        let filters = ["--filter", &helper, "--filter", "event=destroy"];
        let until = now();
        let seen = docker(&[&["events", "--since", &since, "--until", &until], &filters[..]].concat());
        holds(!seen.is_empty(), || "no container was created for it".to_owned())
    });

    let host = HostResolvers::replace();
    // Docker hides loopback addresses from containers of its default network.
    let server = Server::start(gateway().into(), "later.e2e.test", "192.0.2.73", host.before());
    host.set(server.address);
    let restarted = |before: &[(String, String)]| {
        eventually(LIMIT, "the load balancer is restarted", || {
            let after = starts();
            holds(after[1] != before[1], || format!("{after:?}"))?;
            crate::live::scene::is_ready(&scene.try_get("lc/c")?)
        });
    };
    restarted(&before);
    resolves(&child, ASKER, "later.e2e.test.", "192.0.2.73");
    assert_eq!(starts()[0], before[0], "a node was restarted");
    let why = "the resolvers of the Docker host changed";
    let events = scene.events(&since);
    assert!(events.iter().any(|event| event.contains(why)), "{events:?}");

    let before = starts();
    drop(host);
    restarted(&before);
    assert_eq!(starts()[0], before[0], "a node was restarted");
}
