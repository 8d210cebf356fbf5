//! The inside of running nodes: their mounts, their hosts file, and when published ports lead to them. Also from
//! where a cluster's API is reachable.

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    cluster::{container, push},
    default_registries::a_policy_names_a_registry,
    life::{host_port, resolves, resolves_by_tcp, resolves_by_udp},
    live::{
        Kubectl, build, command, docker, eventually,
        harness::Group,
        holds, inspect, install,
        operator::{Operator, Victim},
        pause,
        scene::{LIMIT, Scene, is_ready},
        world,
    },
};

pub const GROUP: Group = Group {
    name: "nodes",
    setup,
    tests: &[
        ("pods_see_and_make_mounts", pods_see_and_make_mounts),
        ("an_image_without_a_shell_is_reported", an_image_without_a_shell_is_reported),
        ("hosts_files_are_restored", hosts_files_are_restored),
        ("published_ports_lead_to_nodes_that_answer", published_ports_lead_to_nodes_that_answer),
        ("pods_of_the_management_cluster_reach_the_api", pods_of_the_management_cluster_reach_the_api),
        ("a_policy_names_a_registry", a_policy_names_a_registry),
        ("a_network_is_joined_and_left", a_network_is_joined_and_left),
        ("pods_of_another_cluster_reach_the_api", pods_of_another_cluster_reach_the_api),
    ],
};

/// The cluster's own DNS on its nodes, over UDP and TCP.
const DNS_PORT: u16 = 30100;
/// Timeout of a response. It is below `proxy_connect_timeout`, which a node that does not answer costs, and above the
/// second after which a client repeats a lost SYN.
const WITHIN: Duration = Duration::from_millis(1900);

/// Sets the number of agents.
fn agents(scene: &Scene, count: usize) {
    scene.apply(
        "LocalCluster",
        "c",
        &format!(
            "{{servers: {{count: 1, args: [\"--disable=traefik,metrics-server,servicelb\"]}}, agents: {{count: {count}}}, \
             api: {{hostIP: 0.0.0.0, serverName: localhost}}, registries: {{use: [{{name: r}}]}}, hostAliases: [{{ip: 192.0.2.7, hostnames: \
             [db.e2e.test]}}], ports: [{{name: tcp, port: {DNS_PORT}}}, {{name: udp, port: {DNS_PORT}, protocol: UDP}}]}}"
        ),
    );
    scene.ready("lc/c");
}

fn setup() -> Scene {
    install();
    let scene = Scene::new("nodes");
    scene.apply("Registry", "r", "{}");
    agents(&scene, 0);
    scene.child("c").apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: dns, namespace: kube-system}}, spec: {{type: NodePort, \
         selector: {{k8s-app: kube-dns}}, ports: [{{name: udp, port: 53, protocol: UDP, nodePort: {DNS_PORT}}}, {{name: \
         tcp, port: 53, nodePort: {DNS_PORT}}}]}}}}"
    ));
    eventually(120, "the cluster's DNS responds", || {
        holds(resolves(host_port(&scene, "udp")), || "not yet".to_owned())
    });
    scene
}

/// Returns all mounts of this machine, without those that Docker creates for each container.
fn mounted_here() -> BTreeSet<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("procfs is readable");
    let own = |line: &&str| !line.contains("/docker/") && !line.contains(" nsfs ");
    mounts.lines().filter(own).map(str::to_owned).collect()
}

/// Runs Pods with mount propagation, like CSI drivers, node-exporter and Cilium.
fn propagating(scene: &Scene, node: &str) -> Vec<String> {
    let image = push(scene, "mounts");
    let pod = |name: &str, from: &str, at: &str, how: &str, privileged: bool| {
        let name = format!("{name}-{}", &node[node.len() - 8..]);
        let mount = json!({"name": "v", "mountPath": at, "mountPropagation": how});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {
                "nodeName": node, "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "c", "image": image, "securityContext": {"privileged": privileged}, "volumeMounts": [mount],
                }],
                "volumes": [{"name": "v", "hostPath": {"path": from}}],
            },
        });
        scene.child("c").apply(&pod.to_string());
        name
    };
    let mut all = vec![
        pod("sees", "/", "/host", "HostToContainer", false),
        pod("makes", "/var/lib/kubelet", "/plugins", "Bidirectional", true),
    ];
    if docker(&["exec", node, "sh", "-c", "[ -d /sys/fs/bpf ] && echo yes || echo no"]) == "yes" {
        all.push(pod("bpf", "/sys/fs/bpf", "/sys/fs/bpf", "HostToContainer", true));
    }
    all
}

