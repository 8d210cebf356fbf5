//! Every parser of bytes that nodes, their users, the API of a created cluster or Docker write: on changed real inputs it
//! ends soon, takes little memory and does not panic, on a stack as small as that of the operator's threads.
//!
//! | parsed | by | covered here as |
//! |---|---|---|
//! | kubeconfig of a server, its CA and the expiry of its certificates | `child::kubeconfig`, `k3s::kubeconfig`, `k3s::certificate` | `kubeconfig`, `certificate` |
//! | registries.yaml of users and of nodes; `certs.d` of nodes | `k3s::registries`, `k3s::hosts_toml` | `registries.yaml`, `hosts.toml` |
//! | manifests of users, and their files in servers | `k3s::manifests` | `manifests` |
//! | inventory of manifests, DNS and other ConfigMaps of a created cluster | `plan::manifests`, `child::config`, `k3s::dns` | `inventory`, `ConfigMap`, `DNS` |
//! | Nodes and Leases of a created cluster | `child::nodes`, `k3s::versions` | `Nodes`, `Leases` |
//! | members and leader of etcd | `child::etcd`, `k3s::etcd` | `members`, `leader` |
//! | join tokens | `k3s::token`, `plan::token` | `tokens` |
//! | archives of files, and of registries | `docker::archive`, `cli::client::registry` | `archive`, `registry` |
//! | `ctr images list`, content of images | `k3s::images`, `k3s::own_image` | `ctr images`, `image` |
//! | hosts, resolv.conf, /proc and `stat` in containers | `k3s::hosts_file`, `plan::resolvers`, `plan::host_limits`, `plan::checkup` | `hosts`, `resolv.conf`, `limits`, `routes` |
//! | objects, descriptions and logs for a report | `cli::redact` | `report` |
//! | configuration of a load balancer | `k3s::load_balancer` | `load balancer` |
//! | metric of kube-proxy | `k3s::kube_proxy` | `kube-proxy` |
//! | logs of nodes and registries | `k3s::log`, `plan::registry::log`, `docker::convert` | `logs` |
//! | credentials of pulls | `controller::resolve` | `docker login` |
//! | the forwarder | `docker::elf` | `program` |
//! | files of k3d, kind and ctlptl, and kubeconfigs that are merged | `cli::convert`, `cli::kubeconfig` | `other tools`, `merged` |
//! | responses and errors of Docker, events, frames of logs | `docker::bollard` | `streams.rs` |
//! | both ends of a tunnel | `docker::tunnel` | `streams.rs` |
//!
//! Proptest chooses the seeds; `make explore` runs more of them. libFuzzer needs a nightly compiler.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::BTreeMap,
    fs,
    hint::black_box,
    panic,
    path::Path,
    thread,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Node},
};
use localcluster_operator::{
    child::{self, config, nodes, state},
    cli,
    controller::resolve::docker_login,
    docker::{
        archive, convert,
        elf::Program,
        spec::{FileChange, FileSpec},
    },
    k3s::{
        certificate, dns, etcd, hosts_file, images, kube_proxy, kubeconfig, load_balancer, log, manifests,
        own_image, registries, token, versions,
    },
    plan::{self, checkup, host_limits, observed::Observed, registry, resolvers},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::mutate::mutate;
use crate::{cases, support::model::lab::Chance};

/// Most of the inputs are below this size, at which unoptimized parsers are fast enough for many of them.
const MOST: usize = 64 << 10;
/// Memory that a parser may use for an input: many times its size, and at least so much.
const TIMES: usize = 300;
const AT_LEAST: usize = 4 << 20;
/// Stack of the operator's threads.
const STACK: usize = 2 << 20;

struct Parser {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    parse: fn(&[u8]),
}

/// Counts the memory of each thread.
struct Counting;

thread_local! {
    static USED: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn count(change: impl Fn(usize) -> usize) {
    // The memory of a thread that ends is not counted.
    let _ = USED.try_with(|used| {
        used.set(change(used.get()));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(used.get())));
    });
}

// SAFETY: the system's allocator does all of the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|used| used.saturating_add(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(|used| used.saturating_sub(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn lines(bytes: &[u8]) -> Vec<String> {
    text(bytes).lines().map(str::to_owned).collect()
}

