//! An image with an id of its own in a node's containerd.
//!
//! A kubelet of v1.35 and later keeps a record of each image that it has pulled, by the image's id, which is the digest of
//! its configuration, and by the names that it was pulled under. Of an image that it never pulled it takes no notice. One
//! that was put into containerd behind its back and has the id of one that it pulled under another name, no Pod may use
//! (kubernetes/kubernetes#138175): `ErrImageNeverPull`, or a pull that nobody can serve. It keeps its records in memory, so
//! that nothing can be done about them while it runs. So what is put there has a label in its configuration that no image
//! of a registry has, and thus another id: the same layers, programs and settings.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::api::names;

/// The label in the image's configuration; its value is the image's name in containerd.
const LABEL: &str = "localcluster.dev/preloaded-as";
/// By this annotation of an archive's index, containerd names an image.
const NAME: &str = "io.containerd.image.name";

/// Some content of an image, by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// `sha256:` and the hash.
    pub digest: String,
    /// The content.
    pub content: Vec<u8>,
}

impl Blob {
    fn of(value: &Value) -> Self {
        let content = serde_json::to_vec(value).expect("JSON serializes");
        Self { digest: format!("sha256:{}", names::hex(&Sha256::digest(&content))), content }
    }
}

/// A file of an archive in OCI's layout.
pub type File = (String, Vec<u8>);

/// What of an image is made anew.
#[derive(Clone, Debug, Default)]
pub struct Own {
    blobs: Vec<Blob>,
}

/// The manifests of an index that are of images, by digest. Attestations are none: their platform is `unknown`.
pub fn manifests(index: &Value) -> Vec<String> {
    let all = index["manifests"].as_array().into_iter().flatten();
    let images = all.filter(|d| d["platform"]["os"] != "unknown");
    images.filter_map(|d| Some(d["digest"].as_str()?.to_owned())).collect()
}

/// The digest of a manifest's configuration; `None` when it is no manifest of an image.
pub fn config(manifest: &Value) -> Option<String> {
    let config = &manifest["config"];
    let image = config["mediaType"].as_str().is_none_or(|kind| kind.contains("image"));
    config["digest"].as_str().filter(|_| image && manifest["layers"].is_array()).map(str::to_owned)
}

impl Own {
    /// A manifest with this configuration, made anew for the image of this name.
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

    /// An index in which these manifests, by their old digests, are those that were made anew.
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

    /// The archive of the image of this name that `top`, an index or a manifest of this kind, is the top of. What has not
    /// changed is not in it, as containerd has it.
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

/// An object below this one, made where there is none.
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

    /// The blob that a descriptor names, which has to be what it says.
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
