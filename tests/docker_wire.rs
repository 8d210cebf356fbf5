//! bollard against a scripted daemon: what engines do that a test can't make a real one do at will.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE, prelude::BASE64_STANDARD};
use futures::{StreamExt, future};
use localcluster_operator::docker::{
    bollard::BollardEngine,
    client::Timeouts,
    engine::{Engine, RegistryAuth, Subject},
    error::Error,
    share::Caller,
    spec::{Addressing, Bind, ContainerSpec, EndpointSettings, NetworkSpec, RestartPolicy, Role, VolumeSpec},
};

#[path = "docker_wire/events.rs"]
mod events;
#[path = "docker_wire/pulls.rs"]
mod pulls;
#[path = "support/fakes/docker_wire.rs"]
mod support;
use support::{Daemon, Reply, Seen, auth, engine, error, json, pieces, spec};

const INFO: &str =
    r#"{"ID":"A:B","ServerVersion":"29.1.0","CgroupVersion":"2","SystemTime":"2026-11-25T03:10:28.5Z"}"#;
/// Long enough to see that something waits. What has to succeed waits longer, however busy the machine is.
const BLINK: Duration = Duration::from_millis(200);
const IMAGE: &str = r#"{"Id":"sha256:1"}"#;
const START: &str = "{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"c\",\"Attributes\":{\"owner\":\"o\"}}}\n";

#[test]
fn only_a_unix_socket_is_a_host_without_certificates() {
    for host in ["tcp://127.0.0.1:2375", "/var/run/docker.sock", "unix://docker.sock", ""] {
        assert!(matches!(BollardEngine::connect(host), Err(Error::Invalid(_))), "{host}");
    }
    let refused = BollardEngine::connect("tcp://127.0.0.1:2375").err().unwrap().to_string();
    assert!(refused.contains("--docker-cert-path"), "{refused}");
}

/// They may be mounted a moment later.
#[tokio::test]
async fn certificates_that_cannot_be_used_are_named() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("certificates");
    let failed = async || {
        let engine = BollardEngine::connect_with("tcp://127.0.0.1:1", Some(&dir)).unwrap();
        match engine.info().await {
            Err(Error::Unavailable(words)) => words,
            other => panic!("{other:?}"),
        }
    };
    let _ = std::fs::remove_dir_all(&dir);
    let words = failed().await;
    assert!(words.contains("certificates/ca.pem: No such file"), "{words}");
    std::fs::create_dir_all(&dir).unwrap();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        std::fs::write(dir.join(name), "nonsense").unwrap();
    }
    let words = failed().await;
    assert!(words.contains("certificates/ca.pem contains no certificate in PEM format"), "{words}");
}

#[tokio::test]
async fn goals_that_are_met_are_success() {
    let (_daemon, engine) = Daemon::with_engine(|seen| match seen.call.as_str() {
        "POST /containers/c/start" | "POST /containers/c/stop" => json(304, ""),
        "POST /networks/n/connect" => error(403, "endpoint with name c already exists in network n"),
        "POST /networks/n/disconnect" => error(403, "container c is not connected to network n"),
        "POST /containers/c/unpause" => error(500, "Container c is not paused"),
        "POST /containers/c/kill" => error(409, "container c is not running"),
        _ => error(404, "no such thing"),
    });
    engine.start("c").await.unwrap();
    engine.stop("c", 0).await.unwrap();
    engine.connect("n", "c", &EndpointSettings::default()).await.unwrap();
    engine.disconnect("n", "c").await.unwrap();
    engine.unpause("c").await.unwrap();
    engine.signal("c", "SIGHUP").await.unwrap();
    engine.remove_container("x").await.unwrap();
    engine.remove_network("x").await.unwrap();
    engine.remove_volume("x").await.unwrap();
    engine.disconnect("x", "c").await.unwrap();
    assert_eq!(engine.inspect("x").await, Ok(None));
    assert_eq!(engine.image("x").await, Ok(None));
    assert_eq!(engine.read_file("x", "/x", 1 << 20).await, Ok(None));
    assert_eq!(engine.path_info("x", "/x").await, Ok(None));
    for missing in [
        engine.start("x").await,
        engine.connect("x", "c", &EndpointSettings::default()).await,
        engine.upload("x", Vec::new()).await,
        engine.signal("x", "SIGHUP").await,
        engine.create_container(&spec(), None).await.map(drop),
    ] {
        assert!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");
    }
}