fn field(directory: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/field").join(directory);
    fs::read_dir(directory).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

fn strings<const N: usize>(all: [&str; N]) -> Vec<Vec<u8>> {
    all.map(|text| text.as_bytes().to_vec()).into()
}

fn values<const N: usize>(all: [Value; N]) -> Vec<Vec<u8>> {
    all.map(|value| value.to_string().into_bytes()).into()
}

const CERTIFICATE: &str = "MIIBhTCCASugAwIBAgIUWhuyop5vb+YcN35W70WetNAE5EswCgYIKoZIzj0EAwIwGDEWMBQGA1UEAwwNazNzLXNlcnZlci1jYTAe\
    Fw0yNjExMzAwNTMxMDhaFw0zNjExMjcwNTMxMDhaMBgxFjAUBgNVBAMMDWszcy1zZXJ2ZXItY2EwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQdQc4voRCCepX3\
    3eRrvWK8TRAcDsq+0CNllyWNYHs9ldHAto7WY7v1DK4ruZtAWb4wLW5fAQhjOcxglH79fzkdo1MwUTAdBgNVHQ4EFgQU44W/vdnV/f0TRZCS33Hu8NWnZ0QwHwYDVR0j\
    BBgwFoAU44W/vdnV/f0TRZCS33Hu8NWnZ0QwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBc8cs4jcKxhO/jE4fv/tDV8atLSc/zdNN2ICcv25yUnQIh\
    AJfagswY8F7Rys6iJ7O+KWjMb05Mkwe3euN0u5bC/PAG";

fn pem(der: &str) -> String {
    BASE64_STANDARD.encode(format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n"))
}

fn kubeconfigs() -> Vec<Vec<u8>> {
    let ca = pem(CERTIFICATE);
    let file = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    server: https://127.0.0.1:6443\n  \
         name: default\ncontexts:\n- context:\n    cluster: default\n    user: default\n  name: default\n\
         current-context: default\nkind: Config\nusers:\n- name: default\n  user:\n    client-certificate-data: {ca}\n    \
         client-key-data: S0VZ\n    exec: {{command: sh, args: [-c, id]}}\n    tokenFile: /etc/shadow\n"
    );
    vec![file.into_bytes()]
}

fn kubeconfig_of(bytes: &[u8]) {
    let text = text(bytes);
    if let Ok(credentials) = kubeconfig::parse(&text) {
        black_box(certificate::end(&credentials.certificate));
        let place = kubeconfig::Place {
            ca: &credentials.ca,
            cluster: "dev",
            server: "https://127.0.0.1:1",
            tls_server_name: "k3d-dev-serverlb",
        };
        let rendered = kubeconfig::render(&credentials, place);
        assert!(kubeconfig::parse(&rendered).is_ok_and(|again| again == credentials), "{rendered}");
    }
    black_box(child::kubeconfig::parse(&text).is_ok());
    black_box(kubeconfig::server(&text));
}

fn registries_of(bytes: &[u8]) {
    let text = text(bytes);
    if let Some(found) = registries::parse_rendered(&text) {
        black_box((found.auth(), found.hosts(true), found.hosts_over(false, ["a", "docker.io"])));
        black_box(registries::check(&found, &|_| false));
    }
    if let Ok(found) = registries::parse(&text, &|path| path.len() % 2 == 0) {
        let rendered = found.render();
        assert!(registries::parse_rendered(&rendered).is_some_and(|again| again == found), "{rendered}");
    }
}

fn manifests_of(bytes: &[u8]) {
    let written = manifests::written(bytes);
    black_box(manifests::parse(written.text.as_bytes()).is_ok());
    black_box(manifests::name_of(&text(bytes)));
    black_box(manifests::parse(bytes).is_ok());
}

fn inventory_of(bytes: &[u8]) {
    let held = state::Held { content: text(bytes).into_owned(), ours: true, written: None };
    let child =
        state::ChildState { config: BTreeMap::from([(state::INVENTORY, held)]), ..Default::default() };
    let mut observed = Observed::default();
    observed.reached.child = state::Child::Reachable(child);
    black_box(plan::manifests::asked(&[], &observed));
}

fn config_map_of(bytes: &[u8]) {
    let Ok(map) = serde_json::from_slice::<ConfigMap>(bytes) else { return };
    for key in state::KEYS {
        black_box((config::held(&map, key), config::alone(&map, key), config::without(&map, key)));
    }
}

fn nodes_of(bytes: &[u8]) {
    let Ok(node) = serde_json::from_slice::<Node>(bytes) else { return };
    black_box(nodes::configure(&node, &state::NodeConfig::default()));
    let seen = nodes::observe(std::slice::from_ref(&node), &[], &[], &BTreeMap::new());
    for node in seen.values() {
        black_box(versions::Version::parse(&node.version));
    }
    let mut changes = nodes::Changes::default();
    black_box(changes.note(kube::runtime::watcher::Event::Apply(node)));
}

fn leases_of(bytes: &[u8]) {
    let Ok(lease) = serde_json::from_slice::<Lease>(bytes) else { return };
    let all = [lease];
    black_box(nodes::kept(&["a".to_owned()], &nodes::leases(&all), &nodes::leases(&all)));
    black_box(nodes::observe(&[], &all, &all, &BTreeMap::new()));
}

fn tokens_of(bytes: &[u8]) {
    black_box((token::secret_of(bytes), token::is_bare(bytes), token::is_same(bytes, b"K10ab::server:x")));
    let hash = token::ca_hash_of(bytes);
    black_box(token::pinned(bytes, hash, localcluster_operator::api::local_cluster::NodeRole::Agent));
    let files = plan::token::Files { written: Some(bytes.to_vec()), given: Some(bytes.to_vec()) };
    black_box(plan::token::of_servers(&[files.clone(), files]));
}

/// What `localcluster registry export` writes, with one blob.
fn registry_archive() -> Vec<u8> {
    let blob = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let mut made = tar::Builder::new(Vec::new());
    for (path, content) in [
        (
            "localcluster-registry.json".to_owned(),
            r#"{"version":1,"registry":"default/images","caches":null}"#,
        ),
        (format!("docker/registry/v2/blobs/sha256/44/{blob}/data"), "{}"),
        ("localcluster-registry.end".to_owned(), "1"),
    ] {
        let mut header = archive::header(content.len() as u64);
        made.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    let made = made.into_inner().unwrap();
    assert!(cli::client::registry::check(made.as_slice(), None).is_ok());
    made
}

pub fn archives() -> Vec<Vec<u8>> {
    let file = |path: &str, size| FileSpec {
        path: path.into(),
        mode: 0o600,
        content: vec![b'a'; size],
        change: FileChange::Keep,
    };
    let long = format!("/etc/{}/x", "long/".repeat(40));
    vec![
        archive::pack(&[file("/etc/rancher/k3s/registries.yaml", 700)]),
        archive::pack(&[file("/certs.d/a/hosts.toml", 10), file("/certs.d/b/ca.crt", 0), file(&long, 3)]),
    ]
}

fn image_of(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    let mut own = own_image::Own::default();
    black_box((own_image::manifests(&value), own_image::config(&value)));
    let made = own.manifest(&value, &value, "a:1").map(|blob| ("sha256:a".to_owned(), blob));
    if let Some(top) = own.index(&value, &made.into_iter().collect::<Vec<_>>()) {
        black_box(own.archive(&top, "application/vnd.oci.image.index.v1+json", "a:1"));
    }
}

fn logs_of(bytes: &[u8]) {
    let all = lines(bytes);
    black_box((log::last_words(&all), log::refused_arguments(&all), log::was_reset(&all)));
    black_box((log::rejected_since(&all, jiff::Timestamp::MIN), registry::log::last_words(&all)));
    black_box(convert::last_lines(bytes, 100));
}

fn other_tools() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/convert");
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|file| file.to_str().unwrap().ends_with(".in.yaml"))
        .map(|file| fs::read(file).unwrap())
        .collect()
}

