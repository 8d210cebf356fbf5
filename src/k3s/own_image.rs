//! Rewriting of an image so that it has its own ID in containerd on a node.
//!
//! A kubelet of v1.35 and later records each image that it has pulled by the image ID, which is the digest of its
//! configuration, and by the names that it was pulled with. It ignores images that it never pulled. If an image is
//! imported into containerd with the ID of an image that the kubelet pulled with another name, no Pod may use it
//! (kubernetes/kubernetes#138175): `ErrImageNeverPull`, or a pull that no registry can serve. The records are kept in
//! memory, so they cannot be changed while it runs. An imported image therefore has a label in its configuration that
//! no image of a registry has, and thus another ID with the same layers, programs and settings.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::api::names;

/// Label in the image configuration; its value is the name of the image in containerd.
const LABEL: &str = "localcluster.dev/preloaded-as";
/// Annotation in the index of an archive from which containerd takes the name of an image.
const NAME: &str = "io.containerd.image.name";

/// A content blob of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Digest: `sha256:` and the hash.
    pub digest: String,
    /// Content.
    pub content: Vec<u8>,
}

impl Blob {
    fn of(value: &Value) -> Self {
        let content = serde_json::to_vec(value).expect("JSON serializes");
        Self { digest: format!("sha256:{}", names::hex(&Sha256::digest(&content))), content }
    }
}

/// A file of an archive in the OCI image layout.
pub type File = (String, Vec<u8>);

/// The rewritten parts of an image.
#[derive(Clone, Debug, Default)]
pub struct Own {
    blobs: Vec<Blob>,
}

/// Returns the digests of the image manifests in an index. Attestations are skipped: their platform is `unknown`.
pub fn manifests(index: &Value) -> Vec<String> {
    let all = index["manifests"].as_array().into_iter().flatten();
    let images = all.filter(|d| d["platform"]["os"] != "unknown");
    images.filter_map(|d| Some(d["digest"].as_str()?.to_owned())).collect()
}

/// Returns the digest of the configuration in a manifest; `None` if it is not an image manifest.
pub fn config(manifest: &Value) -> Option<String> {
    let config = &manifest["config"];
    let image = config["mediaType"].as_str().is_none_or(|kind| kind.contains("image"));
    config["digest"].as_str().filter(|_| image && manifest["layers"].is_array()).map(str::to_owned)
}

impl Own {
    /// Returns a manifest with this configuration, rewritten for the image with this name.
    pub fn manifest(&mut self, manifest: &Value, config: &Value, name: &str) -> Option<Blob> {
        let mut config = config.clone();
        let settings = object(config.as_object_mut()?, "config")?;
        object(settings, "Labels")?.insert(LABEL.to_owned(), json!(name));
        let config = Blob::of(&config);
        let mut manifest = manifest.clone();
        describe(manifest.get_mut("config")?, &config);
        self.blobs.push(config);
        Some(self.keep(&manifest))
    }

    /// Returns an index in which these manifests, by their old digests, are replaced by the rewritten ones.
    pub fn index(&mut self, index: &Value, made: &[(String, Blob)]) -> Option<Blob> {
        let mut index = index.clone();
        for descriptor in index.get_mut("manifests")?.as_array_mut()? {
            let new = made.iter().find(|(old, _)| descriptor["digest"] == *old);
            new.into_iter().for_each(|(_, blob)| describe(descriptor, blob));
        }
        Some(self.keep(&index))
    }

    fn keep(&mut self, value: &Value) -> Blob {
        let blob = Blob::of(value);
        self.blobs.push(blob.clone());
        blob
    }

    /// Returns the archive of the image with this name and the root `top`, an index or a manifest of this media type.
    /// Unchanged content is not included, since containerd has it.
    pub fn archive(&self, top: &Blob, kind: &str, name: &str) -> Vec<File> {
        let mut descriptor = json!({"mediaType": kind, "annotations": {NAME: name}});
        describe(&mut descriptor, top);
        let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
        let text = |value: Value| serde_json::to_vec(&value).expect("JSON serializes");
        let blobs = self.blobs.iter().map(|blob| {
            let hash = blob.digest.trim_start_matches("sha256:");
            (format!("blobs/sha256/{hash}"), blob.content.clone())
        });
        let head = [
            ("oci-layout".to_owned(), text(json!({"imageLayoutVersion": "1.0.0"}))),
            ("index.json".to_owned(), text(index)),
        ];
        head.into_iter().chain(blobs).collect()
    }
}

