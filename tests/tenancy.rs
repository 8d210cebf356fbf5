//! What one namespace can do to another, and to the Docker host: nothing that nobody consented to.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
};

use k8s_openapi::api::rbac::v1::ClusterRole;
use localcluster_operator::{
    api::{
        LocalClusterSpec, RegistrySpec,
        condition::ConditionType,
        local_cluster::{NodeRole, RegistryContainer, RegistryRef},
        names::{self, ClusterNames},
        reason::Reason,
    },
    docker::spec::EndpointSettings,
    plan::{
        management::Management,
        steps::{Action, Plan, Problem, Verdict},
        validate,
    },
};
use support::model::{
    interfere::Outside,
    lab::{ClusterObject, Lab, MANAGER, Object, RegistryObject, spec},
    world::{Container, Volume},
};

const ENOUGH: usize = 60;

fn registry(namespace: &str, name: &str, change: impl FnOnce(&mut RegistrySpec)) -> RegistryObject {
    let mut spec = RegistrySpec::default();
    change(&mut spec);
    Object::new(namespace, name, spec)
}

fn cluster(namespace: &str, name: &str, change: impl FnOnce(&mut LocalClusterSpec)) -> ClusterObject {
    let mut spec = spec(0);
    change(&mut spec);
    Object::new(namespace, name, spec)
}

fn rounds(lab: &mut Lab) {
    (0..6).for_each(|_| drop(lab.round()));
}

/// Rounds after which the one Registry has nothing but one problem.
fn refused(lab: &mut Lab) -> Problem {
    rounds(lab);
    let Plan { steps, problems, .. } = lab.look_registry(0).expect("it is looked at").0;
    assert!(steps.is_empty(), "{steps:?}");
    let [problem] = <[Problem; 1]>::try_from(problems).expect("one problem");
    problem
}

