//! The real Docker Engine at /var/run/docker.sock. These tests fail where there is none; they never skip.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    process::{Command, Stdio},
    time::Duration,
};

use axum::http::{HeaderMap, StatusCode};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::StreamExt;
use localcluster_operator::{
    api::{names, reason::Reason},
    docker::{
        archive,
        engine::{Attachment, Engine, Event, RegistryAuth, State, Subject, Update},
        error::Error,
        spec::{ContainerSpec, EndpointSettings, FileChange, FileSpec, RestartPolicy, Role},
    },
    plan::{
        failures,
        steps::{Action, Target},
    },
};

#[path = "docker_live/flushes.rs"]
mod flushes;
#[path = "docker_live/hardened.rs"]
mod hardened;
#[path = "support/hardening.rs"]
mod hardening;
#[path = "docker_live/mounts.rs"]
mod mounts;
#[path = "docker_live/refusals.rs"]
mod refusals;
#[path = "docker_live/resolvers.rs"]
mod resolvers;
#[path = "docker_live/runtimes.rs"]
mod runtimes;
#[path = "docker_live/subnets.rs"]
mod subnets;
#[path = "support/live/docker.rs"]
mod support;
use support::{World, docker, image, listener, pin, publish};

#[tokio::test]
async fn the_engine_tells_what_it_is() {
    let info = World::new("info").engine.info().await.unwrap();
    assert_eq!(info.id, docker(&["info", "-f", "{{.ID}}"]));
    assert_eq!(info.version, docker(&["info", "-f", "{{.ServerVersion}}"]));
    assert_eq!(info.cgroup_v1, docker(&["info", "-f", "{{.CgroupVersion}}"]) == "1");
    assert_eq!(format!("{} {}", info.memory, info.cpus), docker(&["info", "-f", "{{.MemTotal}} {{.NCPU}}"]));
}

