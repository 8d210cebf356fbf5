//! Pods resolve registries and the Docker host, and tools find the registry, regardless of changes in between.

use serde_json::Value;

use crate::{
    cluster::{container, nodes_are_ready, push},
    dns_follows::a_change_of_the_hosts_resolvers_is_followed,
    host_aliases,
    live::{
        Kubectl, docker, eventually,
        harness::Group,
        holds, inspect, install, now,
        scene::{LIMIT, Scene},
        world,
    },
    resolver::{HostResolvers, Server},
};

pub const GROUP: Group = Group {
    name: "dns",
    setup,
    tests: &[
        ("names_resolve_in_pods", names_resolve_in_pods),
        ("outside_names_are_still_forwarded", outside_names_are_still_forwarded),
        ("pods_and_nodes_resolve_what_the_host_resolves", pods_and_nodes_resolve_what_the_host_resolves),
        ("a_change_of_the_hosts_resolvers_is_followed", a_change_of_the_hosts_resolvers_is_followed),
        ("others_cannot_use_the_resolver", others_cannot_use_the_resolver),
        ("a_deleted_config_map_is_restored", a_deleted_config_map_is_restored),
        ("a_change_is_applied_again", a_change_is_applied_again),
        ("keys_of_others_stay", keys_of_others_stay),
        ("names_outlive_a_restart_of_the_server", names_outlive_a_restart_of_the_server),
        ("names_resolve_on_an_added_agent", names_resolve_on_an_added_agent),
        ("host_aliases_reach_nodes_and_pods", host_aliases::host_aliases_reach_nodes_and_pods),
        ("a_registrys_name_is_refused", host_aliases::a_registrys_name_is_refused),
        ("a_later_registry_resolves", a_later_registry_resolves),
        ("tools_find_the_registry_and_its_new_port", tools_find_the_registry_and_its_new_port),
        ("an_unmanaged_advertisement_is_left_unchanged", an_unmanaged_advertisement_is_left_unchanged),
    ],
};

/// CoreDNS checks for changes every 30 to 45 s, in a file that the kubelet updates up to 90 s late if another writer
/// than the operator changed it.
pub const RELOAD: u64 = 180;
const DNS: [&str; 4] = ["-n", "kube-system", "configmap", "coredns-custom"];
const HOSTING: [&str; 4] = ["-n", "kube-public", "configmap", "local-registry-hosting"];

