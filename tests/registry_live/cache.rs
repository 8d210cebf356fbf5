//! What a cache does while its upstream does not answer, and what it tells of it, by the registry itself.

use localcluster_operator::{
    docker::spec::{FileSpec, RestartPolicy},
    plan::{
        observed::Upstream,
        registry::upstream::{LINES, REPORT_FILE, REPORT_LIMIT, told},
    },
};
use tokio::time::{Instant, sleep};

use super::{
    contents::{BINARY, MANIFEST, call, digest, manifest, push_blob, up},
    *,
};

/// Waits for a condition.
async fn until(seconds: u64, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !holds().await {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// A registry with an image of one layer in two repositories.
struct Image {
    registry: String,
    network: String,
    layer: Vec<u8>,
    manifest: Vec<u8>,
}

impl Image {
    async fn push(world: &World) -> Self {
        let (_, network) = world.network("n").await;
        let registry = Subject::new(world, RegistrySpec::default(), Secrets::default());
        let mut wanted = registry.desired().container;
        wanted.name = world.name("upstream");
        wanted.mounts.clear();
        let registry = world.engine.create_container(&wanted, Some(&network)).await.unwrap();
        world.engine.upload(&registry, archive::pack(&wanted.files)).await.unwrap();
        let base = up(world, &registry, &wanted.name).await;
        let (config, layer) = (b"{}".as_slice(), b"cached".to_vec());
        let manifest = manifest(config, &layer);
        for repository in ["app", "other"] {
            let base = format!("{base}/{repository}");
            push_blob(&base, config).await;
            push_blob(&base, &layer).await;
            assert_eq!(call("PUT", &format!("{base}/manifests/1"), &manifest, MANIFEST).await.0, 201);
        }
        Self { registry, network, layer, manifest }
    }

    /// Pulls everything of an image from a cache. Returns the status of each response.
    async fn pull(&self, cache: &str, repository: &str) -> [u16; 3] {
        let get =
            async |what: &str| call("GET", &format!("{cache}/{repository}/{what}"), b"", BINARY).await.0;
        let (manifest, layer) = (digest(&self.manifest), digest(&self.layer));
        [
            get("manifests/1").await,
            get(&format!("manifests/{manifest}")).await,
            get(&format!("blobs/{layer}")).await,
        ]
    }
}

fn proxy(remote_url: String) -> RegistrySpec {
    let proxy = ProxySpec { remote_url, credentials_secret: None, ttl: Some("1h".into()) };
    RegistrySpec { proxy: Some(proxy), ..RegistrySpec::default() }
}

/// Whether the cache has the content of an image.
fn has(id: &str, digest: &str) -> bool {
    let hex = digest.trim_start_matches("sha256:");
    let path = format!("/var/lib/registry/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    let there = docker(&["exec", id, "sh", "-c", &format!("test -s {path} && echo yes || true")]);
    there == "yes"
}

async fn told_by(world: &World, id: &str) -> Option<Upstream> {
    let report = world.engine.read_file(id, REPORT_FILE, REPORT_LIMIT).await.unwrap();
    let lines = world.engine.logs(id, LINES).await.unwrap();
    told(report.as_deref(), &lines, &Secrets::default(), jiff::Timestamp::now())
}

#[tokio::test]
async fn a_cache_starts_without_its_upstream_and_goes_back_to_it() {
    let world = World::new("offline");
    let image = Image::push(&world).await;
    let subject =
        Subject::new(&world, proxy(format!("http://{}:5000", world.name("upstream"))), Secrets::default());
    let mut wanted = subject.desired().container;
    wanted.mounts.clear();
    let id = world.engine.create_container(&wanted, Some(&image.network)).await.unwrap();
    world.engine.upload(&id, archive::pack(&wanted.files)).await.unwrap();
    let cache = up(&world, &id, &wanted.name).await;
    assert_eq!(image.pull(&cache, "app").await, [200; 3]);
    assert_eq!(told_by(&world, &id).await, Some(Upstream::Answers));
    // A cache stores a blob after it has handed it on, and writes every few seconds when what it has expires.
    until(30, "the image is stored", async || has(&id, &digest(&image.layer))).await;

    // By the time it starts again all has expired, which a proxy deletes.
    let schedule = "/var/lib/registry/scheduler-state.json";
    let mut times = String::new();
    until(30, "the times are written", async || {
        let content = world.engine.read_file(&id, schedule, 1 << 20).await.unwrap().unwrap_or_default();
        times = String::from_utf8(content).unwrap();
        times.matches("ExpiryData").count() == 2
    })
    .await;
    world.engine.stop(&image.registry, 5).await.unwrap();
    world.engine.stop(&id, 15).await.unwrap();
    let year = jiff::Timestamp::now().to_string()[..5].to_owned();
    let content = times.replace(&format!("\"{year}"), "\"2020-").into_bytes();
    let expired = FileSpec { path: schedule.into(), mode: 0o644, content, change: FileChange::Keep };
    world.engine.upload(&id, archive::pack(&[expired])).await.unwrap();

    let began = Instant::now();
    let cache = up(&world, &id, &wanted.name).await;
    println!("served without the upstream after {:.2} s", began.elapsed().as_secs_f32());
    assert_eq!(image.pull(&cache, "app").await, [200; 3]);
    assert_eq!(image.pull(&cache, "other").await, [404; 3]);
    let silent = told_by(&world, &id).await;
    assert!(
        matches!(&silent, Some(Upstream::Silent(words)) if words.starts_with("Get \"http://")),
        "{silent:?}"
    );
    let put = format!("{cache}/app/manifests/2");
    for (method, url) in [
        ("PUT", &put),
        ("POST", &format!("{cache}/app/blobs/uploads/")),
        ("DELETE", &format!("{cache}/app/manifests/{}", digest(&image.manifest))),
    ] {
        assert_eq!(call(method, url, &image.manifest, MANIFEST).await.0, 405, "{method}");
    }

    let started = world.engine.inspect(&id).await.unwrap().unwrap().started_at;
    world.engine.start(&image.registry).await.unwrap();
    let back = "localcluster: the upstream registry answers again";
    // The script asks every 15 s, and waits up to 10 s for the answer: longer on a host whose cores are all in use.
    until(120, back, async || world.engine.logs(&id, LINES).await.unwrap().iter().any(|line| line == back))
        .await;
    let cache = up(&world, &id, &wanted.name).await;
    until(10, "what has expired is deleted", async || !has(&id, &digest(&image.layer))).await;
    assert_eq!((image.pull(&cache, "other").await, image.pull(&cache, "app").await), ([200; 3], [200; 3]));
    let detail = world.engine.inspect(&id).await.unwrap().unwrap();
    assert_eq!((detail.started_at, detail.started_again), (started, 0), "it is the same run");
    assert_eq!(told_by(&world, &id).await, Some(Upstream::Answers));

    let began = Instant::now();
    world.engine.stop(&id, 15).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(world.engine.inspect(&id).await.unwrap().unwrap().exit_code, Some(0));
}

/// A cache with passwords and a certificate keeps both, and one that cannot start at all says why as before.
#[tokio::test]
async fn a_cache_without_its_upstream_is_as_strict_and_as_honest() {
    let world = World::new("strict");
    let directory = tempfile::tempdir().unwrap();
    let tls = self_signed(directory.path(), &world.name("r"));
    let spec = RegistrySpec {
        auth: Some(AuthSpec { htpasswd_secret: "users".into(), client_secret: None }),
        tls: Some(TlsSpec { secret_name: "tls".into(), ca_secret_name: None }),
        // Nobody listens there.
        ..proxy("http://127.0.0.1:1".into())
    };
    let login = Login { username: "me".into(), password: "first".into() };
    let htpasswd = Some(format!("me:{FIRST}\n").into_bytes());
    let upstream = Some(Login { username: "me".into(), password: "hidden".into() });
    let mut secrets = Secrets { htpasswd, upstream, tls: Some(tls.clone()), ..Secrets::default() };
    let subject = Subject::new(&world, spec.clone(), secrets.clone());
    let wanted = subject.desired().container;
    let id = make(&world, &wanted).await;
    world.engine.start(&id).await.unwrap();
    let (ip, ca) = (address(&world, &id).await, Some(tls.ca.as_slice()));
    let question = Question { to: at(ip), hostname: &wanted.name, ca, login: None };
    assert_eq!(ask(&question).await, Ok(401));
    assert_eq!(ask(&Question { login: Some(&login), ..question }).await, Ok(200));
    let silent = told_by(&world, &id).await;
    assert!(matches!(&silent, Some(Upstream::Silent(words)) if words.contains("refused")), "{silent:?}");
    assert!(!docker(&["logs", &id]).contains("hidden"));
    world.engine.remove_container(&id).await.unwrap();

    // Its key is none.
    secrets.tls = Some(Tls { key: b"none".to_vec(), ..tls });
    let subject = Subject::new(&world, spec, secrets);
    let mut wanted = subject.desired().container;
    wanted.restart_policy = RestartPolicy::No;
    let id = make(&world, &wanted).await;
    world.engine.start(&id).await.unwrap();
    assert_ne!(docker(&["wait", &id]), "0");
    let lines = world.engine.logs(&id, 100).await.unwrap();
    let words = registry::log::last_words(&lines).unwrap();
    assert!(words.contains("tls") || words.contains("PEM"), "{words}: {lines:#?}");
}

/// An upstream that limits the rate, as Docker Hub does: requests for a digest count, those for the digest of a tag do not. No
/// real one limits on demand.
const LIMITING: &str = r#"
cat >/answer <<'END'
#!/bin/sh
read -r method path rest
while read -r line && [ "$line" != "$(printf '\r')" ]; do :; done
status='200 OK' body='{}' more='X-None: 1'
case "$method $path" in
"HEAD "*/manifests/*) more='Docker-Content-Digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' ;;
"GET /v2/") ;;
*) status='429 Too Many Requests' body='{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}' ;;
esac
printf 'HTTP/1.1 %s\r\nContent-Type: application/json\r\n%s\r\nContent-Length: %s\r\nConnection: close\r\n\r\n' "$status" "$more" "${#body}"
[ "$method" = HEAD ] || printf '%s' "$body"
END
chmod +x /answer
exec nc -ll -p 5000 -e /answer
"#;

#[tokio::test]
async fn a_cache_tells_that_its_upstream_limits_the_rate() {
    let world = World::new("limit");
    let (_, network) = world.network("n").await;
    let mut limiting = world.spec("upstream");
    limiting.command = ["/bin/sh", "-c", LIMITING].map(String::from).into();
    let upstream = world.engine.create_container(&limiting, Some(&network)).await.unwrap();
    world.engine.start(&upstream).await.unwrap();
    until(10, "it listens", async || {
        docker(&["exec", &upstream, "cat", "/proc/net/tcp", "/proc/net/tcp6"]).contains(":1388 ")
    })
    .await;
    let subject =
        Subject::new(&world, proxy(format!("http://{}:5000", world.name("upstream"))), Secrets::default());
    let mut wanted = subject.desired().container;
    wanted.mounts.clear();
    let id = world.engine.create_container(&wanted, Some(&network)).await.unwrap();
    world.engine.upload(&id, archive::pack(&wanted.files)).await.unwrap();
    let cache = up(&world, &id, &wanted.name).await;
    assert_eq!(
        told_by(&world, &id).await,
        Some(Upstream::Answers),
        "an upstream that answers with errors answers"
    );
    let status = call("GET", &format!("{cache}/app/manifests/1"), b"", BINARY).await.0;
    assert!(matches!(status, 429 | 500), "{status}");
    until(10, "it is told", async || told_by(&world, &id).await == Some(Upstream::Limits)).await;
}
