//! Objects as JSON or YAML.

use std::io::Write;

use clap::ValueEnum;
use serde_json::Value;

use crate::cli::{Failure, Result};

/// Format for other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Writes a value.
pub(super) fn print(out: &mut impl Write, value: &Value, format: Format) -> Result {
    match format {
        Format::Json => writeln!(out, "{value:#}")?,
        Format::Yaml => {
            let text = serde_saphyr::to_string(value).map_err(|e| Failure::Failed(e.to_string()))?;
            write!(out, "{text}")?;
        }
    }
    Ok(())
}