fn setup() -> Scene {
    install();
    let scene = Scene::new("dns");
    scene.apply("Registry", "r", "{}");
    use_registries(&scene, 0, "[{name: r}]");
    let image = push(&scene, "asker");
    scene.child("c").apply(&format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: asker}}, spec: {{selector: {{matchLabels: {{app: \
         asker}}}}, template: {{metadata: {{labels: {{app: asker}}}}, spec: {{terminationGracePeriodSeconds: 1, \
         containers: [{{name: asker, image: \"{image}\"}}]}}}}}}}}"
    ));
    scene
}

/// Applies the cluster with these registries and waits until it is Ready.
fn use_registries(scene: &Scene, agents: usize, registries: &str) {
    scene.apply(
        "LocalCluster",
        "c",
        &format!(
            "{{servers: {{count: 1, args: [\"--disable=traefik,metrics-server,servicelb\"]}}, agents: {{count: \
             {agents}}}, registries: {{use: {registries}}}}}"
        ),
    );
    scene.ready("lc/c");
}

fn network(scene: &Scene) -> String {
    scene.network("c")
}

fn registry(scene: &Scene, name: &str) -> String {
    scene.registry(name)
}

/// Returns the address of a container on the cluster's network.
fn address(scene: &Scene, container: &str) -> String {
    let seen = inspect(container).expect("it exists");
    let ip = &seen["NetworkSettings"]["Networks"][&network(scene)]["IPAddress"];
    ip.as_str().expect("it is on the cluster's network").to_owned()
}

fn gateway(scene: &Scene) -> String {
    docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", &network(scene)])
}

/// Waits until a Pod resolves this name to this address.
pub fn resolves(child: &Kubectl, pod: &str, name: &str, address: &str) {
    eventually(RELOAD, &format!("{pod} finds {name} at {address}"), || {
        let said = child.attempt(&["exec", pod, "--", "nslookup", name])?;
        let line = |l: &str| l.starts_with("Address") && l.ends_with(&format!(" {address}"));
        holds(said.lines().any(line), || said.clone())
    });
}

/// Waits until a Pod resolves the registries and the host, and each registry responds to it.
fn all_resolve(scene: &Scene, pod: &str, registries: &[&str]) {
    let child = scene.child("c");
    resolves(&child, pod, "host.k3d.internal", &gateway(scene));
    for name in registries {
        let hostname = registry(scene, name);
        resolves(&child, pod, &format!("{hostname}."), &address(scene, &hostname));
        // Through the search path and libc, as programs do it.
        let url = format!("http://{hostname}:5000/v2/");
        let answer = eventually(RELOAD, &format!("{hostname} answers {pod}"), || {
            child.attempt(&["exec", pod, "--", "timeout", "5", "wget", "-qO-", &url])
        });
        assert_eq!(answer, "{}", "{url}");
    }
}

pub const ASKER: &str = "deploy/asker";

fn names_resolve_in_pods(scene: &Scene) {
    all_resolve(scene, ASKER, &["r"]);
    // In upper case too.
    let upper = registry(scene, "r").to_uppercase();
    resolves(&scene.child("c"), ASKER, &format!("{upper}."), &address(scene, &registry(scene, "r")));
    // K3s's own names are unchanged.
    let api = scene.child("c").run(&["get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"]);
    resolves(&scene.child("c"), ASKER, "kubernetes.default.svc.cluster.local.", &api);
}

/// A resolver of this test serves as that of the host. The names of the registry and of host aliases are the operator's.
fn outside_names_are_still_forwarded(scene: &Scene) {
    const OUTSIDE: &str = "192.0.2.99";
    host_aliases::set(scene);
    let (child, host) = (scene.child("c"), HostResolvers::replace());
    let server = Server::start(host.address(1), "outside.e2e.test", OUTSIDE, host.before());
    host.set(server.address);
    restart_load_balancer(scene);
    resolves(&child, ASKER, "outside.e2e.test.", OUTSIDE);
    // A name that resembles one of the operator's is not affected.
    let (name, other) = (registry(scene, "r"), format!("x.{}.", registry(scene, "r")));
    let said = child.attempt(&["exec", ASKER, "--", "nslookup", &other]);
    assert!(said.is_err(), "{other} resolves: {said:?}");
    resolves(&child, ASKER, &format!("{name}."), &address(scene, &name));
    drop(host);
    restart_load_balancer(scene);
    host_aliases::remove(scene);
}

/// Restarts the load balancer, which asks the resolvers that the host had when it started.
fn restart_load_balancer(scene: &Scene) {
    docker(&["restart", &container(scene, "serverlb")]);
    eventually(LIMIT, "the load balancer works again", || {
        crate::live::scene::is_ready(&scene.try_get("lc/c")?)?;
        scene.child("c").attempt(&["get", "nodes"])
    });
}

/// Names of a company or a VPN, which no public resolver knows.
fn pods_and_nodes_resolve_what_the_host_resolves(scene: &Scene) {
    let (child, host) = (scene.child("c"), HostResolvers::replace());
    let first = Server::start(host.address(1), "intranet.e2e.test", "192.0.2.71", host.before());
    let second = Server::start(host.address(2), "vpn.e2e.test", "192.0.2.72", host.before());
    host.set(first.address);
    restart_load_balancer(scene);
    resolves(&child, ASKER, "intranet.e2e.test.", "192.0.2.71");
    // Not only through the search path, and names of the cluster's network too.
    resolves(&child, ASKER, "intranet.e2e.test", "192.0.2.71");
    let balancer = container(scene, "serverlb");
    resolves(&child, ASKER, &format!("{balancer}."), &address(scene, &balancer));
    use_registries(scene, 1, "[{name: r}]");
    let ping = ["exec", &container(scene, "agent-0"), "ping", "-c", "1", "-W", "1", "intranet.e2e.test"];
    let said = crate::live::try_docker(&ping).unwrap_or_else(|said| said);
    assert!(said.contains("(192.0.2.71)"), "{said}");
    use_registries(scene, 0, "[{name: r}]");

    host.set(second.address);
    restart_load_balancer(scene);
    resolves(&child, ASKER, "vpn.e2e.test.", "192.0.2.72");

    // Nothing answers: outside names fail in time, the cluster's own names and the API work.
    host.set(host.address(3));
    restart_load_balancer(scene);
    let since = std::time::Instant::now();
    let said = child.attempt(&["exec", ASKER, "--", "timeout", "30", "nslookup", "nobody.e2e.test."]);
    assert!(said.is_err() && since.elapsed().as_secs() < 25, "{:?} {said:?}", since.elapsed());
    let api = child.run(&["get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"]);
    resolves(&child, ASKER, "kubernetes.default.svc.cluster.local.", &api);
    drop(host);
    restart_load_balancer(scene);
}

/// The load balancer answers the network of the cluster only.
fn others_cannot_use_the_resolver(scene: &Scene) {
    let balancer = container(scene, "serverlb");
    assert!(!docker(&["port", &balancer]).lines().any(|l| l.starts_with("53/")), "it is published");
    let seen = inspect(&balancer).expect("it exists");
    let networks = seen["NetworkSettings"]["Networks"].as_object().expect("it is on networks");
    assert!(networks.contains_key(&network(scene)), "{networks:?}");
    for (name, endpoint) in networks {
        let ip = endpoint["IPAddress"].as_str().expect("it has an address");
        let image = world("BUSYBOX_IMAGE");
        let ask = ["run", "--rm", "--network", name, &image, "timeout", "10", "nslookup", &balancer, ip];
        let answered = crate::live::try_docker(&ask);
        assert_eq!(answered.is_ok(), *name == network(scene), "{name}: {answered:?}");
    }
}

fn a_deleted_config_map_is_restored(scene: &Scene) {
    let child = scene.child("c");
    for config in [DNS, HOSTING] {
        let before = data(&child, config).expect("it exists");
        child.run(&[&["delete"], &config[..]].concat());
        // At once, and not with the next resync.
        eventually(20, &format!("{} is back", config[3]), || {
            let after = data(&child, config)?;
            holds(after == before, || after.to_string())
        });
    }
    scene.ready("lc/c");
    all_resolve(scene, ASKER, &["r"]);
}

/// Returns the content, without the comments for CoreDNS.
fn data(child: &Kubectl, config: [&str; 4]) -> Result<Value, String> {
    let mut data = child.json(&config)?["data"].clone();
    for text in data.as_object_mut().into_iter().flat_map(|d| d.values_mut()) {
        let lines = text.as_str().unwrap_or_default().split_inclusive('\n');
        *text = lines.filter(|line| !line.starts_with('#')).collect::<String>().into();
    }
    Ok(data)
}

/// CoreDNS loses a change that arrives while it starts, so each is applied a second time. Nobody sees it in the status.
fn a_change_is_applied_again(scene: &Scene) {
    let before = scene.get("lc/c")["metadata"]["resourceVersion"].clone();
    eventually(60, "the file was applied again", || {
        let map = scene.child("c").json(&DNS)?;
        holds(map["data"].to_string().contains("Applied again"), || map.to_string())
    });
    assert_eq!(scene.get("lc/c")["metadata"]["resourceVersion"], before);
}

fn keys_of_others_stay(scene: &Scene) {
    let child = scene.child("c");
    let patch = |value: &str| format!(r#"{{"data": {{"mine.server": {value}}}}}"#);
    let mine = "\"mine.e2e:53 {\\n  hosts {\\n    192.0.2.7 a.mine.e2e\\n  }\\n}\\n\"";
    let set = |value: &str| {
        child.run(&[
            "-n",
            "kube-system",
            "patch",
            "configmap",
            "coredns-custom",
            "--type=merge",
            "-p",
            &patch(value),
        ]);
        // The kubelet reads a Pod's ConfigMaps when the Pod changes, else every minute or two.
        let changed = format!("e2e/changed={}", now());
        let pod = ["-n", "kube-system", "annotate", "pod", "-l", "k8s-app=kube-dns", "--overwrite", &changed];
        child.run(&pod)
    };
    set(mine);
    resolves(&child, ASKER, "a.mine.e2e.", "192.0.2.7");
    // The operator's key changes beside it.
    scene.apply("Registry", "other", "{}");
    use_registries(scene, 0, "[{name: r}, {name: other}]");
    use_registries(scene, 0, "[{name: r}]");
    scene.run(&["delete", "lreg/other", "--timeout=120s"]);
    let seen = data(&child, DNS).expect("it exists");
    assert!(seen["mine.server"].as_str().is_some_and(|text| text.contains("a.mine.e2e")), "{seen}");
    set("null");
    all_resolve(scene, ASKER, &["r"]);
}

fn names_outlive_a_restart_of_the_server(scene: &Scene) {
    let before = data(&scene.child("c"), DNS).expect("it exists");
    let since = now();
    docker(&["restart", &container(scene, "server-0")]);
    eventually(LIMIT, "the server works again", || {
        nodes_are_ready(&scene.child("c"), 1, &world("NODE_VERSION"))?;
        crate::live::scene::is_ready(&scene.try_get("lc/c")?)
    });
    assert_eq!(data(&scene.child("c"), DNS), Ok(before), "{:?}", scene.events(&since));
    all_resolve(scene, ASKER, &["r"]);
}

fn names_resolve_on_an_added_agent(scene: &Scene) {
    use_registries(scene, 1, "[{name: r}]");
    let child = scene.child("c");
    let image = push(scene, "asker");
    let on = format!(r#"{{"apiVersion": "v1", "spec": {{"nodeName": "{}"}}}}"#, container(scene, "agent-0"));
    child.run(&["run", "on-agent", &format!("--image={image}"), &format!("--overrides={on}")]);
    child.run(&["wait", "--for=condition=Ready", "pod/on-agent", "--timeout=120s"]);
    all_resolve(scene, "pod/on-agent", &["r"]);
    child.run(&["delete", "pod/on-agent", "--now"]);
    use_registries(scene, 0, "[{name: r}]");
}

fn a_later_registry_resolves(scene: &Scene) {
    scene.apply("Registry", "later", "{}");
    use_registries(scene, 0, "[{name: r}, {name: later}]");
    // The kubelet is notified, instead of updating the file only in its next round, a minute later.
    let glob = "/var/lib/kubelet/pods/*/volumes/kubernetes.io~configmap/custom*/localcluster.override";
    let script = format!("cat {glob}");
    let later = registry(scene, "later");
    eventually(30, "CoreDNS's Pod has the new file", || {
        let said = crate::live::try_docker(&["exec", &container(scene, "server-0"), "sh", "-c", &script])?;
        holds(said.contains(&format!("template IN A {later} ")), || said.clone())
    });
    all_resolve(scene, ASKER, &["r", "later"]);
    use_registries(scene, 0, "[{name: r}]");
    scene.run(&["delete", "lreg/later", "--timeout=120s"]);
    let left = data(&scene.child("c"), DNS).expect("it exists");
    assert!(!left.to_string().contains(&later), "{left}");
}

/// Returns what tools read.
fn hosting(scene: &Scene) -> Result<String, String> {
    let data = data(&scene.child("c"), HOSTING)?;
    data["localRegistryHosting.v1"].as_str().map(str::to_owned).ok_or(data.to_string())
}

fn tools_find_the_registry_and_its_new_port(scene: &Scene) {
    let tools_find = |host: &str| {
        let inside = format!("{}:5000", registry(scene, "r"));
        let wanted = [
            format!("host: \"{host}\""),
            format!("hostFromContainerRuntime: \"{inside}\""),
            format!("hostFromClusterNetwork: \"{inside}\""),
        ];
        eventually(LIMIT, &format!("tools find {host}"), || {
            let said = hosting(scene)?;
            holds(wanted.iter().all(|line| said.lines().any(|l| l == line)), || said.clone())
        });
    };
    let host = |scene: &Scene| {
        scene.get("lreg/r")["status"]["host"].as_str().expect("it is in the status").to_owned()
    };
    let before = host(scene);
    tools_find(&before);
    // A free port, since the registry has just left it.
    let port: u16 = before.rsplit(':').next().unwrap().parse().expect("a port");
    let other = format!("{{hostPort: {}}}", if port == 29999 { 20000 } else { port + 1 });
    scene.apply("Registry", "r", &other);
    scene.ready("lreg/r");
    let after = eventually(60, "the registry has its new port", || {
        let after = host(scene);
        holds(after != before, || after.clone()).map(|()| after)
    });
    tools_find(&after);
    scene.ready("lc/c");

    use_registries(scene, 0, "[]");
    eventually(60, "tools find no registry", || {
        let left = scene
            .child("c")
            .attempt(&[&["get", "--ignore-not-found", "-o", "name"], &HOSTING[..]].concat())?;
        holds(left.is_empty(), || left)
    });
    use_registries(scene, 0, "[{name: r}]");
    tools_find(&after);
}

fn an_unmanaged_advertisement_is_left_unchanged(scene: &Scene) {
    let child = scene.child("c");
    let since = now();
    let theirs = r#"{"data": {"localRegistryHosting.v1": "host: \"localhost:1\"\n"}}"#;
    child.run(&[
        "-n",
        "kube-public",
        "patch",
        "configmap",
        "local-registry-hosting",
        "--type=merge",
        "-p",
        theirs,
    ]);
    eventually(60, "an Event reports it", || {
        let events = scene.events(&since);
        holds(
            events
                .iter()
                .any(|e| e.contains("local-registry-hosting of the cluster is not managed by the operator")),
            || format!("{events:?}"),
        )
    });
    scene.ready("lc/c");
    assert_eq!(hosting(scene).as_deref(), Ok("host: \"localhost:1\"\n"));
    child.run(&[&["delete"], &HOSTING[..]].concat());
    let host = scene.get("lreg/r")["status"]["host"].as_str().expect("it is in the status").to_owned();
    eventually(20, "it is written again", || {
        let said = hosting(scene)?;
        holds(said.contains(&host), || said.clone())
    });
    scene.ready("lc/c");
}
