//! The files of a registry's storage, and the archive that `localcluster registry export` makes of them. **Pure.**
//!
//! An archive is a tar file: [`ABOUT`] first, then blobs, then links, then tags, and [`END`] last. A reader that got as far as
//! the tags has seen all that they need, and one that has not got to the end knows that the archive was cut short.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Directory of the images below the data directory of a registry.
pub const ROOT: &str = "docker/registry/v2";
/// First entry of an archive.
pub const ABOUT: &str = "localcluster-registry.json";
/// Last entry of an archive, with the number of those between the two.
pub const END: &str = "localcluster-registry.end";
/// Version of the format.
pub const VERSION: u32 = 1;
/// Maximum size of a manifest in bytes: registries accept no larger ones.
pub const MAX_MANIFEST: u64 = 4 << 20;

/// What an archive is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Version of the format.
    pub version: u32,
    /// Registry, as `namespace/name`.
    pub registry: String,
    /// Registry that it caches, as image names begin; `None` if it is no cache.
    pub caches: Option<String>,
}

/// A file of the storage. They are in the order of an archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// Content with this digest.
    Blob(String),
    /// Statement that a repository has this layer or configuration.
    Layer(String, String),
    /// Statement that a repository has the manifest with this digest.
    Revision(String, String),
    /// Current image of a tag of a repository.
    Tag(String, String),
}

impl Item {
    /// Returns what the file at a path below the data directory is; `None` if it is no part of images: an upload, or
    /// what no registry would write there.
    pub fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix(ROOT)?.strip_prefix('/')?.split('/').collect();
        if let ["blobs", algorithm, begin, hex, "data"] = parts[..] {
            let digest = digest(algorithm, hex)?;
            return (hex.get(..2) == Some(begin)).then_some(Self::Blob(digest));
        }
        let (first, parts) = parts.split_first()?;
        let at = parts.iter().position(|part| part.starts_with('_')).filter(|at| *at > 0)?;
        let (name, rest) = parts.split_at(at);
        if *first != "repositories" || !name.iter().all(|part| is_component(part)) {
            return None;
        }
        let name = name.join("/");
        match *rest {
            ["_layers", algorithm, hex, "link"] => Some(Self::Layer(name, digest(algorithm, hex)?)),
            ["_manifests", "revisions", algorithm, hex, "link"] => {
                Some(Self::Revision(name, digest(algorithm, hex)?))
            }
            ["_manifests", "tags", tag, "current", "link"] if is_tag(tag) => {
                Some(Self::Tag(name, tag.to_owned()))
            }
            _ => None,
        }
    }

    /// Returns its path below the data directory.
    pub fn path(&self) -> String {
        match self {
            Self::Blob(digest) => {
                let (algorithm, hex) = split(digest);
                format!("{ROOT}/blobs/{algorithm}/{}/{hex}/data", hex.get(..2).unwrap_or_default())
            }
            Self::Layer(name, digest) => {
                format!("{ROOT}/repositories/{name}/_layers/{}/link", split_path(digest))
            }
            Self::Revision(name, digest) => {
                format!("{ROOT}/repositories/{name}/_manifests/revisions/{}/link", split_path(digest))
            }
            Self::Tag(name, tag) => format!("{ROOT}/repositories/{name}/_manifests/tags/{tag}/current/link"),
        }
    }

    /// Returns the place of its kind in an archive.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Blob(_) => 0,
            Self::Layer(..) | Self::Revision(..) => 1,
            Self::Tag(..) => 2,
        }
    }
}

/// Returns the path of the statement that an image was that of a tag, which registries keep for each push.
pub fn index_path(name: &str, tag: &str, digest: &str) -> String {
    format!("{ROOT}/repositories/{name}/_manifests/tags/{tag}/index/{}/link", split_path(digest))
}

/// Returns a digest in the form that registries write, from its parts.
fn digest(algorithm: &str, hex: &str) -> Option<String> {
    let length = match algorithm {
        "sha256" => 64,
        "sha512" => 128,
        _ => return None,
    };
    let is_hex = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (hex.len() == length && is_hex).then(|| format!("{algorithm}:{hex}"))
}

/// Returns the digest that a link contains; `None` if it has none, as one that is being written.
pub fn linked(content: &[u8]) -> Option<String> {
    let (algorithm, hex) = std::str::from_utf8(content).ok()?.split_once(':')?;
    digest(algorithm, hex)
}

fn split(digest: &str) -> (&str, &str) {
    digest.split_once(':').unwrap_or((digest, ""))
}

fn split_path(digest: &str) -> String {
    digest.replacen(':', "/", 1)
}

/// Reports whether a text can be a part of the name of a repository: in none of them is `..`.
fn is_component(part: &str) -> bool {
    part.len() <= 255
        && part.starts_with(|c: char| c.is_ascii_alphanumeric())
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

fn is_tag(tag: &str) -> bool {
    let is = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128 && tag.starts_with(is) && tag.chars().all(|c| is(c) || matches!(c, '.' | '-'))
}

/// Returns the digests that a manifest needs to be pulled: not what it merely refers to, nor layers that clients get
/// elsewhere.
pub fn needs(manifest: &[u8]) -> Vec<String> {
    let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let list = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
    let all = [list("manifests"), list("layers"), list("blobs"), vec![manifest["config"].clone()]];
    let here = all.into_iter().flatten().filter(|of| of["urls"].as_array().is_none_or(Vec::is_empty));
    let old = list("fsLayers").into_iter().map(|layer| layer["blobSum"].clone());
    let digests = here.map(|of| of["digest"].clone()).chain(old);
    digests.filter_map(|digest| linked(digest.as_str()?.as_bytes())).collect()
}

/// Links and tags of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Layers and revisions.
    pub links: BTreeSet<Item>,
    /// Digests of tags, by repository and tag.
    pub tags: BTreeMap<(String, String), String>,
}

