//! What is pushed, collected as garbage, and cached.

use super::*;

/// Talks to a registry as a client does: status and headers.
pub(super) async fn call(
    method: &str,
    url: &str,
    body: &[u8],
    kind: &str,
) -> (u16, BTreeMap<String, String>) {
    let (status, headers, _) = exchange(method, url, body, kind).await;
    (status, headers)
}

/// Talks to a registry as a client does: status, headers and body.
pub(super) async fn exchange(
    method: &str,
    url: &str,
    body: &[u8],
    kind: &str,
) -> (u16, BTreeMap<String, String>, bytes::Bytes) {
    use http_body_util::{BodyExt, Full};
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    let request = axum::http::Request::builder()
        .method(method)
        .uri(url)
        .header("content-type", kind)
        .header("accept", format!("{MANIFEST}, {INDEX}"))
        .body(Full::new(bytes::Bytes::copy_from_slice(body)))
        .unwrap();
    let client: Client<_, Full<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request).await.unwrap();
    let headers = answer.headers().iter();
    let headers = headers.map(|(k, v)| (k.to_string(), v.to_str().unwrap_or_default().to_owned())).collect();
    (answer.status().as_u16(), headers, answer.into_body().collect().await.unwrap().to_bytes())
}

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(super) const BINARY: &str = "application/octet-stream";

pub(super) fn digest(content: &[u8]) -> String {
    use sha2::Digest;
    format!("sha256:{}", localcluster_operator::api::names::hex(&sha2::Sha256::digest(content)))
}

pub(super) async fn push_blob(base: &str, content: &[u8]) {
    let (status, headers) = call("POST", &format!("{base}/blobs/uploads/"), b"", BINARY).await;
    assert_eq!(status, 202);
    let location = &headers["location"];
    let glue = if location.contains('?') { '&' } else { '?' };
    let (status, _) =
        call("PUT", &format!("{location}{glue}digest={}", digest(content)), content, BINARY).await;
    assert_eq!(status, 201);
}

pub(super) fn manifest(config: &[u8], layer: &[u8]) -> Vec<u8> {
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(layer), "size": layer.len()}],
    })
    .to_string()
    .into_bytes()
}

/// Collects the garbage of a registry that is stopped, as the operator does.
pub(super) async fn collect(world: &World, subject: &Subject) -> (bool, String) {
    let collector = make(world, &subject.collector()).await;
    world.engine.start(&collector).await.unwrap();
    docker(&["wait", &collector]);
    let detail = world.engine.inspect(&collector).await.unwrap().unwrap();
    assert_eq!(detail.container.state, State::Exited, "it is not started again");
    let lines = world.engine.logs(&collector, 100_000).await.unwrap();
    world.engine.remove_container(&collector).await.unwrap();
    collection::outcome(&detail, &lines)
}

/// Starts a registry and waits until it answers. Returns its URL.
pub(super) async fn up(world: &World, id: &str, hostname: &str) -> String {
    world.engine.start(id).await.unwrap();
    let ip = address(world, id).await;
    assert_eq!(ask(&Question { to: at(ip), hostname, ca: None, login: None }).await, Ok(200));
    format!("http://{ip}:5000/v2")
}

/// What [`collection`] says of a push that is under way, by the registry itself.
#[tokio::test]
async fn a_garbage_collection_keeps_images_and_refuses_halves() {
    let world = World::new("gc");
    let mut spec = RegistrySpec::default();
    spec.storage.volume_name = Some(world.volume("images").await);
    let subject = Subject::new(&world, spec, Secrets::default());
    let wanted = subject.desired().container;
    let id = make(&world, &wanted).await;
    assert_eq!(collect(&world, &subject).await, (true, "nothing to remove: no image was pushed yet".into()));

    let base = format!("{}/app", up(&world, &id, &wanted.name).await);
    let (config, layer, half) =
        (b"{}".as_slice(), b"a layer".as_slice(), b"a layer of a push under way".as_slice());
    push_blob(&base, config).await;
    push_blob(&base, layer).await;
    let whole = manifest(config, layer);
    let (status, _) = call("PUT", &format!("{base}/manifests/whole"), &whole, MANIFEST).await;
    assert_eq!(status, 201);
    // The second push has sent its layer, and not yet its manifest.
    push_blob(&base, half).await;
    world.engine.stop(&id, 15).await.unwrap();
    assert_eq!(collect(&world, &subject).await, (true, "1 blob removed".into()));

    let base = format!("{}/app", up(&world, &id, &wanted.name).await);
    for part in [
        format!("manifests/{}", digest(&whole)),
        format!("blobs/{}", digest(layer)),
        "manifests/whole".into(),
    ] {
        assert_eq!(call("GET", &format!("{base}/{part}"), b"", BINARY).await.0, 200, "{part}");
    }
    let later = manifest(config, half);
    let put = format!("{base}/manifests/later");
    assert_eq!(call("PUT", &put, &later, MANIFEST).await.0, 400, "it refers to what was removed");
    assert_eq!(call("HEAD", &format!("{base}/blobs/{}", digest(half)), b"", BINARY).await.0, 404);
    // Tried again, as clients do, it is whole.
    push_blob(&base, half).await;
    assert_eq!(call("PUT", &put, &later, MANIFEST).await.0, 201);
}

