//! Verbs that speak to the Docker Engine, too.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    process::Stdio,
    time::Duration,
};

use flate2::read::GzDecoder;
use localcluster_operator::api::crds;
use rustix::{
    pty::{self, OpenptFlags},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{DEV, Desk, condition, docker::Docker, ready, status, told};

const UID: &str = "uid-of-dev";
const CLUSTERS: &str = "/apis/localcluster.dev/v1alpha1/namespaces/default/localclusters";

/// A user with a cluster of two nodes, and containers of others beside it.
async fn desk() -> (Desk, Docker) {
    let (desk, docker) = (Desk::new().await, Docker::start());
    let mut dev = json!({"apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster",
        "metadata": {"name": "dev", "namespace": "default", "uid": UID, "generation": 1}, "spec": {}});
    dev["status"] = ready();
    desk.api.put(DEV, dev);
    docker.add("k3d-dev-server-0", UID, "server", "running");
    docker.add("k3d-dev-agent-0", UID, "agent", "running");
    docker.add("k3d-dev-agent-1", "of-another", "agent", "running");
    (desk, docker)
}

fn list(docker: &Docker) -> Vec<String> {
    docker.set(|state| std::mem::take(&mut state.calls))
}

#[tokio::test]
async fn logs_are_those_of_own_nodes() {
    let (desk, docker) = desk().await;
    docker.set(|state| state.log = ("written\n".into(), "failed\n".into()));
    let host = docker.host();
    let logs = async |args: &[&str]| desk.run(&[&["logs"], args, &[&host]].concat()).await;
    let expected = (0, "written\n".to_owned(), "failed\n".to_owned());
    // Both streams, the only cluster, and its first server.
    assert_eq!(logs(&[]).await, expected);
    assert!(list(&docker).iter().any(|call| call.starts_with("GET /containers/id-k3d-dev-server-0/logs?")));
    assert_eq!(logs(&["dev", "agent-0", "--tail=3", "--since=2026-11-30T09:00:00Z", "-f"]).await, expected);
    let calls = list(&docker);
    let call = calls.iter().find(|call| call.contains("/logs?")).unwrap();
    for part in ["id-k3d-dev-agent-0", "tail=3", "since=1796029200", "follow=true", "stderr=true"] {
        assert!(call.contains(part), "{part} is not in {call}");
    }
    // That of a node that stopped, too.
    docker.set(|state| state.containers[0]["State"] = json!({"Status": "exited"}));
    assert_eq!(logs(&["dev", "server-0"]).await, expected);

    // The other agent belongs to another object, whatever its name.
    let (code, _, said) = logs(&["dev", "agent-1"]).await;
    assert_eq!((code, said.as_str()), (1, "error: dev has no node agent-1; it has agent-0, server-0\n"));
    let (code, _, said) = logs(&["dev", "-v"]).await;
    assert!(code == 0 && said.contains("+ docker logs k3d-dev-server-0\n"), "{said}");
    desk.api.put(
        &format!("{CLUSTERS}/two"),
        json!({"metadata": {"name": "two", "namespace": "default", "uid": "2"}, "spec": {}}),
    );
    let (code, _, said) = logs(&[]).await;
    assert!(code == 1 && said.contains("has several LocalClusters: name one of dev, two"), "{said}");
    let (code, _, said) = logs(&["two"]).await;
    assert!(code == 1 && said.contains("no container of two is on the Docker Engine at unix://"), "{said}");
    let (code, _, said) = desk.run(&["logs", "dev", "--docker-host=unix:///none/s"]).await;
    assert!(
        code == 1 && said.contains("cannot connect to Docker: ") && said.contains("--docker-host"),
        "{said}"
    );
}

#[tokio::test]
async fn a_shell_passes_on_both_streams_and_the_exit_code() {
    let (desk, docker) = desk().await;
    docker.set(|state| {
        state.run = Some(|command, read| match command[0].as_str() {
            "cat" => (format!("read {read}"), String::new(), 0),
            _ => (command.join("|"), "bad\n".into(), 7),
        });
    });
    let host = docker.host();
    let shell = async |args: &[&str]| desk.run(&[&["shell", &host], args].concat()).await;
    let told_by = shell(&["dev", "--", "sh", "-c", "exit 7"]).await;
    assert_eq!(told_by, (7, "sh|-c|exit 7".into(), "bad\n".into()));
    assert_eq!(shell(&["dev"]).await.1, "sh", "a shell by default");
    let mut child = desk.command(&["shell", "dev", "agent-0", &host, "--", "cat"]);
    let mut child =
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"what was typed").await.unwrap();
    drop(input);
    let ended = told(child.wait_with_output().await.unwrap());
    assert_eq!(ended, (0, "read what was typed".into(), String::new()));

    for (state, word) in [
        ("paused", "k3d-dev-server-0 is paused; `docker unpause k3d-dev-server-0` resumes it"),
        ("restarting", "exits each time Docker starts it; `localcluster logs dev server-0` shows its log"),
        ("exited", "does not run; the operator starts it again unless `localcluster status dev`"),
    ] {
        docker.set(|all| all.containers[0]["State"] = json!({"Status": state}));
        let (code, out, said) = shell(&["dev", "--", "true"]).await;
        assert!(code == 1 && out.is_empty() && said.starts_with("error: cannot run a command: "), "{said}");
        assert!(said.contains(word), "{said}");
    }
    let mut dev = desk.api.get(DEV).unwrap();
    dev["spec"]["state"] = "Stopped".into();
    desk.api.put(DEV, dev);
    let (_, _, said) = shell(&["dev"]).await;
    assert!(said.contains("start it with `localcluster start dev`"), "{said}");
}

