//! What Docker and a forwarder in a container send, changed at random: each call ends with a result.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use localcluster_operator::docker::{
    bollard::BollardEngine,
    client::Timeouts,
    engine::{Attached, Engine},
    tunnel::Tunnel,
};
use proptest::prelude::*;
use tokio::{io::duplex, runtime, time::timeout};
use tokio_util::compat::TokioAsyncWriteCompatExt;

use crate::{
    cases,
    docker_wire::{Daemon, Reply, Seen},
    mutate::{coin, mutate},
    parsers::peak_of,
    support::model::lab::Chance,
};

const LIMIT: Duration = Duration::from_secs(60);
/// Longer than any call takes with an answer that ends.
const TIMEOUT: Duration = Duration::from_secs(20);

const INFO: &str = r#"{"ID":"i","ServerVersion":"29.1.0","SystemTime":"2026-11-25T12:00:00.123456789Z","NCPU":2,
    "MemTotal":8000000000,"CgroupVersion":"2","Architecture":"x86_64","OperatingSystem":"Debian"}"#;
const LIST: &str = r#"[{"Id":"c1","Names":["/k3d-dev-server-0"],"Image":"i:1","ImageID":"sha256:a","State":"running",
    "Labels":{"localcluster.dev/uid":"u"},"Ports":[{"IP":"127.0.0.1","PrivatePort":6443,"PublicPort":20000,"Type":"tcp"}],
    "NetworkSettings":{"Networks":{"n":{"NetworkID":"n1","IPAddress":"10.0.0.2","GlobalIPv6PrefixLen":0}}},
    "Mounts":[{"Type":"volume","Name":"v","Destination":"/var","RW":true}]}]"#;
const DETAIL: &str = r#"{"Id":"c1","Name":"/k3d-dev-server-0","Created":"2026-11-25T12:00:00.1Z","RestartCount":3,
    "State":{"Status":"exited","ExitCode":-1,"Error":"","StartedAt":"2026-11-25T12:00:00Z","FinishedAt":"0001-01-01T00:00:00Z"},
    "Image":"sha256:a","HostConfig":{"RestartPolicy":{"Name":"unless-stopped","MaximumRetryCount":0},"NanoCpus":1,
    "PortBindings":{"6443/tcp":[{"HostIp":"127.0.0.1","HostPort":"20000"}]}},"Config":{"Image":"i:1","Env":["A=b"],
    "Labels":{"localcluster.dev/manager":"m"},"Hostname":"x"},"NetworkSettings":{"Networks":{"n":{"NetworkID":"n1",
    "IPAddress":"10.0.0.2","Aliases":["a"],"IPAMConfig":{"IPv4Address":"10.0.0.2"}}}},"Mounts":[]}"#;
const NETWORKS: &str = r#"[{"Id":"n1","Name":"n","Driver":"bridge","IPAM":{"Config":[{"Subnet":"10.0.0.0/24",
    "Gateway":"10.0.0.1"}]},"Labels":{"a":"b"},"Options":{}}]"#;
const VOLUMES: &str = r#"{"Volumes":[{"Name":"v","Driver":"local","Mountpoint":"/x","Labels":null,"Scope":"local",
    "Options":null}],"Warnings":null}"#;
const PULL: &str = "{\"status\":\"Pulling from a\",\"id\":\"1\"}\r\n{\"status\":\"Downloading\",\"progressDetail\":\
    {\"current\":1,\"total\":2},\"id\":\"a\"}\r\n{\"errorDetail\":{\"message\":\"manifest unknown\"},\"error\":\"x\"}\r\n";
const EVENTS: &str = "{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"c1\",\"Attributes\":{\"exitCode\":\
    \"137\",\"name\":\"a\",\"localcluster.dev/uid\":\"u\"}},\"time\":1795608000,\"timeNano\":1795608000123456789}\n\
    {\"Type\":\"network\",\"Action\":\"disconnect\",\"Actor\":{\"ID\":\"n1\",\"Attributes\":{\"container\":\"c1\"}}}\n";
const STAT: &str =
    r#"{"name":"x","size":3,"mode":2147484096,"mtime":"2026-11-25T12:00:00Z","linkTarget":""}"#;

