use jiff::Timestamp;

use super::*;
use crate::{
    api::registry::RegistrySpec,
    child::account::AccountRole,
    docker::{
        engine::{Attachment, Container, ContainerDetail, Network, State, Volume},
        spec::{
            Addressing, Bind, ContainerSpec, EndpointSettings, FileChange, FileSpec, Gpus, Limits,
            PortBinding, Role, VolumeMount, VolumeSpec,
        },
    },
    k3s::kubeconfig::Credentials,
    plan::{
        kubeconfig::template::{Frame, Template},
        management::Management,
        own_registry::OwnRegistry,
        policy::{parse, restrain::restrain},
        registry::config::HTPASSWD_FILE,
        secret::Secret,
        service::objects::{ApiEndpoints, ApiService, ServiceChange},
        settings::WithoutPolicy,
        steps::{Plan, Verdict},
    },
};

fn owner(namespace: &str) -> Owner {
    Owner { uid: format!("uid-{namespace}"), manager: "m".into(), object: format!("{namespace}/dev") }
}

fn settings() -> Settings {
    Settings {
        management: Management::Named("mgmt".into()),
        allowed_host_paths: vec!["/srv".into()],
        ..Settings::sample()
    }
}

fn standing(yaml: &str) -> Standing {
    let spec = serde_saphyr::from_str(&format!("{{namespaceSelector: {{}}, {yaml}}}")).unwrap();
    let policies = [parse::policy("teams", &spec)];
    Standing::of(&policies, ("team-a", Some(&BTreeMap::new())), WithoutPolicy::Refuse)
}

fn container(id: &str, labels: BTreeMap<String, String>) -> Container {
    Container { id: id.into(), name: id.into(), labels, state: State::Running, ..Container::default() }
}

/// What another namespace has, what consents, and what the object has.
fn host() -> Host {
    let consents =
        |namespace: &str| BTreeMap::from([(names::ALLOW_NAMESPACES.to_owned(), namespace.to_owned())]);
    let mut private = owner("team-b").labels();
    private.insert(names::ROLE.into(), "registry".into());
    let mut retained = owner("team-a").labels();
    retained.insert(names::UID.into(), "gone".into());
    retained.insert(VOLUME_OF.into(), "images".into());
    let all = [
        ("own", owner("team-a").labels()),
        ("theirs", owner("team-b").labels()),
        ("stranger", BTreeMap::new()),
        ("consents", consents("team-a")),
    ];
    let mut mgmt = container("mgmt", BTreeMap::new());
    mgmt.networks = [("shared".to_owned(), Attachment::default())].into();
    let mut host = Host { containers: vec![mgmt, container("private", private)], ..Host::default() };
    for (name, labels) in all {
        host.containers.push(container(name, labels.clone()));
        host.networks.push(Network { id: name.into(), labels: labels.clone(), ..Network::default() });
        host.volumes.push(Volume { name: name.into(), labels });
    }
    host.networks.push(Network { id: "shared".into(), ..Network::default() });
    let mut others = owner("team-b").labels();
    others.insert(names::MANAGER.into(), "another".into());
    host.networks.push(Network { id: "other-operator".into(), labels: others, ..Network::default() });
    let mut registry = container("registry", owner("team-a").labels());
    registry.labels.insert(names::ROLE.into(), "registry".into());
    registry.networks = ["theirs", "other-operator"].map(|id| (id.to_owned(), Attachment::default())).into();
    host.containers.push(registry);
    for (id, driver) in [("joinable", "bridge"), ("overlay", "overlay")] {
        let network = Network {
            id: id.into(),
            name: format!("{id}-name"),
            driver: driver.into(),
            labels: consents("team-a"),
            ..Network::default()
        };
        host.networks.push(network);
    }
    // Of a cluster that is gone, of another namespace, and of another operator.
    let with = |key: &str, value: &str| {
        let mut labels = retained.clone();
        labels.insert(key.to_owned(), value.to_owned());
        labels
    };
    let mut lost = retained.clone();
    lost.remove(VOLUME_OF);
    for (name, labels) in [
        ("lost", lost),
        ("retained-elsewhere", with(names::OWNER, "team-b/images")),
        ("retained-by-another", with(names::MANAGER, "other")),
        ("retained", retained),
    ] {
        host.volumes.push(Volume { name: name.into(), labels });
    }
    host
}