/// Waits until the Pods run after this many restarts.
fn run(child: &Kubectl, pods: &[String], restarts: u64) {
    for pod in pods {
        eventually(120, &format!("{pod} runs"), || {
            let seen = child.json(&["pod", pod])?;
            let status = &seen["status"]["containerStatuses"][0];
            let count = status["restartCount"].as_u64().unwrap_or_default();
            holds(status["ready"] == true && count >= restarts, || {
                format!("{status} {}", child.run(&["describe", "pod", pod]))
            })
        });
    }
}

fn pods_see_and_make_mounts(scene: &Scene) {
    agents(scene, 1);
    let child = scene.child("c");
    let before = mounted_here();
    let nodes = ["server-0", "agent-0"].map(|n| container(scene, n));
    for node in &nodes {
        let pods = propagating(scene, node);
        for restarts in [0, 1] {
            run(&child, &pods, restarts);
            // A mount of a Pod is visible in the node and in the other Pod, and nowhere else.
            child.run(&[
                "exec",
                &pods[1],
                "--",
                "sh",
                "-c",
                "mkdir -p /plugins/e2e && mount -t tmpfs e2e /plugins/e2e",
            ]);
            child.run(&["exec", &pods[1], "--", "touch", "/plugins/e2e/made"]);
            docker(&["exec", node, "ls", "/var/lib/kubelet/e2e/made"]);
            child.run(&["exec", &pods[0], "--", "ls", "/host/var/lib/kubelet/e2e/made"]);
            assert_eq!(mounted_here(), before, "it reached this machine");
            child.run(&["exec", &pods[1], "--", "umount", "/plugins/e2e"]);
            if restarts == 0 {
                docker(&["restart", node]);
            }
        }
        let seen = inspect(node).expect("it exists");
        let mounts = seen["Mounts"].as_array().cloned().unwrap_or_default();
        assert!(mounts.iter().all(|m| m["Propagation"] == ""), "Docker mounts are as ever: {mounts:?}");
        // K3s is the first process, so it receives signals.
        let first = docker(&["exec", node, "sh", "-c", "tr '\\0' ' ' </proc/1/cmdline"]);
        assert!(first.contains("k3s") && !first.contains("make-rshared"), "{first}");
        child.run(
            &[&["delete", "pod", "--now"], &pods.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat(),
        );
    }
    scene.ready("lc/c");
    agents(scene, 0);
}

fn an_image_without_a_shell_is_reported(scene: &Scene) {
    const NAME: &str = "localhost/e2e-no-shell:1";
    build(NAME, "-", "FROM scratch\nENTRYPOINT [\"/bin/k3s\"]\n");
    scene.apply("LocalCluster", "shell", &format!("{{image: \"{NAME}\"}}"));
    let said = scene.reason("lc/shell", "ControlPlaneReady", "NodeImageInvalid");
    println!("        {said}");
    assert!(said.contains("/bin/sh"), "{said}");
    scene.reason("lc/shell", "Stalled", "NodeImageInvalid");
    scene.run(&["delete", "lc/shell", "--timeout=60s"]);
    docker(&["rmi", NAME]);
}

fn hosts_files_are_restored(scene: &Scene) {
    let node = container(scene, "server-0");
    let read = || docker(&["exec", &node, "cat", "/etc/hosts"]);
    let started = || inspect(&node).map(|seen| seen["State"]["StartedAt"].clone());
    let finds =
        |name: &str| docker(&["exec", &node, "sh", "-c", &format!("ping -c1 -W1 {name} 2>&1 | head -1")]);
    // Observations of nodes are cached until the next complete reconcile.
    let operator = Operator::new(&world("DOCKER_HOST"), &["--resync=5s"], Victim::default());
    operator.start();
    let (before, since) = (read(), started());
    let edits = [
        // Another address, a name less, a line of the user's own.
        "sed 's/^192.0.2.7/192.0.2.8/; /host.k3d.internal/d' /etc/hosts >/tmp/h; echo '192.0.2.9 own.e2e.test' >>/tmp/h; \
         cat /tmp/h >/etc/hosts",
        ": >/etc/hosts",
    ];
    for edit in edits {
        docker(&["exec", &node, "sh", "-c", edit]);
        let now = eventually(90, "the hosts file is restored", || {
            let now = read();
            let lines =
                |text: &str| -> BTreeSet<String> { text.lines().map(|l| l.replace('\t', " ")).collect() };
            let (had, has) = (lines(&before), lines(&now));
            // Redundant lines of Docker for IPv6 are restored only at the next start.
            let missing: Vec<_> =
                had.iter().filter(|l| !l.contains(':') && !has.contains(*l)).cloned().collect();
            holds(missing.is_empty(), || format!("{missing:?} of {now}")).map(|()| now)
        });
        assert!(!now.contains("192.0.2.8"), "{now}");
        assert!(finds("db.e2e.test").contains("(192.0.2.7)"), "{now}");
        assert_eq!(
            now.contains("own.e2e.test"),
            edit.contains("own.e2e.test"),
            "what others add stays: {now}"
        );
    }
    eventually(60, "it is Ready", || is_ready(&scene.try_get("lc/c")?));
    assert_eq!(started(), since, "the node was started again");
    drop(operator);
}

/// Queries a name again and again, each time with a new connection, while something happens. Returns the number of
/// queries, and which of them had no response.
fn asked(ask: impl Fn() -> bool + Sync, act: impl FnOnce()) -> (usize, Vec<usize>) {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut count, mut lost) = (0, Vec::new());
            while !ended.load(Ordering::Relaxed) {
                count += 1;
                if !ask() {
                    lost.push(count);
                }
                pause(Duration::from_millis(20));
            }
            (count, lost)
        });
        let done = catch_unwind(AssertUnwindSafe(act));
        ended.store(true, Ordering::Relaxed);
        let answers = asking.join().expect("the thread does not panic");
        done.unwrap_or_else(|panic| resume_unwind(panic));
        answers
    })
}

