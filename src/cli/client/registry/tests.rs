use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::{
    contents::{ABOUT, About, END, Item, Links, VERSION},
    pack::{links, pack},
    told,
    unpack::{Store, Unpacked, unpack, write_links},
};
use crate::api::names::hex;

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(content)))
}

/// An archive of files, as Docker sends it: with directories, and all that there is.
fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    archive.append_data(&mut header, "repositories/app", io::empty()).unwrap();
    for (path, content) in files {
        let mut header = crate::docker::archive::header(content.len() as u64);
        archive.append_data(&mut header, path, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// The storage of a registry with an image of two blobs.
struct Storage {
    repositories: Vec<(String, Vec<u8>)>,
    blobs: Vec<(String, Vec<u8>)>,
    image: String,
}

fn below(item: &Item) -> String {
    item.path().strip_prefix("docker/registry/v2/").unwrap().to_owned()
}

impl Storage {
    fn new() -> Self {
        let (config, layer) = (b"{}".to_vec(), vec![7; 70_000]);
        let image = serde_json::json!({"config": {"digest": digest(&config)}, "layers": [{"digest": digest(&layer)}]});
        let image = image.to_string().into_bytes();
        let of = digest(&image);
        let link = |item: Item, digest: &str| (below(&item), digest.as_bytes().to_vec());
        let name = || "team/app".to_owned();
        let repositories = vec![
            link(Item::Layer(name(), digest(&config)), &digest(&config)),
            link(Item::Layer(name(), digest(&layer)), &digest(&layer)),
            link(Item::Revision(name(), of.clone()), &of),
            link(Item::Tag(name(), "1".into()), &of),
            ("repositories/team/app/_uploads/x/data".into(), b"half".to_vec()),
        ];
        let blobs = [image, config, layer].map(|blob| (below(&Item::Blob(digest(&blob))), blob)).into();
        Self { repositories, blobs, image: of }
    }

    fn links(&self) -> Links {
        links(tar_of(&self.repositories).as_slice()).unwrap()
    }

    fn packed(&self, about: &About) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        pack(&mut out, about, &self.links(), tar_of(&self.blobs).as_slice())?;
        Ok(out)
    }
}

fn about(caches: Option<&str>) -> About {
    About { version: VERSION, registry: "default/images".into(), caches: caches.map(str::to_owned) }
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(Result::unwrap);
    entries.map(|entry| String::from_utf8(entry.path_bytes().into_owned()).unwrap()).collect()
}

/// Reads an archive without a storage.
fn checked(archive: &[u8], caches: Option<&str>) -> Result<Unpacked, String> {
    unpack(archive, caches, None::<Store<'_, io::Sink>>).map_err(|e| e.to_string())
}

#[test]
fn what_is_packed_is_what_is_unpacked() {
    let storage = Storage::new();
    let archive = storage.packed(&about(None)).unwrap();
    let all = names(&archive);
    assert_eq!((all[0].as_str(), all.last().unwrap().as_str()), (ABOUT, END));
    assert_eq!(all.len(), 2 + 3 + 3 + 1, "{all:?}");
    assert!(all.iter().all(|name| !name.contains("_uploads")));
    let read = checked(&archive, None).unwrap();
    assert_eq!((&read.links, read.summary.blobs, read.summary.tags), (&storage.links(), 3, 1));
    assert_eq!(told(&read.summary), "1 tags in 1 repositories, 3 blobs of 0 MiB");
    // What Docker unpacks: each blob under another name first, until all of it is there.
    let mut out = Vec::new();
    let image = Item::Blob(storage.image.clone()).path();
    let mut has = |path: &str, _: u64| Ok(path == image);
    let read = unpack(archive.as_slice(), None, Some(Store::new(&mut has, &mut out))).unwrap();
    assert_eq!(read.new, 2);
    let mut unpacked = tar::Archive::new(out.as_slice());
    let (mut staged, mut linked) = (Vec::new(), 0);
    for entry in unpacked.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            assert_eq!(entry.path_bytes().as_ref(), b"localcluster-import");
            staged.clear();
            entry.read_to_end(&mut staged).unwrap();
        } else {
            assert_eq!(entry.link_name_bytes().unwrap().as_ref(), b"localcluster-import");
            let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            assert_eq!(Item::parse(&path), Some(Item::Blob(digest(&staged))));
            linked += 1;
        }
    }
    assert_eq!((linked, staged.len()), (2, 0));
    let mut out = Vec::new();
    write_links(&mut out, &read.links).unwrap();
    assert_eq!(names(&out).len(), 3 + 2);
    // All of it is there.
    let mut out = Vec::new();
    let read = unpack(archive.as_slice(), None, Some(Store::new(&mut |_, _| Ok(true), &mut out))).unwrap();
    assert_eq!((read.new, names(&out)), (0, Vec::new()));
}