fn hosts_of(bytes: &[u8]) {
    let wanted = BTreeMap::from([("registry.localhost".to_owned(), "10.0.0.1".parse().unwrap())]);
    let text = text(bytes);
    if let Some(repaired) = hosts_file::repaired(&text, &wanted, |_, _| false) {
        assert_eq!(hosts_file::repaired(&repaired, &wanted, |_, _| false), None, "{repaired}");
    }
}

fn parsers() -> Vec<Parser> {
    let parser = |name, seeds, parse| Parser { name, seeds, parse };
    let files = |names: &[&str]| -> Vec<Vec<u8>> { names.iter().flat_map(|name| field(name)).collect() };
    vec![
        parser("kubeconfig", kubeconfigs(), kubeconfig_of),
        parser("merged", kubeconfigs(), |bytes| {
            let origin = cli::kubeconfig::Origin { owner: "a/b".into(), management: "https://c".into() };
            black_box(cli::kubeconfig::Entry::parse(&text(bytes), origin).is_ok());
        }),
        parser("other tools", other_tools(), |bytes| {
            if let Ok(converted) = cli::convert::convert(&text(bytes)) {
                assert!(converted.render().is_ok());
            }
        }),
        parser("certificate", vec![BASE64_STANDARD.decode(CERTIFICATE).unwrap()], |der| {
            black_box(certificate::end(&pem(&BASE64_STANDARD.encode(der))));
            black_box(certificate::end(&text(der)));
        }),
        parser("registries.yaml", files(&["registries"]), registries_of),
        parser(
            "hosts.toml",
            values([json!({"mirrors": {"docker.io": {"endpoint": ["https://a:5000/v2", "http://b"],
                "rewrite": {"^library/(.*)": "mirror/$1"}}}, "configs": {"a:5000": {"tls": {"ca_file": "/a"}}}})]),
            registries_of,
        ),
        parser(
            "manifests",
            [
                strings(["apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: &x v, l: *x}\n---\n\
                     apiVersion: v1\nkind: List\nitems:\n- {apiVersion: apps/v1, kind: Deployment, metadata: {name: b}}\n",
                    "# written by localcluster-operator, 3 times, at last 2026-11-25T12:00:00Z\n---\napiVersion: v1\n\
                     kind: Namespace\nmetadata: {name: c}\n"]),
                files(&["clusters"]),
            ]
            .concat(),
            manifests_of,
        ),
        parser(
            "inventory",
            strings([r#"{"dropping":"2026-11-25T12:00:00Z","objects":[{"apiVersion":"v1","kind":"ConfigMap","name":"x"},
                {"apiVersion":"apps/v1","kind":"Deployment","namespace":"n","name":"y"}]}"#]),
            inventory_of,
        ),
        parser(
            "ConfigMap",
            values([json!({"metadata": {"name": "coredns-custom", "resourceVersion": "7", "managedFields": [
                {"manager": "localcluster-operator", "operation": "Apply", "time": "2026-11-25T12:00:00Z",
                 "fieldsV1": {"f:data": {"f:inventory.json": {}}}}]}, "data": {"inventory.json": "{}"}})]),
            config_map_of,
        ),
        parser("DNS", vec![dns::render(&BTreeMap::from([("a.b".into(), "10.0.0.1".parse().unwrap()),
            ("c".into(), "fd00::1".parse().unwrap())])).into_bytes()], |bytes| {
            black_box(dns::parse(&text(bytes)));
        }),
        parser(
            "Nodes",
            values([json!({
                "metadata": {"name": "k3d-dev-server-0", "labels": {"a": "b"}, "annotations": {
                    nodes::DRAINING_SINCE: "2026-11-25T12:00:00Z", nodes::CONFIGURED: r#"{"labels":{},"taints":["a=b:NoSchedule"]}"#,
                    "etcd.k3s.cattle.io/node-name": "k3d-dev-server-0-1a2b3c4d"}},
                "spec": {"podCIDR": "10.42.0.0/24", "unschedulable": true, "taints": [{"key": "a", "effect": "NoSchedule"}]},
                "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-25T12:00:00Z",
                    "lastHeartbeatTime": "2026-11-25T12:00:00Z"}, {"type": "EtcdIsVoter", "status": "True"}],
                    "addresses": [{"type": "InternalIP", "address": "10.0.0.9"}],
                    "nodeInfo": {"kubeletVersion": "v1.36.2+k3s1", "architecture": "", "bootID": "",
                        "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "", "machineID": "",
                        "operatingSystem": "", "osImage": "", "systemUUID": ""}},
            })]),
            nodes_of,
        ),
        parser(
            "Leases",
            values([
                json!({"metadata": {"name": "apiserver-x", "labels": {"kubernetes.io/hostname": "a",
                    "apiserver.kubernetes.io/identity": "kube-apiserver"}}, "spec": {"renewTime": "2026-11-25T01:02:03.500000Z"}}),
                json!({"metadata": {"name": "k3s", "resourceVersion": "1"},
                    "spec": {"holderIdentity": "k3d-dev-server-0", "renewTime": "2026-11-25T01:02:03.500000Z"}}),
            ]),
            leases_of,
        ),
        parser(
            "members",
            values([json!({"members": [{"ID": 13194513104226436000_u64, "name": "k3d-dev-server-0-1a2b3c4d",
                "peerURLs": ["https://10.0.0.10:2380"]}, {"peerURLs": ["https://[fd00::11]:2380"], "isLearner": true}]})]),
            |bytes| {
                black_box(child::etcd::members(&text(bytes)));
            },
        ),
        parser("leader", strings(["etcd_server_has_leader 1\n", "# HELP etcd_server_has_leader x\netcd_server_has_leader 0\n"]),
            |bytes| {
                black_box(etcd::has_leader(&text(bytes)));
            }),
        parser("tokens", strings(["K10ab12::server:0123456789abcdef\n", "0123456789abcdef", "abcdef.0123456789abcdef"]), tokens_of),
        parser("archive", archives(), |bytes| {
            black_box((archive::single(bytes).is_ok(), archive::tree(bytes, "/etc/certs.d").is_ok()));
        }),
        parser("registry", vec![registry_archive()], |bytes| {
            black_box(cli::client::registry::check(bytes, None).is_ok());
        }),
        parser(
            "ctr images",
            strings(["REF TYPE DIGEST SIZE PLATFORMS LABELS\ndocker.io/library/nginx:1.29 application/vnd.oci.image.index.v1+json \
                sha256:0123 20.1 MiB linux/amd64 io.cri-containerd.image=managed,localcluster.dev/image-id=sha256:4567\n"]),
            |bytes| {
                let text = text(bytes);
                black_box((images::listed(&text), images::target(&text, "nginx:1.29"), images::canonical(&text)));
            },
        ),
        parser(
            "image",
            values([
                json!({"manifests": [{"digest": "sha256:a", "size": 3, "platform": {"os": "linux"}}]}),
                json!({"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:b", "Labels": {}},
                    "layers": []}),
            ]),
            image_of,
        ),
        parser("logs", strings([
            "time=\"2026-11-25T12:00:00Z\" level=fatal msg=\"starting kubernetes: preparing server: \\\"x\\\"\"\n",
            "time=\"2026-11-25T12:00:00Z\" level=info msg=\"Managed etcd cluster membership has been reset, restart without\"\n\
             E1125 12:00:00.000000 7 run.go:72] \"command failed\" err=\"unknown flag: --x\"\n",
            "{\"level\":\"error\",\"msg\":\"panic: x\",\"time\":\"2026-11-25T12:00:00Z\"}\nflag provided but not defined: -x\n",
        ]), logs_of),
        parser("hosts", strings(["127.0.0.1\tlocalhost\n::1 ip6-localhost # x\n10.0.0.7 registry.localhost other\n"]), hosts_of),
        parser("resolv.conf", strings(["nameserver 127.0.0.11\noptions ndots:0\n# ExtServers: [1.1.1.1]\n"]), |bytes| {
            black_box(resolvers::parse(&text(bytes)));
        }),
        parser("limits", strings(["128\n61255492 3123\n"]), |bytes| {
            black_box(host_limits::parse(&text(bytes)));
        }),
        parser("routes", strings(["Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\n"]),
            |bytes| {
                black_box(checkup::routes(&text(bytes)));
            }),
        parser("report", strings(["{\"env\":[\"A=b c d e\"],\"args\":[\"--token\",\"abcdefgh\"],\"m\":\"http://me:pw@h --token x\"}",
            "-----BEGIN PRIVATE KEY-----\nAAAA\npassword=x, token: \"y\" K10aaaaaaaaaaaaaaaaaaaa::server:z\n"]), |bytes| {
            let mut secrets = cli::redact::Secrets::default();
            if let Ok(value) = serde_json::from_slice(bytes) {
                black_box(secrets.json(value));
            }
            black_box(secrets.text(&text(bytes)));
        }),
        parser("load balancer", strings(["stream { upstream tcp_8080 { server 10.0.0.2:80 max_fails=1;\n server 10.0.0.3:80; } }\n",
            "upstream tcp_6443 {\n  server 10.0.0.10:6443;\n}\nupstream tcp_80 {\n  server 10.0.0.20:80;\n}\n"]), |bytes| {
            black_box(load_balancer::placed(&text(bytes)));
        }),
        parser("kube-proxy", strings(["kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1.7959e+09\n"]),
            |bytes| {
                black_box(kube_proxy::evaluate(0, &text(bytes)));
            }),
        parser("docker login", strings([r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpwOnc="},
            "reg.example:5000": {"username": "a", "password": "b", "identitytoken": "c"}}}"#]), |bytes| {
            black_box((docker_login(bytes, "docker.io"), docker_login(bytes, &text(bytes))));
        }),
        parser("program", vec![program()], |bytes| {
            black_box(Program::of(bytes));
        }),
    ]
}

