//! A proxy in the environment of nodes, against the model of Docker: what goes past it is complete, and nothing that
//! comes later replaces a node.

mod support;

use std::collections::BTreeMap;

use localcluster_operator::{
    api::{
        condition::{self, ConditionType},
        local_cluster::RegistryRef,
        reason::Reason,
        registry::{EnvVar, RegistrySpec},
    },
    docker::engine::ContainerDetail,
};
use support::model::lab::{Lab, Object, spec};

const ENOUGH: usize = 80;

fn env(pairs: &[(&str, &str)]) -> Vec<EnvVar> {
    pairs.iter().map(|(name, value)| EnvVar { name: (*name).into(), value: (*value).into() }).collect()
}

fn registry(name: &str) -> RegistryRef {
    RegistryRef { name: name.into(), ..RegistryRef::default() }
}

/// A cluster with an agent and a registry, and a registry that nobody uses yet.
fn lab(servers: &[(&str, &str)], agents: &[(&str, &str)]) -> Lab {
    let mut cluster = spec(1);
    (cluster.servers.env, cluster.agents.env) = (env(servers), env(agents));
    cluster.registries.used.push(registry("images"));
    let below = RegistrySpec { hostname: Some("below.registry.internal".into()), ..RegistrySpec::default() };
    let registries =
        [("images", RegistrySpec::default()), ("more", RegistrySpec::default()), ("below", below)]
            .map(|(name, spec)| Object::new("default", name, spec));
    let mut lab = Lab::new(vec![Object::new("default", "dev", cluster)], registries.into());
    lab.settle(ENOUGH);
    lab
}

fn nodes(lab: &mut Lab) -> BTreeMap<String, ContainerDetail> {
    let own = lab.look(0).observed.reached.host.own.into_values();
    own.filter(|d| d.container.name != "k3d-dev-serverlb").map(|d| (d.container.name.clone(), d)).collect()
}

fn ids(lab: &mut Lab) -> BTreeMap<String, String> {
    nodes(lab).into_iter().map(|(name, d)| (name, d.container.id)).collect()
}

fn told(lab: &Lab, type_: ConditionType) -> (String, String) {
    let found = condition::get(&lab.clusters[0].status.conditions, type_).expect("it is there");
    (found.reason.clone(), found.message.clone())
}

const PROXY: (&str, &str) = ("HTTPS_PROXY", "http://192.0.2.8:3128");

#[test]
fn what_is_inside_goes_past_the_proxy() {
    let mut lab =
        lab(&[PROXY, ("NO_PROXY", ".corp.example,localhost")], &[("http_proxy", "http://192.0.2.8:3128")]);
    let nodes = nodes(&mut lab);
    insta::assert_snapshot!(nodes["k3d-dev-server-0"].past_proxy.join("\n"), @".corp.example,localhost,127.0.0.1,172.31.0.0/24,k3d-dev-serverlb,k3d-dev-server-0,k3d-dev-agent-0,k3d-images,host.k3d.internal,10.42.0.0/16,10.43.0.0/16,.svc,.cluster.local");
    insta::assert_snapshot!(nodes["k3d-dev-agent-0"].past_proxy.join("\n"), @"localhost,127.0.0.1,172.31.0.0/24,k3d-dev-serverlb,k3d-dev-server-0,k3d-dev-agent-0,k3d-images,host.k3d.internal,10.42.0.0/16,10.43.0.0/16,.svc,.cluster.local");
    // The networks and the domain are the cluster's own.
    lab.clusters[0].edit(|s| {
        let args =
            ["--cluster-cidr=10.1.0.0/16", "--service-cidr=10.2.0.0/16", "--cluster-domain=lab.example"];
        s.servers.args = args.map(String::from).into();
    });
    lab.settle(ENOUGH);
    let list = self::nodes(&mut lab)["k3d-dev-server-0"].past_proxy.join("\n");
    assert!(list.ends_with(",10.1.0.0/16,10.2.0.0/16,.svc,.lab.example"), "{list}");
}

#[test]
fn without_a_proxy_nothing_is_said_and_the_hash_is_what_it_was() {
    let mut lab = lab(&[("NO_PROXY", "a.example")], &[]);
    let nodes = nodes(&mut lab);
    assert_eq!(nodes["k3d-dev-server-0"].past_proxy, ["a.example"]);
    assert_eq!(nodes["k3d-dev-agent-0"].past_proxy, [""; 0]);
}

#[test]
fn an_agent_or_a_registry_that_comes_later_replaces_nothing() {
    let mut lab = lab(&[PROXY], &[PROXY]);
    let before = ids(&mut lab);
    lab.clusters[0].edit(|s| s.agents.count = 2);
    lab.settle(ENOUGH);
    let mut after = ids(&mut lab);
    after.remove("k3d-dev-agent-1").expect("it is there");
    assert_eq!(after, before);

    let before = ids(&mut lab);
    lab.clusters[0].edit(|s| s.registries.used.push(registry("more")));
    for _ in 0..ENOUGH {
        lab.round();
    }
    assert_eq!(ids(&mut lab), before);
    let (reason, message) = told(&lab, ConditionType::RegistriesReady);
    assert_eq!(reason, Reason::RegistryBehindProxy);
    assert!(
        message.contains("k3d-dev-server-0 sends requests for k3d-more to its proxy:")
            && message.contains("NO_PROXY"),
        "{message}"
    );
    // A node that is made now knows it.
    lab.world.remove_container("k3d-dev-agent-1").unwrap();
    for _ in 0..ENOUGH {
        lab.round();
    }
    assert!(nodes(&mut lab)["k3d-dev-agent-1"].past_proxy[0].contains(",k3d-images,k3d-more,"));

    // As the message says.
    let with = [PROXY, ("NO_PROXY", "k3d-more")];
    lab.clusters[0].edit(|s| (s.servers.env, s.agents.env) = (env(&with), env(&with)));
    lab.settle(ENOUGH);
    assert_eq!(told(&lab, ConditionType::RegistriesReady).0, Reason::Ready);
    let replaced = ids(&mut lab);
    assert!(before.iter().all(|(name, id)| replaced[name] != *id), "{before:?} {replaced:?}");
}

/// As the docs say.
#[test]
fn a_registry_below_a_domain_that_is_listed_from_the_start_can_come_at_any_time() {
    let with = [PROXY, ("NO_PROXY", ".registry.internal")];
    let mut lab = lab(&with, &with);
    let before = ids(&mut lab);
    lab.clusters[0].edit(|s| s.registries.used.push(registry("below")));
    lab.settle(ENOUGH);
    assert_eq!(ids(&mut lab), before);
}

/// Nodes that an operator made which knew nothing of it are left alone, and what they lack is told.
#[test]
fn nodes_of_before_are_not_replaced() {
    let mut lab = lab(&[PROXY], &[]);
    for container in lab.world.containers.values_mut() {
        container.past_proxy = [].into();
    }
    let before = ids(&mut lab);
    for _ in 0..ENOUGH {
        lab.round();
    }
    assert_eq!(ids(&mut lab), before);
    assert_eq!(told(&lab, ConditionType::RegistriesReady).0, Reason::RegistryBehindProxy);
}