#[test]
fn an_image_that_is_not_whole_is_not_packed() {
    let mut storage = Storage::new();
    storage.blobs.pop();
    let error = storage.packed(&about(None)).unwrap_err().to_string();
    assert!(error.contains("team/app:1 lacks sha256:"), "{error}");
    // A cache has what was asked for.
    let archive = storage.packed(&about(Some("docker.io"))).unwrap();
    let read = checked(&archive, Some("docker.io")).unwrap();
    assert_eq!((read.summary.blobs, read.links.tags.len(), read.links.links.len()), (2, 1, 2));
    storage.blobs.remove(0);
    let archive = storage.packed(&about(Some("docker.io"))).unwrap();
    assert_eq!(checked(&archive, Some("docker.io")).unwrap().links.tags.len(), 0);
    // Docker ended early, or a tag is being written.
    let whole = tar_of(&Storage::new().repositories);
    assert!(links(&whole[..whole.len() - 1024]).is_err());
    let mut storage = Storage::new();
    storage.repositories[3].1.clear();
    let error = links(tar_of(&storage.repositories).as_slice()).unwrap_err().to_string();
    assert!(error.contains("team/app:1 was pushed while it was read"), "{error}");
}

#[test]
fn an_archive_of_another_kind_is_refused() {
    let archive = Storage::new().packed(&about(Some("docker.io"))).unwrap();
    for caches in [None, Some("quay.io")] {
        let error = checked(&archive, caches).unwrap_err();
        assert!(error.contains("a cache of docker.io") && error.contains("same kind"), "{error}");
    }
    let later = About { version: 2, ..about(None) };
    let error = checked(&Storage::new().packed(&later).unwrap(), None).unwrap_err();
    assert!(error.contains("version 2"), "{error}");
    for other in [Vec::new(), b"no archive".to_vec(), vec![0; 4096], tar_of(&Storage::new().blobs)] {
        let error = checked(&other, None).unwrap_err();
        assert!(error.contains("no archive of `localcluster registry export`"), "{error}");
    }
}

/// Wherever it is cut, and also where only its end is missing.
#[test]
fn an_archive_that_is_cut_short_is_refused() {
    let archive = Storage::new().packed(&about(None)).unwrap();
    let whole = archive.len() - 1024;
    for end in (1..whole).step_by(97).chain([whole]) {
        let mut out = Vec::new();
        let mut has = |_: &str, _: u64| Ok(false);
        let read = unpack(&archive[..end], None, Some(Store::new(&mut has, &mut out)));
        assert!(read.is_err(), "{end} of {}", archive.len());
    }
}

#[test]
fn no_entry_is_written_that_a_registry_would_not_write() {
    let storage = Storage::new();
    let good = storage.packed(&about(None)).unwrap();
    let entries: Vec<(String, Vec<u8>)> = {
        let mut archive = tar::Archive::new(good.as_slice());
        let read = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), content)
        });
        read.collect()
    };
    let raw = |entries: &[(String, Vec<u8>)]| {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = crate::docker::archive::header(content.len() as u64);
            // Not by the builder, which refuses such paths.
            let name = &mut header.as_old_mut().name;
            let length = path.len().min(name.len());
            name[..length].copy_from_slice(&path.as_bytes()[..length]);
            header.set_cksum();
            archive.append(&header, content.as_slice()).unwrap();
        }
        archive.into_inner().unwrap()
    };
    for path in ["../../etc/passwd", "/etc/passwd", "docker/registry/v2/../../../x", "scheduler-state.json"] {
        let mut changed = entries[..1].to_vec();
        changed.push((path.into(), b"x".to_vec()));
        let error = checked(&raw(&changed), None).unwrap_err();
        assert!(error.contains("no part of the storage"), "{path}: {error}");
    }
    type Harm = fn(&mut Vec<(String, Vec<u8>)>);
    let harm: [(Harm, &str); 6] = [
        (|all| all[1].1.push(b' '), "has another content"),
        (|all| all[1].1[0] ^= 1, "has another content"),
        (|all| drop(all.remove(1)), "refers to sha256:"),
        (
            |all| {
                let blob = all[1].clone();
                all.insert(all.len() - 1, blob);
            },
            "no part of the storage",
        ),
        (|all| all.last_mut().unwrap().1 = b"1".to_vec(), "cut short"),
        (
            |all| {
                let tag = all.len() - 2;
                all[tag].1 = digest(b"other").into_bytes();
            },
            "refers to sha256:",
        ),
    ];
    for (n, (harm, says)) in harm.into_iter().enumerate() {
        let mut changed = entries.clone();
        harm(&mut changed);
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in &changed {
            let mut header = crate::docker::archive::header(content.len() as u64);
            archive.append_data(&mut header, path, content.as_slice()).unwrap();
        }
        let error = checked(&archive.into_inner().unwrap(), None).unwrap_err();
        assert!(error.contains(says), "{n}: {error}");
    }
    // A link is no file.
    let mut archive = tar::Builder::new(Vec::new());
    let (path, content) = &entries[0];
    archive
        .append_data(&mut crate::docker::archive::header(content.len() as u64), path, content.as_slice())
        .unwrap();
    let mut link = crate::docker::archive::header(0);
    link.set_entry_type(tar::EntryType::Symlink);
    archive.append_link(&mut link, &entries[1].0, "/etc").unwrap();
    let error = checked(&archive.into_inner().unwrap(), None).unwrap_err();
    assert!(error.contains("no part of the storage"), "{error}");
}