/// Returns the nodes that published ports lead to, from the load balancer's configuration.
fn led_to(scene: &Scene) -> BTreeSet<String> {
    let file = docker(&["exec", &container(scene, "serverlb"), "cat", "/etc/nginx/nginx.conf"]);
    let server = |line: &str| {
        Some(line.trim().strip_prefix("server ")?.strip_suffix(" max_fails=1 fail_timeout=2s;")?.to_owned())
    };
    let port = format!(":{DNS_PORT}");
    file.lines().filter_map(server).filter_map(|s| s.strip_suffix(&port).map(str::to_owned)).collect()
}

fn published_ports_lead_to_nodes_that_answer(scene: &Scene) {
    let (udp, tcp) = (host_port(scene, "udp"), host_port(scene, "tcp"));
    for count in [2, 1, 2, 0] {
        let mut by_tcp = None;
        let by_udp = asked(
            || resolves_by_udp(udp, WITHIN),
            || by_tcp = Some(asked(|| resolves_by_tcp(tcp, WITHIN), || agents(scene, count))),
        );
        let by_tcp = by_tcp.expect("it was asked");
        println!(
            "        to {count} agents: {} of {} lost by UDP, {} of {} by TCP",
            by_udp.1.len(),
            by_udp.0,
            by_tcp.1.len(),
            by_tcp.0
        );
        assert!(by_udp.0 > 20 && by_tcp.0 > 20, "hardly anything was asked");
        assert!(by_tcp.1.is_empty(), "questions by TCP without an answer, to {count} agents: {:?}", by_tcp.1);
        // When nginx loads a configuration, its old worker drops the UDP answers that it still waits for:
        // `ngx_stream_proxy_process` ends sessions of datagrams if `ngx_exiting`. Each agent that joins or leaves is one
        // new configuration. A node that does not answer would lose every second or third question.
        assert!(by_udp.1.len() <= 2, "questions by UDP without an answer, to {count} agents: {:?}", by_udp.1);
        // Ready means that published ports lead to all of them.
        assert_eq!(led_to(scene).len(), count + 1);
    }
}

