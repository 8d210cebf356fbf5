//! Ports of a running cluster: the effect of a change, its duration, and what it does not affect.

use std::{
    net::TcpListener,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    life::{BALANCED, DNS_PORT, NODE_PORTS, answers, apply_ports, host_port, nodes, resolves, takes},
    live::{
        eventually, free_port, holds, pause,
        scene::{LIMIT, Scene, is_ready},
    },
};

const LOCAL: [u8; 4] = [127, 0, 0, 1];
const WEB: &str = "{name: web, port: 30080}";
/// Time within which a change takes effect, measured from kubectl on. The measured value is printed; this limit has
/// room for other tests that run at the same time.
const SOON: Duration = Duration::from_secs(10);

/// Restores the one port that all tests begin with.
fn reset(scene: &Scene) {
    apply_ports(scene, &format!("[{WEB}]"));
    scene.ready("lc/c");
}

pub fn come_and_go_in_two_seconds(scene: &Scene) {
    let web = host_port(scene, "web");
    let (tcp, udp, other) = (free_port(), free_port(), free_port());
    let (before, [node_port, _]) = (nodes(scene), NODE_PORTS);
    let port = |name: &str, port: u16, host: u16, more: &str| {
        format!("{{name: {name}, port: {port}, hostPort: {host}{more}}}")
    };
    let (more, dns) = (port("more", node_port, tcp, ""), port("dns", DNS_PORT, udp, ", protocol: UDP"));
    let moved = port("more", node_port, other, ", nodes: Agents");
    let ended = AtomicBool::new(false);
    let (times, gap) = thread::scope(|scope| {
        // A port that no test edits, for the whole time.
        let outage = scope.spawn(|| {
            let (mut longest, mut last) = (Duration::ZERO, Instant::now());
            while !ended.load(Ordering::Relaxed) {
                if answers(LOCAL, web) {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                pause(Duration::from_millis(10));
            }
            longest
        });
        let measured = catch_unwind(AssertUnwindSafe(|| {
            let edit = |ports: &str| {
                let began = Instant::now();
                apply_ports(scene, &format!("[{WEB}{ports}]"));
                began
            };
            let mut times = Vec::new();
            let mut measure = |what: &str, began: Instant, holds: &mut dyn FnMut() -> bool| {
                takes(what, holds);
                times.push((what.to_owned(), began.elapsed()));
                scene.ready("lc/c");
            };
            let began = edit(&format!(", {more}"));
            measure("a TCP port is added", began, &mut || answers(LOCAL, tcp));
            let began = edit(&format!(", {more}, {dns}"));
            measure("a UDP port is added", began, &mut || resolves(udp));
            let began = edit(&format!(", {moved}, {dns}"));
            measure("a TCP port moves", began, &mut || answers(LOCAL, other) && !answers(LOCAL, tcp));
            let began = edit(&format!(", {moved}"));
            measure("a UDP port is removed", began, &mut || !resolves(udp));
            let began = edit("");
            measure("a TCP port is removed", began, &mut || !answers(LOCAL, other));
            times
        }));
        ended.store(true, Ordering::Relaxed);
        let longest = outage.join().expect("the thread does not panic");
        (measured.unwrap_or_else(|panic| resume_unwind(panic)), longest)
    });
    println!("  longest silence of a port that was not edited: {:.2} s", gap.as_secs_f32());
    for (what, time) in &times {
        println!("  {what}: {:.2} s after kubectl began", time.as_secs_f32());
    }
    assert_eq!(nodes(scene), before, "a node was disturbed");
    let late: Vec<_> = times.iter().filter(|(_, time)| *time > SOON).collect();
    assert!(late.is_empty(), "too late: {late:?}");
    assert!(gap < SOON + SOON, "a port that was not edited was silent for {gap:?}");
}

pub fn load_balancer_services_are_reached(scene: &Scene) {
    let port = free_port();
    apply_ports(scene, &format!("[{WEB}, {{name: balanced, port: {BALANCED}, hostPort: {port}}}]"));
    scene.ready("lc/c");
    eventually(60, "a Service of type LoadBalancer responds", || {
        holds(answers(LOCAL, port), || "no response".to_owned())
    });
    reset(scene);
}

pub fn ranges_and_addresses(scene: &Scene) {
    let [first, last] = NODE_PORTS;
    // Two free ports in a row.
    let host = eventually(30, "two ports are free", || {
        let port = free_port();
        TcpListener::bind(("127.0.0.1", port + 1)).map(|_| port).map_err(|e| e.to_string())
    });
    let range =
        format!("{{name: range, port: {first}, endPort: {last}, hostPort: {host}, hostIP: 127.0.0.7}}");
    apply_ports(scene, &format!("[{WEB}, {range}]"));
    scene.ready("lc/c");
    for port in [host, host + 1] {
        let there = || holds(answers([127, 0, 0, 7], port), || "no response".to_owned());
        eventually(30, &format!("{port} of the range responds on its address"), there);
        assert!(!answers(LOCAL, port), "{port} responds on another address too");
    }
    let ports = scene.get("lc/c")["status"]["ports"].clone();
    let range =
        ports.as_array().into_iter().flatten().find(|p| p["name"] == "range").expect("it is in the status");
    assert_eq!((&range["endPort"], &range["hostIP"]), (&last.into(), &"127.0.0.7".into()), "{range}");
    reset(scene);
}

pub fn the_api_moves(scene: &Scene) {
    let (before, port) = (nodes(scene), free_port());
    let began = Instant::now();
    scene.patch("lc/c", &format!("{{\"api\": {{\"hostPort\": {port}}}}}"));
    takes("the kubeconfig leads to the API's new port", || {
        scene.kubeconfig("c", "kubeconfig").contains(&format!(":{port}\n"))
            && scene.child("c").attempt(&["get", "--raw", "/readyz"]).is_ok_and(|said| said == "ok")
    });
    println!("  {:.2} s after kubectl began", began.elapsed().as_secs_f32());
    assert!(began.elapsed() < 2 * SOON, "it took {:?}", began.elapsed());
    scene.ready("lc/c");
    let endpoint = scene.get("lc/c")["status"]["endpoint"].clone();
    assert_eq!(endpoint, format!("https://127.0.0.1:{port}").as_str());
    assert_eq!(nodes(scene), before, "a node was disturbed");
    reset(scene);
}

pub fn a_held_port_holds_up_nothing_else(scene: &Scene) {
    let web = host_port(scene, "web");
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let held = listener.local_addr().expect("it listens").port();
    let (free, [node_port, _]) = (free_port(), NODE_PORTS);
    let port = |name: &str, host: u16| format!("{{name: {name}, port: {node_port}, hostPort: {host}}}");
    apply_ports(scene, &format!("[{WEB}, {}, {}]", port("held", held), port("free", free)));
    let message = scene.reason("lc/c", "LoadBalancerReady", "PortConflict");
    assert!(message.contains("in use") && message.contains(&held.to_string()), "{message}");
    scene.reason("lc/c", "Stalled", "PortConflict");
    for (name, port) in [("web", web), ("free", free)] {
        let there = || holds(answers(LOCAL, port), || "no response".to_owned());
        eventually(30, &format!("{name} responds"), there);
    }
    assert_eq!(scene.child("c").run(&["get", "--raw", "/readyz"]), "ok");
    // Retries of the occupied port disturb nothing.
    let balancer = || scene.picture()[&crate::cluster::container(scene, "serverlb")].clone();
    let before = balancer();
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        assert!(answers(LOCAL, web), "a port that is not occupied does not respond");
        pause(Duration::from_millis(50));
    }
    assert_eq!(balancer(), before);

    drop(listener);
    let there = || holds(answers(LOCAL, held), || "no response".to_owned());
    eventually(60, "the port is published when it is free", there);
    eventually(LIMIT, "the cluster is Ready", || is_ready(&scene.try_get("lc/c")?));
    reset(scene);
}
