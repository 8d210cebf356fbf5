//! Secret values are in Secrets and in files of nodes, and nowhere that users look.

use crate::live::{
    DEPLOYMENT, Kubectl, SYSTEM, command, docker, docker_logs, inspect_all,
    registries::secrets,
    scene::{Scene, name},
    world,
};

pub fn nowhere_else(scene: &Scene) {
    let token = scene.run(&["get", "secret", "c-token", "-o", "go-template={{.data.token | base64decode}}"]);
    let kubeconfig = scene.kubeconfig("c", "kubeconfig");
    let key = kubeconfig.lines().find_map(|l| l.trim().strip_prefix("client-key-data: "));
    let secrets = [("the join token", token.as_str()), ("the admin's key", key.expect("it has a key"))];
    for (what, secret) in secrets {
        assert!(secret.len() > 20, "{what} is too short to be looked for");
    }

    for (place, text) in places(scene) {
        for (what, secret) in secrets {
            assert!(!text.contains(secret), "{what} is in {place}");
        }
    }
}

/// No secret that any test has created for a registry so far is in Docker's data about any container, managed or not,
/// or in its log. In containers, secrets are only in files that only root can read.
pub fn of_registries(scene: &Scene) {
    let secrets = secrets();
    assert!(secrets.len() > 2, "no test has noted a secret: {}", secrets.len());
    let scenes = scene.all();
    let mut places: Vec<_> = scenes.iter().flat_map(|scene| places(scene)).collect();
    for kind in ["container", "volume", "network"] {
        places.push(("docker inspect of everything", inspect_all(kind)));
    }
    let all = docker(&["ps", "-aq"]);
    places.extend(all.split_whitespace().map(|id| ("a container's log", docker_logs(id))));
    places.push(("docker events", docker(&["events", "--since=1h", "--until=0s", "--format={{json .}}"])));
    for scene in &scenes {
        for cluster in
            scene.run(&["get", "lc", "-o", "jsonpath={.items[*].metadata.name}"]).split_whitespace()
        {
            let child = scene.child(cluster);
            for kinds in ["events", "configmaps", "nodes,pods"] {
                places.push(("the cluster itself", child.run(&["get", kinds, "-A", "-o", "yaml"])));
            }
        }
    }
    for (place, text) in &places {
        for (what, secret) in &secrets {
            assert!(!text.contains(secret), "{what} is in {place}");
        }
    }
    let containers = scenes.iter().flat_map(|scene| scene.containers());
    let found: usize = containers.map(|c| only_root_reads(name(&c), &secrets)).sum();
    println!(
        "        {} secrets in {} texts: none; {found} files with some, of mode 600",
        secrets.len(),
        places.len()
    );
    assert!(found > 0, "no file has any: they were not looked for in the right places");
}

/// Returns how many of a container's files contain secrets, and asserts that only root can read each of them.
/// Leaves out containerd's configuration, which K3s generates from its registries file and has to protect.
fn only_root_reads(container: &str, secrets: &[(String, String)]) -> usize {
    let patterns: Vec<&str> = secrets.iter().map(|(_, secret)| secret.as_str()).collect();
    let not = [
        "/proc",
        "/sys",
        "/run",
        "/tmp",
        "/var/lib/rancher/k3s/agent",
        "/var/lib/kubelet",
        "/var/lib/registry",
    ];
    let prune: String = not.iter().map(|dir| format!("-path {dir} -prune -o ")).collect();
    let script = format!(
        "cat >/tmp/e2e-patterns; find / {prune} -type f -size -64k -exec grep -lFf /tmp/e2e-patterns {{}} + 2>/dev/null \
         | while read f; do stat -c '%a %U %n' \"$f\"; done; rm /tmp/e2e-patterns"
    );
    let args = ["--host", &world("DOCKER_HOST"), "exec", "-i", container, "sh", "-c", &script];
    // The image of a load balancer may have no shell, and has none of these files.
    let Ok(found) = command("docker", &args, &patterns.join("\n")) else { return 0 };
    for line in found.lines() {
        assert!(line.starts_with("600 root ") || line.starts_with("400 root "), "{container}: {line}");
    }
    found.lines().count()
}

/// Returns everything that can be read without the right to read Secrets.
pub fn places(scene: &Scene) -> Vec<(&'static str, String)> {
    let management = Kubectl::management();
    let containers: Vec<String> = scene.containers().iter().map(ToString::to_string).collect();
    let inside = scene.containers().into_iter().map(|c| {
        let name = c["Name"].as_str().unwrap_or_default().trim_start_matches('/').to_owned();
        docker(&["top", &name])
    });
    vec![
        ("docker inspect", containers.join("\n")),
        ("docker top", inside.collect::<Vec<_>>().join("\n")),
        ("the objects", scene.run(&["get", "lc,lreg", "-o", "yaml"])),
        ("Events", scene.run(&["get", "events", "-o", "yaml"])),
        ("the operator's log", management.run(&["-n", SYSTEM, "logs", DEPLOYMENT])),
    ]
}