/// Runs a Pod that requests `/readyz` with a kubeconfig, and returns its output.
fn asks(k: &Kubectl, namespace: &str, image: &str, kubeconfig: &str) -> Result<String, String> {
    let metadata = |name: &str| json!({"name": name, "namespace": namespace});
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": metadata("asks"), "stringData": {"kubeconfig": kubeconfig},
    });
    k.apply(&secret.to_string());
    let mounts = json!([{"name": "bin", "mountPath": "/node"}, {"name": "kube", "mountPath": "/kube"}]);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata("asks"),
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": image, "imagePullPolicy": "IfNotPresent", "volumeMounts": mounts}],
            "volumes": [
                // The kubectl of the node image, which needs nothing else.
                {"name": "bin", "hostPath": {"path": "/bin"}},
                {"name": "kube", "secret": {"secretName": "asks"}},
            ],
        },
    });
    k.apply(&pod.to_string());
    let own = |args: &[&str]| k.attempt(&[&["-n", namespace], args].concat());
    let ready = own(&["wait", "--for=condition=Ready", "pod/asks", "--timeout=120s"]);
    let kubectl = [
        "/node/k3s",
        "kubectl",
        "--kubeconfig",
        "/kube/kubeconfig",
        "get",
        "--raw",
        "/readyz",
        "--request-timeout=5s",
    ];
    let said = ready.and_then(|_| own(&[&["exec", "asks", "--"], &kubectl[..]].concat()));
    own(&["delete", "pod/asks", "secret/asks", "--now"]).unwrap_or_else(|e| panic!("{e}"));
    said
}

fn pods_of_the_management_cluster_reach_the_api(scene: &Scene) {
    let image = world("HTTP_IMAGE");
    let load = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/world");
    command(load, &["load", &image], "").unwrap_or_else(|e| panic!("{e}"));
    // Clients of the Docker host have the name in the spec, which is in the certificate too.
    let endpoint = scene.get("lc/c")["status"]["endpoint"].as_str().unwrap_or_default().to_owned();
    assert!(endpoint.starts_with("https://localhost:"), "{endpoint}");
    assert!(scene.kubeconfig("c", "kubeconfig").contains(&endpoint));
    assert_eq!(scene.child("c").run(&["--tls-server-name=localhost", "get", "--raw", "/readyz"]), "ok");
    let value = || scene.kubeconfig("c", "value");
    let ask = || asks(&scene.k, &scene.namespace, &image, &value());
    assert_eq!(ask().as_deref(), Ok("ok"), "{}", value());
    // The load balancer gets another address there; the Secret follows.
    docker(&["rm", "-f", &container(scene, "serverlb")]);
    eventually(LIMIT, "the API is reached again", || holds(ask().as_deref() == Ok("ok"), value));
    scene.ready("lc/c");

    // With a Service, the URL stays, and the certificate is valid for it.
    scene.patch("lc/c", "{\"api\": {\"service\": \"ClusterIP\"}}");
    scene.ready("lc/c");
    let url = format!("https://c.{}.svc", scene.namespace);
    assert!(value().contains(&format!("server: {url}\n")), "{}", value());
    let by_name = || {
        let text = value();
        let kept = text.lines().filter(|line| !line.contains("tls-server-name"));
        asks(&scene.k, &scene.namespace, &image, &kept.map(|line| format!("{line}\n")).collect::<String>())
    };
    eventually(LIMIT, "the Service leads to the API", || {
        let (asked, named) = (ask(), by_name());
        holds([&asked, &named].iter().all(|a| a.as_deref() == Ok("ok")), || format!("{asked:?} {named:?}"))
    });
    let before = value();
    docker(&["rm", "-f", &container(scene, "serverlb")]);
    eventually(LIMIT, "the Service leads to the API again", || holds(ask().as_deref() == Ok("ok"), value));
    scene.ready("lc/c");
    assert_eq!(value(), before);
}