/// Returns the object at `key`, which is created if it is missing.
fn object<'a>(of: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let value = of.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}

fn describe(descriptor: &mut Value, blob: &Blob) {
    descriptor["digest"] = json!(blob.digest);
    descriptor["size"] = json!(blob.content.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": "sha256:c", "size": 9},
            "layers": [{"digest": "sha256:l", "size": 5}],
        })
    }

    fn of(files: &[File], path: &str) -> Value {
        let file = files.iter().find(|(name, _)| name == path);
        serde_json::from_slice(&file.unwrap_or_else(|| panic!("no {path}")).1).unwrap()
    }

    /// Returns the blob that a descriptor references, which must match it.
    fn follow(files: &[File], descriptor: &Value) -> Value {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let path = format!("blobs/sha256/{digest}");
        let content = &files.iter().find(|(name, _)| *name == path).unwrap().1;
        assert_eq!(names::hex(&Sha256::digest(content)), digest);
        assert_eq!(descriptor["size"], content.len());
        of(files, &path)
    }

    #[test]
    fn the_same_image_with_another_id() {
        assert_eq!(config(&manifest()).as_deref(), Some("sha256:c"));
        for settings in
            [json!({}), json!({"config": null}), json!({"config": {"Cmd": ["sh"], "Labels": null}})]
        {
            let mut own = Own::default();
            let top = own.manifest(&manifest(), &settings, "localhost/app:1").unwrap();
            let files =
                own.archive(&top, "application/vnd.docker.distribution.manifest.v2+json", "localhost/app:1");
            let descriptor = of(&files, "index.json")["manifests"][0].clone();
            assert_eq!(descriptor["annotations"]["io.containerd.image.name"], "localhost/app:1");
            let made = follow(&files, &descriptor);
            assert_eq!(made["layers"], manifest()["layers"]);
            let config = follow(&files, &made["config"]);
            assert_eq!(config["config"]["Labels"][LABEL], "localhost/app:1");
            assert_eq!(config["config"]["Cmd"], settings["config"]["Cmd"]);
        }
    }

    #[test]
    fn an_index_keeps_what_is_not_there() {
        let index = json!({"schemaVersion": 2, "manifests": [
            {"digest": "sha256:amd", "size": 1, "platform": {"os": "linux", "architecture": "amd64"}},
            {"digest": "sha256:arm", "size": 2, "platform": {"os": "linux", "architecture": "arm64"}},
            {"digest": "sha256:att", "size": 3, "platform": {"os": "unknown", "architecture": "unknown"}},
        ]});
        assert_eq!(manifests(&index), ["sha256:amd", "sha256:arm"]);
        let mut own = Own::default();
        let amd = own.manifest(&manifest(), &json!({}), "a").unwrap();
        let top = own.index(&index, &[("sha256:amd".into(), amd.clone())]).unwrap();
        let files = own.archive(&top, "application/vnd.oci.image.index.v1+json", "a");
        let made = follow(&files, &of(&files, "index.json")["manifests"][0]);
        let digests: Vec<_> =
            made["manifests"].as_array().unwrap().iter().map(|d| d["digest"].clone()).collect();
        assert_eq!(digests, [amd.digest.as_str(), "sha256:arm", "sha256:att"]);
        assert_eq!(made["manifests"][0]["platform"]["architecture"], "amd64");
        follow(&files, &made["manifests"][0]);
    }

    #[test]
    fn what_is_no_image_has_no_configuration() {
        assert_eq!(config(&json!({"config": {"digest": "sha256:c"}})), None, "no manifest");
        let artifact = json!({"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": "x"}, "layers": []});
        assert_eq!(config(&artifact), None);
    }
}