fn labels(list: &[(&str, &str)]) -> Arc<BTreeMap<String, String>> {
    Arc::new(list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

/// Somebody's container with these labels.
fn somebodys(lab: &mut Lab, name: &str, list: &[(&str, &str)]) {
    assert!(lab.world.foreign(name, &[]));
    lab.world.container(name).unwrap().labels = labels(list);
}

fn delete(lab: &mut Lab) {
    lab.registries[0].deleted = true;
    rounds(lab);
}

/// Making LocalClusters is being root on the host. Nobody gets that by the installation.
#[test]
fn the_installation_gives_nobody_the_right_to_make_objects() {
    let text = fs::read_to_string("deploy/user-roles.yaml").unwrap();
    let roles: Vec<ClusterRole> =
        text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect();
    let name = |role: &ClusterRole| role.metadata.name.clone().unwrap();
    assert_eq!(
        roles.iter().map(name).collect::<Vec<_>>(),
        ["localcluster-view", "localcluster-edit", "localcluster-claim"]
    );
    for role in roles {
        let labels = role.metadata.labels.unwrap();
        let aggregated =
            labels.keys().any(|label| label.starts_with("rbac.authorization.k8s.io/aggregate-to-"));
        let writes = |verb: &String| !["get", "list", "watch"].contains(&verb.as_str());
        let reads_only = !role.rules.unwrap().iter().flat_map(|rule| &rule.verbs).any(writes);
        assert_eq!(aggregated, reads_only, "{:?}", role.metadata.name);
    }
}

/// A Registry is any image, which does with its volume what it likes.
#[test]
fn a_volume_is_mounted_only_where_it_consents() {
    let mut lab = Lab::new(vec![cluster("team-b", "dev", |_| {})], Vec::new());
    lab.settle(ENOUGH);
    let server = ClusterNames::new(names::cluster("team-b", "dev", None)).node(NodeRole::Server, 0);
    let state = names::volume(&server, "state");
    assert!(lab.world.volumes.contains_key(&state));
    for (name, list) in [
        ("pgdata", &[][..]),
        ("for-others", &[(names::ALLOW_NAMESPACES, "team-b,team")]),
        ("image-label", &[(names::ALLOW_NAMESPACES, "*"), (names::UID, "somebody")]),
        ("images", &[(names::ALLOW_NAMESPACES, "team-b, team-a")]),
    ] {
        lab.world.volumes.insert(name.into(), Volume { labels: labels(list), ..Volume::default() });
    }
    let volume = |name: &str| registry("team-a", "x", |s| s.storage.volume_name = Some(name.to_owned()));
    let mut said = BTreeSet::new();
    for name in ["pgdata", "for-others", "image-label", "no-such", &state] {
        lab.registries = vec![volume(name)];
        let before = (lab.world.containers.clone(), lab.world.volumes.clone());
        let problem = refused(&mut lab);
        assert!(
            problem.reason == Reason::NotAllowed && problem.verdict == Verdict::Stalls,
            "{name}: {problem:?}"
        );
        assert_eq!((lab.world.containers.clone(), lab.world.volumes.clone()), before, "{name}");
        assert!(problem.message.contains("--label localcluster.dev/allow-namespaces=team-a"), "{problem:?}");
        said.insert(problem.message.replace(name, "NAME"));
    }
    // It tells nobody what there is.
    assert_eq!(said.len(), 1, "{said:#?}");

    lab.registries = vec![volume("images")];
    lab.settle(ENOUGH);
    let container = |lab: &Lab| lab.world.named(&names::registry("team-a", "x", None)).cloned();
    assert!(container(&lab).unwrap().mounts.values().any(|v| v == "images"));
    // One from before anybody asked goes on, and is not made anew.
    lab.world.volumes.get_mut("images").unwrap().labels = Arc::default();
    let warnings = lab.look_registry(0).unwrap().0.warnings;
    assert!(
        lab.settled() && warnings.len() == 1 && warnings[0].contains("docker volume create"),
        "{warnings:?}"
    );
    lab.registries[0].edit(|s| s.delete_enabled = true);
    rounds(&mut lab);
    assert!(lab.look_registry(0).unwrap().0.problems.iter().any(|p| p.reason == Reason::NotAllowed));
    assert!(container(&lab).is_some(), "it was taken away and can't come back");
}

/// On a tenant's network it is reached from privileged Pods, past the host's firewall.
#[test]
fn a_container_is_connected_only_where_it_consents() {
    let theirs = registry("team-b", "private", |_| {});
    let mut lab = Lab::new(vec![cluster("team-b", "dev", |_| {})], vec![theirs]);
    lab.settle(ENOUGH);
    let node = ClusterNames::new(names::cluster("team-b", "dev", None)).node(NodeRole::Server, 0);
    let private = names::registry("team-b", "private", None);
    somebodys(&mut lab, "postgres", &[]);
    somebodys(&mut lab, "for-others", &[(names::ALLOW_NAMESPACES, "team-b")]);
    somebodys(&mut lab, "yes", &[(names::ALLOW_NAMESPACES, "team-a")]);
    somebodys(&mut lab, "of-k3d", &[(names::APP, "k3d"), (names::ROLE, "registry")]);
    let on =
        |lab: &Lab, name: &str| lab.world.named(name).map(|c| c.networks.keys().cloned().collect::<Vec<_>>());
    let using = |name: &str| {
        cluster("team-a", "mine", |s| {
            s.registries.containers =
                vec![RegistryContainer { name: name.into(), port: 5000, host_port: None }];
        })
    };
    let mut said = BTreeSet::new();
    for name in ["postgres", "for-others", "no-such", &private, &node] {
        lab.clusters.truncate(1);
        lab.clusters.push(using(name));
        let before = on(&lab, name);
        rounds(&mut lab);
        let problems = lab.look(1).plan.problems;
        let told: Vec<_> = problems.iter().filter(|p| p.reason == Reason::NotAllowed).collect();
        assert_eq!(told.len(), 1, "{name}: {problems:?}");
        assert_eq!(on(&lab, name), before);
        said.insert(told[0].message.replace(name, "NAME"));
    }
    assert_eq!(said.len(), 1, "{said:#?}");
    // Their Registry once consented and no longer does.
    let network = format!("k3d-{}", names::cluster("team-a", "mine", None));
    let id = lab.world.networks.iter().find(|(_, n)| n.name == network).unwrap().0.clone();
    lab.world.connect(&id, &private, &EndpointSettings::default()).unwrap();
    lab.clusters[1].spec = using(&private).spec;
    assert!(lab.look(1).plan.problems.iter().any(|p| p.reason == Reason::NotAllowed));

    for name in ["yes", "of-k3d"] {
        lab.clusters[1].spec = using(name).spec;
        lab.settle(ENOUGH);
        assert_eq!(on(&lab, name).unwrap().len(), 2, "{name}");
    }
    // What was connected before anybody asked goes on.
    lab.clusters[1].spec = using("yes").spec;
    lab.settle(ENOUGH);
    lab.world.container("yes").unwrap().labels = Arc::default();
    assert!(lab.settled());
    assert_eq!(lab.look(1).plan.warnings.len(), 1);
    assert_eq!(on(&lab, "yes").unwrap().len(), 2);
}

/// A container's default route stays where it was: Pods of a tenant's network may answer for the gateway there.
#[test]
fn what_is_connected_keeps_its_way_out() {
    let mut lab = Lab::new(vec![cluster("team-a", "mine", |_| {})], Vec::new());
    somebodys(&mut lab, "yes", &[(names::ALLOW_NAMESPACES, "*")]);
    lab.clusters[0].spec.registries.containers =
        vec![RegistryContainer { name: "yes".into(), port: 5000, host_port: None }];
    let mut aside = Vec::new();
    for _ in 0..ENOUGH {
        for step in lab.look(0).plan.steps {
            if let Action::Connect { container, endpoint, .. } = step.action {
                aside.extend((container.name == "yes").then_some(endpoint.aside));
            }
        }
        lab.round();
    }
    assert!(!aside.is_empty() && aside.iter().all(|a| *a), "{aside:?}");
}

/// Anybody may write any host name.
#[test]
fn what_a_registry_left_is_its_namespaces() {
    let named = |namespace: &str, name: &str| {
        registry(namespace, name, |s| {
            s.hostname = Some("k3d-images".into());
            s.storage.retain = name == "retains";
        })
    };
    let mut lab = Lab::new(Vec::new(), vec![named("team-a", "retains")]);
    lab.settle(ENOUGH);
    delete(&mut lab);
    assert!(lab.world.containers.is_empty());
    let left = lab.world.volumes.clone();
    assert_eq!(left.keys().collect::<Vec<_>>(), ["k3d-images"]);

    lab.registries = vec![named("team-b", "other")];
    assert_eq!(refused(&mut lab).reason, Reason::NameConflict);
    delete(&mut lab);
    assert_eq!((lab.world.volumes.clone(), lab.world.containers.len()), (left, 0));

    lab.registries = vec![named("team-a", "again")];
    lab.settle(ENOUGH);
    delete(&mut lab);
    assert!(lab.world.volumes.is_empty() && lab.world.containers.is_empty());
}

/// Its container may be away for a moment, and Docker keeps a volume only from those who have it running.
#[test]
fn a_living_registrys_volume_is_nobody_elses() {
    let named = |name: &str| registry("team-a", name, |s| s.hostname = Some("k3d-images".into()));
    let mut lab = Lab::new(Vec::new(), vec![named("images")]);
    lab.settle(ENOUGH);
    let volumes = lab.world.volumes.clone();
    lab.registries.insert(0, named("second"));
    assert_eq!(refused(&mut lab).reason, Reason::NameConflict);
    lab.world.interfere(&Outside::Remove("k3d-images".into()));
    lab.registries[0].deleted = true;
    lab.pass_registry(0, usize::MAX);
    assert_eq!(lab.world.volumes, volumes);
    lab.registries.remove(0);
    lab.settle(ENOUGH);
}

/// An earlier operator chose other names.
#[test]
fn what_exists_keeps_its_name() {
    let mut lab = Lab::new(
        vec![cluster("team-a", "dev", |s| {
            s.cluster_name = Some("team-a-dev".into());
            s.registries.used.push(RegistryRef { name: "images".into(), ..Default::default() });
        })],
        vec![registry("team-a", "images", |s| s.hostname = Some("k3d-team-a-images".into()))],
    );
    lab.settle(ENOUGH);
    let containers =
        |lab: &Lab| lab.world.containers.values().map(|c| c.name.clone()).collect::<BTreeSet<_>>();
    let (ids, names) = (lab.world.containers.keys().cloned().collect::<Vec<_>>(), containers(&lab));
    assert!(names.contains("k3d-team-a-dev-server-0") && names.contains("k3d-team-a-images"), "{names:?}");
    lab.clusters[0].spec.cluster_name = None;
    lab.registries[0].spec.hostname = None;
    assert!(lab.settled());
    lab.clusters[0].forget();
    lab.registries[0].forget();
    lab.settle(ENOUGH);
    assert_eq!(lab.world.containers.keys().cloned().collect::<Vec<_>>(), ids);
    // All of its containers are lost, and come back under their names.
    for name in &names {
        lab.world.interfere(&Outside::Remove(name.clone()));
    }
    lab.settle(ENOUGH);
    assert_eq!(containers(&lab), names);
    lab.clusters[0].deleted = true;
    rounds(&mut lab);
    delete(&mut lab);
    assert!(lab.world.containers.is_empty() && lab.world.volumes.is_empty());
}

/// Load balancers and registries join the Node's network, and logins go over it.
#[test]
fn no_registry_is_taken_for_the_management_clusters_node() {
    let node = |ip: Option<&str>| Management::Node {
        ip: ip.map(|ip| ip.parse().unwrap()),
        name: Some("node-1".into()),
    };
    let evil = || registry("team-a", "z", |s| s.hostname = Some("node-1".into()));
    let mut lab = Lab::new(vec![cluster("team-b", "dev", |_| {})], vec![evil()]);
    lab.settings.management = node(Some("192.168.1.5"));
    rounds(&mut lab);
    assert_eq!(refused(&mut lab).reason, Reason::NameConflict);
    assert!(lab.world.named("node-1").is_none());

    // The operator came to that node later.
    for management in [node(Some("192.168.1.5")), node(None)] {
        lab.settings.management = Management::None;
        lab.registries = vec![evil()];
        lab.settle(ENOUGH);
        assert!(lab.world.named("node-1").unwrap().labels[names::MANAGER] == MANAGER);
        lab.settings.management = management;
        assert!(lab.settled(), "something joins its network");
    }
}

/// Docker looks at none of the host's routes.
#[test]
fn a_subnet_is_chosen_where_an_admin_allows_it() {
    let with = |subnet: &str| cluster("team-a", "dev", |s| s.network.subnet = Some(subnet.into()));
    let mut lab = Lab::new(Vec::new(), Vec::new());
    let refused = |lab: &mut Lab, subnet: &str| {
        let networks = lab.world.networks.clone();
        lab.clusters = vec![with(subnet)];
        rounds(lab);
        assert_eq!(lab.world.networks, networks, "{subnet}");
        let problems = lab.look(0).plan.problems;
        problems.iter().find(|p| p.condition == ConditionType::NetworkReady).map(|p| p.reason)
    };
    for subnet in ["8.8.8.0/24", "192.168.1.128/25", "10.244.1.0/24", "172.30.0.0/16"] {
        assert_eq!(refused(&mut lab, subnet), Some(Reason::SubnetNotAllowed), "{subnet}");
    }
    lab.settings.allowed_subnets = vec!["192.168.0.0/16".parse().unwrap(), "1.0.0.0/8".parse().unwrap()];
    lab.settings.management = Management::Node { ip: "192.168.7.5".parse().ok(), name: None };
    lab.settings.node_dns = vec!["1.1.1.1".into()];
    // The resolver of all clusters, and the management cluster's Node.
    for subnet in ["1.1.1.0/24", "192.168.7.0/25"] {
        assert_eq!(refused(&mut lab, subnet), Some(Reason::SubnetConflict), "{subnet}");
    }
    for subnet in ["192.168.1.128/25", "172.31.16.0/24"] {
        lab.clusters = vec![with(subnet)];
        lab.settle(ENOUGH);
        assert!(lab.world.networks.values().any(|n| n.subnet.to_string() == subnet));
        // What a cluster has it keeps.
        (lab.settings.allowed_subnets, lab.settings.network_pool) =
            (Vec::new(), Some("10.9.0.0/16".parse().unwrap()));
        lab.world
            .interfere(&Outside::RemoveNetwork(format!("k3d-{}", names::cluster("team-a", "dev", None))));
        lab.settle(ENOUGH);
        lab.settings = Lab::new(Vec::new(), Vec::new()).settings;
        lab.clusters[0].deleted = true;
        rounds(&mut lab);
    }
}

/// In the networks of Pods and Services K3s answers, whatever else has the addresses (k3d-io/k3d#1002).
#[test]
fn a_chosen_subnet_goes_round_the_networks_of_pods_and_services() {
    let chosen = |args: &[&str]| {
        let mut lab = Lab::new(
            vec![cluster("team-a", "dev", |s| {
                s.servers.args = args.iter().map(|a| (*a).to_owned()).collect()
            })],
            Vec::new(),
        );
        lab.settings.node_dns.push("172.31.2.53".into());
        rounds(&mut lab);
        let network = lab.world.networks.values().find(|n| n.name != "bridge").map(|n| n.subnet.to_string());
        let problems = lab.look(0).plan.problems;
        network.ok_or_else(|| problems.iter().map(|p| (p.reason, p.message.clone())).collect::<Vec<_>>())
    };
    assert_eq!(chosen(&[]).unwrap(), "172.31.0.0/24");
    assert_eq!(chosen(&["--cluster-cidr=172.31.0.0/23"]).unwrap(), "172.31.3.0/24");
    assert_eq!(chosen(&["--service-cidr=172.31.0.128/25"]).unwrap(), "172.31.1.0/24");
    let told = chosen(&["--cluster-cidr=172.16.0.0/12"]).unwrap_err();
    assert!(
        told.iter().any(|(reason, m)| *reason == Reason::SubnetConflict && m.contains("172.16.0.0/12")),
        "{told:?}"
    );
}

/// What belongs to others: containers with their networks, volumes and networks, by name.
fn of_others(lab: &Lab) -> (Vec<Container>, BTreeMap<String, Volume>, BTreeSet<String>) {
    let foreign = |labels: &BTreeMap<String, String>| {
        labels.get(names::OWNER).is_none_or(|owner| !owner.starts_with("team-a/"))
    };
    let containers = lab.world.containers.values().filter(|c| foreign(&c.labels)).cloned().collect();
    let volumes = lab.world.volumes.iter().filter(|(_, volume)| foreign(&volume.labels));
    let volumes = volumes.map(|(name, volume)| (name.clone(), volume.clone())).collect();
    let networks =
        lab.world.networks.values().filter(|n| foreign(&n.labels)).map(|n| format!("{n:?}")).collect();
    (containers, volumes, networks)
}

/// Containers of team-a that are on a network of team-b.
fn intruders(lab: &Lab) -> Vec<String> {
    let of = |labels: &BTreeMap<String, String>, namespace: &str| {
        labels.get(names::OWNER).is_some_and(|owner| owner.starts_with(&format!("{namespace}/")))
    };
    let theirs: Vec<&String> =
        lab.world.networks.iter().filter(|(_, n)| of(&n.labels, "team-b")).map(|(id, _)| id).collect();
    assert!(theirs.len() >= 2, "{theirs:?}");
    let own = lab.world.containers.values().filter(|c| of(&c.labels, "team-a"));
    own.filter(|c| theirs.iter().any(|id| c.networks.contains_key(*id))).map(|c| c.name.clone()).collect()
}

/// Each field by which an object can name something, or take a place, but `registries.use`, which `tests/reconcile/consent.rs`
/// tests with the reads of the operator: whatever becomes of the object, and after its
/// deletion, all of the others' is as it was.
#[test]
fn no_field_changes_anything_of_another_namespace() {
    let mut lab = Lab::new(
        vec![cluster("team-b", "dev", |s| {
            s.ports = serde_saphyr::from_str("[{name: web, port: 80, hostPort: 8080}]").unwrap();
        })],
        vec![registry("team-b", "private", |s| s.host_port = Some(5001))],
    );
    lab.settle(ENOUGH);
    somebodys(&mut lab, "postgres", &[]);
    somebodys(&mut lab, "kind-control-plane", &[]);
    lab.world.volumes.insert("pgdata".into(), Volume::default());
    let (theirs, private) =
        (names::cluster("team-b", "dev", None), names::registry("team-b", "private", None));
    let node = ClusterNames::new(theirs.clone()).node(NodeRole::Server, 0);
    let subnet = lab.world.networks.values().find(|n| n.name == format!("k3d-{theirs}")).unwrap().subnet;
    lab.settle(ENOUGH);
    let before = of_others(&lab);
    assert!(before.0.len() >= 5 && before.2.len() >= 2, "{before:#?}");
    let unchanged = |lab: &Lab, what: &str| {
        assert!(of_others(lab) == before, "{what}: {:#?}", of_others(lab));
        assert_eq!(intruders(lab), [""; 0], "{what}");
    };

    let registries = [
        format!("storage: {{volumeName: {node}-state}}"),
        format!("storage: {{volumeName: {private}}}"),
        "storage: {volumeName: pgdata}".to_owned(),
        "storage: {hostPath: /srv}".to_owned(),
        "storage: {hostPath: /}".to_owned(),
        format!("hostname: {private}"),
        format!("hostname: {node}"),
        format!("hostname: k3d-{theirs}-serverlb"),
        "hostname: postgres".to_owned(),
        "hostname: kind-control-plane".to_owned(),
        "hostname: vault.prod.svc.cluster.local".to_owned(),
        "hostname: docker.io".to_owned(),
        "hostname: host.k3d.internal".to_owned(),
        "{hostPort: 5001, hostIP: 0.0.0.0}".to_owned(),
        "hostPort: 8080".to_owned(),
        format!("{{proxy: {{remoteURL: \"http://{private}:5000\"}}, hostname: {private}}}"),
        "{image: evil.example/scan-and-push:1, env: [{name: REGISTRY_HTTP_ADDR, value: \":80\"}]}".to_owned(),
    ];
    // Some are refused as they are written.
    let mut refused = Vec::new();
    for spec in &registries {
        let parsed: RegistrySpec = serde_saphyr::from_str(spec).unwrap_or_else(|e| panic!("{spec}: {e}"));
        if validate::registry("team-a", "x", &parsed).is_err() {
            refused.push(spec.clone());
            continue;
        }
        lab.registries.truncate(1);
        lab.registries.push(Object::new("team-a", "x", parsed));
        rounds(&mut lab);
        unchanged(&lab, spec);
        lab.registries[1].deleted = true;
        rounds(&mut lab);
        unchanged(&lab, spec);
        lab.registries.truncate(1);
    }

    let with = |yaml: &str| format!("{{servers: {{count: 1}}, agents: {{count: 0}}, {yaml}}}");
    let containers = [&private, &node, "postgres", "kind-control-plane"];
    let mut clusters: Vec<String> =
        containers.iter().map(|name| format!("registries: {{containers: [{{name: {name}}}]}}")).collect();
    clusters.extend([
        format!("clusterName: {theirs}"),
        format!("network: {{join: [k3d-{theirs}]}}"),
        format!("network: {{join: [{}]}}", names::registry_network(&private)),
        "network: {join: [bridge]}".to_owned(),
        "agents: {count: 1, volumes: [{volumeName: pgdata, mountPath: /d}]}".to_owned(),
        format!("agents: {{count: 1, volumes: [{{volumeName: {node}-state, mountPath: /d}}]}}"),
        "agents: {count: 1, containerLabels: {localcluster.dev/uid: x}}".to_owned(),
        "agents: {count: 1, runtime: /usr/bin/evil}".to_owned(),
        "images: {fromDockerHost: true}".to_owned(),
        format!("network: {{subnet: {subnet}}}"),
        "network: {subnet: 172.17.0.0/16}".to_owned(),
        "ports: [{name: web, port: 80, hostPort: 8080, hostIP: 0.0.0.0}]".to_owned(),
        "api: {hostPort: 8080}".to_owned(),
        format!("registries: {{create: {{hostname: {private}}}}}"),
        "registries: {create: {storage: {volumeName: pgdata}}}".to_owned(),
        "hostAliases: [{ip: 10.0.0.1, hostnames: [kubernetes.default.svc.cluster.local]}]".to_owned(),
        "preloadImages: [\"registry.corp/team-b/payments:prod\"]".to_owned(),
        "image: registry.corp/licensed/k3s:1".to_owned(),
        "agents: {count: 1, volumes: [{hostPath: /, mountPath: /host}]}".to_owned(),
        "agents: {count: 1, volumes: [{hostPath: /var/run/docker.sock, mountPath: /docker.sock}]}".to_owned(),
        "agents: {count: 1, args: [--data-dir=/x, --kubelet-arg]}".to_owned(),
        "agents: {count: 1, env: [{name: K3S_TOKEN, value: x}]}".to_owned(),
        "agents: {count: 1, ulimits: [{name: nofile, soft: 1, hard: 2147483647}], gpus: all}".to_owned(),
        "token: {secretName: somebodys, key: token}".to_owned(),
        "state: Stopped".to_owned(),
        "ttl: 1s".to_owned(),
    ]);
    for yaml in &clusters {
        let spec = if yaml.starts_with("agents") {
            format!("{{servers: {{count: 1}}, {yaml}}}")
        } else {
            with(yaml)
        };
        let spec: LocalClusterSpec = serde_saphyr::from_str(&spec).unwrap_or_else(|e| panic!("{yaml}: {e}"));
        if validate::local_cluster("team-a", "x", &spec).is_err() {
            refused.push(yaml.clone());
            continue;
        }
        lab.clusters.truncate(1);
        lab.clusters.push(Object::new("team-a", "x", spec));
        rounds(&mut lab);
        unchanged(&lab, yaml);
        lab.clusters[1].deleted = true;
        rounds(&mut lab);
        unchanged(&lab, yaml);
        lab.clusters.truncate(1);
    }
    for field in [
        "svc.cluster.local",
        "docker.io",
        "host.k3d.internal",
        "hostPath: /}",
        "K3S_TOKEN",
        "--data-dir",
        "localcluster.dev/uid",
        "/usr/bin/evil",
    ] {
        assert!(refused.iter().any(|spec| spec.contains(field)), "{field}: {refused:#?}");
    }
}

/// Names from a namespace and a name with hyphens are those of one object only.
#[test]
fn two_objects_have_two_names() {
    let parts = ["a", "team", "team-a", "a-images", "images", "team-a-images", "default", "b-c-d", "c-d"];
    let all: Vec<(&str, &str)> =
        parts.iter().flat_map(|namespace| parts.iter().map(|name| (*namespace, *name))).collect();
    let clusters: BTreeSet<String> = all.iter().map(|(ns, name)| names::cluster(ns, name, None)).collect();
    let registries: BTreeSet<String> = all.iter().map(|(ns, name)| names::registry(ns, name, None)).collect();
    assert_eq!((clusters.len(), registries.len()), (all.len(), all.len()));
}

/// It is not guaranteed that a port stays free while its cluster is stopped. What is: nothing of the cluster but the port
/// is taken, and it says who has it.
#[test]
fn a_port_that_was_taken_meanwhile_is_told() {
    let on = |namespace: &str| {
        cluster(namespace, "dev", |s| {
            s.ports = serde_saphyr::from_str("[{name: web, port: 80, hostPort: 8080}]").unwrap();
        })
    };
    let mut lab = Lab::new(vec![on("team-b")], Vec::new());
    lab.settle(ENOUGH);
    lab.clusters[0].edit(|s| s.state = serde_saphyr::from_str("Stopped").unwrap());
    lab.settle(ENOUGH);
    lab.clusters.push(on("team-a"));
    lab.settle(ENOUGH);
    lab.clusters[0].edit(|s| s.state = serde_saphyr::from_str("Running").unwrap());
    (0..ENOUGH).for_each(|_| drop(lab.round()));
    let problems = lab.look(0).plan.problems;
    let told: Vec<_> = problems.iter().filter(|p| p.reason == Reason::PortConflict).collect();
    assert!(told.len() == 1 && told[0].message.contains("8080"), "{problems:?}");
    for namespace in ["team-a", "team-b"] {
        let node = ClusterNames::new(names::cluster(namespace, "dev", None)).node(NodeRole::Server, 0);
        assert!(lab.world.works(&node), "{node}");
    }
}
