//! `--dry-run=client`: what a verb would change.

use clap::{Args, ValueEnum};

/// Whether to change anything.
#[derive(Args, Clone, Copy, Debug)]
pub struct DryRun {
    /// Tells what would be changed, and changes nothing
    #[arg(long, value_name = "client")]
    dry_run: Option<Place>,
}

/// Where a dry run ends.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Place {
    Client,
}

impl DryRun {
    /// Reports whether nothing is to be changed.
    pub fn is_wanted(self) -> bool {
        self.dry_run.is_some()
    }
}

/// Prints what would be changed.
pub(super) fn told(what: &str) {
    eprintln!("{what} (dry run)");
}