#[tokio::test]
async fn a_container_is_made_as_asked_and_runs() {
    let world = World::new("life");
    let (network, network_id) = world.network("net").await;
    let volume = world.volume("bin").await;
    let (guard, port) = listener();
    drop(guard);

    let mut spec = world.spec("c");
    spec.env = BTreeMap::from([("GREETING".into(), "hello".into())]);
    spec.privileged = true;
    spec.tmpfs = vec!["/run".into()];
    // The image's own /bin has to be in the new volume, or there is nothing to run.
    spec.mounts = BTreeMap::from([("/bin".into(), volume.clone())]);
    spec.endpoint =
        EndpointSettings { ip: pin(&network, 5), aliases: vec!["srv".into()], ..EndpointSettings::default() };
    spec.ports = publish(port);
    spec.memory = Some(64 << 20);
    spec.nano_cpus = Some(500_000_000);
    spec.extra_hosts = BTreeMap::from([("elsewhere".into(), "10.1.2.3".into())]);
    let id = world.engine.create_container(&spec, Some(&network_id)).await.unwrap();

    let made = world.listed(&id).await;
    assert_eq!((made.name, made.image, made.state), (spec.name.clone(), image(), State::Created));
    assert_eq!(made.labels.get("lco-live"), spec.labels.get("lco-live"));
    assert_eq!(made.ports, []);
    let attachment = &made.networks[&network_id];
    assert_eq!((attachment.pinned, attachment.ip), (pin(&network, 5), None), "known before the first start");

    let detail = world.engine.inspect(&id).await.unwrap().unwrap();
    assert_eq!((detail.started_at, detail.exit_code, detail.error), (None, None, None));
    assert_eq!(detail.wanted_ports, spec.ports);
    assert_eq!(detail.volumes, [volume]);

    world.engine.start(&id).await.unwrap();
    world.engine.start(&id).await.unwrap();
    let detail = world.engine.inspect(&spec.name).await.unwrap().unwrap();
    assert!(detail.started_at.is_some());
    assert_eq!(detail.container.state, State::Running);
    assert_eq!(detail.container.ports, spec.ports);
    assert_eq!(
        detail.container.networks[&network_id],
        Attachment {
            network_name: network.name.clone(),
            ip: pin(&network, 5),
            pinned: pin(&network, 5),
            aliases: vec!["srv".into()]
        }
    );
    assert!(world.listed(&id).await.ports.contains(&spec.ports[0]));

    let host = docker(&["inspect", &id, "-f", "{{json .HostConfig}}"]);
    let host: serde_json::Value = serde_json::from_str(&host).unwrap();
    let cgroupns = if world.engine.info().await.unwrap().cgroup_v1 { "host" } else { "private" };
    for (pointer, want) in [
        ("/Privileged", serde_json::json!(true)),
        ("/Init", serde_json::json!(false)),
        ("/RestartPolicy/Name", "unless-stopped".into()),
        (
            "/LogConfig",
            serde_json::json!({"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}),
        ),
        ("/CgroupnsMode", cgroupns.into()),
        ("/Memory", (64 << 20).into()),
        ("/NanoCpus", 500_000_000.into()),
    ] {
        assert_eq!(host.pointer(pointer), Some(&want), "{pointer}");
    }
    let script = "hostname; echo $GREETING; grep elsewhere /etc/hosts; grep -c ' /run tmpfs' /proc/mounts";
    let seen = docker(&["exec", &id, "sh", "-c", script]);
    assert_eq!(seen.replace(['\t', ' '], "~"), format!("{}\nhello\n10.1.2.3~elsewhere\n1", spec.name));
}

/// What is no node can neither forge packets nor gain privileges.
#[tokio::test]
async fn an_unprivileged_container_has_few_capabilities() {
    let world = World::new("caps");
    let spec = ContainerSpec { role: Role::LoadBalancer, ..world.spec("c") };
    let id = world.engine.create_container(&spec, None).await.unwrap();
    world.engine.start(&id).await.unwrap();
    let status = docker(&["exec", &id, "cat", "/proc/1/status"]);
    let value =
        |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim).unwrap().to_owned();
    assert_eq!(value("NoNewPrivs:"), "1");
    let bit = |n: u32| 1_u64 << n;
    // CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, NET_BIND_SERVICE; see capability.h.
    let wanted = [0, 1, 3, 5, 6, 7, 10].map(bit).iter().sum::<u64>();
    assert_eq!(value("CapBnd:"), format!("{wanted:016x}"));
    let limit = docker(&["inspect", &id, "-f", "{{.HostConfig.PidsLimit}}"]);
    assert_eq!(limit, "4096");
}

#[tokio::test]
async fn a_running_container_takes_commands_and_another_restart_policy() {
    let world = World::new("update");
    let id = world.engine.create_container(&world.spec("c"), None).await.unwrap();
    let exec = async |command: &[&str]| {
        let command: Vec<String> = command.iter().map(|c| (*c).to_owned()).collect();
        world.engine.exec(&id, &command).await
    };
    assert!(matches!(exec(&["true"]).await, Err(Error::Busy(_))), "it does not run yet");
    world.engine.start(&id).await.unwrap();

    let ended = exec(&["sh", "-c", "echo out; echo err >&2; exit 3"]).await.unwrap();
    assert_eq!((ended.code, &*ended.stdout, &*ended.stderr), (3, "out\n", "err\n"));
    let missing = exec(&["/no/such/program"]).await;
    assert!(missing.is_err() || missing.is_ok_and(|ended| ended.code != 0), "a program that is not there");

    world.engine.update(&id, &Update { restart_policy: Some(RestartPolicy::No) }).await.unwrap();
    world.engine.update(&id, &Update::default()).await.unwrap();
    let told = docker(&["inspect", &id, "-f", "{{.HostConfig.RestartPolicy.Name}} {{.State.Running}}"]);
    assert_eq!(told, "no true");
}

#[tokio::test]
async fn an_image_is_read_by_a_command() {
    let world = World::new("pipe");
    let id = world.engine.create_container(&world.spec("c"), None).await.unwrap();
    world.engine.start(&id).await.unwrap();
    let pipe = async |image: &str, script: &str| {
        let command = ["sh", "-c", script].map(String::from);
        world.engine.pipe_image(image, &id, &command).await
    };
    // Whole, whether the command waits for the end of the stream or for that of the archive.
    let ended = pipe(&image(), "cat >/tmp/image.tar; tar -tf /tmp/image.tar; exit 4").await.unwrap();
    assert_eq!(ended.code, 4);
    assert!(ended.stdout.lines().any(|l| l == "manifest.json"), "{}", ended.stdout);
    let ended = pipe(&image(), "tar -xOf - manifest.json").await.unwrap();
    assert!(ended.code == 0 && ended.stdout.contains(&image()), "{ended:?}");
    // One that reads nothing is no reason to wait.
    let ended = pipe(&image(), "echo no >&2; exit 3").await.unwrap();
    assert_eq!((ended.code, ended.stderr.trim()), (3, "no"));
    let none = pipe("localhost/nobody-has:1", "cat >/dev/null").await;
    assert!(matches!(none, Err(Error::NotFound(_))), "{none:?}");
}

#[tokio::test]
async fn files_go_in_with_their_modes_and_come_back() {
    let world = World::new("files");
    let volume = world.volume("state").await;
    let mut spec = world.spec("c");
    spec.mounts = BTreeMap::from([("/var/state".into(), volume)]);
    let id = world.engine.create_container(&spec, None).await.unwrap();
    let file = |path: &str, mode, content: &[u8]| FileSpec {
        path: path.into(),
        mode,
        content: content.into(),
        change: FileChange::Keep,
    };
    let files = [file("/var/state/deep/secret", 0o600, b"token"), file("/tmp/plain", 0o644, b"")];
    world.engine.upload(&id, archive::pack(&files)).await.unwrap();

    let read = async |path: &str| world.engine.read_file(&id, path, 1 << 20).await.unwrap();
    assert_eq!(read("/var/state/deep/secret").await.unwrap(), b"token", "before the first start");
    world.engine.start(&id).await.unwrap();
    assert_eq!(read("/var/state/deep/secret").await.unwrap(), b"token");
    assert_eq!(read("/tmp/plain").await.unwrap(), b"");
    for none in ["/var/state/deep", "/nothing"] {
        assert_eq!(read(none).await, None, "{none}");
    }
    assert_eq!(world.engine.read_file(&world.name("nobody"), "/x", 1 << 20).await.unwrap(), None);

    let paths = "/var/state/deep /var/state/deep/secret /tmp";
    let stat = docker(&["exec", &id, "sh", "-c", &format!("stat -c '%a %u:%g' {paths}")]);
    assert_eq!(
        stat, "755 0:0\n600 0:0\n1777 0:0",
        "missing parents are made, those that exist are left alone"
    );
}

#[tokio::test]
async fn a_network_can_be_joined_before_the_first_start() {
    let world = World::new("join");
    let (_, first) = world.network("one").await;
    let (network, second) = world.network("two").await;
    let id = world.engine.create_container(&world.spec("c"), Some(&first)).await.unwrap();
    let place = EndpointSettings { ip: pin(&network, 6), ..EndpointSettings::default() };
    world.engine.connect(&second, &id, &place).await.unwrap();
    assert_eq!(world.listed(&id).await.networks[&second].pinned, pin(&network, 6));
    world.engine.start(&id).await.unwrap();
    let networks = world.listed(&id).await.networks;
    assert_eq!(networks[&second].ip, pin(&network, 6));
    assert!(networks[&first].ip.is_some());
}

#[tokio::test]
async fn anonymous_volumes_go_with_their_container() {
    let world = World::new("anon");
    let named = world.volume("named").await;
    let mount = format!("{named}:/named");
    let id = docker(&["create", "--name", &world.name("c"), "-v", "/anon", "-v", &mount, &image(), "true"]);
    let detail = world.engine.inspect(&id).await.unwrap().unwrap();
    assert_eq!(detail.volumes.len(), 2);
    let anonymous = detail.volumes.into_iter().find(|volume| *volume != named).unwrap();
    world.engine.remove_container(&id).await.unwrap();
    let left: Vec<_> = world.engine.volumes().await.unwrap().into_iter().map(|volume| volume.name).collect();
    assert!(!left.contains(&anonymous));
    assert!(left.contains(&named), "one that has a name stays");
}

/// Otherwise a look that follows the event would take a container that has exited for a running one.
#[tokio::test]
async fn an_exit_is_told_when_the_engine_shows_it() {
    let world = World::new("exits");
    let (_, network) = world.network("net").await;
    let mut spec = world.spec("c");
    spec.labels.insert(names::UID.to_owned(), "somebody".to_owned());
    let id = world.engine.create_container(&spec, Some(&network)).await.unwrap();
    let mut events = world.engine.events().await.unwrap();
    for _ in 0..10 {
        world.engine.start(&id).await.unwrap();
        // Not awaited: the command returns after the exit.
        let mut kill = Command::new("docker").args(["kill", &id]).stdout(Stdio::null()).spawn().unwrap();
        let died = async {
            loop {
                let event: Event = events.next().await.expect("the stream goes on").unwrap();
                if event.subject == Subject::Container(id.clone()) && event.action == "die" {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), died).await.expect("it dies");
        assert_eq!(world.listed(&id).await.state, State::Exited);
        assert!(kill.wait().unwrap().success());
    }
}

#[tokio::test]
async fn events_are_seen_but_looking_makes_none() {
    let world = World::new("events");
    let mut events = world.engine.events().await.unwrap();
    // Nobody has polled the stream yet: what happens meanwhile has to be in it all the same.
    let (network, network_id) = world.network("net").await;
    let volume = world.volume("v").await;
    let mut spec = world.spec("c");
    spec.mounts = BTreeMap::from([("/v".into(), volume.clone())]);
    let id = world.engine.create_container(&spec, Some(&network_id)).await.unwrap();
    world.engine.start(&id).await.unwrap();
    world.engine.read_file(&id, "/etc/hosts", 1 << 20).await.unwrap();
    // A command of another one may have changed files, and a command of the operator has not.
    docker(&["exec", &id, "true"]);
    world.engine.exec(&id, &["true".into()]).await.unwrap();
    world.engine.remove_container(&id).await.unwrap();
    world.engine.remove_network(&network_id).await.unwrap();
    world.engine.remove_volume(&volume).await.unwrap();

    let mut seen = Vec::new();
    let collect = async {
        loop {
            let event: Event = events.next().await.expect("the stream goes on").unwrap();
            let what = match &event.subject {
                Subject::Container(subject) if *subject == id => {
                    assert_eq!(event.labels.get("lco-live"), spec.labels.get("lco-live"));
                    "container"
                }
                Subject::Network { id: subject, name, container } if *subject == network_id => {
                    assert_eq!(*name, network.name);
                    let attached = matches!(event.action.as_str(), "connect" | "disconnect");
                    assert_eq!(container.as_deref(), attached.then_some(id.as_str()));
                    "network"
                }
                Subject::Volume(subject) if *subject == volume => "volume",
                _ => continue,
            };
            seen.push(format!("{what} {}", event.action));
            if seen.last().unwrap() == "volume destroy" {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), collect).await.expect("the last event comes");
    seen.sort();
    assert_eq!(seen.iter().filter(|what| *what == "container exec_die").count(), 1, "{seen:?}");
    // Making the container makes its volume once more, which changes nothing.
    seen.dedup();
    assert_eq!(
        seen,
        [
            "container create",
            "container destroy",
            "container die",
            "container exec_die",
            "container start",
            "network connect",
            "network create",
            "network destroy",
            "network disconnect",
            "volume create",
            "volume destroy",
        ]
    );
}

#[tokio::test]
async fn an_image_that_can_not_be_had_is_a_pull_error() {
    let world = World::new("pull");
    // Nothing listens there, so that no registry is asked.
    let error = world.engine.pull("127.0.0.1:1/lco-live/none:1", None).await.unwrap_err();
    assert!(matches!(error, Error::Pull(_)), "{error:?}");
    assert!(world.engine.image(&image()).await.unwrap().is_some());
}

/// bollard's own encoding of this password is one that the engine takes for no credentials at all.
#[tokio::test]
async fn credentials_reach_the_registry() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let registry = listener.local_addr().unwrap();
    let (seen, mut logins) = tokio::sync::mpsc::unbounded_channel();
    let app = axum::Router::new().fallback(move |headers: HeaderMap| async move {
        if let Some(login) = headers.get("authorization") {
            let _ = seen.send(login.to_str().unwrap().to_owned());
        }
        (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"lco-live\"")])
    });
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let auth = RegistryAuth {
        server: registry.to_string(),
        username: "me".into(),
        password: "??>>~~".into(),
        identity_token: None,
    };
    let world = World::new("login");
    let error = world.engine.pull(&format!("{registry}/none:1"), Some(&auth)).await.unwrap_err();
    server.abort();
    assert!(matches!(error, Error::Pull(_)), "{error:?}");
    assert_eq!(logins.recv().await.unwrap(), format!("Basic {}", STANDARD.encode("me:??>>~~")));
}