/// Returns both ends of a terminal of this size.
fn terminal(rows: u16, columns: u16) -> (fs::File, fs::File) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let user = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    pty::grantpt(&user).unwrap();
    pty::unlockpt(&user).unwrap();
    tcsetwinsize(&user, size).unwrap();
    let path = pty::ptsname(&user, Vec::new()).unwrap().into_string().unwrap();
    (user.into(), fs::File::options().read(true).write(true).open(path).unwrap())
}

/// Keys are passed on as they are, the command knows the size, and the terminal is afterwards what it was.
#[tokio::test]
async fn a_shell_has_the_terminal() {
    let (desk, docker) = desk().await;
    docker.set(|state| state.run = Some(|_, read| (format!("read {read:?}"), String::new(), 3)));
    let (mut user, program) = terminal(33, 111);
    let before = tcgetattr(&program).unwrap();
    let end = || Stdio::from(program.try_clone().unwrap());
    let mut child = desk.command(&["shell", "dev", &docker.host()]);
    let mut child = child.env("TERM", "vt220").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    // A terminal that is not raw would end the program by the first key, and make a line feed of the second.
    while tcgetattr(&program).unwrap().local_modes.contains(LocalModes::ISIG) {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    user.write_all(b"\x03\rq").unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(3));
    let (mut told, mut piece) = (String::new(), [0; 100]);
    while !told.contains("read \"\\u{3}\\r\"") {
        let length = user.read(&mut piece).unwrap();
        told.push_str(std::str::from_utf8(&piece[..length]).unwrap());
    }
    let exec = docker.set(|state| state.execs[0].clone());
    assert_eq!((&exec["ConsoleSize"], &exec["Env"]), (&json!([33, 111]), &json!(["TERM=vt220"])));
    assert!(
        list(&docker).iter().any(|call| call.starts_with("POST /exec/e/resize?") && call.contains("h=33"))
    );
    assert_eq!(tcgetattr(&program).unwrap().local_modes, before.local_modes);
}

/// Lists images as containerd does.
fn images(command: &[String], _: &str) -> (String, String, i64) {
    let labels = |id: &str| format!("localcluster.dev/image-id={id},localcluster.dev/own-id=sha256:d");
    let line = |name: &str, id: &str| {
        format!("docker.io/library/{name} type sha256:d 1MiB linux/amd64 {}\n", labels(id))
    };
    assert!(command.ends_with(&["images".into(), "list".into()]), "{command:?}");
    (line("app:1", "sha256:1") + &line("tool:latest", "sha256:2"), String::new(), 0)
}