#[tokio::test]
async fn a_cache_hands_on_what_its_upstream_has_and_takes_nothing() {
    let world = World::new("cache");
    let upstream = Subject::new(&world, RegistrySpec::default(), Secrets::default());
    let mut wanted = upstream.desired().container;
    wanted.name = world.name("upstream");
    wanted.mounts.clear();
    let id = make(&world, &wanted).await;
    world.engine.start(&id).await.unwrap();
    let ip = address(&world, &id).await;
    assert_eq!(ask(&Question { to: at(ip), hostname: &wanted.name, ca: None, login: None }).await, Ok(200));
    let base = format!("http://{ip}:5000/v2/app");
    let (config, layer) = (b"{}".as_slice(), b"cached".as_slice());
    push_blob(&base, config).await;
    push_blob(&base, layer).await;
    let image = manifest(config, layer);
    assert_eq!(call("PUT", &format!("{base}/manifests/1"), &image, MANIFEST).await.0, 201);

    let proxy = ProxySpec {
        remote_url: format!("http://{ip}:5000"),
        credentials_secret: Some("login".into()),
        ttl: Some("1h".into()),
    };
    let spec = RegistrySpec { proxy: Some(proxy), ..RegistrySpec::default() };
    let login = Login { username: "me".into(), password: "p\"w\\ #: 'x".into() };
    let cache = Subject::new(&world, spec, Secrets { upstream: Some(login), ..Secrets::default() });
    let mut wanted = cache.desired().container;
    wanted.mounts.clear();
    let cache = make(&world, &wanted).await;
    world.engine.start(&cache).await.unwrap();
    let ip = address(&world, &cache).await;
    assert_eq!(ask(&Question { to: at(ip), hostname: &wanted.name, ca: None, login: None }).await, Ok(200));
    let base = format!("http://{ip}:5000/v2/app");
    let blob = format!("{base}/blobs/{}", digest(layer));
    let by_digest = format!("{base}/manifests/{}", digest(&image));
    assert_eq!(call("GET", &format!("{base}/manifests/1"), b"", BINARY).await.0, 200);
    assert_eq!(call("GET", &by_digest, b"", BINARY).await.0, 200);
    assert_eq!(call("GET", &blob, b"", BINARY).await.0, 200);
    assert_eq!(
        call("PUT", &format!("{base}/manifests/2"), &image, MANIFEST).await.0,
        405,
        "it takes nothing"
    );
    let inspected = docker(&["inspect", &cache]);
    assert!(!inspected.contains("p\\\"w") && !inspected.contains("#: 'x"));

    // A cache stores a blob after it has handed it on.
    let stored = format!("-name {}", digest(layer).trim_start_matches("sha256:"));
    let find = format!(
        "find /var/lib/registry/docker/registry/v2/blobs {stored} -type d | xargs -I{{}} ls {{}}/data"
    );
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while !docker(&["exec", &cache, "sh", "-c", &format!("{find} 2>/dev/null || true")]).ends_with("/data") {
        assert!(tokio::time::Instant::now() < until, "the blob is not stored");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.engine.stop(&id, 0).await.unwrap();
    assert_eq!(call("GET", &blob, b"", BINARY).await.0, 200, "it is there without the upstream");
}