/// The header of an ELF file, and two program headers.
fn program() -> Vec<u8> {
    let mut file = vec![0; 64 + 2 * 56];
    file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
    (file[18], file[32], file[54], file[56], file[64], file[120]) = (62, 64, 56, 2, 1, 3);
    file
}

/// Time of the processor that this thread has used, in milliseconds: others use it too.
fn processor_time() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<u64>().unwrap() / 1_000_000
}

/// Runs `work` on a thread with the stack that the operator's threads have.
fn on_a_small_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::Builder::new().stack_size(STACK).spawn(work).unwrap();
    thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// Returns the memory that this thread uses at most for some work.
pub fn peak_of(work: impl FnOnce()) -> usize {
    let before = USED.get();
    PEAK.set(before);
    work();
    PEAK.get() - before
}

/// Parses an input, and returns the milliseconds it took.
fn parse(parser: &Parser, input: &[u8]) -> u64 {
    let (before, began) = (USED.get(), processor_time());
    PEAK.set(before);
    let outcome = panic::catch_unwind(|| (parser.parse)(input));
    let (took, used) = (processor_time() - began, PEAK.get() - before);
    let shown = || String::from_utf8_lossy(&input[..input.len().min(500)]).into_owned();
    assert!(outcome.is_ok(), "{}: a panic by {:?}", parser.name, shown());
    let most = AT_LEAST + TIMES * input.len();
    assert!(
        used <= most,
        "{}: {} bytes took {used} bytes of memory: {:?}",
        parser.name,
        input.len(),
        shown()
    );
    took
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn no_input_is_too_much_for_a_parser(seed in any::<u64>()) {
        on_a_small_stack(move || {
            let mut chance = Chance(seed);
            for parser in parsers() {
                for _ in 0..8 {
                    let input = mutate(&mut chance, &parser.seeds, MOST);
                    let took = parse(&parser, &input);
                    let shown = String::from_utf8_lossy(&input[..input.len().min(500)]);
                    assert!(took < 2000, "{}: {} bytes took {took} ms: {shown:?}", parser.name, input.len());
                }
            }
        });
    }
}