#[tokio::test]
async fn images_are_added_to_the_spec_and_waited_for() {
    let (desk, docker) = desk().await;
    let of = |name: &str, id: &str| (name.to_owned(), id.to_owned());
    docker.set(|state| {
        state.run = Some(images);
        state.images = vec![of("app:1", "sha256:1"), of("tool:latest", "sha256:2")];
        state.loads = "Loaded image: app:1\n".into();
    });
    let host = docker.host();
    let import = async |args: &[&str]| {
        desk.run(&[&["import-image", "dev", &host, "--timeout=2s"], args].concat()).await
    };
    let tar = docker.dir().join("app.tar");
    fs::write(&tar, "layers").unwrap();
    let (code, out, said) = import(&[tar.to_str().unwrap(), "tool"]).await;
    assert_eq!((code, out.as_str()), (0, ""), "{said}");
    for line in ["loaded into Docker: app:1\n", "s] ✓ app:1 on agent-0\n", "s] ✓ tool:latest on server-0\n"]
    {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    let dev = desk.api.get(DEV).unwrap();
    assert_eq!(dev["spec"]["preloadImages"], json!(["app:1", "tool:latest"]));
    assert!(dev["metadata"]["annotations"]["localcluster.dev/import-at"].is_string());

    // The engine has another image by that name since.
    docker.set(|state| state.images[0].1 = "sha256:new".into());
    let (code, _, said) = import(&["app:1"]).await;
    assert!(
        code == 3
            && said.contains("not all nodes of dev have the images after 2s: waiting for app:1 on k3d-dev-"),
        "{said}"
    );
    for (image, word) in
        [("app@sha256:1", "the LocalCluster dev is invalid: "), ("/none.tar", "cannot read /none.tar: ")]
    {
        let (code, _, said) = import(&[image]).await;
        assert!(code == 1 && said.contains(word), "{said}");
    }
    docker.set(|state| state.loads = "Loaded image ID: sha256:4f\n".into());
    let (code, _, said) = import(&[tar.to_str().unwrap()]).await;
    assert!(code == 1 && said.contains("has the image sha256:4f without a name"), "{said}");
}

/// A management cluster with an API of this version and an operator.
fn installed(desk: &Desk) {
    desk.api.put(
        "/version",
        json!({"major": "1", "minor": "36", "gitVersion": "v1.36.2", "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}),
    );
    for (_, crd) in crds::all() {
        let name = crd.metadata.name.clone().unwrap();
        desk.api.put(&format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"), json!(crd));
    }
    let image = format!("localcluster-operator:{}", env!("CARGO_PKG_VERSION"));
    let pod = json!({"containers": [{"name": "operator", "image": image, "env": [{"name": "X", "value": "hush-of-operator"}]}]});
    desk.api.put(
        "/apis/apps/v1/deployments",
        json!({"items": [{"metadata": {"name": "op", "namespace": "sys"},
        "spec": {"selector": {}, "template": {"spec": pod}}, "status": {"availableReplicas": 1}}]}),
    );
    desk.api.put(
        "/api/v1/pods",
        json!({"items": [{"metadata": {"name": "op-1", "namespace": "sys"}, "spec": pod}]}),
    );
}

#[tokio::test]
async fn a_check_tells_what_is_wrong_and_how_to_correct_it() {
    let (desk, docker) = desk().await;
    installed(&desk);
    docker.set(|state| state.run = Some(|_, _| ("100\n1000 50\n".into(), String::new(), 0)));
    let host = docker.host();
    let (code, out, said) = desk.run(&["check", &host]).await;
    assert_eq!((code, said.as_str()), (0, ""), "{out}");
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    let level = |check: &str| lines.iter().find(|line| line[1] == check).map(|line| line[0]);
    for (check, expected) in [
        ("docker", "ok"),
        ("cgroups", "ok"),
        ("inotify", "ok"),
        ("disk", "warning"),
        ("subnets", "ok"),
        ("dns", "unknown"),
        ("management", "ok"),
        ("definitions", "ok"),
        ("operator", "ok"),
        ("clusters", "ok"),
    ] {
        assert_eq!(level(check), Some(expected), "{check}: {out}");
    }
    assert_eq!(level("hub"), None, "there is none");
    let (_, out, _) = desk.run(&["check", &host, "-o", "json"]).await;
    let found: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert!(found.iter().any(|finding| finding["check"] == "disk" && finding["level"] == "warning"), "{out}");

    desk.api.remove("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/registries.localcluster.dev");
    desk.api.refuse("GET /apis/apps/v1/deployments", 403);
    let (code, out, said) = desk.run(&["check", "--docker-host=unix:///none/s"]).await;
    assert_eq!((code, said.lines().count()), (3, 1), "{out}");
    assert!(said.starts_with("error: 2 of ") && said.contains(" checks failed; "), "{said}");
    assert!(out.contains("error     docker ") && out.contains("start Docker, or name its address"), "{out}");
    assert!(out.contains("has no registries.localcluster.dev; install the operator there"), "{out}");
    assert!(out.contains("unknown   operator ") && out.contains("for the right"), "{out}");
    fs::remove_file(desk.file()).unwrap();
    let (code, out, _) = desk.run(&["check", &host]).await;
    assert!(code == 3 && out.contains("make a hub with `localcluster up`"), "{out}");
    assert!(desk.api.take_writes().is_empty());
    assert!(
        list(&docker).iter().all(|call| call.starts_with("GET ") || call.contains("exec")),
        "it only reads"
    );
}

/// Returns the files of an archive.
fn unpacked(archive: &[u8]) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(GzDecoder::new(archive)).entries().unwrap() {
        let mut entry = entry.unwrap();
        let (path, mut text) = (entry.path().unwrap().display().to_string(), String::new());
        entry.read_to_string(&mut text).unwrap();
        files.insert(path.trim_start_matches("localcluster-report/").to_owned(), text);
    }
    files
}

#[tokio::test]
async fn a_report_has_everything_but_secrets() {
    let (desk, docker) = desk().await;
    installed(&desk);
    desk.secret("https://127.0.0.1:24067");
    let token = format!("K10{}::server:hush-token", "0a".repeat(32));
    let mut dev = desk.api.get(DEV).unwrap();
    dev["metadata"]["managedFields"] = json!([{"manager": "hush-manager"}]);
    dev["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": "hush-applied"});
    dev["spec"] = json!({
        "servers": {"env": [{"name": "A", "value": "hush-of-spec"}], "args": ["--agent-token=hush-arg", "--disable=traefik"]},
        "files": [{"path": "/etc/x", "inline": "hush-file"}],
    });
    dev["status"] =
        status(&[condition("Ready", "False", "Failed", "cannot pull from https://me:hush-url@r.example/v2")]);
    desk.api.put(DEV, dev);
    let event = |version: &str, message: &str| {
        json!({"metadata": {"name": "e", "namespace": "default"}, "message": message,
            "involvedObject": {"apiVersion": version, "kind": "LocalCluster", "name": "dev"}})
    };
    let own = event("localcluster.dev/v1alpha1", "told with password=hush-event");
    desk.api.put("/api/v1/namespaces/default/events", json!({"items": [own, event("v1", "of others")]}));
    desk.api.put("/apis/localcluster.dev/v1alpha1/hostpolicies", json!({"items": []}));
    desk.api
        .put("/api/v1/namespaces/sys/pods/op-1/log", json!({"line": "the operator says hush-of-operator"}));
    docker.set(|state| {
        state.log = (
            format!("K3s starts with hush-of-spec and hush-of-env\ntoken {token}\n"),
            "kubelet runs\n".into(),
        );
        state.info["HttpProxy"] = "http://me:hush-proxy@proxy:3128".into();
    });
    let file = desk.home.path().join("r.tar.gz");
    let path = file.to_str().unwrap();
    let (code, out, said) = desk.run(&["report", "-o", path, &docker.host()]).await;
    assert_eq!((code, out.as_str()), (0, ""), "{said}");
    let files = unpacked(&fs::read(&file).unwrap());
    for (name, text) in &files {
        assert!(!text.contains("hush"), "{name} tells a secret: {text}");
    }
    assert!(!files.contains_key("missing.txt"), "{files:#?}");
    for (name, word) in [
        ("check.json", "\"level\""),
        ("docker/info.json", "29.1.0"),
        ("docker/containers/k3d-dev-server-0.json", "HUSH=***"),
        ("docker/logs/k3d-dev-agent-0.log", "kubelet runs"),
        ("management/localclusters.json", "--disable=traefik"),
        ("management/events.json", "told with password=***"),
        ("management/operator/sys-op-1.log", "the operator says ***"),
        ("report.json", env!("CARGO_PKG_VERSION")),
    ] {
        let text = files.get(name).unwrap_or_else(|| panic!("{name} is not among {:?}", files.keys()));
        assert!(text.contains(word), "{word} is not in {name}: {text}");
    }
    assert!(!files.contains_key("docker/containers/k3d-dev-agent-1.json"), "it is of another object");
    assert!(!files["management/events.json"].contains("of others"));
    let reads: Vec<String> = list(&docker);
    assert!(reads.iter().all(|call| !call.contains("/archive")), "no file of a container is read: {reads:?}");
    let (code, _, said) = desk.run(&["report", "-o", path, &docker.host()]).await;
    assert!(code == 1 && said.contains("name another file with -o"), "{said}");

    // Where everything is broken it is written, too.
    let other = desk.home.path().join("other.tar.gz");
    fs::remove_file(desk.file()).unwrap();
    let (code, _, said) =
        desk.run(&["report", "-o", other.to_str().unwrap(), "--docker-host=unix:///none/s"]).await;
    assert!(code == 0 && said.contains("things could not be collected, see missing.txt"), "{said}");
    assert!(
        unpacked(&fs::read(&other).unwrap())["missing.txt"]
            .contains("docker/info.json: cannot connect to Docker")
    );
}

/// Every verb that changes something tells what it would change.
#[tokio::test]
async fn dry_runs_change_nothing() {
    let (desk, docker) = desk().await;
    let before = desk.api.get(DEV);
    let host = docker.host();
    for (args, expected) in [
        (&["stop", "dev"][..], "dev would be stopped (dry run)\n"),
        (&["start", "dev"], "dev would be started (dry run)\n"),
        (&["hold", "dev"], "dev would be held (dry run)\n"),
        (&["hold", "dev", "--off"], "dev would no longer be held (dry run)\n"),
        (&["delete", "dev"], "dev would be deleted with all data (dry run)\n"),
        (
            &["import-image", "dev", "app", "a.tar", &host],
            "a.tar would be loaded into Docker and imported into dev (dry run)\napp:latest would be imported into dev (dry run)\n",
        ),
    ] {
        let (code, out, said) = desk.run(&[args, &["--dry-run=client"]].concat()).await;
        assert_eq!((code, out.as_str(), said.as_str()), (0, "", expected), "{args:?}");
    }
    assert_eq!(desk.api.get(DEV), before);
    assert!(desk.api.take_writes().is_empty() && list(&docker).iter().all(|call| call.starts_with("GET ")));
    let (code, _, said) = desk.run(&["stop", "none", "--dry-run=client"]).await;
    assert!(code == 1 && said.starts_with("error: no LocalCluster none: "), "{said}");
}

#[tokio::test]
async fn objects_have_the_formats_of_kubectl() {
    let (desk, _docker) = desk().await;
    let name = "localcluster.localcluster.dev/dev\n";
    for args in [
        &["list", "-o", "name"][..],
        &["status", "dev", "-o", "name"],
        &["create", "dev", "--dry-run=client", "-o", "name"],
    ] {
        assert_eq!(desk.run(args).await, (0, name.into(), String::new()), "{args:?}");
    }
    let (_, out, _) = desk.run(&["status", "dev", "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["metadata"]["uid"], UID);
    let (_, out, _) = desk.run(&["status", "dev", "-o", "yaml"]).await;
    assert!(out.contains("uid: uid-of-dev\n"), "{out}");
}

#[tokio::test]
async fn a_cluster_is_held_and_let_go() {
    let (desk, _docker) = desk().await;
    let (code, _, said) = desk.run(&["hold", "dev", "-v"]).await;
    assert!(
        code == 0 && said.contains("dev is held: ") && said.contains("patch localclusters dev --type=merge"),
        "{said}"
    );
    assert_eq!(desk.api.get(DEV).unwrap()["metadata"]["annotations"]["localcluster.dev/hold"], "true");
    let (code, _, said) = desk.run(&["hold", "dev", "--off"]).await;
    assert!(code == 0 && said.contains("dev is not held"), "{said}");
    assert!(desk.api.get(DEV).unwrap()["metadata"]["annotations"]["localcluster.dev/hold"].is_null());
    let (code, _, said) = desk.run(&["hold", "none"]).await;
    assert!(code == 1 && said.starts_with("error: no LocalCluster none: "), "{said}");
}
