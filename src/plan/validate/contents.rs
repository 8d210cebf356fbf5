//! Images and manifests of a cluster.

use super::{Checker, Text};
use crate::api::{
    local_cluster::ManifestEntry,
    rules::{pattern, text},
};

/// Maximum length of the name of a manifest.
pub const MANIFEST_NAME: usize = 40;

/// A manifest that K3s applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidManifest {
    /// Name of the manifest.
    pub name: String,
    /// Content of the manifest.
    pub content: Text,
}

impl Checker {
    /// Checks the images to import on all nodes.
    pub(super) fn images(&mut self, images: &[String]) {
        for (i, image) in images.iter().enumerate() {
            let path = format!("spec.preloadImages[{i}]");
            self.shape(&path, image, pattern::TAGGED_IMAGE, 255, text::PRELOAD_IMAGE);
        }
        self.distinct("spec.preloadImages", images);
    }

    pub(super) fn manifests(&mut self, manifests: &[ManifestEntry]) -> Vec<ValidManifest> {
        let names: Vec<String> = manifests.iter().map(|m| m.name.clone()).collect();
        self.distinct("spec.manifests", &names);
        let mut valid = Vec::new();
        for (i, manifest) in manifests.iter().enumerate() {
            let at = format!("spec.manifests[{i}]");
            let name = format!("{at}.name");
            self.shape(&name, &manifest.name, pattern::LABEL, MANIFEST_NAME, text::MANIFEST_NAME);
            let (inline, secret, map) = (&manifest.inline, &manifest.secret, &manifest.config_map);
            let content = self.content(&at, inline.as_ref(), secret.as_ref(), map.as_ref());
            valid.extend(content.map(|content| ValidManifest { name: manifest.name.clone(), content }));
        }
        valid
    }
}
