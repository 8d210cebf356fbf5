//! Reads the archive of a registry, and writes what Docker unpacks into a storage.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
};

use sha2::{Digest, Sha256, Sha512};

use super::{
    contents::{ABOUT, About, END, Item, Links, VERSION, index_path, linked},
    pack::Summary,
    stream::{Counted, Whole},
};
use crate::{api::names::hex, docker::archive::header};

/// File in the storage that a blob is written to first. It gets its own name as another link to the same file, once all
/// of it is there: registries trust that what has the name of a digest is its content, and would take half a blob for the
/// whole one, also for the next push of it.
const STAGED: &str = "localcluster-import";
/// Maximum size of the entries that are no blobs.
const MAX_ENTRY: u64 = 4096;

/// Where blobs go.
pub struct Store<'a, W: Write> {
    /// Reports whether the storage has a file at a path below the data directory with this size.
    has: &'a mut dyn FnMut(&str, u64) -> io::Result<bool>,
    /// Archive that Docker unpacks there.
    archive: tar::Builder<W>,
}

impl<'a, W: Write> Store<'a, W> {
    /// Returns a storage for which `out` gets an archive.
    pub fn new(has: &'a mut dyn FnMut(&str, u64) -> io::Result<bool>, out: W) -> Self {
        Self { has, archive: tar::Builder::new(out) }
    }
}

/// What was read from an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Links and tags.
    pub links: Links,
    /// Numbers of what the archive has.
    pub summary: Summary,
    /// Number of blobs that the storage did not have.
    pub new: usize,
}

/// Reads and checks an archive for a registry that caches `caches`, and writes its blobs to `store`, if one is given. The
/// error says what is wrong with it.
pub fn unpack<W: Write>(
    archive: impl Read,
    caches: Option<&str>,
    mut store: Option<Store<'_, W>>,
) -> io::Result<Unpacked> {
    let mut reader = Reader::default();
    let mut whole = Whole::new(archive);
    let mut entries = tar::Archive::new(&mut whole);
    for entry in entries.entries().map_err(|_| foreign())? {
        let mut entry = entry.map_err(|error| if reader.begun { error } else { foreign() })?;
        reader.read(&mut entry, caches, &mut store)?;
    }
    if !reader.begun {
        return Err(foreign());
    }
    whole.end()?;
    if !reader.ended {
        return Err(cut());
    }
    if let Some(Store { mut archive, .. }) = store {
        if reader.new > 0 {
            archive.append_data(&mut header(0), STAGED, io::empty())?;
        }
        archive.into_inner()?.flush()?;
    }
    let mut summary = Summary::of(&reader.links);
    (summary.blobs, summary.bytes) = (reader.blobs.len(), reader.bytes);
    Ok(Unpacked { links: reader.links, summary, new: reader.new })
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn foreign() -> io::Error {
    invalid("it is no archive of `localcluster registry export`; export a registry first")
}

fn alien(path: &str) -> io::Error {
    invalid(format!("{path} is no part of the storage of a registry; export it again"))
}

fn cut() -> io::Error {
    invalid("it is cut short: its end is missing; export or copy it again")
}

/// State of an archive that is read.
#[derive(Default)]
struct Reader {
    begun: bool,
    ended: bool,
    rank: u8,
    entries: usize,
    bytes: u64,
    new: usize,
    blobs: BTreeSet<String>,
    links: Links,
}

impl Reader {
    fn read<R: Read, W: Write>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        caches: Option<&str>,
        store: &mut Option<Store<'_, W>>,
    ) -> io::Result<()> {
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !self.begun {
            if path != ABOUT {
                return Err(foreign());
            }
            self.begun = true;
            return about(&small(entry)?, caches);
        }
        if self.ended || !entry.header().entry_type().is_file() {
            return Err(alien(&path));
        }
        if path == END {
            self.ended = true;
            let told = String::from_utf8(small(entry)?).ok().and_then(|text| text.parse().ok());
            return if told == Some(self.entries) { Ok(()) } else { Err(cut()) };
        }
        let item = Item::parse(&path).filter(|item| item.rank() >= self.rank);
        let item = item.ok_or_else(|| alien(&path))?;
        self.rank = item.rank();
        self.entries += 1;
        self.item(item, entry, store)
    }

    fn item<R: Read, W: Write>(
        &mut self,
        item: Item,
        entry: &mut tar::Entry<'_, R>,
        store: &mut Option<Store<'_, W>>,
    ) -> io::Result<()> {
        if let Item::Blob(digest) = item {
            self.bytes += entry.size();
            if blob(&digest, entry, store)? {
                self.new += 1;
            }
            self.blobs.insert(digest);
            return Ok(());
        }
        let content = linked(&small(entry)?);
        let digest = content.ok_or_else(|| invalid(format!("{} has no digest", item.path())))?;
        let lacks = || invalid(format!("{} refers to {digest}, which it does not have", item.path()));
        match &item {
            Item::Blob(_) => {}
            Item::Layer(_, of) | Item::Revision(_, of) => {
                if *of != digest || !self.blobs.contains(&digest) {
                    return Err(lacks());
                }
                self.links.links.insert(item);
            }
            Item::Tag(name, tag) => {
                if !self.links.links.contains(&Item::Revision(name.clone(), digest.clone())) {
                    return Err(lacks());
                }
                self.links.tags.insert((name.clone(), tag.clone()), digest);
            }
        }
        Ok(())
    }
}

