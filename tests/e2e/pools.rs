//! Pools of agents, and resources of the host for the nodes of a pool: process limits, memory and CPUs, directories, GPUs.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{fs::symlink, net::UnixListener},
};

use serde_json::{Value, json};

use crate::{
    changes::traces,
    cluster::container,
    live::{
        Kubectl, docker, eventually,
        harness::Group,
        holds, inspect, install,
        operator::{Operator, Victim},
        registries::Dir,
        scene::{LIMIT, Scene, condition as condition_of},
        try_docker, world,
    },
};

pub const GROUP: Group = Group {
    name: "pools",
    setup,
    tests: &[
        ("named_pools_have_nodes_of_their_own", named_pools_have_nodes_of_their_own),
        ("ulimits_are_those_of_the_node", ulimits_are_those_of_the_node),
        ("limits_are_allocatable", limits_are_allocatable),
        ("shm_size_and_pids_are_those_of_the_node", shm_size_and_pids_are_those_of_the_node),
        ("missing_gpus_are_reported", missing_gpus_are_reported),
        ("volumes_need_permission", volumes_need_permission),
        ("volumes_that_are_allowed", volumes_that_are_allowed),
    ],
};

fn setup() -> Scene {
    install();
    let scene = Scene::new("pools");
    let servers = r#"{count: 1, args: ["--disable=traefik,metrics-server,servicelb"]}"#;
    scene.apply("LocalCluster", "c", &format!("{{servers: {servers}, agents: {{count: 1}}}}"));
    scene.ready("lc/c");
    scene
}

/// Edits the agents and waits until the cluster is as desired.
fn agents(scene: &Scene, pool: &Value) {
    scene.patch("lc/c", &json!({"agents": pool}).to_string());
    scene.ready("lc/c");
}

fn agent(scene: &Scene) -> String {
    container(scene, "agent-0")
}

/// Returns a field of the agent's `HostConfig`.
fn host_config(scene: &Scene, key: &str) -> Value {
    inspect(&agent(scene)).expect("it exists")["HostConfig"][key].clone()
}

/// Runs a shell command in the Pod `asker`, and returns its output.
fn in_pod(child: &Kubectl, command: &str) -> String {
    child.run(&["exec", "pod/asker", "--", "sh", "-c", command])
}

