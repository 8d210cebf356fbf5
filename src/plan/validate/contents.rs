//! Files, manifests and images of a cluster, and the sources of texts.

use std::collections::BTreeSet;

use super::checker::Checker;
use crate::api::{
    local_cluster::{FileEntry, KeyRef, ManifestEntry, NodeSet, TextSource},
    rules::{self, format, text},
};

/// Source of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// In the spec.
    Inline(String),
    /// In a Secret.
    Secret(KeyRef),
    /// In a ConfigMap.
    ConfigMap(KeyRef),
}

/// A file for nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidFile {
    /// Path of the file.
    pub path: String,
    /// Content of the file.
    pub content: Text,
    /// Nodes that receive it.
    pub nodes: NodeSet,
}

impl ValidFile {
    /// Returns the mode of the file.
    pub fn mode(&self) -> u32 {
        if matches!(self.content, Text::Secret(_)) { 0o600 } else { 0o644 }
    }
}

/// A manifest that K3s applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidManifest {
    /// Name of the manifest.
    pub name: String,
    /// Content of the manifest.
    pub content: Text,
}

impl Checker {
    /// Parses the images to import on all nodes.
    pub(super) fn images(&mut self, images: &[String]) -> Vec<String> {
        for (i, image) in images.iter().enumerate() {
            self.fits(format_args!("spec.preloadImages[{i}]"), image, &format::PRELOAD_IMAGE);
        }
        self.distinct("spec.preloadImages", images);
        images.to_vec()
    }

    /// Parses the manifests that have exactly one content.
    pub(super) fn manifests(&mut self, manifests: &[ManifestEntry]) -> Vec<ValidManifest> {
        self.distinct("spec.manifests", manifests.iter().map(|m| &m.name));
        let mut valid = Vec::new();
        for (i, manifest) in manifests.iter().enumerate() {
            let ManifestEntry { name, inline, secret, config_map } = manifest;
            let at = format!("spec.manifests[{i}]");
            self.fits(format_args!("{at}.name"), name, &format::MANIFEST_NAME);
            let content =
                self.content(&at, [inline_text(inline), in_secret(secret), in_config_map(config_map)]);
            valid.extend(content.map(|content| ValidManifest { name: name.clone(), content }));
        }
        valid
    }

    /// Parses the files that have exactly one content.
    pub(super) fn files(&mut self, files: &[FileEntry]) -> Vec<ValidFile> {
        let mut paths = BTreeSet::new();
        let mut valid = Vec::new();
        for (i, file) in files.iter().enumerate() {
            let FileEntry { path, inline, secret, config_map, nodes } = file;
            let at = format!("spec.files[{i}]");
            let field = format!("{at}.path");
            self.fits(&field, path, &format::FILE_PATH);
            self.refuse(&field, path, rules::FILES, "");
            self.check(paths.insert(path), "spec.files", text::TWICE);
            let content =
                self.content(&at, [inline_text(inline), in_secret(secret), in_config_map(config_map)]);
            valid.extend(content.map(|content| ValidFile { path: path.clone(), content, nodes: *nodes }));
        }
        valid
    }

    /// Returns the one content that is given.
    fn content(&mut self, at: &str, sources: [Option<Text>; 3]) -> Option<Text> {
        self.one_of(at, sources, true, text::ONE_CONTENT)
    }

    /// Parses a text that is inline or in another object.
    pub(super) fn text(&mut self, path: &str, source: &TextSource) -> Option<Text> {
        let TextSource { inline, secret_name, config_map_name, key } = source;
        let in_object = |name: &Option<String>| {
            let key = key.clone().unwrap_or_else(|| "registries.yaml".into());
            name.clone().map(|name| KeyRef { name, key })
        };
        let sources = [
            inline_text(inline),
            in_secret(&in_object(secret_name)),
            in_config_map(&in_object(config_map_name)),
        ];
        self.one_of(path, sources, key.is_none() || inline.is_none(), text::ONE_SOURCE)
    }

    /// Returns the first source; adds an error unless it is the only one and `sound`.
    fn one_of(&mut self, at: &str, sources: [Option<Text>; 3], sound: bool, message: &str) -> Option<Text> {
        let given: Vec<Text> = sources.into_iter().flatten().collect();
        self.check(given.len() == 1 && sound, at, message);
        let text = given.into_iter().next()?;
        if let Text::Secret(KeyRef { name, key }) | Text::ConfigMap(KeyRef { name, key }) = &text {
            self.object_name(at, Some(name));
            self.fits(at, key, &format::SECRET_KEY);
        }
        Some(text)
    }
}

fn inline_text(text: &Option<String>) -> Option<Text> {
    text.clone().map(Text::Inline)
}

fn in_secret(key: &Option<KeyRef>) -> Option<Text> {
    key.clone().map(Text::Secret)
}

fn in_config_map(key: &Option<KeyRef>) -> Option<Text> {
    key.clone().map(Text::ConfigMap)
}
