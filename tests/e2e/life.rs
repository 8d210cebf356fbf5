//! The life of a cluster: ports are added and removed, tokens and certificates are replaced. All of it happens to one
//! cluster with an application in it.

use std::{
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use crate::{
    cluster::{container, push},
    kubeconfigs, life_ports, life_token,
    live::{
        eventually,
        harness::Group,
        holds, install, pause,
        scene::{LIMIT, Scene},
    },
};

pub const GROUP: Group = Group {
    name: "life",
    setup,
    tests: &[
        ("ports_come_and_go_in_two_seconds", life_ports::come_and_go_in_two_seconds),
        ("load_balancer_services_are_reached", life_ports::load_balancer_services_are_reached),
        ("ranges_and_addresses", life_ports::ranges_and_addresses),
        ("the_api_moves_to_another_port", life_ports::the_api_moves),
        ("a_held_port_holds_up_nothing_else", life_ports::a_held_port_holds_up_nothing_else),
        ("the_kubeconfig_follows_the_server", life_token::the_kubeconfig_follows_the_server),
        ("kubeconfigs_grant_what_the_spec_says", kubeconfigs::grant_what_the_spec_says),
        ("the_token_is_rotated", life_token::the_token_is_rotated),
    ],
};

/// Ports of the application on the nodes: as NodePorts, and through a Service of type LoadBalancer.
pub const NODE_PORTS: [u16; 2] = [30080, 30081];
pub const BALANCED: u16 = 8181;
/// The cluster's own DNS over UDP.
pub const DNS_PORT: u16 = 30053;
/// The first token, and its replacement.
pub const TOKENS: [&str; 2] = ["e2e-first-token-0123456789", "e2e-second-token-9876543210"];

/// The spec without the ports.
fn spec(ports: &str) -> String {
    format!(
        "{{servers: {{count: 1, args: [\"--disable=traefik,metrics-server\"]}}, agents: {{count: 1}}, token: \
         {{secretName: join}}, registries: {{use: [{{name: r}}]}}, ports: {ports}}}"
    )
}

fn setup() -> Scene {
    install();
    let scene = Scene::new("life");
    scene.secret("join", "Opaque", &[("token", TOKENS[0])]);
    scene.apply("Registry", "r", "{}");
    scene.apply("LocalCluster", "c", &spec("[{name: web, port: 30080}]"));
    scene.ready("lc/c");
    let child = scene.child("c");
    let image = push(&scene, "hello");
    child.apply(&format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: hello}}, spec: {{replicas: 1, selector: \
         {{matchLabels: {{app: hello}}}}, template: {{metadata: {{labels: {{app: hello}}}}, spec: \
         {{terminationGracePeriodSeconds: 1, containers: [{{name: hello, image: \"{image}\"}}]}}}}}}}}"
    ));
    let service = |name: &str, type_: &str, ports: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{type: {type_}, selector: {{app: \
             hello}}, ports: {ports}}}}}"
        )
    };
    let [one, two] = NODE_PORTS;
    child.apply(&service(
        "hello",
        "NodePort",
        &format!(
            "[{{name: a, port: 80, nodePort: {one}}}, {{name: b, port: 81, targetPort: 80, nodePort: {two}}}]"
        ),
    ));
    child.apply(&service("balanced", "LoadBalancer", &format!("[{{port: {BALANCED}, targetPort: 80}}]")));
    child.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: dns, namespace: kube-system}}, spec: {{type: NodePort, \
         selector: {{k8s-app: kube-dns}}, ports: [{{port: 53, protocol: UDP, nodePort: {DNS_PORT}}}]}}}}"
    ));
    child.run(&["rollout", "status", "deployment/hello", "--timeout=120s"]);
    scene
}

/// Changes the list of ports, as a user who edits the file does.
pub fn apply_ports(scene: &Scene, ports: &str) {
    scene.apply("LocalCluster", "c", &spec(ports));
}

/// Returns the containers of the nodes with their start times.
pub fn nodes(scene: &Scene) -> Vec<(String, String)> {
    let picture = scene.picture();
    let nodes = ["server-0", "agent-0"].map(|n| container(scene, n));
    nodes.iter().map(|n| (picture[n].id.clone(), picture[n].started.clone())).collect()
}

/// Returns how long it takes until this holds.
pub fn takes(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(LIMIT), "never: {what}");
        pause(Duration::from_millis(20));
    }
    let took = began.elapsed();
    println!("  {what}: {:.2} s", took.as_secs_f32());
    took
}

/// Reports whether an HTTP server responds there.
pub fn answers(ip: [u8; 4], port: u16) -> bool {
    use std::io::{Read, Write};
    let limit = Duration::from_millis(500);
    let Ok(mut stream) = TcpStream::connect_timeout(&SocketAddr::from((ip, port)), limit) else {
        return false;
    };
    let sent =
        stream.set_read_timeout(Some(limit)).and_then(|()| stream.write_all(b"GET / HTTP/1.0\r\n\r\n"));
    let mut answer = String::new();
    sent.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.contains("hello-")
}

/// Returns the DNS query for kubernetes.default.svc.cluster.local, type A.
fn question() -> Vec<u8> {
    let mut question = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["kubernetes", "default", "svc", "cluster", "local", ""] {
        question.push(u8::try_from(label.len()).expect("labels are short"));
        question.extend(label.bytes());
    }
    question.extend([0, 1, 0, 1]);
    question
}

/// Reports whether the cluster's DNS responds on a UDP port.
pub fn resolves(port: u16) -> bool {
    resolves_by_udp(port, Duration::from_millis(300))
}

/// Reports whether the cluster's DNS responds on a UDP port within this time.
pub fn resolves_by_udp(port: u16, limit: Duration) -> bool {
    let question = question();
    let Ok(socket) = UdpSocket::bind(("127.0.0.1", 0)) else { return false };
    let mut answer = [0; 512];
    socket
        .set_read_timeout(Some(limit))
        .and_then(|()| socket.send_to(&question, ("127.0.0.1", port)))
        .and_then(|_| socket.recv(&mut answer))
        .is_ok_and(|length| length > question.len() && answer[..2] == [7, 7])
}

/// Reports whether the cluster's DNS responds on a TCP port within this time.
pub fn resolves_by_tcp(port: u16, limit: Duration) -> bool {
    use std::io::{Read, Write};
    let question = question();
    let length = u16::try_from(question.len()).expect("it is short").to_be_bytes();
    let Ok(mut stream) = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), limit) else {
        return false;
    };
    let mut head = [0; 4];
    stream
        .set_read_timeout(Some(limit))
        .and_then(|()| stream.write_all(&[&length[..], &question].concat()))
        .and_then(|()| stream.read_exact(&mut head))
        .is_ok_and(|()| head[2..] == [7, 7])
}

/// Returns a host port by its name, from the status.
pub fn host_port(scene: &Scene, name: &str) -> u16 {
    eventually(LIMIT, &format!("the port {name} is in the status"), || {
        let ports = scene.try_get("lc/c")?["status"]["ports"].as_array().cloned().unwrap_or_default();
        let port = ports.iter().find(|p| p["name"] == name).and_then(|p| p["hostPort"].as_u64());
        holds(port.is_some(), || format!("{ports:?}"))?;
        Ok(port.and_then(|p| u16::try_from(p).ok()).unwrap_or_default())
    })
}
