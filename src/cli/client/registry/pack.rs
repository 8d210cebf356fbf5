//! Writes the archive of a registry from what Docker sends of its storage.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
};

use super::{
    contents::{ABOUT, About, Blobs, END, Item, Links, MAX_MANIFEST, ROOT, linked, needs},
    stream::{Counted, Whole},
};
use crate::docker::archive::header;

/// Maximum size of a link in bytes: that of a digest, and some more.
const MAX_LINK: u64 = 512;

/// What an archive has, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Tags.
    pub tags: usize,
    /// Repositories with a tag.
    pub repositories: usize,
    /// Blobs.
    pub blobs: usize,
    /// Size of the blobs in bytes.
    pub bytes: u64,
}

impl Summary {
    /// Returns the numbers of tags and their repositories.
    pub fn of(links: &Links) -> Self {
        let repositories: BTreeSet<&String> = links.tags.keys().map(|(name, _)| name).collect();
        Self { tags: links.tags.len(), repositories: repositories.len(), ..Self::default() }
    }
}

/// Reads the links and tags in Docker's archive of the directory `repositories`. Uploads that are under way are no part of
/// any image.
pub fn links(archive: impl Read) -> io::Result<Links> {
    let mut links = Links::default();
    let mut whole = Whole::new(archive);
    for entry in tar::Archive::new(&mut whole).entries()? {
        let mut entry = entry?;
        let path = format!("{ROOT}/{}", String::from_utf8_lossy(&entry.path_bytes()));
        let Some(item) = Item::parse(&path).filter(|_| entry.header().entry_type().is_file()) else {
            continue;
        };
        match item {
            Item::Tag(name, tag) => {
                let mut content = Vec::new();
                entry.by_ref().take(MAX_LINK).read_to_end(&mut content)?;
                let digest = linked(&content);
                let digest = digest.ok_or_else(|| {
                    io::Error::other(format!("the tag {name}:{tag} was pushed while it was read; try again"))
                })?;
                links.tags.insert((name, tag), digest);
            }
            item => drop(links.links.insert(item)),
        }
    }
    whole.end()?;
    Ok(links)
}

/// Writes an archive: with the blobs in Docker's archive of the directory `blobs`, and these links and tags. The tags must
/// have been read first, the links next and the blobs last, so that pushes meanwhile leave no tag without what it needs:
/// registries write them in the opposite order.
pub fn pack(out: impl Write, about: &About, links: &Links, blobs: impl Read) -> io::Result<Summary> {
    let mut archive = tar::Builder::new(out);
    add(&mut archive, ABOUT, &serde_json::to_vec(about)?)?;
    let mut summary = Summary::of(links);
    let there = copy(&mut archive, links, blobs, &mut summary)?;
    let is_cache = about.caches.is_some();
    let mut tags = links.tags.clone();
    let mut broken = Vec::new();
    tags.retain(|(name, tag), digest| {
        match there.missing(links, (name.as_str(), digest.as_str()), is_cache) {
            None => true,
            Some(missing) => {
                broken.push(format!("{name}:{tag} lacks {missing}"));
                false
            }
        }
    });
    // A cache fetches again what expired meanwhile.
    if let Some(first) = broken.first().filter(|_| !is_cache) {
        return Err(io::Error::other(format!(
            "not all images are whole: {first}; if nothing was deleted meanwhile, push it again, and then try again"
        )));
    }
    summary.tags = tags.len();
    let mut entries = summary.blobs;
    for item in &links.links {
        let (Item::Layer(_, digest) | Item::Revision(_, digest)) = item else { continue };
        if there.there.contains(digest) {
            add(&mut archive, &item.path(), digest.as_bytes())?;
            entries += 1;
        }
    }
    for ((name, tag), digest) in tags {
        add(&mut archive, &Item::Tag(name, tag).path(), digest.as_bytes())?;
        entries += 1;
    }
    add(&mut archive, END, entries.to_string().as_bytes())?;
    archive.into_inner()?.flush()?;
    Ok(summary)
}

/// Copies the blobs.
fn copy(
    archive: &mut tar::Builder<impl Write>,
    links: &Links,
    blobs: impl Read,
    summary: &mut Summary,
) -> io::Result<Blobs> {
    let revision = |item: &Item| match item {
        Item::Revision(_, digest) => Some(digest.clone()),
        _ => None,
    };
    let manifests: BTreeSet<String> = links.links.iter().filter_map(revision).collect();
    let mut there = Blobs::default();
    let mut whole = Whole::new(blobs);
    for entry in tar::Archive::new(&mut whole).entries()? {
        let mut entry = entry?;
        let path = format!("{ROOT}/{}", String::from_utf8_lossy(&entry.path_bytes()));
        let item = Item::parse(&path).filter(|_| entry.header().entry_type().is_file());
        let Some(Item::Blob(digest)) = item else { continue };
        let size = entry.size();
        if manifests.contains(&digest) && size <= MAX_MANIFEST {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            add(archive, &path, &content)?;
            there.needs.insert(digest.clone(), needs(&content));
        } else {
            let mut counted = Counted::new(&mut entry);
            archive.append_data(&mut header(size), &path, &mut counted)?;
            if counted.bytes != size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        there.there.insert(digest);
        summary.blobs += 1;
        summary.bytes += size;
    }
    whole.end()?;
    Ok(there)
}

fn add(archive: &mut tar::Builder<impl Write>, path: &str, content: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(content.len() as u64), path, content)
}