fn target(id: &str) -> Target {
    Target { name: id.into(), id: Some(id.into()) }
}

fn node(change: impl FnOnce(&mut ContainerSpec)) -> Action {
    let mut spec = ContainerSpec {
        labels: owner("team-a").labels(),
        privileged: true,
        ..ContainerSpec::bare(
            "k3d-dev-agent-0",
            Role::Node(crate::api::local_cluster::NodeRole::Agent),
            "rancher/k3s:v1",
        )
    };
    change(&mut spec);
    Action::CreateContainer { spec: Box::new(spec), network: Some("own".into()) }
}

/// Mounts a volume of the user.
fn given(spec: &mut ContainerSpec, name: &str) {
    spec.given_volumes.insert("/d".into(), VolumeMount { name: name.into(), read_only: false });
}

/// Returns why a step is refused.
fn refused(yaml: &str, action: &Action) -> Option<Problem> {
    let (owner, host, settings, standing) = (owner("team-a"), host(), settings(), standing(yaml));
    assert_eq!(standing.problem, None);
    let gate = Gate {
        owner: &owner,
        host: &host,
        settings: &settings,
        standing: Some(&standing),
        keep: BTreeSet::new(),
        proven: BTreeSet::from(["proven:1".to_owned()]),
    };
    gate.permit(action).err()
}

#[test]
fn nothing_of_others_is_changed() {
    let is_own = |action: &Action| refused("", action).is_none();
    for (id, own) in
        [("own", true), ("theirs", false), ("stranger", false), ("consents", false), ("unseen", false)]
    {
        for action in [
            Action::RemoveContainer { container: target(id) },
            Action::Stop { container: target(id), grace: 0 },
            Action::Exec { container: target(id), command: Vec::new() },
            Action::Upload { container: target(id), files: Vec::new() },
            Action::RemoveNetwork { id: id.into(), name: id.into() },
            Action::RemoveVolume { name: id.into() },
        ] {
            assert_eq!(is_own(&action), own, "{action} {id}");
        }
    }
    for (name, own) in
        [("retained", true), ("lost", false), ("retained-elsewhere", false), ("retained-by-another", false)]
    {
        assert_eq!(is_own(&Action::RemoveVolume { name: name.into() }), own, "{name}");
    }
    let connect = |network: &str, id: &str| Action::Connect {
        network: network.into(),
        container: target(id),
        endpoint: EndpointSettings::default(),
    };
    for (network, id, permitted) in [
        ("own", "own", true),
        ("own", "consents", true),
        // The consent of a Registry in use is that of its object.
        ("own", "private", true),
        ("own", "stranger", false),
        ("own", "theirs", false),
        ("shared", "own", true),
        ("stranger", "own", false),
        ("joinable", "own", true),
        ("joinable", "consents", false),
        ("overlay", "own", false),
        // A network of another object of the operator, unless the registry was on it.
        ("theirs", "own", false),
        ("theirs", "registry", true),
        ("own", "registry", true),
        ("other-operator", "registry", false),
        ("theirs", "stranger", false),
        ("stranger", "consents", false),
    ] {
        assert_eq!(is_own(&connect(network, id)), permitted, "{id} on {network}");
    }
    let join = |yaml| refused(yaml, &connect("joinable", "own")).map(|p| p.message).unwrap_or_default();
    assert_eq!(join("network: {join: ['joinable-*']}"), "");
    let told = join("network: {join: [other]}");
    assert!(told.contains("a connection to the network joinable-name (network.join: other)"), "{told}");
    let given = |yaml| refused(yaml, &connect("own", "consents")).map(|p| p.message).unwrap_or_default();
    assert_eq!(given("containers: ['cons*']"), "");
    let told = given("containers: [other]");
    assert!(told.contains("a connection of the container consents (containers: other)"), "{told}");
    let other = VolumeSpec { name: "x".into(), labels: owner("team-b").labels() };
    assert!(!is_own(&Action::CreateVolume(other)));
    let told = refused("", &Action::RemoveContainer { container: target("theirs") }).unwrap();
    assert!(told.reason == Reason::InternalError && told.verdict == Verdict::Stalls, "{told:?}");
}