/// Containers on the network reach the API, and the nodes keep their address and their default route.
fn a_network_is_joined_and_left(scene: &Scene) {
    // Its name comes before that of the cluster's own network, where the engine has priorities.
    let version = docker(&["version", "-f", "{{.Server.Version}}"]);
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default();
    let shared = format!("{}-{}", if major >= 28 { "a" } else { "z" }, scene.namespace);
    let label = format!("localcluster.dev/allow-namespaces={}", scene.namespace);
    docker(&["network", "create", "--label", &label, &shared]);
    let (server, balancer) = (container(scene, "server-0"), container(scene, "serverlb"));
    let child = scene.child("c");
    let address = || {
        let node = child.json(&["node", &server]).unwrap_or_default();
        let addresses = node["status"]["addresses"].as_array().cloned().unwrap_or_default();
        addresses.iter().find(|a| a["type"] == "InternalIP").map(|a| a["address"].clone())
    };
    // Docker numbers interfaces anew at each start, by the names of networks.
    let route = || {
        let route = docker(&["exec", &server, "sh", "-c", "ip route | grep default"]);
        route.split(" dev ").next().unwrap_or_default().to_owned()
    };
    let id = || docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", &server]);
    let (before, through, made) = (address(), route(), id());
    scene.patch("lc/c", &json!({"network": {"join": [shared]}}).to_string());
    scene.ready("lc/c");
    let on = || docker(&["network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", &shared]);
    assert!(on().contains(&server) && on().contains(&balancer), "{}", on());
    assert_eq!(
        (id(), route()),
        (made, through.clone()),
        "the server was restarted, or its default route changed"
    );

    let script = format!(
        "cat >/tmp/k && kubectl --kubeconfig /tmp/k --server=https://{balancer}:6443 get --raw /readyz"
    );
    let (host, image) = (world("DOCKER_HOST"), world("NODE_IMAGE"));
    let run = [
        "--host",
        &host,
        "run",
        "--rm",
        "-i",
        "--network",
        &shared,
        "--entrypoint",
        "sh",
        &image,
        "-c",
        &script,
    ];
    assert_eq!(command("docker", &run, &scene.kubeconfig("c", "value")).as_deref(), Ok("ok"));

    // K3s chooses the address of the node when it starts.
    docker(&["restart", &server]);
    // The status may not know of the restart yet.
    eventually(LIMIT, "the address and the route are those from before", || {
        let now = (address(), route());
        holds(now == (before.clone(), through.clone()), || format!("{now:?}"))
    });
    scene.ready("lc/c");
    scene.patch("lc/c", &json!({"network": {"join": null}}).to_string());
    eventually(LIMIT, "the network is left", || holds(on().trim().is_empty(), on));
    scene.ready("lc/c");
    docker(&["network", "rm", &shared]);
}

/// Returns the kubeconfig with another server.
fn with_server(kubeconfig: &str, server: &str) -> String {
    let line = |line: &str| match line.split_once("server: ") {
        Some((before, _)) if !before.contains(':') => format!("{before}server: {server}"),
        _ => line.to_owned(),
    };
    kubeconfig.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn pods_of_another_cluster_reach_the_api(scene: &Scene) {
    scene.apply(
        "LocalCluster",
        "hub",
        "{servers: {args: [\"--disable=traefik,metrics-server,servicelb\"]}, registries: {use: [{name: r}]}}",
    );
    scene.ready("lc/hub");
    let (hub, image) = (scene.child("hub"), push(scene, "asks"));
    let port =
        scene.get("lc/c")["status"]["apiPort"]["hostPort"].as_u64().expect("the port is in the status");
    let (value, address) = (scene.kubeconfig("c", "value"), format!("https://host.k3d.internal:{port}"));
    let mut said = String::new();
    // The cluster's DNS reads the name of the Docker host every half a minute.
    eventually(180, "the other cluster's API responds", || {
        said = asks(&hub, "default", &image, &with_server(&value, &address))?;
        holds(said == "ok", || said.clone())
    });
    // Docker isolates its networks.
    let apart = asks(&hub, "default", &image, &value);
    assert!(apart.is_err(), "{apart:?}");
    scene.run(&["delete", "lc/hub", &format!("--timeout={LIMIT}s")]);
    let gone: Value = scene.try_get("lc/hub").unwrap_or_default();
    assert_eq!(gone, Value::Null);
}
