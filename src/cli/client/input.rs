//! Files that a verb reads.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use crate::cli::Result;

/// Returns the content of a file that messages call `shown`; `-` is standard input.
pub(super) fn read(file: &Path, shown: &str) -> Result<String> {
    let text = if file.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(file)
    };
    Ok(text
        .map_err(|e| format!("cannot read {shown}: {e}; give the path of a file, or - for standard input"))?)
}