/// A part of each input over and over, four times as often: it takes no more than some four times as long.
#[test]
fn time_grows_as_the_input_does() {
    on_a_small_stack(|| {
        let mut slow = Vec::new();
        for parser in parsers() {
            for unit in units(&parser.seeds) {
                let input = |size: usize| unit.repeat(size / unit.len() + 1);
                let (small, large) = (parse(&parser, &input(64 << 10)), parse(&parser, &input(256 << 10)));
                // As fast as it is, it may have been interrupted.
                if large > 200 && large > 10 * small.max(1) {
                    slow.push(format!("{}: {small} and {large} ms for {:?}", parser.name, text(&unit)));
                }
            }
        }
        assert!(slow.is_empty(), "{slow:#?}");
    });
}

/// Whole inputs, their lines, and what opens or separates something.
fn units(seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut units: Vec<Vec<u8>> = seeds.to_vec();
    units.extend(seeds.iter().flat_map(|seed| seed.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec)));
    units.extend(
        ["[", "{\"a\":", "a: ", "- ", "\n", " ", "\"", "---\n", "&a ", "*a ", "x", ",", "::"].map(Into::into),
    );
    units.retain(|unit| !unit.is_empty());
    units.sort();
    units.dedup();
    units.truncate(80);
    units
}

/// Thousands of levels would overflow the stack of a parser that calls itself for each, and that aborts the process.
#[test]
fn what_is_nested_too_deeply_is_refused() {
    on_a_small_stack(|| {
        let deep =
            |open: &str, close: &str| format!("{}{}", open.repeat(2000), close.repeat(2000)).into_bytes();
        let lines: String = (0..2000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
        let inputs =
            [deep("[", "]"), deep("{a: ", "}"), deep(r#"{"a":"#, "}"), deep("- ", ""), lines.into_bytes()];
        for parser in parsers() {
            for input in &inputs {
                parse(&parser, input);
                // Where it is ignored by a reader of known fields.
                let keys = ["exec: ", "mirrors: ", "metadata: ", "x: "];
                for key in keys {
                    parse(&parser, &[key.as_bytes(), input].concat());
                }
            }
        }
        assert!(manifests::parse(&inputs[0]).is_err() && kubeconfig::parse(&text(&inputs[1])).is_err());
    });
}
