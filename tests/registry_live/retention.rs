//! What a retention leaves of a registry, by the registry itself.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    contents::{BINARY, INDEX, MANIFEST, call, collect, digest, exchange, manifest, push_blob, up},
    *,
};

const DAYS: u64 = 9 * 24 * 3600;

/// A client of a registry, and its container.
pub(super) struct Client<'a> {
    pub(super) url: String,
    pub(super) id: &'a str,
}

impl Client<'_> {
    async fn put(&self, repository: &str, reference: &str, content: &[u8], kind: &str) -> String {
        let url = format!("{}/{repository}/manifests/{reference}", self.url);
        assert_eq!(call("PUT", &url, content, kind).await.0, 201, "{reference}");
        digest(content)
    }

    /// Pushes an image, by its digest without a tag.
    pub(super) async fn push(&self, repository: &str, tag: Option<&str>, content: &str) -> String {
        let (config, layer) = (format!("{{\"of\": \"{content}\"}}"), format!("layer of {content}"));
        let base = format!("{}/{repository}", self.url);
        push_blob(&base, config.as_bytes()).await;
        push_blob(&base, layer.as_bytes()).await;
        let image = manifest(config.as_bytes(), layer.as_bytes());
        let reference = tag.map_or_else(|| digest(&image), str::to_owned);
        self.put(repository, &reference, &image, MANIFEST).await
    }

    /// Pushes an image of several platforms.
    pub(super) async fn push_index(&self, repository: &str, tag: &str) -> (String, [String; 2]) {
        let platforms = [
            self.push(repository, None, &format!("{tag} amd64")).await,
            self.push(repository, None, &format!("{tag} arm64")).await,
        ];
        let entry = |digest: &String| json!({"mediaType": MANIFEST, "digest": digest, "size": 1});
        let index =
            json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": platforms.each_ref().map(entry)});
        (self.put(repository, tag, index.to_string().as_bytes(), INDEX).await, platforms)
    }

    /// Makes the file behind a reference as old as if it had been pushed days ago.
    fn age(&self, repository: &str, reference: &str) {
        let file = match reference.strip_prefix("sha256:") {
            Some(hex) => format!("revisions/sha256/{hex}"),
            None => format!("tags/{reference}/current"),
        };
        let path =
            format!("/var/lib/registry/docker/registry/v2/repositories/{repository}/_manifests/{file}/link");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        docker(&["exec", self.id, "touch", "-d", &format!("@{}", now - DAYS), &path]);
    }

    pub(super) async fn tags(&self, repository: &str) -> Vec<String> {
        let (_, _, body) =
            exchange("GET", &format!("{}/{repository}/tags/list", self.url), b"", BINARY).await;
        let list: Value = serde_json::from_slice(&body).unwrap();
        let mut tags: Vec<String> = serde_json::from_value(list["tags"].clone()).unwrap_or_default();
        tags.sort();
        tags
    }

    /// Pulls an image with everything that it consists of. Returns the digests.
    pub(super) async fn pull(&self, repository: &str, reference: &str) -> BTreeSet<String> {
        let (mut waiting, mut pulled) = (vec![reference.to_owned()], BTreeSet::new());
        while let Some(reference) = waiting.pop() {
            let url = format!("{}/{repository}/manifests/{reference}", self.url);
            let (status, _, body) = exchange("GET", &url, b"", BINARY).await;
            assert_eq!(status, 200, "{repository} {reference}");
            assert!(!reference.contains(':') || digest(&body) == reference, "{reference}");
            pulled.insert(digest(&body));
            let content: Value = serde_json::from_slice(&body).unwrap();
            let of = |list: &Value| -> Vec<String> {
                let list = list.as_array().into_iter().flatten();
                list.filter_map(|entry| entry["digest"].as_str().map(str::to_owned)).collect()
            };
            waiting.extend(of(&content["manifests"]));
            for blob in of(&content["layers"]).into_iter().chain(of(&json!([content["config"]]))) {
                let (status, _, body) =
                    exchange("GET", &format!("{}/{repository}/blobs/{blob}", self.url), b"", BINARY).await;
                assert_eq!((status, digest(&body)), (200, blob.clone()), "{repository} {reference}");
                pulled.insert(blob);
            }
        }
        pulled
    }

    pub(super) async fn gone(&self, repository: &str, reference: &str) -> bool {
        let url = format!("{}/{repository}/manifests/{reference}", self.url);
        call("GET", &url, b"", BINARY).await.0 == 404
    }
}