/// Checks what an archive is of.
fn about(content: &[u8], caches: Option<&str>) -> io::Result<()> {
    let about: About = serde_json::from_slice(content).map_err(|_| foreign())?;
    if about.version != VERSION {
        return Err(invalid(format!(
            "its format has version {}, and this command reads {VERSION}; use the command that made it",
            about.version
        )));
    }
    if about.caches.as_deref() == caches {
        return Ok(());
    }
    let kind = |caches: Option<&str>| match caches {
        Some(of) => format!("a cache of {of}"),
        None => "no cache".to_owned(),
    };
    Err(invalid(format!(
        "it is of {}, which is {}, and this Registry is {}; import it into one of the same kind",
        about.registry,
        kind(about.caches.as_deref()),
        kind(caches)
    )))
}

/// Returns the content of an entry that is no blob.
fn small<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Vec<u8>> {
    let size = entry.size();
    if size > MAX_ENTRY {
        return Err(invalid("an entry is larger than those of a registry; export it again"));
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content)?;
    if content.len() as u64 == size { Ok(content) } else { Err(cut()) }
}

/// Checks a blob, and writes it to the store if that does not have it. Reports whether it did.
fn blob<R: Read, W: Write>(
    digest: &str,
    entry: &mut tar::Entry<'_, R>,
    store: &mut Option<Store<'_, W>>,
) -> io::Result<bool> {
    let (size, path) = (entry.size(), Item::Blob(digest.to_owned()).path());
    let mut hashed = Hashed { inner: Counted::new(entry), hash: Hash::of(digest) };
    if let Some(Store { has, archive }) = store
        && !has(&path, size)?
    {
        archive.append_data(&mut header(size), STAGED, &mut hashed)?;
        hashed.check(digest, size)?;
        let mut link = header(0);
        link.set_entry_type(tar::EntryType::Link);
        archive.append_link(&mut link, &path, STAGED)?;
        return Ok(true);
    }
    io::copy(&mut hashed, &mut io::sink())?;
    hashed.check(digest, size)?;
    Ok(false)
}

enum Hash {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hash {
    fn of(digest: &str) -> Self {
        if digest.starts_with("sha512:") { Self::Sha512(Sha512::new()) } else { Self::Sha256(Sha256::new()) }
    }
}

/// Reads and hashes.
struct Hashed<R> {
    inner: Counted<R>,
    hash: Hash,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let read = buffer.get(..count).unwrap_or_default();
        match &mut self.hash {
            Hash::Sha256(hash) => hash.update(read),
            Hash::Sha512(hash) => hash.update(read),
        }
        Ok(count)
    }
}

impl<R> Hashed<R> {
    fn check(self, digest: &str, size: u64) -> io::Result<()> {
        if self.inner.bytes != size {
            return Err(cut());
        }
        let is = match self.hash {
            Hash::Sha256(hash) => format!("sha256:{}", hex(&hash.finalize())),
            Hash::Sha512(hash) => format!("sha512:{}", hex(&hash.finalize())),
        };
        if is == digest {
            return Ok(());
        }
        Err(invalid(format!("its blob {digest} has another content; export or copy it again")))
    }
}

/// Writes the archive of links and tags that Docker unpacks into a storage.
pub fn write_links(out: impl Write, links: &Links) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    let mut add = |path: String, digest: &str| {
        archive.append_data(&mut header(digest.len() as u64), path, digest.as_bytes())
    };
    for item in &links.links {
        if let Item::Layer(_, digest) | Item::Revision(_, digest) = item {
            add(item.path(), digest)?;
        }
    }
    for ((name, tag), digest) in &links.tags {
        add(index_path(name, tag, digest), digest)?;
        add(Item::Tag(name.clone(), tag.clone()).path(), digest)?;
    }
    archive.into_inner()?.flush()
}
