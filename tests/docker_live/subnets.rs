//! Subnets that the engine chooses.

use std::process::Command;

use ipnet::Ipv4Net;
use localcluster_operator::docker::spec::{Addressing, NetworkSpec};
use tokio::sync::Mutex;

use super::*;

/// Held by each test that has the engine choose: another one would get a subnet that has just become free.
static CHOICES: Mutex<()> = Mutex::const_new(());

/// A device with routes, which is removed on drop.
struct Device(String);

fn ip(args: &str) {
    let status = Command::new("ip").args(args.split(' ')).status().expect("ip can be run");
    assert!(status.success(), "ip {args}");
}

impl Drop for Device {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["link", "del", &self.0]).status());
    }
}

/// Creates a network without a subnet, and returns what the engine chose.
async fn choose(world: &World, thing: &str) -> (String, Ipv4Net) {
    let spec = NetworkSpec { name: world.name(thing), addressing: None, labels: world.labels() };
    let id = world.engine.create_network(&spec).await.unwrap();
    let all = world.engine.networks().await.unwrap();
    let subnets = &all.iter().find(|n| n.id == id).unwrap().subnets;
    assert_eq!(subnets.len(), 1);
    (id, subnets[0])
}

#[tokio::test]
async fn the_engine_chooses_no_subnet_to_which_the_host_is_attached() {
    let _alone = CHOICES.lock().await;
    let world = World::new("choice");
    let device = Device(format!("lco{}", std::process::id()));
    ip(&format!("link add {} type bridge", device.0));
    ip(&format!("link set {} up", device.0));
    let routes: Vec<Ipv4Net> = (20..32).map(|n| Ipv4Net::new([172, n, 64, 0].into(), 24).unwrap()).collect();
    for route in &routes {
        ip(&format!("route add {route} dev {}", device.0));
    }
    // Some engines go on after the last choice, so that all come round.
    for _ in 0..4 {
        let (id, block) = choose(&world, "choice").await;
        assert!(!routes.iter().any(|route| block.contains(route)), "{block}");
        world.engine.remove_network(&id).await.unwrap();
    }
}

#[tokio::test]
async fn a_part_of_a_choice_is_a_subnet_like_any_other() {
    let _alone = CHOICES.lock().await;
    let world = World::new("part");
    let (choice, block) = choose(&world, "choice").await;
    let subnet = block.subnets(24).unwrap().next().unwrap();
    let [a, b, c, _] = subnet.network().octets();
    let addressing = Addressing {
        subnet,
        gateway: [a, b, c, 1].into(),
        ip_range: Ipv4Net::new([a, b, c, 128].into(), 25).unwrap(),
    };
    let spec = NetworkSpec { name: world.name("net"), addressing: Some(addressing), labels: world.labels() };
    let refused = world.engine.create_network(&spec).await;
    assert!(matches!(refused, Err(Error::Address(_))), "{refused:?}");
    world.engine.remove_network(&choice).await.unwrap();
    let id = world.engine.create_network(&spec).await.unwrap();
    // The engine leaves out all that overlaps it.
    let (another, other) = choose(&world, "another").await;
    assert!(!other.contains(&subnet) && other != block, "{other}");
    for id in [id, another] {
        world.engine.remove_network(&id).await.unwrap();
    }
}