/// Also where clients may not delete, with HTTPS and with users: the collection does not ask the registry.
#[tokio::test]
async fn a_retention_leaves_every_kept_tag_whole() {
    let world = World::new("retention");
    let mut spec = RegistrySpec::default();
    spec.storage.volume_name = Some(world.volume("images").await);
    let plain = Subject::new(&world, spec.clone(), Secrets::default());
    spec.retention = Some(RetentionSpec { keep_tags: Some(2), keep_for: Some("1h".into()) });
    spec.auth = Some(AuthSpec { htpasswd_secret: "users".into(), client_secret: None });
    spec.tls = Some(TlsSpec { secret_name: "tls".into(), ca_secret_name: None });
    let directory = tempfile::tempdir().unwrap();
    let secrets = Secrets {
        htpasswd: Some(format!("ci:{FIRST}\n").into_bytes()),
        tls: Some(self_signed(directory.path(), "r")),
        ..Secrets::default()
    };
    let guarded = Subject::new(&world, spec, secrets);
    let wanted = plain.desired().container;
    let id = make(&world, &wanted).await;
    assert!(collect(&world, &guarded).await.1.starts_with("nothing to remove"));
    let mut client = Client { url: up(&world, &id, &wanted.name).await, id: &id };

    // Old: an image, one of several platforms, one that a kept tag has too, and one that is in another repository.
    let old = client.push("app", Some("old"), "old").await;
    let (old_index, old_platforms) = client.push_index("app", "old-index").await;
    client.push("app", Some("alias"), "shared").await;
    client.push("team/other", Some("alone"), "old").await;
    let (index, platforms) = client.push_index("app", "index").await;
    client.push("app", Some("shared"), "shared").await;
    // What refers to the image: an attestation with its fallback tag, and a signature.
    let (config, layer) = (b"{}".as_slice(), b"attested".as_slice());
    push_blob(&format!("{}/app", client.url), config).await;
    push_blob(&format!("{}/app", client.url), layer).await;
    let mut attestation: Value = serde_json::from_slice(&manifest(config, layer)).unwrap();
    attestation["subject"] = json!({"mediaType": INDEX, "digest": index, "size": 1});
    let attestation = attestation.to_string();
    let attestation =
        client.put("app", &digest(attestation.as_bytes()), attestation.as_bytes(), MANIFEST).await;
    let entry = json!({"mediaType": MANIFEST, "digest": attestation, "size": 1});
    let fallback = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
    let referrers = index.replace(':', "-");
    client.put("app", &referrers, fallback.as_bytes(), INDEX).await;
    let signature = format!("{referrers}.sig");
    client.push("app", Some(&signature), "signature").await;
    for reference in [
        "old",
        "old-index",
        "alias",
        &old,
        &old_index,
        &old_platforms[0],
        &old_platforms[1],
        &platforms[0],
        &platforms[1],
        &attestation,
        &referrers,
        &signature,
    ] {
        client.age("app", reference);
    }
    client.age("team/other", "alone");
    client.age("team/other", &old);

    let kept = [
        ("app", "index"),
        ("app", "shared"),
        ("app", referrers.as_str()),
        ("app", signature.as_str()),
        ("team/other", "alone"),
    ];
    let mut before = Vec::new();
    for (repository, tag) in kept {
        before.push(client.pull(repository, tag).await);
    }
    world.engine.stop(&id, 15).await.unwrap();
    let (succeeded, message) = collect(&world, &guarded).await;
    println!("{message}");
    assert!(succeeded && message.starts_with("3 tags and 4 images removed by spec.retention, "), "{message}");
    client.url = up(&world, &id, &wanted.name).await;
    let mut after = Vec::new();
    for (repository, tag) in kept {
        after.push(client.pull(repository, tag).await);
    }
    assert_eq!(before, after, "nothing that is kept has changed");
    assert_eq!(client.tags("app").await, ["index", referrers.as_str(), &signature, "shared"]);
    for reference in ["old", "old-index", "alias", &old, &old_index, &old_platforms[0], &old_platforms[1]] {
        assert!(client.gone("app", reference).await, "{reference}");
    }
    // Freed, except what the image in the other repository has.
    let blobs = docker(&["exec", &id, "find", "/var/lib/registry/docker/registry/v2/blobs", "-name", "data"]);
    for (content, there) in
        [("layer of old", true), ("layer of old-index arm64", false), ("layer of shared", true)]
    {
        assert_eq!(
            blobs.contains(digest(content.as_bytes()).trim_start_matches("sha256:")),
            there,
            "{content}"
        );
    }
    // A removed tag can be pushed again.
    let again = client.push("app", Some("old"), "old").await;
    assert_eq!((again, client.pull("app", "old").await.len()), (old, 3));
    world.engine.stop(&id, 15).await.unwrap();
    assert_eq!(collect(&world, &guarded).await, (true, "nothing to remove".into()));
}
