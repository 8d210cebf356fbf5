//! Tar archives, with which files are copied into and out of containers.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::spec::FileSpec;

/// Returns an archive of these files, owned by root, to be unpacked at `/`.
///
/// It has no entries for directories: an entry would set mode and owner of a directory that exists in the image or a
/// volume (`/tmp` would lose its sticky bit). The engine creates missing parents with mode 0755, owned by root.
///
/// Modification times are the current time and not a constant, since K3s only processes a changed manifest, and a
/// registry a changed list of users, if its time differs.
pub fn pack(files: &[FileSpec]) -> Vec<u8> {
    pack_at(files, now())
}

/// Size of a block of an archive.
const BLOCK: usize = 512;

/// Returns the size of the archive of these files: each has two headers and a block of extensions, and the archive two blocks
/// at its end.
fn size(files: &[FileSpec]) -> usize {
    let each = files.iter().map(|file| 3 * BLOCK + file.content.len().next_multiple_of(BLOCK));
    each.sum::<usize>() + 2 * BLOCK
}

fn pack_at(files: &[FileSpec], age: Duration) -> Vec<u8> {
    // At once: one that grows takes up to three times the size of the operator's program, which is copied into containers.
    let mut archive = tar::Builder::new(Vec::with_capacity(size(files)));
    // A header has a resolution of one second, which would hide a second change within it.
    let exact = format!("{}.{:09}", age.as_secs(), age.subsec_nanos());
    for file in files {
        archive.append_pax_extensions([("mtime", exact.as_bytes())]).expect("memory takes every write");
        let mut header = header_of(file.mode, age.as_secs(), file.content.len() as u64);
        archive
            .append_data(&mut header, relative(&file.path), file.content.as_slice())
            .expect("memory takes every write and the path is plain");
    }
    archive.into_inner().expect("memory takes every write")
}

/// Returns the header of a regular file of root that anyone may read, of the current time.
pub fn header(size: u64) -> tar::Header {
    header_of(0o644, now().as_secs(), size)
}

fn header_of(mode: u32, mtime: u64, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(mtime);
    header.set_size(size);
    header
}

/// Returns the time since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the command that removes files from a container. Files that do not exist are no failure.
pub fn removal(paths: &[String]) -> Vec<String> {
    ["rm", "-f", "--"].iter().map(|arg| (*arg).to_owned()).chain(paths.iter().cloned()).collect()
}

/// Returns the path for an archive: relative and without parent components, so that no file is written elsewhere.
fn relative(path: &str) -> String {
    let parts = path.split(['/', '\0']).filter(|part| !matches!(*part, "" | "." | ".."));
    parts.collect::<Vec<_>>().join("/")
}

/// Returns the content of an archive of a single file. Returns `None` if its first entry is not a regular file: the
/// engine returns directories and symbolic links as such.
pub fn single(archive: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut archive = tar::Archive::new(archive);
    let Some(entry) = archive.entries()?.next() else { return Ok(None) };
    let mut entry = entry?;
    if entry.header().entry_type() != tar::EntryType::Regular {
        return Ok(None);
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content)?;
    // The reader treats the end of the archive as the end of the file.
    if content.len() as u64 != entry.size() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(content))
}

/// Returns the regular files in an archive of the directory `path`, by absolute path. The names in the archive start
/// with the name of the directory.
pub fn tree(archive: &[u8], path: &str) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            continue;
        }
        let name = entry.path()?.display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        if content.len() as u64 != entry.size() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        files.insert(format!("{parent}/{name}"), content);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::spec::FileChange;

    fn file(path: &str, mode: u32, content: &[u8]) -> FileSpec {
        FileSpec { path: path.into(), mode, content: content.into(), change: FileChange::Replace }
    }

    #[test]
    fn an_archive_takes_its_size_once() {
        for length in [0, 1, 511, 512, 513, 1 << 20] {
            let files = [file("/a", 0o644, &vec![7; length]), file("/b/c", 0o600, b"x")];
            let archive = pack_at(&files, Duration::from_millis(1_764_000_000_123));
            assert_eq!((archive.len(), archive.capacity()), (size(&files), size(&files)), "{length}");
        }
    }

    fn listing(archive: &[u8]) -> Vec<String> {
        tar::Archive::new(archive)
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = String::new();
                entry.read_to_string(&mut content).unwrap();
                let header = entry.header();
                format!(
                    "{:?} {} {:o} {}:{} {} {content}",
                    header.entry_type(),
                    entry.path().unwrap().display(),
                    header.mode().unwrap(),
                    header.uid().unwrap(),
                    header.gid().unwrap(),
                    header.mtime().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn files_keep_their_modes_and_no_directory_is_touched() {
        let archive = pack_at(
            &[file("/etc/rancher/k3s/registries.yaml", 0o600, b"a"), file("/tmp/b", 0o644, b"")],
            Duration::from_secs(7),
        );
        assert_eq!(
            listing(&archive),
            ["Regular etc/rancher/k3s/registries.yaml 600 0:0 7 a", "Regular tmp/b 644 0:0 7 "]
        );
    }

    #[test]
    fn times_have_fractions() {
        let archive = pack_at(&[file("/x", 0o600, b"a")], Duration::new(7, 42));
        let mut archive = tar::Archive::new(archive.as_slice());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let mut extensions = entry.pax_extensions().unwrap().unwrap().map(Result::unwrap);
        assert_eq!(extensions.next().unwrap().value(), Ok("7.000000042"));
    }

    #[test]
    fn a_path_longer_than_a_tar_header_survives() {
        let path = format!("/var/{}/x", "long/".repeat(40));
        let listing = listing(&pack_at(&[file(&path, 0o644, b"c")], Duration::ZERO));
        assert_eq!(listing.len(), 1);
        assert!(listing[0].contains("long/long/x 644"), "{listing:?}");
    }

    #[test]
    fn no_path_leads_out_of_the_root() {
        assert_eq!(relative("/../../etc//./passwd\0"), "etc/passwd");
    }

    #[test]
    fn the_one_file_of_an_archive_is_read() {
        assert_eq!(single(&pack(&[file("/x", 0o600, b"secret")])).unwrap().unwrap(), b"secret");
        assert_eq!(single(&pack(&[file("/x", 0o600, b"")])).unwrap().unwrap(), b"");
    }

    #[test]
    fn a_directory_is_read_by_absolute_paths() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        archive.append_data(&mut header, "certs.d/a:5000", io::empty()).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        archive.append_data(&mut header, "certs.d/a:5000/hosts.toml", b"x".as_slice()).unwrap();
        let bytes = archive.into_inner().unwrap();
        let files = tree(&bytes, "/etc/certs.d").unwrap();
        assert_eq!(files, BTreeMap::from([("/etc/certs.d/a:5000/hosts.toml".to_owned(), b"x".to_vec())]));
        assert_eq!(tree(&[], "/etc/certs.d").unwrap(), BTreeMap::new());
    }

    #[test]
    fn links_directories_and_nothing_are_no_file() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, "link", "target").unwrap();
        assert_eq!(single(&archive.into_inner().unwrap()).unwrap(), None);
        assert_eq!(single(&[0; 1024]).unwrap(), None);
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let archive = pack(&[file("/x", 0o600, &[1; 2000])]);
        assert!(single(&archive[..1000]).is_err());
        assert!(single(b"no archive at all").is_err());
    }
}