/// Blobs of a registry.
#[derive(Clone, Debug, Default)]
pub struct Blobs {
    /// Their digests.
    pub there: BTreeSet<String>,
    /// What manifests among them need.
    pub needs: BTreeMap<String, Vec<String>>,
}

impl Blobs {
    /// Returns what is missing of an image in a repository, in words. A cache has only what was asked for: the manifest is
    /// enough.
    pub fn missing(&self, links: &Links, (name, digest): (&str, &str), is_cache: bool) -> Option<String> {
        let has = |digest: &String| links.links.contains(&Item::Revision(name.to_owned(), digest.clone()));
        let mut waiting = vec![digest.to_owned()];
        let mut seen = BTreeSet::new();
        if !has(&waiting[0]) {
            return Some(format!("the manifest {digest}"));
        }
        while let Some(next) = waiting.pop() {
            if !self.there.contains(&next) {
                return Some(next);
            }
            if !is_cache && seen.insert(next.clone()) {
                waiting.extend(self.needs.get(&next).into_iter().flatten().cloned());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(c: char) -> String {
        c.to_string().repeat(64)
    }

    #[test]
    fn what_a_file_is_is_in_its_path() {
        let (a, name) = (format!("sha256:{}", hex('a')), "team/app_1".to_owned());
        for item in [
            Item::Blob(a.clone()),
            Item::Layer(name.clone(), a.clone()),
            Item::Revision(name.clone(), a.clone()),
            Item::Tag(name.clone(), "v1.0_x-y".into()),
            Item::Blob(format!("sha512:{}", hex('b').repeat(2))),
        ] {
            assert_eq!(Item::parse(&item.path()), Some(item));
        }
        let a = hex('a');
        for path in [
            "docker/registry/v2/../../../etc/passwd".to_owned(),
            "/etc/passwd".into(),
            format!("docker/registry/v2/blobs/sha256/ab/{a}/data"),
            format!("docker/registry/v2/blobs/sha256/aa/{}/data", &a[1..]),
            format!("docker/registry/v2/blobs/sha256/AA/{}/data", hex('A')),
            format!("docker/registry/v2/blobs/md5/aa/{a}/data"),
            format!("/docker/registry/v2/blobs/sha256/aa/{a}/data"),
            format!("docker/registry/v2/repositories/../_layers/sha256/{a}/link"),
            format!("docker/registry/v2/repositories/app/../../x/_layers/sha256/{a}/link"),
            format!("docker/registry/v2/repositories//_layers/sha256/{a}/link"),
            format!("docker/registry/v2/repositories/_layers/sha256/{a}/link"),
            "docker/registry/v2/repositories/app/_manifests/tags/../current/link".into(),
            "docker/registry/v2/repositories/app/_uploads/x/data".into(),
            "docker/registry/v2".into(),
            "scheduler-state.json".into(),
            String::new(),
        ] {
            assert_eq!(Item::parse(&path), None, "{path}");
        }
    }

    #[test]
    fn an_image_needs_what_is_pulled_with_it() {
        let [a, b, c, d] = ['a', 'b', 'c', 'd'].map(|c| format!("sha256:{}", hex(c)));
        let image = serde_json::json!({
            "config": {"digest": a}, "subject": {"digest": d},
            "layers": [{"digest": b}, {"digest": c, "urls": ["https://elsewhere"]}, {"digest": "md5:x"}],
        });
        assert_eq!(needs(image.to_string().as_bytes()), [b.clone(), a.clone()]);
        let index = serde_json::json!({"manifests": [{"digest": a}, {"digest": b}]});
        assert_eq!(needs(index.to_string().as_bytes()), [a.clone(), b]);
        assert_eq!(needs(format!(r#"{{"fsLayers": [{{"blobSum": "{a}"}}]}}"#).as_bytes()), [a]);
        assert_eq!(needs(b"no json"), [] as [String; 0]);
    }

    #[test]
    fn an_image_is_whole_with_all_that_it_needs() {
        let [image, layer] = ['a', 'b'].map(|c| format!("sha256:{}", hex(c)));
        let mut links = Links::default();
        let mut blobs = Blobs::default();
        let missing =
            |blobs: &Blobs, links: &Links, cache| blobs.missing(links, ("app", image.as_str()), cache);
        assert!(missing(&blobs, &links, true).unwrap().contains("the manifest"));
        links.links.insert(Item::Revision("app".into(), image.clone()));
        assert_eq!(missing(&blobs, &links, true).as_ref(), Some(&image));
        blobs.there.insert(image.clone());
        blobs.needs.insert(image.clone(), vec![layer.clone(), image.clone()]);
        assert_eq!(missing(&blobs, &links, true), None);
        assert_eq!(missing(&blobs, &links, false).as_ref(), Some(&layer));
        blobs.there.insert(layer);
        assert_eq!(missing(&blobs, &links, false), None);
    }
}
