//! Objects as JSON or YAML.

use std::io::Write;

use clap::ValueEnum;
use serde_json::Value;

use crate::cli::{Failure, Result};

/// Format for other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Json,
    Yaml,
    Name,
}

/// Format for other programs of what is no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Data {
    Json,
    Yaml,
}

impl From<Data> for Format {
    fn from(data: Data) -> Self {
        match data {
            Data::Json => Self::Json,
            Data::Yaml => Self::Yaml,
        }
    }
}

impl Format {
    /// Returns the format as kubectl knows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Name => "name",
        }
    }
}

/// Returns the name of an object as kubectl writes it.
pub(super) fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]).to_lowercase(), text(&object["metadata"]["name"]));
    format!("{kind}.localcluster.dev/{name}")
}

/// Writes a value.
pub(super) fn print(out: &mut impl Write, value: &Value, format: Format) -> Result {
    match format {
        Format::Json => writeln!(out, "{value:#}")?,
        Format::Yaml => {
            let text = serde_saphyr::to_string(value).map_err(|e| Failure::Failed(e.to_string()))?;
            write!(out, "{text}")?;
        }
        Format::Name => writeln!(out, "{}", name(value))?,
    }
    Ok(())
}