/// The seeds of an answer, and the call that reads it.
const CALLS: [(&str, &[&str]); 11] = [
    ("GET /info", &[INFO]),
    ("GET /containers/json", &[LIST]),
    ("GET /containers/c1/json", &[DETAIL]),
    ("GET /networks", &[NETWORKS]),
    ("GET /volumes", &[VOLUMES]),
    ("GET /images/i:1/json", &[r#"{"Id":"sha256:a","Config":{"Entrypoint":["/bin/k3s"]},"Size":7}"#]),
    ("HEAD /containers/c1/archive", &[STAT]),
    ("GET /containers/c1/archive", &["tar"]),
    ("GET /containers/c1/logs", &["\u{1}\0\0\0\0\0\0\u{4}one\n\u{2}\0\0\0\0\0\0\u{5}two\r\n"]),
    ("POST /images/create", &[PULL]),
    ("GET /events", &[EVENTS]),
];

fn seeds(call: &str, all: &[&str]) -> Vec<Vec<u8>> {
    match call {
        "GET /containers/c1/archive" => crate::parsers::archives(),
        _ => all.iter().map(|text| text.as_bytes().to_vec()).collect(),
    }
}

/// An answer to one call, in pieces. All others have the answers that Docker gives.
fn answer(seen: &Seen, changed: &(String, u16, Vec<u8>)) -> Reply {
    let (call, status, bytes) = changed;
    if seen.call == *call {
        let pieces = || bytes.chunks(bytes.len() / 3 + 1).map(<[u8]>::to_vec).collect();
        return match (seen.call.as_str(), status) {
            ("HEAD /containers/c1/archive", _) => {
                use base64::Engine as _;
                let value = base64::prelude::BASE64_STANDARD.encode(&bytes[..bytes.len().min(8000)]);
                Reply::Header("X-Docker-Container-Path-Stat", value)
            }
            (_, 200) => Reply::Pieces(pieces()),
            (_, status) => Reply::Json(*status, String::from_utf8_lossy(bytes).into_owned()),
        };
    }
    let all = CALLS.iter().find(|(call, _)| *call == seen.call);
    all.map_or(Reply::Json(404, "{}".into()), |(_, texts)| Reply::Json(200, texts[0].to_owned()))
}

async fn call(engine: &BollardEngine, call: &str) {
    match call {
        "GET /info" => drop(engine.info().await),
        "GET /containers/json" => drop(engine.containers().await),
        "GET /containers/c1/json" => drop(engine.inspect("c1").await),
        "GET /networks" => drop(engine.networks().await),
        "GET /volumes" => drop(engine.volumes().await),
        "GET /images/i:1/json" => drop(engine.image("i:1").await),
        "HEAD /containers/c1/archive" => drop(engine.path_info("c1", "/x").await),
        "GET /containers/c1/archive" => {
            drop(engine.read_file("c1", "/x", 1 << 16).await);
            drop(engine.read_tree("c1", "/x", 1 << 16).await);
        }
        "GET /containers/c1/logs" => drop(engine.logs("c1", 10).await),
        "POST /images/create" => drop(engine.pull("i:1", None).await),
        "GET /events" => {
            if let Ok(events) = engine.events().await {
                drop(events.collect::<Vec<_>>().await);
            }
        }
        other => panic!("no call for {other}"),
    }
}

fn on_a_runtime<T>(paused: bool, work: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_all().start_paused(paused).build().unwrap();
    runtime.block_on(work)
}

/// A frame of yamux.
fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&[0, kind, 0, flags], &stream.to_be_bytes()[..], &length.to_be_bytes(), body].concat()
}

const GREETING: &[u8] = b"localcluster-forward 1\n";
const DATA: u8 = 0;
const WINDOW: u8 = 1;
const PING: u8 = 2;
const GO_AWAY: u8 = 3;
const SYN: u8 = 1;
const ACK: u8 = 2;
const FIN: u8 = 4;

fn attached(sent: Vec<Bytes>, is_read: bool) -> Attached {
    let (input, mut stdin) = duplex(1 << 10);
    tokio::spawn(async move {
        if is_read {
            drop(tokio::io::copy(&mut stdin, &mut tokio::io::sink()).await);
        } else {
            std::future::pending::<()>().await;
        }
    });
    let output = stream::iter(sent.into_iter().map(Ok)).chain(stream::pending()).boxed();
    Attached { input: Box::pin(input.compat_write()), output }
}

