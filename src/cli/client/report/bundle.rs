//! Files of a report.

use std::{fmt::Display, io::Write};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

use crate::{
    cli::{Result, redact::Secrets},
    docker::{
        archive,
        spec::{FileChange, FileSpec},
    },
};

/// Directory of all files.
const ROOT: &str = "localcluster-report";

/// Files by their paths. None has a secret when they are archived: descriptions are cleaned when they are added, and all
/// of them once all secrets are known.
#[derive(Default)]
pub(super) struct Bundle {
    secrets: Secrets,
    files: Vec<(String, String)>,
    missing: Vec<String>,
}

impl Bundle {
    /// Adds a description.
    pub fn json(&mut self, path: &str, value: Value) {
        let clean = self.secrets.json(value);
        self.files.push((path.to_owned(), format!("{clean:#}\n")));
    }

    /// Adds a text.
    pub fn text(&mut self, path: &str, text: String) {
        self.files.push((path.to_owned(), text));
    }

    /// Adds a description, or why there is none.
    pub fn found(&mut self, path: &str, value: Result<Value, impl Display>) {
        match value {
            Ok(value) => self.json(path, value),
            Err(why) => self.missing(path, &why),
        }
    }

    /// Tells why a file is missing.
    pub fn missing(&mut self, path: &str, why: &dyn Display) {
        self.missing.push(format!("{path}: {why}"));
    }

    /// Returns the number of missing files.
    pub fn number_missing(&self) -> usize {
        self.missing.len()
    }

    /// Returns all files as a compressed archive.
    pub fn archive(mut self) -> Result<Vec<u8>> {
        if !self.missing.is_empty() {
            self.text("missing.txt", self.missing.join("\n") + "\n");
        }
        let file = |(path, text): &(String, String)| FileSpec {
            path: format!("{ROOT}/{path}"),
            mode: 0o600,
            content: self.secrets.text(text).into_bytes(),
            change: FileChange::Keep,
        };
        let files: Vec<FileSpec> = self.files.iter().map(file).collect();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&archive::pack(&files))?;
        Ok(encoder.finish()?)
    }
}
