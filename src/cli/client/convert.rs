//! `convert`: prints what other tools' files mean here.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;

use super::input;
use crate::cli::{Failure, Result, convert};

/// What to convert.
#[derive(Args)]
pub struct Convert {
    /// A file of k3d (Simple, v1alpha2 to v1alpha5), kind (v1alpha4) or ctlptl; - is standard input
    file: PathBuf,
}

/// Runs the verb. The result is printed even if it is invalid, since it is the place to correct it.
pub(super) fn run(Convert { file }: &Convert) -> Result {
    let shown = file.display().to_string();
    let text = input::read(file, &shown)?;
    let converted = convert::convert(&text).map_err(|why| format!("cannot convert {shown}: {why}"))?;
    let printed = converted.render().map_err(Failure::Failed)?;
    write!(io::stdout().lock(), "{printed}")?;
    if converted.problems.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!("the result needs a change: {}", converted.problems.join("; "))))
}
