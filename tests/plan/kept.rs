//! What is kept when something is replaced: names, addresses, ports and host aliases.

use super::*;

/// What is kept inside the cluster follows the registries, comes back, and is somebody else's where they wrote it.
#[test]
fn names_and_hosting_follow_the_registries() {
    let mut spec = support::model::lab::spec(0);
    let images = || localcluster_operator::api::local_cluster::RegistryRef {
        name: "images".into(),
        ..Default::default()
    };
    spec.registries.used.push(images());
    let mut lab = settled(spec);
    let kept = |lab: &Lab, key| lab.world.clusters[&0].config.get(&key).map(|held| held.content.clone());
    let address = |lab: &Lab| {
        let container = lab.world.named("k3d-images").unwrap();
        container.networks.values().find(|p| p.name == "k3d-dev").unwrap().ip.unwrap()
    };
    let names = dns::parse(&kept(&lab, state::DNS).unwrap());
    assert_eq!(
        names,
        [
            ("host.k3d.internal".to_owned(), [172, 31, 0, 1].into()),
            ("k3d-images".to_owned(), address(&lab).into())
        ]
        .into()
    );
    let port = lab.registries[0].status.host_port.unwrap();
    assert!(kept(&lab, state::REGISTRY_HOSTING).unwrap().contains(&format!("host: \"localhost:{port}\"")));

    let before = lab.world.normal();
    lab.world.interfere(&Outside::DeleteConfig);
    insta::assert_snapshot!(text(&lab), @r"
    0 SetConfig coredns-custom (it did not exist)
    1 SetConfig local-registry-hosting (it did not exist)
    RegistriesReady Updating: updating the ConfigMap kube-system/coredns-custom in the cluster
    RegistriesReady Updating: updating the ConfigMap kube-public/local-registry-hosting in the cluster
    ");
    lab.settle(ENOUGH);
    assert_eq!(lab.world.normal(), before);

    lab.clusters[0].edit(|s| s.registries.used.clear());
    lab.settle(ENOUGH);
    assert_eq!(kept(&lab, state::REGISTRY_HOSTING), None);
    assert_eq!(dns::parse(&kept(&lab, state::DNS).unwrap()).len(), 1);

    let theirs = Held { content: "theirs".into(), ours: false, written: None };
    lab.world.clusters.get_mut(&0).unwrap().config.insert(state::REGISTRY_HOSTING, theirs);
    lab.clusters[0].edit(|s| s.registries.used.push(images()));
    lab.settle(ENOUGH);
    assert_eq!(kept(&lab, state::REGISTRY_HOSTING).as_deref(), Some("theirs"));
    assert_eq!(lab.look(0).plan.notes.len(), 1);
}

/// Addresses too are kept, in whatever order the registries come back.
#[test]
fn registries_that_are_made_anew_get_their_addresses_back() {
    let mut spec = support::model::lab::spec(0);
    for name in ["images", "more"] {
        let name = name.into();
        spec.registries
            .used
            .push(localcluster_operator::api::local_cluster::RegistryRef { name, ..Default::default() });
    }
    let mut lab = script::lab(spec, 0);
    lab.registries.push(Object::new("default", "more", RegistrySpec::default()));
    lab.settle(ENOUGH);
    let addresses = |lab: &Lab| {
        ["k3d-images", "k3d-more"].map(|name| {
            let places = lab.world.named(name).unwrap().networks.values();
            places.filter(|p| p.name == "k3d-dev").map(|p| p.ip).next().unwrap()
        })
    };
    let before = addresses(&lab);
    for name in ["k3d-images", "k3d-more"] {
        lab.world.interfere(&Outside::Remove(name.into()));
    }
    // The second one is faster this time.
    lab.pass_registry(1, usize::MAX);
    lab.pass_registry(1, usize::MAX);
    lab.pass(0, usize::MAX);
    lab.settle(ENOUGH);
    assert_eq!(addresses(&lab), before);
}

/// The status was lost, and nothing told of a chosen port but the load balancer, which was replaced for another one of
/// its ports: an operator that ended just then chose anew.
#[test]
fn a_chosen_port_is_told_before_the_load_balancer_that_has_it_is_replaced() {
    let mut lab = script::lab(support::model::lab::spec(1), 0);
    let web = |name: &str| serde_json::from_value(serde_json::json!({"name": name, "port": 80})).unwrap();
    lab.clusters[0].edit(|s| s.ports = vec![web("web")]);
    lab.settle(ENOUGH);
    let chosen = |lab: &Lab| {
        let status = &lab.clusters[0].status;
        (status.api_port.clone(), status.ports.iter().find(|p| p.name == "web").cloned())
    };
    let before = chosen(&lab);
    assert!(before.0.is_some() && before.1.is_some());
    lab.clusters[0].edit(|s| s.ports.push(web("more")));
    lab.clusters[0].forget();
    lab.pass(0, 2);
    assert!(lab.world.named("k3d-dev-serverlb").is_none(), "the step that this is about");
    assert_eq!(chosen(&lab), before);
    lab.settle(ENOUGH);
    assert_eq!(chosen(&lab), before);
}

#[test]
fn host_aliases_replace_the_nodes_and_are_told_to_pods_as_they_run() {
    let mut lab = settled(support::model::lab::spec(2));
    let names = |lab: &Lab| {
        let kept = lab.world.clusters[&0].config.get(&state::DNS).unwrap();
        dns::parse(&kept.content).into_iter().map(|(name, ip)| format!("{name} {ip}")).collect::<Vec<_>>()
    };
    let containers = |lab: &Lab| {
        let of = |name: &str| lab.world.id(&format!("k3d-dev-{name}")).unwrap();
        ["server-0", "agent-0", "agent-1", "serverlb"].map(of)
    };
    let alias = |ip: &str| HostAlias { ip: ip.into(), hostnames: vec!["db.internal".into()] };
    let mut before = containers(&lab);
    for ip in ["10.0.0.5", "2001:db8::5"] {
        lab.clusters[0].edit(|s| s.host_aliases = vec![alias(ip)]);
        lab.settle(ENOUGH);
        assert_eq!(names(&lab), [format!("db.internal {ip}"), "host.k3d.internal 172.31.0.1".into()]);
        let after = containers(&lab);
        let replaced = [0, 1, 2, 3].map(|i| before[i] != after[i]);
        assert_eq!(replaced, [true, true, true, false], "{before:?} {after:?}");
        before = after;
    }
    lab.clusters[0].edit(|s| s.host_aliases.clear());
    lab.settle(ENOUGH);
    assert_eq!(names(&lab), ["host.k3d.internal 172.31.0.1"]);
}

/// Earlier operators wrote public resolvers into the nodes, which run on with those of the host.
#[test]
fn nodes_get_the_resolvers_of_the_host_while_they_run() {
    let mut lab = script::lab(support::model::lab::spec(1), 0);
    let set = |lab: &mut Lab, servers: &[&str]| {
        lab.settings.node_dns = servers.iter().map(|ip| (*ip).to_owned()).collect();
        lab.settle(ENOUGH);
    };
    let nodes = ["k3d-dev-server-0", "k3d-dev-agent-0"];
    let ids = |lab: &Lab| nodes.map(|name| lab.world.id(name).unwrap());
    let started = |lab: &Lab| nodes.map(|name| lab.world.named(name).unwrap().started);
    let text = |lab: &Lab, name: &str, path: &str| {
        String::from_utf8(lab.world.read(name, path).unwrap().to_vec()).unwrap()
    };
    let resolvers = |lab: &Lab| nodes.map(|name| text(lab, name, RESOLV_CONF_FILE));
    let serves =
        |lab: &Lab| text(lab, "k3d-dev-serverlb", load_balancer::CONFIG_FILE).contains("127.0.0.11:53");
    set(&mut lab, &["1.1.1.1", "8.8.8.8"]);
    assert!(!serves(&lab));
    let before = (ids(&lab), started(&lab), lab.world.id("k3d-dev-serverlb"));
    let running = |lab: &Lab| (ids(lab), started(lab), lab.world.id("k3d-dev-serverlb"));
    set(&mut lab, &[]);
    assert_eq!(resolvers(&lab), ["nameserver 172.31.0.2\n"; 2]);
    assert!(serves(&lab));
    assert_eq!(running(&lab), before, "nothing was replaced or restarted");
    // What was the default may be set now.
    set(&mut lab, &["1.1.1.1", "8.8.8.8"]);
    assert_eq!(resolvers(&lab), ["nameserver 1.1.1.1\nnameserver 8.8.8.8\n"; 2]);
    assert_eq!((running(&lab), serves(&lab)), (before.clone(), false));
    // Another setting replaces the nodes, as ever.
    set(&mut lab, &["10.0.0.53"]);
    assert_eq!(resolvers(&lab), ["nameserver 10.0.0.53\n"; 2]);
    assert!(ids(&lab).iter().zip(&before.0).all(|(now, before)| now != before));
}

/// The load balancer listens on port 53 itself.
#[test]
fn port_53_of_the_nodes_is_published_beside_dns() {
    let published = |servers: &[&str]| {
        let mut lab = script::lab(support::model::lab::spec(0), 0);
        lab.settings.node_dns = servers.iter().map(|ip| (*ip).to_owned()).collect();
        let port = serde_json::json!({"name": "dns", "port": 53, "hostPort": 20053, "protocol": "UDP"});
        lab.clusters[0].edit(|s| s.ports = vec![serde_json::from_value(port).unwrap()]);
        lab.settle(ENOUGH);
        let config = lab.world.read("k3d-dev-serverlb", load_balancer::CONFIG_FILE).unwrap();
        assert!(String::from_utf8_lossy(&config).contains("server 172.31.0.10:53 "), "{config:?}");
        let ports = &lab.world.named("k3d-dev-serverlb").unwrap().wanted_ports;
        let port = ports.iter().find(|p| p.protocol == "udp").unwrap();
        (port.host_port, port.port)
    };
    assert_eq!(published(&[]), (20053, 20053));
    assert_eq!(published(&["10.0.0.53"]), (20053, 53));
}

/// What an edit of the image did ends with it, also when it never ran; another default of the operator changes nothing.
#[test]
fn an_image_that_is_taken_out_of_the_spec_is_the_one_before() {
    let mut lab = settled(support::model::lab::spec(1));
    let images = |lab: &Lab| {
        ["k3d-dev-server-0", "k3d-dev-agent-0"].map(|name| lab.world.named(name).unwrap().image.clone())
    };
    let before = images(&lab);
    lab.settings.default_version = "v1.99.0+k3s1".into();
    lab.settle(ENOUGH);
    assert_eq!(images(&lab), before);
    lab.clusters[0].edit(|s| s.image = Some("registry.example/other:1".into()));
    lab.settle(ENOUGH);
    assert_eq!(images(&lab), ["registry.example/other:1"; 2]);
    lab.clusters[0].edit(|s| s.image = None);
    lab.settle(ENOUGH);
    assert_eq!(images(&lab), before);
    // A newer version cannot be taken back; it stays, and nothing is wrong with it.
    lab.clusters[0].edit(|s| s.version = Some("v1.37.0+k3s1".into()));
    lab.settle(ENOUGH);
    let newer = images(&lab);
    lab.clusters[0].edit(|s| s.version = None);
    lab.settle(ENOUGH);
    assert_eq!(images(&lab), newer);
    assert_ne!(newer, before);
}

/// It is the nodes that wait for the disk or do not. Their data does not depend on it, so that no server is given up, and no
/// majority of several: each is replaced on its volumes.
#[test]
fn durability_is_that_of_all_nodes_and_a_change_keeps_the_data() {
    for servers in [1, 3] {
        let mut spec = support::model::lab::spec(1);
        spec.servers.count = servers;
        let mut lab = settled(spec);
        let seen = |lab: &Lab| -> Vec<bool> {
            let is_node = |name: &str| name.contains("-server-") || name.contains("-agent-");
            let nodes = lab.world.containers.values().filter(|c| is_node(&c.name));
            nodes.map(|c| c.skips_flushes).collect()
        };
        let nodes = usize::try_from(servers).unwrap() + 1;
        assert_eq!(seen(&lab), vec![false; nodes]);
        let (before, clusters) = (lab.world.normal(), lab.world.clusters.len());
        let load_balancer = lab.world.id("k3d-dev-serverlb");
        lab.clusters[0].edit(|s| s.durability = Durability::Ephemeral);
        lab.settle(ENOUGH);
        assert_eq!(seen(&lab), vec![true; nodes]);
        assert_eq!(lab.world.id("k3d-dev-serverlb"), load_balancer, "it flushes nothing that matters");
        assert_eq!(lab.world.clusters.len(), clusters, "with {servers} servers a new cluster was made");
        lab.clusters[0].edit(|s| s.durability = Durability::Durable);
        lab.settle(ENOUGH);
        assert_eq!((lab.world.normal(), lab.world.clusters.len()), (before, clusters));
    }
}

/// As it is for a change of anything else about the containers.
#[test]
fn a_stopped_cluster_changes_its_durability_when_it_runs_again() {
    let mut lab = settled(support::model::lab::spec(1));
    lab.clusters[0].edit(|s| s.state = ClusterState::Stopped);
    lab.settle(ENOUGH);
    let ids = |lab: &Lab| ["k3d-dev-server-0", "k3d-dev-agent-0"].map(|name| lab.world.id(name));
    let before = ids(&lab);
    lab.clusters[0].edit(|s| s.durability = Durability::Ephemeral);
    lab.settle(ENOUGH);
    assert_eq!(ids(&lab), before);
    lab.clusters[0].edit(|s| s.state = ClusterState::Running);
    lab.settle(ENOUGH);
    assert!(ids(&lab).iter().zip(&before).all(|(now, before)| now != before));
    assert!(lab.world.named("k3d-dev-server-0").unwrap().skips_flushes);
    assert_eq!(lab.world.clusters.len(), 1);
}