/// Runs a Pod on the agent, with these additional fields of its spec and of its container.
fn pod(scene: &Scene, name: &str, spec: Value, container: Value) {
    let mut one = json!({"name": "c", "image": world("HTTP_IMAGE"), "imagePullPolicy": "Never"});
    let mut all = json!({
        "nodeSelector": {"kubernetes.io/hostname": agent(scene)},
        "terminationGracePeriodSeconds": 1,
    });
    for (target, more) in [(&mut one, container), (&mut all, spec)] {
        target.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    }
    all["containers"] = json!([one]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": all});
    scene.child("c").apply(&pod.to_string());
}

/// Imports the image of Pods into the agent's containerd, since there is no registry to pull it from.
fn import(scene: &Scene) {
    let script = format!(
        "docker --host {} save {} | docker --host {} exec -i {} ctr -a /run/k3s/containerd/containerd.sock \
         -n k8s.io images import -",
        world("DOCKER_HOST"),
        world("HTTP_IMAGE"),
        world("DOCKER_HOST"),
        agent(scene)
    );
    crate::live::command("sh", &["-c", &script], "").unwrap_or_else(|e| panic!("{e}"));
}

fn running(child: &Kubectl, name: &str) {
    child.run(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=120s"]);
}

fn named_pools_have_nodes_of_their_own(scene: &Scene) {
    let extra = container(scene, "extra-0");
    let before = inspect(&agent(scene)).expect("it exists")["Id"].clone();
    let pool = |more: Value| {
        let mut pool = json!({"name": "extra", "count": 1, "memory": "1Gi", "taints": ["e2e/own=pool:PreferNoSchedule"]});
        pool.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        scene.patch("lc/c", &json!({"agentPools": [pool]}).to_string());
        scene.ready("lc/c");
    };
    pool(json!({"labels": {"e2e/pool": "extra"}}));
    let made = inspect(&extra).expect("it exists");
    assert_eq!(made["HostConfig"]["Memory"], 1i64 << 30);
    let child = scene.child("c");
    let node = child.json(&["node", &extra]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(node["metadata"]["labels"]["e2e/pool"], "extra");
    // Kubernetes may not have taken off its own yet.
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    assert!(taints.iter().any(|taint| taint["key"] == "e2e/own"), "{taints:?}");
    let status = &scene.get("lc/c")["status"];
    assert_eq!(
        (&status["agents"]["ready"], &status["replicas"], &status["agentPools"]),
        (&json!(2), &json!(1), &json!([{"name": "extra", "desired": 1, "replicas": 1, "ready": 1}]))
    );
    pool(json!({"labels": {"e2e/pool": "other"}, "env": [{"name": "E2E", "value": "1"}]}));
    let replaced = inspect(&extra).expect("it exists");
    let address = |container: &Value| {
        let networks = container["NetworkSettings"]["Networks"].as_object().cloned().unwrap_or_default();
        networks.values().map(|network| network["IPAddress"].clone()).collect::<Vec<_>>()
    };
    assert_ne!(replaced["Id"], made["Id"]);
    assert_eq!(address(&replaced), address(&made), "on its address");
    let gone = |node: &str| {
        let left = traces(scene, &child, node);
        assert!(left.is_empty(), "of {node} there is still {left:?}");
    };
    pool(json!({"excludedIndexes": [0]}));
    gone(&extra);
    let next = container(scene, "extra-1");
    assert_eq!(inspect(&next).expect("it takes the place of the excluded one")["State"]["Running"], true);
    scene.patch("lc/c", &json!({"agentPools": null}).to_string());
    scene.ready("lc/c");
    gone(&next);
    assert_eq!(inspect(&agent(scene)).expect("it exists")["Id"], before, "the other agent is as it was");
}

fn ulimits_are_those_of_the_node(scene: &Scene) {
    let before = docker(&["exec", &agent(scene), "sh", "-c", "ulimit -Hn"]);
    agents(
        scene,
        &json!({"ulimits": [{"name": "nofile", "soft": 5000, "hard": 6000}, {"name": "core", "soft": 0}]}),
    );
    let wanted = [("core", 0, 0), ("nofile", 5000, 6000)];
    let given = host_config(scene, "Ulimits");
    let given: BTreeSet<_> = given
        .as_array()
        .into_iter()
        .flatten()
        .map(|l| (l["Name"].as_str().unwrap_or_default(), l["Soft"].as_i64(), l["Hard"].as_i64()))
        .collect();
    assert_eq!(given, wanted.map(|(name, soft, hard)| (name, Some(soft), Some(hard))).into());
    let said = docker(&["exec", &agent(scene), "sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c"]);
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["5000", "6000", "0"]);
    // The kubelet's process and its child processes too.
    let limits = docker(&["exec", &agent(scene), "cat", "/proc/1/limits"]);
    let line = limits.lines().find(|l| l.starts_with("Max open files")).expect("procfs is readable");
    assert_eq!(line.split_whitespace().nth(4), Some("6000"), "{line}");
    import(scene);
    pod(scene, "asker", json!({}), json!({}));
    let child = scene.child("c");
    running(&child, "asker");
    assert_eq!(in_pod(&child, "ulimit -Hn"), "6000", "of a Pod");
    child.run(&["delete", "pod/asker", "--now"]);

    agents(scene, &json!({"ulimits": null}));
    assert_eq!(docker(&["exec", &agent(scene), "sh", "-c", "ulimit -Hn"]), before);
}

/// Returns the bytes of a quantity of memory as kubelets write it.
fn bytes(quantity: &Value) -> i64 {
    let text = quantity.as_str().unwrap_or_else(|| panic!("{quantity} is no quantity"));
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        other => panic!("{other:?} is no unit that kubelets write"),
    };
    digits.parse::<i64>().unwrap() * unit
}

fn limits_are_allocatable(scene: &Scene) {
    let child = scene.child("c");
    let node = || child.json(&["node", &agent(scene)]).expect("it exists")["status"].clone();
    let whole = bytes(&node()["allocatable"]["memory"]);
    assert!(whole > 3 << 30, "this host has too little memory to show anything: {whole}");
    agents(scene, &json!({"memory": "1Gi", "cpus": "1.5"}));
    eventually(60, "the Node has its limits", || {
        let seen = node();
        let (memory, cpu) = (bytes(&seen["allocatable"]["memory"]), &seen["allocatable"]["cpu"]);
        // Memory is reported in whole Ki.
        let near = (memory - (1 << 30)).abs() <= 1 << 20;
        holds(near && cpu == "1500m", || format!("{} of {}", seen["allocatable"], seen["capacity"]))
    });
    assert_eq!(
        (host_config(scene, "Memory"), host_config(scene, "NanoCpus")),
        (json!(1 << 30), json!(1_500_000_000))
    );
    // A Pod that fits runs, and one that does not fit is not scheduled there.
    import(scene);
    let wants = |memory: &str| json!({"resources": {"requests": {"memory": memory}}});
    pod(scene, "fits", json!({}), wants("512Mi"));
    running(&child, "fits");
    pod(scene, "too-much", json!({}), wants("2Gi"));
    eventually(60, "the scheduler says what is missing", || {
        let seen = child.json(&["pod", "too-much"])?;
        let conditions = seen["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let why = conditions.iter().find(|c| c["type"] == "PodScheduled").cloned().unwrap_or_default();
        let said = why["message"].as_str().unwrap_or_default().to_owned();
        holds(why["reason"] == "Unschedulable" && said.contains("Insufficient memory"), || seen.to_string())?;
        holds(seen["status"]["phase"] == "Pending", || seen.to_string())
    });

    // Without limits, the whole host is allocatable again, and the Pod fits.
    agents(scene, &json!({"memory": null, "cpus": null}));
    import(scene);
    running(&child, "too-much");
    assert_eq!(bytes(&node()["allocatable"]["memory"]), whole);
    child.run(&["delete", "pod", "--all", "--now"]);

    // A reservation by the user is the only one.
    agents(scene, &json!({"memory": "1Gi", "args": ["--kubelet-arg=system-reserved=memory=1Gi"]}));
    eventually(60, "the Node has the user's reservation", || {
        let seen = bytes(&node()["allocatable"]["memory"]);
        holds(whole - seen == 1 << 30, || format!("{seen} of {whole}"))
    });
    agents(scene, &json!({"memory": null, "args": null}));
}

/// Prints the size of `/dev/shm` in KiB.
const SHM_SIZE: &str = "df -k /dev/shm | awk 'NR == 2 {print $2}'";

/// A Pod in the IPC namespace of the node shares its `/dev/shm`.
fn shm_size_and_pids_are_those_of_the_node(scene: &Scene) {
    let child = scene.child("c");
    let by_default = host_config(scene, "ShmSize");
    let before = inspect(&agent(scene)).expect("it exists")["Id"].clone();
    agents(
        scene,
        &json!({"shmSize": "128Mi", "pids": 4096, "containerLabels": {"com.example.team": "shop"}}),
    );
    let labels = inspect(&agent(scene)).expect("it exists")["Config"]["Labels"].clone();
    assert_eq!((&labels["com.example.team"], &labels["k3d.role"]), (&json!("shop"), &json!("agent")));
    assert_ne!(inspect(&agent(scene)).expect("it exists")["Id"], before, "the node is replaced");
    assert_eq!(host_config(scene, "ShmSize"), json!(128 << 20));
    let made = inspect(&agent(scene)).expect("it exists")["Id"].clone();
    agents(scene, &json!({"shmSize": "128m"}));
    assert_eq!(inspect(&agent(scene)).expect("it exists")["Id"], made, "in other units it is the same size");
    assert_eq!(host_config(scene, "PidsLimit"), json!(4096));
    assert_eq!(docker(&["exec", &agent(scene), "sh", "-c", SHM_SIZE]), "131072");
    import(scene);
    pod(scene, "asker", json!({"hostIPC": true}), json!({}));
    running(&child, "asker");
    assert_eq!(in_pod(&child, SHM_SIZE), "131072", "of a Pod");
    child.run(&["delete", "pod/asker", "--now"]);
    let server = inspect(&container(scene, "server-0")).expect("it exists");
    assert_eq!(server["HostConfig"]["ShmSize"], by_default, "the other pool keeps the default");
    agents(scene, &json!({"shmSize": null, "pids": null, "containerLabels": null}));
    assert_eq!(host_config(scene, "ShmSize"), by_default);
}

/// This machine has no GPU: the test shows only that Docker receives the request, and that its refusal is reported.
fn missing_gpus_are_reported(scene: &Scene) {
    scene.patch("lc/c", r#"{"agents": {"gpus": "all"}}"#);
    let message = scene.reason("lc/c", "Stalled", "GPUUnavailable");
    println!("        {message}");
    assert!(
        message.contains("could not select device driver") && message.contains("remove gpus"),
        "{message}"
    );
    let asked = host_config(scene, "DeviceRequests");
    assert_eq!((&asked[0]["Count"], &asked[0]["Capabilities"]), (&json!(-1), &json!([["gpu"]])));
    scene.reason("lc/c", "AgentsReady", "GPUUnavailable");
    agents(scene, &json!({"gpus": null}));
    assert_eq!(host_config(scene, "DeviceRequests"), Value::Null);
}

fn volume(path: &str, more: Value) -> Value {
    let mut volume = json!({"hostPath": path, "mountPath": "/data"});
    volume.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    json!({"volumes": [volume]})
}

/// Asserts that the agents' volume is refused for this reason while the agent keeps running without it.
fn refused(scene: &Scene, path: &str, condition: &str, reason: &str) -> String {
    let before = scene.picture();
    scene.patch("lc/c", &json!({"agents": volume(path, json!({}))}).to_string());
    // The same reason may still be there for another path.
    let message = eventually(LIMIT, &format!("{path} is refused"), || {
        let lc = scene.try_get("lc/c")?;
        let found = condition_of(&lc, condition)?;
        let message = found["message"].as_str().unwrap_or_default().to_owned();
        let seen = lc["status"]["observedGeneration"] == lc["metadata"]["generation"];
        holds(seen && found["reason"] == reason, || found.to_string())?;
        Ok(message)
    });
    println!("        {path}: {message}");
    let after = scene.picture();
    assert_eq!(after.get(&agent(scene)), before.get(&agent(scene)), "the agent was touched");
    let mounts = inspect(&agent(scene)).expect("it exists")["Mounts"].to_string();
    assert!(!mounts.contains(path), "{path} was mounted: {mounts}");
    message
}

fn volumes_need_permission(scene: &Scene) {
    let message = refused(scene, "/srv/e2e-pools", "Accepted", "HostPathNotAllowed");
    assert!(message.contains("spec.agents.volumes: /srv/e2e-pools") && message.contains("--allow-host-path"));
    agents(scene, &json!({"volumes": null}));
}

fn volumes_that_are_allowed(scene: &Scene) {
    let (dir, outside) = (Dir::new("pools"), Dir::new("outside"));
    let (allowed, inside) = (dir.path().display().to_string(), dir.path().join("data"));
    fs::create_dir(&inside).expect("a directory can be created");
    fs::write(inside.join("from-the-host"), "hello").expect("a file can be written");
    fs::write(dir.path().join("file"), "x").expect("a file can be written");
    symlink(outside.path(), dir.path().join("link")).expect("a link can be created");
    let operator =
        Operator::new(&world("DOCKER_HOST"), &[&format!("--allow-host-path={allowed}")], Victim::default());
    operator.start();

    // Beside the allowed directory, outside of it through a link and through a link in the middle; not a directory;
    // missing.
    refused(scene, &format!("{allowed}-beside"), "Accepted", "HostPathNotAllowed");
    refused(scene, &format!("{allowed}/link"), "AgentsReady", "HostPathNotAllowed");
    refused(scene, &format!("{allowed}/link/deep"), "AgentsReady", "HostPathNotAllowed");
    refused(scene, &format!("{allowed}/file/deep"), "AgentsReady", "HostPathNotFound");
    let _socket = UnixListener::bind(dir.path().join("socket")).expect("a socket can be made");
    refused(scene, &format!("{allowed}/socket"), "AgentsReady", "HostPathNotFound");
    let later = format!("{allowed}/later");
    let message = refused(scene, &later, "AgentsReady", "HostPathNotFound");
    assert!(message.contains(&format!("mkdir -p {later}")), "{message}");
    let steps = json!({"agents": volume(&format!("{allowed}/../etc"), json!({}))});
    let patch = format!(r#"{{"spec": {steps}}}"#);
    let why = scene.attempt(&["patch", "lc", "c", "--type=merge", "-p", &patch]).expect_err("it has ..");
    assert!(why.contains("hostPath"), "{why}");
    assert!(fs::read_dir(outside.path()).expect("it exists").next().is_none(), "it was written to");
    // It recovers once the directory exists.
    fs::create_dir(&later).expect("a directory can be created");
    scene.ready("lc/c");
    let given = || {
        docker(&[
            "inspect",
            "-f",
            "{{range .Mounts}}{{.Source}}:{{.Destination}}:{{.RW}} {{end}}",
            &agent(scene),
        ])
    };
    assert!(given().contains(&format!("{later}:/data:true")), "{}", given());

    let inside = inside.display().to_string();
    // With a file beside the directory, and a volume that allows it. None of them is the operator's.
    let name = format!("{}-cache", scene.namespace);
    let label = format!("localcluster.dev/allow-namespaces={}", scene.namespace);
    docker(&["volume", "create", "--label", &label, &name]);
    let mut pool = volume(&inside, json!({"readOnly": true}));
    let file = json!({"hostPath": format!("{allowed}/file"), "mountPath": "/file", "readOnly": true});
    let cache = json!({"volumeName": name, "mountPath": "/cache"});
    pool["volumes"].as_array_mut().unwrap().extend([file, cache]);
    agents(scene, &pool);
    assert!(given().contains(&format!("{inside}:/data:false")), "{}", given());
    let seen = docker(&["exec", &agent(scene), "sh", "-c", "cat /file && echo y >/cache/y && cat /cache/y"]);
    assert_eq!(seen, "xy");
    let write = ["exec", &agent(scene), "touch", "/data/from-the-node"];
    assert!(try_docker(&write).is_err_and(|e| e.contains("ead-only")), "the node can write");
    agents(scene, &volume(&inside, json!({})));
    docker(&write);
    assert!(dir.path().join("data/from-the-node").is_file(), "the host does not see what the node wrote");

    // A Pod on the agent sees it too.
    import(scene);
    let mounts = json!({"volumeMounts": [{"name": "d", "mountPath": "/mnt"}]});
    pod(scene, "asker", json!({"volumes": [{"name": "d", "hostPath": {"path": "/data"}}]}), mounts);
    let child = scene.child("c");
    running(&child, "asker");
    assert_eq!(in_pod(&child, "cat /mnt/from-the-host"), "hello");
    child.run(&["delete", "pod/asker", "--now"]);

    // A lost node is recreated with it, and the container that checked the path is removed.
    docker(&["rm", "-f", &agent(scene)]);
    eventually(LIMIT, "the agent is back", || {
        let seen = inspect(&agent(scene)).ok_or("not yet")?;
        holds(seen["State"]["Running"] == true, || seen["State"].to_string())
    });
    scene.ready("lc/c");
    assert!(given().contains(&format!("{inside}:/data:true")), "{}", given());
    agents(scene, &json!({"volumes": null}));
    docker(&["volume", "rm", &name]);
    let names: BTreeSet<String> = scene.picture().into_keys().collect();
    assert_eq!(names, ["agent-0", "server-0", "serverlb"].map(|n| container(scene, n)).into());
    assert!(dir.path().join("data/from-the-host").is_file(), "the directory is the user's, and stays");
}
