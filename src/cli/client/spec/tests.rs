use super::*;

fn flags() -> Flags {
    Flags {
        servers: Some(3),
        agents: Some(2),
        ports: vec!["8080:80".into(), "53:53/udp@agents".into()],
        version: Some("v1.36.2+k3s1".into()),
        image: None,
        registries: vec!["registry".into(), "shared/cache".into()],
        k3s_args: vec![
            "--disable=traefik".into(),
            "--kubelet-arg=max-pods=50@all".into(),
            "--kubelet-arg=v=4@agent:*".into(),
        ],
        ttl: Some("8h".into()),
        no_host_images: false,
    }
}

#[test]
fn flags_become_a_cluster() {
    let objects = from_flags("dev", Some("team"), &flags());
    let cluster = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster",
        "metadata": {"name": "dev", "namespace": "team"},
        "spec": {
            "servers": {"count": 3, "args": ["--disable=traefik", "--kubelet-arg=max-pods=50"]},
            "agents": {"count": 2, "args": ["--kubelet-arg=max-pods=50", "--kubelet-arg=v=4"]},
            "version": "v1.36.2+k3s1", "ttl": "8h",
            "ports": [
                {"name": "tcp-80", "port": 80, "hostPort": 8080},
                {"name": "udp-53", "port": 53, "hostPort": 53, "protocol": "UDP", "nodes": "Agents"},
            ],
            "registries": {"use": [{"name": "registry"}, {"name": "cache", "namespace": "shared"}]},
            "images": {"fromDockerHost": true},
        },
    });
    assert_eq!(objects, Ok(Objects { cluster, registries: vec![] }));
}

#[test]
fn without_flags_everything_has_its_default() {
    let objects = from_flags("dev", None, &Flags::default()).unwrap();
    let expected = json!({"apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster",
        "metadata": {"name": "dev"}, "spec": {"images": {"fromDockerHost": true}}});
    assert_eq!((objects.name(), &objects.cluster), ("dev", &expected));
}

/// The operator would report a cluster that cannot use them as one that needs its user.
#[test]
fn nodes_get_images_of_the_docker_host_unless_they_cannot_or_must_not() {
    let flags = |change: fn(&mut Flags)| {
        let mut flags = Flags::default();
        change(&mut flags);
        from_flags("dev", None, &flags).unwrap().cluster["spec"]["images"]["fromDockerHost"] == true
    };
    assert!(flags(|_| {}));
    assert!(flags(|f| f.version = Some("v1.36.2+k3s1".into())));
    assert!(flags(|f| f.image = Some("registry.example/k3s:custom".into())));
    assert!(!flags(|f| f.no_host_images = true));
    assert!(!flags(|f| f.version = Some("v1.25.16+k3s4".into())));
    assert!(!flags(|f| f.image = Some("rancher/k3s:v1.31.6-k3s1".into())));
    assert!(!flags(|f| f.k3s_args = vec!["--embedded-registry".into()]));
}

#[test]
fn a_pool_without_a_count_has_the_default_of_the_api_server() {
    let flags = Flags { k3s_args: vec!["--disable=traefik".into()], ..Flags::default() };
    let objects = from_flags("dev", None, &flags).unwrap();
    assert_eq!(objects.cluster["spec"]["servers"], json!({"args": ["--disable=traefik"]}));
}

#[test]
fn wrong_flags_are_told() {
    let with = |change: fn(&mut Flags)| {
        let mut flags = Flags::default();
        change(&mut flags);
        from_flags("dev", None, &flags).unwrap_err()
    };
    assert!(with(|f| f.servers = Some(2)).starts_with("the LocalCluster dev is invalid: "));
    assert!(with(|f| f.version = Some("1.36".into())).contains("v1.36"));
    assert!(with(|f| f.ports = vec!["80@server:0".into()]).starts_with("-p 80@server:0: "));
    assert!(with(|f| f.k3s_args = vec!["--a@server:0".into()]).starts_with("--k3s-arg --a@server:0: "));
    let told = from_flags("Dev_1", None, &Flags::default()).unwrap_err();
    assert!(told.starts_with("the LocalCluster Dev_1 is invalid: "), "{told}");
}

const CLUSTER: &str =
    "{apiVersion: localcluster.dev/v1alpha1, kind: LocalCluster, metadata: {name: dev}, spec: {}}";

#[test]
fn a_file_has_a_cluster_and_its_registries() {
    let registry = "{apiVersion: localcluster.dev/v1alpha1, kind: Registry, metadata: {name: r}}";
    let text = format!("--- {CLUSTER}\n--- {registry}\n---\n");
    let objects = from_file(("f", &text), None, Some("team")).unwrap();
    let all: Vec<_> = objects.all().map(|object| (&object["kind"], &object["metadata"])).collect();
    let (first, second) =
        (json!({"name": "r", "namespace": "team"}), json!({"name": "dev", "namespace": "team"}));
    assert_eq!(all, [(&"Registry".into(), &first), (&"LocalCluster".into(), &second)]);
    let unnamed = CLUSTER.replace("metadata: {name: dev}, ", "");
    assert_eq!(from_file(("f", &unnamed), Some("mine"), None).unwrap().name(), "mine");
}

#[test]
fn wrong_files_are_told() {
    let two = format!("--- {CLUSTER}\n--- {CLUSTER}");
    let unnamed = CLUSTER.replace("metadata: {name: dev}, ", "");
    let foreign = CLUSTER.replace("name: dev", "name: dev, namespace: other");
    for (text, name, expected) in [
        ("a: [", None, "cannot read f: "),
        (
            "kind: Simple\napiVersion: k3d.io/v1alpha5",
            None,
            "cannot create Simple (k3d.io/v1alpha5) from f: ",
        ),
        ("[]", None, "cannot create no kind (no apiVersion) from f: "),
        ("", None, "f has 0 LocalClusters: "),
        (&two, None, "f has 2 LocalClusters: "),
        (CLUSTER, Some("mine"), "the LocalCluster in f is named dev, not mine; "),
        (&unnamed, None, "the LocalCluster in f has no name; "),
        (&foreign, None, "the LocalCluster dev is in the namespace other, not team; "),
        (&CLUSTER.replace("spec: {}", "spec: {agents: 2}"), None, "the LocalCluster is invalid: "),
    ] {
        let told = from_file(("f", text), name, Some("team")).unwrap_err();
        assert!(told.starts_with(expected), "{text}: {told}");
    }
}