/// Connects through whatever sends this.
async fn dial(sent: Vec<Bytes>, is_read: bool) {
    let dialled = async {
        let Ok(tunnel) = Tunnel::start(attached(sent, is_read)).await else { return };
        for _ in 0..2 {
            let Ok(mut stream) = tunnel.dial(([127, 0, 0, 1], 1).into()).await else { continue };
            let mut read = [0; 4096];
            while let Ok(Ok(1..)) =
                timeout(Duration::from_secs(1), tokio::io::AsyncReadExt::read(&mut stream, &mut read)).await
            {
            }
        }
    };
    timeout(Duration::from_secs(600), dialled).await.expect("it ends");
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_call_ends_whatever_docker_answers(seed in any::<u64>()) {
        on_a_runtime(false, async {
            let mut chance = Chance(seed);
            let script = Arc::new(Mutex::new((String::new(), 200, Vec::new())));
            let answers = script.clone();
            let (_daemon, engine) = Daemon::with_engine(move |seen| answer(seen, &answers.lock().unwrap()));
            let engine = engine.with_timeouts(Timeouts { quick: TIMEOUT, pull: TIMEOUT, ..Timeouts::default() });
            for (name, all) in CALLS {
                for _ in 0..4 {
                    let (status, seeds) = match chance.below(4) {
                        0 => (
                            [400, 403, 404, 409, 500, 503][chance.below(6)],
                            vec![br#"{"message":"driver failed: port is already allocated"}"#.to_vec()],
                        ),
                        _ => (200, seeds(name, all)),
                    };
                    let bytes = mutate(&mut chance, &seeds, 64 << 10);
                    *script.lock().unwrap() = (name.to_owned(), status, bytes.clone());
                    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(500)]);
                    let ended = timeout(LIMIT, call(&engine, name)).await;
                    assert!(ended.is_ok(), "{name}: {status} {shown:?}");
                }
            }
        });
    }

    #[test]
    fn a_connection_ends_whatever_a_forwarder_sends(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        let frames = [
            frame(WINDOW, ACK, 1, &[]), frame(DATA, 0, 1, b"ok\n"), frame(DATA, 0, 1, b"answer"), frame(DATA, FIN, 1, &[]),
            frame(PING, SYN, 0, &[]), frame(DATA, SYN, 2, b"x"), frame(GO_AWAY, 0, 0, &[]),
        ];
        let seeds = [[GREETING.to_vec(), frames.concat()].concat(), [GREETING, &frames[0], &frames[1]].concat()];
        for _ in 0..8 {
            let sent = mutate(&mut chance, &seeds, 64 << 10);
            let pieces = sent.chunks(1 + chance.below(100)).map(Bytes::copy_from_slice).collect();
            on_a_runtime(true, dial(pieces, coin(&mut chance)));
        }
    }
}

/// More than it was asked for, to nobody and without reading any answer.
#[test]
fn a_forwarder_that_sends_too_much_takes_no_memory() {
    let large = vec![0; 200 << 10];
    for flood in [
        frame(DATA, SYN, 2, &large),
        frame(DATA, 0, 1, &large),
        frame(DATA, 0, 77, &large),
        frame(PING, SYN, 0, &[]).repeat(10_000),
        (1..5000).flat_map(|stream| frame(WINDOW, SYN, 2 * stream, &[])).collect(),
        (1..5000).flat_map(|stream| frame(DATA, SYN, 2 * stream, b"0123456789")).collect(),
        vec![b'x'; 200 << 10],
    ] {
        for is_read in [true, false] {
            let start =
                Bytes::from([GREETING, &frame(WINDOW, ACK, 1, &[]), &frame(DATA, 0, 1, b"ok\n")].concat());
            let flood = Bytes::from(flood.clone());
            let sent = std::iter::once(start).chain(std::iter::repeat_n(flood, 40)).collect();
            let peak = peak_of(|| on_a_runtime(true, dial(sent, is_read)));
            assert!(peak < 4 << 20, "{peak} bytes");
        }
    }
}
