//! `localcluster up` and `down`: a hub beside the management cluster of the tests, from nothing to nothing.

use std::fs;

use crate::live::{
    Kubectl, command, docker, eventually, harness::Group, hub::Hub, inspect, registries::Dir, scene::Scene,
    try_docker, world,
};

pub const GROUP: Group = Group {
    name: "hub",
    setup: || Scene::new("hub"),
    tests: &[("a_hub_comes_works_is_repaired_and_goes", a_hub_comes_works_is_repaired_and_goes)],
};

/// The name of a cluster that no other test has.
fn cluster_of(hub: &Hub) -> String {
    format!("{}-c", hub.name)
}

/// The hub is lost with all that it kept. A new one takes over the cluster, which runs on.
fn lost(hub: &Hub, k: &Kubectl, cluster: &str) {
    let of_cluster = || -> Vec<String> {
        let filter = format!("name=k3d-{cluster}-");
        let listed =
            docker(&["ps", "-a", "--no-trunc", "--filter", &filter, "--format", "{{.ID}} {{.Names}}"]);
        // The container that shows the resolvers of the host is there for a moment now and then.
        let lasting = listed.lines().filter(|line| !line.ends_with("-resolvers"));
        let ids: Vec<&str> = lasting.filter_map(|line| line.split(' ').next()).collect();
        let args = [&["inspect", "-f", "{{.Name}} {{.Id}} {{.State.StartedAt}}"], &ids[..]].concat();
        let mut all: Vec<String> = docker(&args).lines().map(str::to_owned).collect();
        all.sort();
        all
    };
    // Its record is written once all else is done.
    let keeper = format!("k3d-{cluster}-serverlb");
    eventually(30, "the record of the cluster", || {
        try_docker(&["cp", &format!("{keeper}:/etc/localcluster/object.json"), "-"]).map(drop)
    });
    let before = of_cluster();
    docker(&["rm", "-fv", &hub.part("operator"), &hub.part("hub")]);
    docker(&["volume", "rm", &hub.part("hub")]);
    hub.up();
    let listed = k.run(&["get", "lc", "-A", "-o", "name"]);
    assert_eq!(listed, "", "the new hub knows nothing");

    let host = format!("--docker-host={}", world("DOCKER_HOST"));
    let adopt = |args: &[&str]| hub.client(&[&["adopt", &host], args].concat());
    let listed = adopt(&["-n", "default"]);
    let row = listed.lines().find(|line| line.contains(cluster)).unwrap_or_else(|| panic!("{listed}"));
    assert!(row.ends_with("the object is created again from its record"), "{listed}");
    // Others use the engine, so not all.
    adopt(&[cluster, "-n", "default", "--timeout=180s"]);
    assert_eq!(of_cluster(), before, "the same containers run on");
    k.run(&["wait", "--for=condition=Ready", &format!("lc/{cluster}"), "--timeout=10s"]);
}

/// A hub with a cluster, as the GitHub action makes it, and the report that it saves.
fn by_action(hub: &Hub, cluster: &str) {
    let runner = Dir::new("runner");
    let told = hub.action(
        "cluster",
        runner.path(),
        &[("NAME", cluster), ("CREATE_ARGS", "--k3s-arg=--disable=traefik,metrics-server,servicelb\n")],
    );
    assert!(told.contains(&format!("hub {} is ready", hub.name)), "{told}");
    let output = || fs::read_to_string(runner.path().join("output")).expect("it was written");
    assert_eq!(output(), format!("context=k3d-{cluster}\n"));
    // The next steps of the job have the cluster at once.
    let k = Kubectl::new(hub.kubeconfig.clone());
    let node = k.run(&["get", "nodes", "-o", "name"]);
    assert_eq!(node, format!("node/k3d-{cluster}-server-0"));

    hub.action("report", runner.path(), &[]);
    let archive = output().lines().find_map(|line| line.strip_prefix("file=").map(str::to_owned));
    let archive = archive.unwrap_or_else(|| panic!("{}", output()));
    let names = command("tar", &["-tzf", &archive], "").unwrap_or_else(|e| panic!("{e}"));
    assert!(names.contains(cluster), "{names}");
    let content = command("tar", &["-xzOf", &archive], "").unwrap_or_else(|e| panic!("{e}"));
    let key =
        k.run(&["config", "view", "--raw", "--minify", "-o", "jsonpath={.users[0].user.client-key-data}"]);
    assert!(key.len() > 100 && !content.contains(&key), "the report has the key of the kubeconfig");
}

fn a_hub_comes_works_is_repaired_and_goes(scene: &Scene) {
    let hub = Hub::new(&format!("{}-try", scene.namespace));
    let cluster = cluster_of(&hub);
    by_action(&hub, &cluster);
    let inspected = inspect(&hub.part("hub")).expect("the hub runs");
    assert_eq!(inspected["HostConfig"]["Privileged"], false);
    let volumes = hub.anonymous();

    let k = Kubectl::new(hub.kubeconfig.clone());
    // The current context is that of the cluster.
    k.run(&["config", "use-context", &hub.name]);

    // Again: nothing changes.
    let before = hub.containers();
    let told = hub.up();
    assert!(told.contains("nothing had to be changed"), "{told}");
    assert_eq!(hub.containers(), before);

    // Repairs keep what is in the hub, and the cluster runs on. The operator may take the address of the hub meanwhile.
    let node = format!("k3d-{cluster}-server-0");
    let runs = docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", &node]);
    docker(&["kill", &hub.part("hub")]);
    docker(&["restart", "-t", "0", &hub.part("operator")]);
    hub.up();
    docker(&["rm", "-fv", &hub.part("operator")]);
    docker(&["rm", "-fv", &hub.part("hub")]);
    hub.up();
    k.run(&["wait", "--for=condition=Ready", &format!("lc/{cluster}"), "--timeout=120s"]);
    assert_eq!(docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", &node]), runs);

    // No secret where `docker inspect` shows it.
    let token = k.run(&[
        "-n",
        "localcluster-system",
        "get",
        "secret",
        "localcluster-operator-token",
        "-o",
        "jsonpath={.data.token}",
    ]);
    let shown = docker(&["inspect", &hub.part("hub"), &hub.part("operator")]);
    assert!(token.len() > 100 && !shown.contains(&token), "{shown}");
    assert!(!shown.contains("K3S_TOKEN"), "{shown}");

    lost(&hub, &k, &cluster);

    let refused = hub.run(&["down"]).expect_err("there is a cluster");
    assert!(refused.contains(&format!("LocalCluster default/{cluster}")), "{refused}");
    let volumes = [volumes, hub.anonymous()].concat();
    hub.run(&["down", "--delete-clusters"]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(hub.left(), Vec::<String>::new());
    for volume in volumes {
        assert!(try_docker(&["volume", "inspect", &volume]).is_err(), "volume {volume} is left");
    }
    let kubeconfig = std::fs::read_to_string(&hub.kubeconfig).unwrap_or_default();
    assert!(!kubeconfig.contains(&hub.name), "its context is left: {kubeconfig}");
    let told = hub.run(&["down"]).unwrap_or_else(|e| panic!("{e}"));
    assert!(told.contains("nothing had to be removed"), "{told}");
}
