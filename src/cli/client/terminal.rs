//! The user's terminal.

use std::io::{self, IsTerminal};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::docker::direct::Size;

/// Reports whether a user types and reads, instead of files or pipes.
pub(super) fn is_used() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Returns its size.
pub(super) fn size() -> Option<Size> {
    let size = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0)?;
    Some(Size { rows: size.ws_row, columns: size.ws_col })
}

/// Returns its type, by which programs know what it can show.
pub(super) fn kind() -> String {
    std::env::var("TERM").ok().filter(|kind| !kind.is_empty()).unwrap_or_else(|| "xterm".to_owned())
}

/// The terminal as programs use it that handle each key themselves, until it is dropped.
pub(super) struct Raw(Termios);

impl Raw {
    /// Passes on each key.
    pub fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Whoever took the terminal away has it.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
