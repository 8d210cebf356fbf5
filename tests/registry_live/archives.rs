//! Registries and caches as archives.

use std::{io, sync::Arc};

use localcluster_operator::{
    cli::client::registry::{About, Storage},
    docker::bollard::BollardEngine,
};
use serde_json::Value;

use super::{contents::*, retention::Client, *};

fn about(caches: Option<&str>) -> About {
    About { version: 1, registry: "default/r".into(), caches: caches.map(str::to_owned) }
}

/// A file that several hold.
#[derive(Clone, Default)]
struct Shared(Arc<std::sync::Mutex<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A registry on a volume of its own that runs, and its storage.
async fn running(world: &World, thing: &str, mut spec: RegistrySpec) -> (Storage, String, String) {
    spec.storage.volume_name = Some(world.volume(thing).await);
    let subject = Subject::new(world, spec, Secrets::default());
    let mut wanted = subject.desired().container;
    wanted.name = world.name(thing);
    let id = make(world, &wanted).await;
    let url = up(world, &id, &wanted.name).await;
    let engine = Arc::new(BollardEngine::connect("unix:///var/run/docker.sock").unwrap());
    (Storage { engine, container: id.clone() }, id, url)
}

fn deletable() -> RegistrySpec {
    RegistrySpec { delete_enabled: true, ..RegistrySpec::default() }
}

/// Everything that can be pulled, by repository and tag.
async fn everything(client: &Client<'_>) -> BTreeMap<String, std::collections::BTreeSet<String>> {
    let (_, _, body) = exchange("GET", &format!("{}/_catalog", client.url), b"", BINARY).await;
    let catalog: Value = serde_json::from_slice(&body).unwrap();
    let mut all = BTreeMap::new();
    for repository in catalog["repositories"].as_array().unwrap() {
        let repository = repository.as_str().unwrap();
        for tag in client.tags(repository).await {
            let pulled = client.pull(repository, &tag).await;
            all.insert(format!("{repository}:{tag}"), pulled);
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_has_every_tag_whole_and_adds_to_what_is_there() {
    let world = World::new("archive");
    let (from, from_id, url) = running(&world, "from", deletable()).await;
    let empty = from.export(about(None), io::sink()).await.unwrap_err().to_string();
    assert!(empty.contains("no images yet"), "{empty}");
    let source = Client { url, id: &from_id };
    source.push("app", Some("1"), "one").await;
    source.push_index("team/app", "index").await;
    source.push("app", Some("moved"), "before").await;
    source.push("app", Some("moved"), "after").await;
    let before = everything(&source).await;

    let file = Shared::default();
    // Pushes go on meanwhile.
    let pushes = async {
        for n in 0..20 {
            source.push("app", Some(&format!("new-{n}")), &format!("new {n}")).await;
        }
    };
    let (exported, ()) = tokio::join!(from.export(about(None), file.clone()), pushes);
    println!("{:?}", exported.unwrap());
    let archive = file.0.lock().unwrap().clone();

    let (to, to_id, url) = running(&world, "to", deletable()).await;
    let target = Client { url, id: &to_id };
    target.push("app", Some("own"), "own").await;
    target.push("app", Some("1"), "another one").await;
    let own = target.pull("app", "own").await;
    // The registry has looked for them in vain.
    for reference in ["moved", "index"] {
        assert!(target.gone("app", reference).await && target.gone("team/app", reference).await);
    }
    for bad in [&archive[..archive.len() / 2], &archive[..archive.len() - 1024]] {
        to.import(&about(None), io::Cursor::new(bad.to_vec())).await.unwrap_err();
        assert_eq!(target.tags("team/app").await, [] as [String; 0], "nothing is visible");
    }
    to.import(&about(Some("quay.io")), io::Cursor::new(archive.clone())).await.unwrap_err();
    let (summary, new) = to.import(&about(None), io::Cursor::new(archive.clone())).await.unwrap();
    println!("{summary:?} {new}");
    let after = everything(&target).await;
    for (image, content) in &before {
        assert_eq!(after.get(image), Some(content), "{image}");
    }
    assert_eq!(after["app:own"], own);
    let names =
        docker(&["ps", "-a", "--format", "{{.Names}}", "--filter", &format!("name={}", world.name(""))]);
    assert!(!names.contains("-archive\n") && !names.ends_with("-archive"), "{names}");
    // Nothing is sent twice, and what is there is a registry like others.
    let (_, new) = to.import(&about(None), io::Cursor::new(archive)).await.unwrap();
    assert_eq!((new, everything(&target).await), (0, after.clone()));
    target.push("app", Some("later"), "one").await;
    docker(&["restart", &to_id]);
    let url = up(&world, &to_id, "r").await;
    let target = Client { url, id: &to_id };
    assert_eq!(everything(&target).await.len(), after.len() + 1);
    let index = exchange("GET", &format!("{}/team/app/manifests/index", target.url), b"", BINARY).await;
    let of = &index.1["docker-content-digest"];
    assert_eq!(call("DELETE", &format!("{}/team/app/manifests/{of}", target.url), b"", BINARY).await.0, 202);
    assert_eq!(target.tags("team/app").await, [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_serves_what_was_imported_without_its_upstream() {
    let world = World::new("cached");
    let (upstream, upstream_id, url) = running(&world, "upstream", deletable()).await;
    let source = Client { url: url.clone(), id: &upstream_id };
    // In no other registry that may get the address of the upstream once that is stopped.
    let repository = "only/here";
    source.push(repository, Some("1"), "one").await;
    let proxy =
        ProxySpec { remote_url: url.trim_end_matches("/v2").to_owned(), credentials_secret: None, ttl: None };
    let spec = RegistrySpec { proxy: Some(proxy), ..RegistrySpec::default() };
    let (from, from_id, url) = running(&world, "from", spec.clone()).await;
    let pulled = Client { url, id: &from_id }.pull(repository, "1").await;
    let of = about(Some("upstream"));
    // A cache stores a blob after it has handed it on.
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    let archive = loop {
        let file = Shared::default();
        let exported = from.export(of.clone(), file.clone()).await;
        if exported.is_ok_and(|summary| (summary.blobs, summary.tags) == (3, 1)) {
            break file.0.lock().unwrap().clone();
        }
        assert!(tokio::time::Instant::now() < until, "the blobs are not stored");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let (to, to_id, url) = running(&world, "to", spec).await;
    world.engine.stop(&upstream.container, 0).await.unwrap();
    let (_, new) = to.import(&of, io::Cursor::new(archive)).await.unwrap();
    assert_eq!(new, 3);
    assert_eq!(Client { url, id: &to_id }.pull(repository, "1").await, pulled);
}