/// In the management cluster, where the operator may write to all namespaces.
#[test]
fn objects_are_made_and_deleted_for_the_owner_alone() {
    let is_own = |action: &Action| refused("", action).is_none();
    let (uid, name) = ("1".to_owned(), "dev".to_owned());
    for (namespace, own) in [("team-a", true), ("team-b", false)] {
        let (namespace, owner) = (namespace.to_owned(), owner(namespace));
        let secret = Secret {
            name: name.clone(),
            owner: owner.clone(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            data: BTreeMap::new(),
        };
        let frame = Frame {
            name: name.clone(),
            owner: owner.clone(),
            ca: String::new(),
            cluster: name.clone(),
            balancer: String::new(),
            host: String::new(),
            management: String::new(),
        };
        let template = Template { frame, role: AccountRole::View, ttl: jiff::SignedDuration::from_hours(1) };
        let its = owner.clone();
        let service = ApiService { owner: owner.clone(), uid: None };
        let endpoints = ApiEndpoints { owner: owner.clone(), uid: None, address: None };
        let registry = OwnRegistry { name: name.clone(), owner, spec: RegistrySpec::default(), adopts: None };
        for action in [
            Action::CreateSecret(secret.clone()),
            Action::ApplySecret(secret),
            Action::IssueToken(template.into()),
            Action::ApplyRegistry(registry.into()),
            Action::Service(ServiceChange::Apply(service)),
            Action::Service(ServiceChange::ApplyEndpoints(endpoints)),
            Action::Service(ServiceChange::Delete { owner: its.clone(), uid: uid.clone() }),
            Action::Service(ServiceChange::DeleteEndpoints { owner: its, uid: uid.clone() }),
            Action::DeleteSecret { namespace: namespace.clone(), name: name.clone(), uid: uid.clone() },
            Action::DeleteRegistry { namespace, name: name.clone(), uid: uid.clone() },
        ] {
            assert_eq!(is_own(&action), own, "{action}");
        }
    }
}

/// One that is in the Secret stays there, and ends by itself.
#[test]
fn a_kubeconfig_is_what_the_policy_allows() {
    let frame = Frame {
        name: "dev-kubeconfig".into(),
        owner: owner("team-a"),
        ca: String::new(),
        cluster: "dev".into(),
        balancer: String::new(),
        host: String::new(),
        management: String::new(),
    };
    let credentials = Credentials { ca: "Y2E=".into(), certificate: "Y2VydA==".into(), key: "a2V5".into() };
    let certificate = Action::ApplySecret(frame.clone().certified(&credentials));
    let template = |role| Template { frame: frame.clone(), role, ttl: SignedDuration::from_hours(9) };
    let token = |role| Action::IssueToken(template(role).into());
    let held = Action::ApplySecret(template(AccountRole::Admin).filled("a.b.c", Timestamp::UNIX_EPOCH));
    for (yaml, action, words) in [
        ("", &certificate, ""),
        ("kubeconfig: {access: [Admin]}", &certificate, ""),
        (
            "kubeconfig: {access: [View, Edit]}",
            &certificate,
            "a kubeconfig with access Admin (kubeconfig.access: View, Edit)",
        ),
        (
            "kubeconfig: {maxTTL: 24h}",
            &certificate,
            "a client certificate in a kubeconfig (kubeconfig.maxTTL: at most 24h)",
        ),
        ("kubeconfig: {access: [View], maxTTL: 9h}", &token(AccountRole::View), ""),
        ("kubeconfig: {access: [View]}", &token(AccountRole::Edit), "with access Edit (kubeconfig.access"),
        ("kubeconfig: {maxTTL: 8h}", &token(AccountRole::View), "a token for 9h in a kubeconfig"),
        ("kubeconfig: {access: [View], maxTTL: 1h}", &held, ""),
    ] {
        let message = refused(yaml, action).map(|p| p.message).unwrap_or_default();
        assert!(message.contains(words) && message.is_empty() == words.is_empty(), "{yaml}: {message}");
    }
}

#[test]
fn containers_are_what_the_policy_allows() {
    let told = |yaml: &str, action: &Action| refused(yaml, action).map(|p| p.message).unwrap_or_default();
    for (yaml, change, words) in [
        (
            "nodes: {images: ['docker.io/rancher/*']}",
            Box::new(|_: &mut ContainerSpec| {}) as Box<dyn Fn(&mut ContainerSpec)>,
            "",
        ),
        (
            "nodes: {images: [registry.corp/**]}",
            Box::new(|_| {}),
            "the image docker.io/rancher/k3s:v1 (nodes.images",
        ),
        ("nodes: {requireDigest: true}", Box::new(|_| {}), "rancher/k3s:v1 (nodes.requireDigest: NAME:TAG@"),
        ("nodes: {requireDigest: true}", Box::new(|s| s.image = "k3s:v1@sha256:00".into()), ""),
        ("images: {proveAccess: true}", Box::new(|s| s.image = "proven:1".into()), ""),
        (
            "images: {proveAccess: true}",
            Box::new(|s| s.image = "registry.corp/k3s:1".into()),
            "the image registry.corp/k3s:1 (images.proveAccess: ",
        ),
        ("nodes: {runtimes: [sysbox-runc]}", Box::new(|s| s.runtime = Some("sysbox-runc".into())), ""),
        (
            "nodes: {runtimes: [sysbox-runc]}",
            Box::new(|s| s.runtime = Some("runc".into())),
            "the runtime runc of k3d-dev-agent-0 (nodes.runtimes: sysbox-runc)",
        ),
        (
            "nodes: {runtimes: [sysbox-runc]}",
            Box::new(|_| {}),
            "the default runtime of the engine of k3d-dev-agent-0 (nodes.runtimes: sysbox-runc)",
        ),
        (
            "nodes: {privileged: false}",
            Box::new(|_| {}),
            "the privileged node k3d-dev-agent-0 (nodes.privileged: ",
        ),
        ("nodes: {privileged: false}", Box::new(|s| s.privileged = false), ""),
        ("perNode: {maxMemory: 1Gi}", Box::new(|s| s.memory = Some(1 << 30)), ""),
        (
            "perNode: {maxMemory: 1Gi}",
            Box::new(|_| {}),
            "the memory of k3d-dev-agent-0 (perNode.maxMemory: at most 1Gi)",
        ),
        (
            "perNode: {maxCpus: '2'}",
            Box::new(|s| s.nano_cpus = Some(3_000_000_000)),
            "perNode.maxCpus: at most 2",
        ),
        (
            "perNode: {maxMemory: 1Gi}",
            Box::new(|s| s.defaults = Limits { memory: Some(1 << 30), ..Limits::default() }),
            "",
        ),
        (
            "perNode: {maxMemory: 1Gi}",
            Box::new(|s| s.defaults = Limits { memory: Some(2 << 30), ..Limits::default() }),
            "perNode.maxMemory: at most 1Gi",
        ),
        ("perNode: {maxPids: 2048}", Box::new(|s| s.pids = Some(2048)), ""),
        (
            "perNode: {maxPids: 2048}",
            Box::new(|_| {}),
            "the pids of k3d-dev-agent-0 (perNode.maxPids: at most 2048)",
        ),
        (
            "nodes: {containerLabels: ['com.example.*']}",
            Box::new(|s| s.given_labels = BTreeMap::from([("com.example.team".into(), "shop".into())])),
            "",
        ),
        (
            "nodes: {containerLabels: ['com.example.*']}",
            Box::new(|s| s.given_labels = BTreeMap::from([("traefik.enable".into(), "true".into())])),
            "the label traefik.enable of k3d-dev-agent-0 (nodes.containerLabels: com.example.*)",
        ),
        ("nodes: {volumes: [consents]}", Box::new(|s| given(s, "consents")), ""),
        (
            "nodes: {volumes: []}",
            Box::new(|s| given(s, "consents")),
            "the volume consents (nodes.volumes: none)",
        ),
        ("", Box::new(|s| given(s, "stranger")), "the volume does not allow it"),
        ("", Box::new(|s| given(s, "theirs")), "the volume does not allow it"),
        ("", Box::new(|s| given(s, "own")), "the volume does not allow it"),
        ("", Box::new(|s| given(s, "unseen")), "the volume does not allow it"),
        (
            "",
            Box::new(|s| s.given_labels = BTreeMap::from([(names::UID.into(), "uid-team-b".into())])),
            "a label has a key of the operator",
        ),
        ("perNode: {maxGpus: 0}", Box::new(|s| s.gpus = Some(Gpus::All)), "perNode.maxGpus: at most 0"),
        (
            "hostPaths: [{path: /srv/a}]",
            Box::new(|s| {
                drop(s.binds.insert("/x".into(), Bind { source: "/srv/b".into(), read_only: true }))
            }),
            "the host directory /srv/b (hostPaths: /srv/a)",
        ),
        (
            "priority: 1",
            Box::new(|s| drop(s.binds.insert("/x".into(), Bind { source: "/etc".into(), read_only: true }))),
            "the operator does not allow the host directory",
        ),
        (
            "priority: 1",
            Box::new(|s| drop(s.mounts.insert("/x".into(), "theirs".into()))),
            "the volume does not allow it",
        ),
        ("priority: 1", Box::new(|s| drop(s.mounts.insert("/x".into(), "unseen".into()))), "another owner"),
        ("priority: 1", Box::new(|s| drop(s.mounts.insert("/x".into(), "consents".into()))), ""),
        ("registry: {volumes: []}", Box::new(|s| drop(s.mounts.insert("/x".into(), "own".into()))), ""),
        ("registry: {volumes: []}", Box::new(|s| drop(s.mounts.insert("/x".into(), "retained".into()))), ""),
        (
            "priority: 1",
            Box::new(|s| drop(s.mounts.insert("/x".into(), "lost".into()))),
            "the volume does not allow it",
        ),
        (
            "registry: {volumes: []}",
            Box::new(|s| drop(s.mounts.insert("/x".into(), "consents".into()))),
            "the volume consents (registry.volumes: none)",
        ),
        ("priority: 1", Box::new(|s| s.role = Role::Registry), "only nodes are privileged"),
        ("priority: 1", Box::new(|s| s.labels.clear()), "another owner"),
    ] {
        let message = told(yaml, &node(change));
        assert!(message.contains(words) && message.is_empty() == words.is_empty(), "{yaml}: {message}");
    }
    let binding =
        |ip: &str, port| PortBinding { host_ip: ip.into(), host_port: port, port: 1, protocol: "tcp".into() };
    let ports = "ports: {hostIPs: [127.0.0.1], ranges: [{from: 30000, to: 30010}]}";
    for (ip, port, words) in
        [("127.0.0.1", 30010, ""), ("0.0.0.0", 30010, "ports.hostIPs"), ("127.0.0.1", 80, "ports.ranges")]
    {
        let message = told(ports, &node(|s| s.ports = vec![binding(ip, port)]));
        assert!(message.contains(words) && message.is_empty() == words.is_empty(), "{ip}:{port}: {message}");
    }
    let auth = "registry: {requireAuthBeyondLoopback: true}";
    for (ip, path, words) in [
        ("127.0.0.1", "", ""),
        ("0.0.0.0", HTPASSWD_FILE, ""),
        ("0.0.0.0", "", "k3d-dev-agent-0 without auth (registry.requireAuthBeyondLoopback: "),
    ] {
        let registry = node(|s| {
            (s.role, s.privileged, s.ports) = (Role::Registry, false, vec![binding(ip, 5000)]);
            let (path, change) = (path.to_owned(), FileChange::Live);
            s.files = vec![FileSpec { path, mode: 0o600, content: Vec::new(), change }];
        });
        let message = told(auth, &registry);
        assert!(message.contains(words) && message.is_empty() == words.is_empty(), "{ip} {path}: {message}");
    }
    let network = |subnet: Option<&str>| {
        let addressing = subnet.map(|subnet| {
            let subnet: ipnet::Ipv4Net = subnet.parse().unwrap();
            Addressing { subnet, gateway: subnet.addr(), ip_range: subnet }
        });
        Action::CreateNetwork(NetworkSpec { name: "n".into(), addressing, labels: owner("team-a").labels() })
    };
    let pools = "network: {pools: [10.231.0.0/17]}";
    for (subnet, permitted) in
        [(Some("10.231.1.0/24"), true), (Some("10.231.128.0/24"), false), (None, false)]
    {
        assert_eq!(told(pools, &network(subnet)).is_empty(), permitted, "{subnet:?}");
    }
    assert_eq!(told("", &network(None)), "");
    for (role, permitted) in [
        (Role::LoadBalancer, false),
        (Role::Registry, false),
        (Role::RegistryHelper, true),
        (Role::NodeHelper, true),
    ] {
        let Action::CreateContainer { spec, .. } =
            node(|s| (s.role, s.privileged, s.image) = (role, false, "nginx:1".into()))
        else {
            unreachable!()
        };
        let alone = Action::CreateContainer { spec, network: None };
        assert_eq!(told("", &alone).is_empty(), permitted, "{role:?} on no network of its own");
    }
    let wanted = |image: &str| {
        node(|s| {
            (s.role, s.privileged, s.image) = (Role::LoadBalancer, false, image.into());
        })
    };
    assert_eq!(told("", &wanted("nginx:1")), "");
    assert!(told("", &wanted("evil:1")).contains("the image of the operator"));
}

#[test]
fn a_load_balancer_may_keep_the_image_that_it_has() {
    let (owner, mut host, settings, standing) = (owner("team-a"), host(), settings(), standing(""));
    let labels = owner.labels();
    let has = Container {
        name: "k3d-dev-agent-0".into(),
        image: "nginx:0".into(),
        ..container("balancer", labels)
    };
    host.own.insert("balancer".into(), ContainerDetail { container: has, ..ContainerDetail::default() });
    let gate = Gate {
        owner: &owner,
        host: &host,
        settings: &settings,
        standing: Some(&standing),
        keep: BTreeSet::new(),
        proven: BTreeSet::new(),
    };
    let permitted = |image: &str| {
        let made = node(|s| (s.role, s.privileged, s.image) = (Role::LoadBalancer, false, image.to_owned()));
        gate.permit(&made).is_ok()
    };
    assert!(permitted("nginx:0") && permitted("nginx:1") && !permitted("evil:1"));
}

/// What is executed although a policy that audits does not allow it is reported, and what is of others stays theirs.
#[test]
fn a_policy_that_audits_permits_all_but_what_is_of_others() {
    let rules = "mode: Audit, perNode: {maxMemory: 1Gi}, registry: {volumes: []}, hostPaths: []";
    let (owner, host, settings, standing) = (owner("team-a"), host(), settings(), standing(rules));
    let gate = Gate {
        owner: &owner,
        host: &host,
        settings: &settings,
        standing: Some(&standing),
        keep: BTreeSet::new(),
        proven: BTreeSet::new(),
    };
    let large = node(|_| {});
    assert_eq!(gate.permit(&large), Ok(()));
    let audited = gate.audited(&large).unwrap();
    assert!(audited.message.contains("the memory of k3d-dev-agent-0 (perNode.maxMemory"), "{audited:?}");
    assert_eq!(gate.audited(&node(|s| s.memory = Some(1 << 30))), None);
    for (path, volume) in [("/etc", None), ("/srv/a", Some("theirs"))] {
        let foreign = node(|s| {
            s.binds.insert("/x".into(), Bind { source: path.into(), read_only: true });
            s.mounts.extend(volume.map(|volume| ("/y".to_owned(), volume.to_owned())));
        });
        assert_eq!(gate.permit(&foreign).unwrap_err().reason, Reason::InternalError, "{path} {volume:?}");
    }
    assert!(gate.permit(&Action::RemoveContainer { container: target("theirs") }).is_err());
}

#[test]
fn a_frozen_object_keeps_what_it_has() {
    let (owner, host, settings) = (owner("team-a"), host(), settings());
    let violation = Violation::new("spec.image x", "nodes.images", "none");
    let standing = standing("").judged(&[violation]);
    let keep = BTreeSet::from(["own".to_owned()]);
    let gate = Gate {
        owner: &owner,
        host: &host,
        settings: &settings,
        standing: Some(&standing),
        keep,
        proven: BTreeSet::new(),
    };
    let mut plan = Plan { pulls: vec!["x".into()], ..Plan::default() };
    // A replacement, the removal of a surplus agent, and a restart.
    let stopped = plan.step(Action::Stop { container: target("own"), grace: 1 }, &[], "");
    let removed = plan.step(Action::RemoveContainer { container: target("own") }, &[stopped], "");
    let made = node(|_| {});
    let created = plan.step(made, &[removed], "");
    plan.step(Action::Start { container: target("own") }, &[created], "");
    let surplus = Target { name: "k3d-dev-agent-9".into(), id: Some("own".into()) };
    let first = plan.step(Action::Stop { container: surplus.clone(), grace: 1 }, &[], "");
    plan.step(Action::RemoveContainer { container: surplus }, &[first], "");
    plan.step(Action::Start { container: target("own") }, &[], "it was not running");
    restrain(&mut plan, &gate);
    let left: Vec<String> = plan.steps.iter().map(|s| format!("{} {:?}", s.action, s.after)).collect();
    assert_eq!(left, ["Stop k3d-dev-agent-9 []", "RemoveContainer k3d-dev-agent-9 [0]", "Start own []"]);
    assert_eq!(plan.problems, [standing.problem.clone().unwrap()]);
    assert!(plan.pulls.is_empty());
    // What has never run is not started: its files may be new.
    let mut created = host.clone();
    let detail =
        ContainerDetail { container: container("own", owner.labels()), ..ContainerDetail::default() };
    created.own.insert("own".into(), detail);
    let first = Gate { host: &created, ..gate.clone() };
    assert!(first.permit(&Action::Start { container: target("own") }).is_err());
    // Also if it only needs an image, and if it is reported already.
    let waiting = standing.problem.clone().unwrap();
    for mut plan in [
        Plan { pulls: vec!["x".into()], ..Plan::default() },
        Plan { proofs: vec!["x".into()], ..Plan::default() },
        Plan { problems: vec![waiting.clone()], ..Plan::default() },
    ] {
        plan.forgets = true;
        restrain(&mut plan, &gate);
        assert_eq!(plan.problems.first(), Some(&waiting));
        assert_eq!(plan, Plan { problems: plan.problems.clone(), ..Plan::default() });
    }
    let other = Problem::stalls(ConditionType::Accepted, Reason::InternalError, "other");
    let mut plan = Plan { problems: vec![other.clone()], ..Plan::default() };
    restrain(&mut plan, &gate);
    assert_eq!(plan.problems, [other]);
    // Nothing is wrong with one that needs nothing.
    let mut plan = Plan::default();
    restrain(&mut plan, &gate);
    assert_eq!(plan, Plan::default());
    // What is deleted goes, and nothing comes.
    let gone = Gate { standing: None, ..gate };
    assert!(gone.permit(&Action::RemoveContainer { container: target("own") }).is_ok());
    assert!(gone.permit(&node(|_| {})).is_err());
}