const IN_USE: &str = "error while removing network: network n id 1 has active endpoints";

/// Docker keeps endpoints of containers that no longer exist; they disappear by force. Those of others stay.
#[tokio::test]
async fn endpoints_without_a_container_keep_no_network() {
    let one = r#"{"Containers":{"ep-1":{"Name":"gone"},"ep-2":{"Name":"starting"},"c1":{"Name":"runs"}}}"#;
    let containers = r#"[{"Id":"c1","Names":["/runs"]},{"Id":"c2","Names":["/starting"]}]"#;
    let (daemon, engine) = Daemon::with_engine(move |seen| match seen.call.as_str() {
        "DELETE /networks/n" => error(403, IN_USE),
        "GET /networks/n" => json(200, one),
        "GET /containers/json" => json(200, containers),
        "POST /networks/n/disconnect" => json(200, ""),
        _ => error(500, "what?"),
    });
    assert_eq!(engine.remove_network("n").await, Err(Error::Busy(IN_USE.into())));
    let disconnected = daemon.seen().into_iter().filter(|seen| seen.call.ends_with("/disconnect"));
    let bodies: Vec<String> =
        disconnected.map(|seen| String::from_utf8(seen.body.to_vec()).unwrap()).collect();
    assert_eq!(bodies, [r#"{"Container":"gone","Force":true}"#]);
    assert_eq!(daemon.calls().last().unwrap(), "DELETE /networks/n", "tried again");
}

#[tokio::test]
async fn a_wrong_count_of_endpoints_is_reported() {
    let (_daemon, engine) = Daemon::with_engine(|seen| match seen.call.as_str() {
        "DELETE /networks/n" => error(403, IN_USE),
        "GET /networks/n" => json(200, r#"{"Containers":{}}"#),
        _ => error(500, "what?"),
    });
    match engine.remove_network("n").await {
        Err(Error::Engine(words)) => assert!(words.contains("restart Docker on the host"), "{words}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_status_has_one_meaning_for_each_call() {
    let (_daemon, engine) = Daemon::with_engine(|seen| match seen.call.as_str() {
        "POST /containers/create" => error(409, "Conflict. The container name \"/c\" is already in use"),
        "POST /networks/create" => error(409, "network with name n already exists"),
        "DELETE /containers/c" => error(409, "removal of container c is already in progress"),
        "POST /containers/c/start" => error(409, "container is marked for removal and cannot be started"),
        _ => error(500, "what?"),
    });
    let network = NetworkSpec {
        name: "n".into(),
        addressing: Some(Addressing {
            subnet: "10.0.0.0/24".parse().unwrap(),
            gateway: "10.0.0.1".parse().unwrap(),
            ip_range: "10.0.0.128/25".parse().unwrap(),
        }),
        labels: BTreeMap::new(),
    };
    let balancer = ContainerSpec { role: Role::LoadBalancer, ..spec() };
    assert!(matches!(engine.create_container(&balancer, None).await, Err(Error::Conflict(_))));
    assert!(matches!(engine.create_network(&network).await, Err(Error::Conflict(_))));
    assert!(matches!(engine.remove_container("c").await, Err(Error::Busy(_))));
    assert!(matches!(engine.start("c").await, Err(Error::Busy(_))));
    assert!(matches!(engine.remove_volume("v").await, Err(Error::Engine(_))));
}

#[tokio::test]
async fn no_secret_is_in_an_error() {
    let (_daemon, engine) = Daemon::with_engine(|seen| match seen.call.as_str() {
        "POST /containers/create" => error(400, "invalid environment variable: =hunter2-secret"),
        "POST /images/create" => {
            Reply::Pieces(pieces(["{\"errorDetail\":{\"message\":\"u:hunter2-??>>~~ is denied\"}}\r\n"]))
        }
        "GET /containers/c/json" => json(200, r#"{"Config":{"Env":"TOKEN=hunter2"}}"#),
        _ => error(404, "No such image"),
    });
    let failures = [
        engine.create_container(&spec(), None).await.unwrap_err(),
        engine.pull("r.example/i:1", Some(&auth())).await.unwrap_err(),
        engine.inspect("c").await.unwrap_err(),
    ];
    for failure in &failures {
        assert!(!format!("{failure:?} {failure}").contains("hunter2"), "{failure:?}");
    }
    assert_eq!(failures[1], Error::Pull("u:*** is denied".into()), "the rest is told");
    assert!(!format!("{:?}", auth()).contains("hunter2"));
}

/// Docker 29 refuses API versions before 1.44; Docker 20.10 those after 1.41. Without a version in the path each
/// serves its own.
#[tokio::test]
async fn no_call_names_an_api_version() {
    let old = "client version 1.41 is too old. Minimum supported API version is 1.44";
    let (daemon, engine) = Daemon::with_engine(move |seen| {
        let (_, path) = seen.call.split_once(' ').unwrap();
        match seen.call.as_str() {
            _ if path.starts_with("/v") && !path.starts_with("/volumes") => error(400, old),
            "GET /containers/json" | "GET /networks" => json(200, "[]"),
            "GET /events" => Reply::Pieces(Vec::new()),
            "GET /images/i:1/json" => json(200, IMAGE),
            "GET /volumes" => json(200, r#"{"Volumes":null,"Warnings":null}"#),
            "POST /volumes/create" => json(
                201,
                r#"{"Name":"v","Driver":"local","Mountpoint":"/","Labels":null,"Scope":"local","Options":null}"#,
            ),
            "POST /containers/create" => json(201, r#"{"Id":"c","Warnings":null}"#),
            "HEAD /containers/c/archive" => Reply::Header("X-Docker-Container-Path-Stat", stat(1 << 31, "")),
            "GET /containers/c/archive" | "GET /containers/c/logs" => Reply::Pieces(Vec::new()),
            _ => json(200, INFO),
        }
    });
    engine.info().await.unwrap();
    engine.containers().await.unwrap();
    engine.networks().await.unwrap();
    engine.volumes().await.unwrap();
    engine.inspect("c").await.unwrap();
    engine.image("i:1").await.unwrap();
    engine.create_volume(&VolumeSpec { name: "v".into(), labels: BTreeMap::new() }).await.unwrap();
    engine.create_container(&ContainerSpec { privileged: true, ..spec() }, Some("n")).await.unwrap();
    engine.connect("n", "c", &EndpointSettings::default()).await.unwrap();
    engine.disconnect("n", "c").await.unwrap();
    engine.upload("c", b"archive".to_vec()).await.unwrap();
    engine.read_file("c", "/x", 1 << 20).await.unwrap();
    engine.path_info("c", "/x").await.unwrap();
    engine.start("c").await.unwrap();
    engine.stop("c", 3).await.unwrap();
    engine.unpause("c").await.unwrap();
    engine.signal("c", "SIGHUP").await.unwrap();
    engine.logs("c", 3).await.unwrap();
    engine.remove_container("c").await.unwrap();
    engine.remove_network("n").await.unwrap();
    engine.remove_volume("v").await.unwrap();
    engine.pull("i:1", None).await.unwrap();
    drop(engine.events().await.unwrap().next().await);

    let seen = daemon.seen();
    let of = |call: &str| {
        seen.iter().find(|seen| seen.call == call).unwrap_or_else(|| panic!("no {call}: {seen:?}"))
    };
    assert_eq!(of("GET /containers/json").query, "all=true&size=false");
    assert_eq!(of("POST /containers/c/stop").query, "t=3");
    assert_eq!(of("DELETE /containers/c").query, "v=true&force=true&link=false");
    assert_eq!(of("PUT /containers/c/archive").query, "path=%2F");
    assert_eq!(of("PUT /containers/c/archive").body, "archive");
    let body: serde_json::Value = serde_json::from_slice(&of("POST /containers/create").body).unwrap();
    assert_eq!(body.pointer("/HostConfig/CgroupnsMode"), Some(&"private".into()), "this host has cgroup v2");
}

#[tokio::test]
async fn no_more_than_eight_calls_are_under_way() {
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    // Answers come only when eight calls are there, so that the limit is reached for certain.
    let full = Arc::new(tokio::sync::Barrier::new(8));
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let (counter, maximum) = (running.clone(), most.clone());
    let app = axum::Router::new().fallback(move || {
        let (running, most, full) = (counter.clone(), maximum.clone(), full.clone());
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            full.wait().await;
            // A ninth, if it may come, comes while the eight are still here.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            running.fetch_sub(1, Ordering::SeqCst);
            INFO
        }
    });
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let engine = BollardEngine::connect(&format!("unix://{}", socket.display())).unwrap();
    let answers = future::join_all((0..24).map(|_| engine.info())).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(most.load(Ordering::SeqCst), 8);
    server.abort();
}

/// A list of a thousand containers takes many megabytes while it is read, and a look at each object needs one.
#[tokio::test]
async fn one_list_is_under_way_at_a_time() {
    let (running, most, all) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let (counter, maximum, sum) = (running.clone(), most.clone(), all.clone());
    let app = axum::Router::new().fallback(move || {
        let (running, most, all) = (counter.clone(), maximum.clone(), sum.clone());
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            all.fetch_add(1, Ordering::SeqCst);
            // A second one, if it may come, comes while this one is still here.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            running.fetch_sub(1, Ordering::SeqCst);
            "[]"
        }
    });
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let engine = engine(&socket);
    let answers = future::join_all((0..8).map(|_| engine.containers())).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    // The first one's is from before the others asked; they share another one.
    assert_eq!([&most, &all].map(|count| count.load(Ordering::SeqCst)), [1, 2]);
    let answers = future::join_all((0..8).map(|_| engine.networks())).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!([&most, &all].map(|count| count.load(Ordering::SeqCst)), [1, 4]);
    server.abort();
}

#[tokio::test]
async fn logs_are_lines_in_order() {
    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let length = (text.len() as u32).to_be_bytes();
        [&[stream, 0, 0, 0][..], &length, text.as_bytes()].concat()
    }
    let frames = [frame(1, "one\n"), frame(2, "two "), frame(2, "parts\r\n"), frame(1, "three")];
    let asked: Arc<Mutex<Option<Seen>>> = Arc::default();
    let log = asked.clone();
    let (_daemon, engine) = Daemon::with_engine(move |seen| {
        *log.lock().unwrap() = Some(seen.clone());
        Reply::Pieces(frames.clone().into())
    });
    assert_eq!(engine.logs("c", 10).await.unwrap(), ["one", "two parts", "three"]);
    assert_eq!(engine.logs("c", 2).await.unwrap(), ["two parts", "three"]);
    assert!(asked.lock().unwrap().take().unwrap().query.contains("tail=2"));
}

/// Podman's own states are not Docker's. The listing can't be read then, which has to be said.
#[tokio::test]
async fn an_unknown_state_is_named() {
    let (_daemon, engine) = Daemon::with_engine(|_| json(200, r#"[{"Id":"c","State":"stopped"}]"#));
    let failure = engine.containers().await.unwrap_err();
    assert!(matches!(&failure, Error::Engine(words) if words.contains("`stopped`")), "{failure:?}");
}

/// The mode is Go's, which differs from that of the system.
fn stat(mode: u32, link: &str) -> String {
    let stat = serde_json::json!({"name": "x", "size": 1, "mode": mode, "mtime": "2026-11-25T09:51:33Z", "linkTarget": link});
    BASE64_STANDARD.encode(stat.to_string())
}

#[tokio::test]
async fn a_path_is_a_directory_a_link_or_something_else() {
    let (daemon, engine) = Daemon::with_engine(|seen| {
        let stat = match seen.query.as_str() {
            "path=%2Fdir" => stat(2_147_484_141, ""),
            "path=%2Flink" => stat(134_218_239, "/etc"),
            "path=%2Ffile" => stat(420, ""),
            "path=%2Fsocket" => stat(16_777_645, ""),
            "path=%2Fdevice" => stat(69_206_454, ""),
            _ => return json(404, ""),
        };
        Reply::Header("X-Docker-Container-Path-Stat", stat)
    });
    let info =
        async |path| engine.path_info("c", path).await.unwrap().map(|i| (i.is_dir, i.is_symlink, i.is_file));
    assert_eq!(info("/dir").await, Some((true, false, false)));
    assert_eq!(info("/link").await, Some((false, true, false)));
    assert_eq!(info("/file").await, Some((false, false, true)));
    assert_eq!(info("/socket").await, Some((false, false, false)));
    assert_eq!(info("/device").await, Some((false, false, false)));
    assert_eq!(info("/none").await, None);
    assert!(daemon.calls().iter().all(|call| call == "HEAD /containers/c/archive"));
}

/// Docker makes a missing directory for one of `Binds`, never for one of `Mounts`.
#[tokio::test]
async fn a_directory_of_the_host_is_a_mount_and_what_runs_once_is_not_started_again() {
    let (daemon, engine) = Daemon::with_engine(|_| json(201, r#"{"Id":"c","Warnings":null}"#));
    let bind = Bind { source: "/srv/x".into(), read_only: true };
    let binds = BTreeMap::from([("/data".to_owned(), bind)]);
    engine
        .create_container(
            &ContainerSpec { role: Role::Registry, binds, restart_policy: RestartPolicy::No, ..spec() },
            None,
        )
        .await
        .unwrap();
    let body: serde_json::Value = serde_json::from_slice(&daemon.seen()[0].body).unwrap();
    let mount = serde_json::json!({"Type": "bind", "Source": "/srv/x", "Target": "/data", "ReadOnly": true});
    assert_eq!(body["HostConfig"]["Mounts"], serde_json::json!([mount]));
    assert!(body["HostConfig"]["Binds"].is_null());
    assert_eq!(body["HostConfig"]["RestartPolicy"]["Name"], "no");
}

/// K3s stays process 1, with the arguments that it would have had: a shell that has shared the mounts gives way to what
/// the image itself would have started.
#[tokio::test]
async fn mounts_are_shared_before_the_images_own_entry_point() {
    let body = async |image: &'static str, shares_mounts: bool| {
        let (daemon, engine) = Daemon::with_engine(move |seen| match seen.call.as_str() {
            "GET /images/i:1/json" => json(200, image),
            "POST /containers/create" => json(201, r#"{"Id":"c","Warnings":null}"#),
            _ => json(200, INFO),
        });
        let command = vec!["server".to_owned(), "--a=b c".to_owned()];
        engine.create_container(&ContainerSpec { command, shares_mounts, ..spec() }, None).await.unwrap();
        let created = daemon.seen().into_iter().find(|s| s.call == "POST /containers/create").unwrap();
        let body: serde_json::Value = serde_json::from_slice(&created.body).unwrap();
        assert_eq!(body["Cmd"], serde_json::json!(["server", "--a=b c"]));
        body["Entrypoint"].clone()
    };
    let image = r#"{"Id":"sha256:1","Config":{"Entrypoint":["/bin/k3s","x"],"Cmd":["agent"]}}"#;
    let entrypoint = body(image, true).await;
    let words: Vec<&str> = entrypoint.as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    assert_eq!(words[..2], ["/bin/sh", "-c"]);
    assert!(words[2].starts_with("mount --make-rshared / ||"), "{words:?}");
    assert!(words[2].ends_with("; exec \"$@\""), "{words:?}");
    assert_eq!(words[4..], ["/bin/k3s", "x"]);
    assert!(body(image, false).await.is_null());
    // Without one of its own, the engine says what it makes of the command.
    for bare in [r#"{"Id":"sha256:1","Config":{"Cmd":["agent"]}}"#, r#"{"Id":"sha256:1"}"#] {
        assert!(body(bare, true).await.is_null());
    }
}

/// Eight objects of one namespace make calls that do not end.
#[tokio::test]
async fn hanging_calls_of_one_namespace_leave_those_of_others_through() {
    let (daemon, engine) = Daemon::with_engine(|seen| match seen.call.as_str() {
        "POST /containers/hangs/start" => Reply::Silence,
        _ => json(200, "[]"),
    });
    let engine = Arc::new(engine);
    let of = |namespace: &str, uid: String| Caller { namespace: namespace.into(), uid };
    let hanging: Vec<_> = (0..64)
        .map(|i| (engine.clone(), of("a", format!("a{}", i % 8))))
        .map(|(engine, caller)| tokio::spawn(caller.scope(async move { drop(engine.start("hangs").await) })))
        .collect();
    let count = || daemon.calls().iter().filter(|call| call.ends_with("/start")).count();
    while count() < 8 {
        tokio::task::yield_now().await;
    }
    for namespace in ["b", "c"] {
        of(namespace, "x".into()).scope(engine.containers()).await.unwrap();
    }
    engine.containers().await.expect("the operator's own calls too");
    tokio::time::sleep(BLINK).await;
    assert_eq!(count(), 8);
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}
