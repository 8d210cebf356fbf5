//! Colours, on a terminal only.

use std::io::IsTerminal;

/// Colours text, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paint {
    on: bool,
}

impl Paint {
    /// Returns colours for a stream, if it is a terminal that has them and the user wants them (`NO_COLOR`).
    pub fn of(stream: &impl IsTerminal) -> Self {
        Self { on: wanted(stream.is_terminal(), |name| std::env::var(name).ok()) }
    }

    /// Returns no colours.
    #[cfg(test)]
    pub const fn none() -> Self {
        Self { on: false }
    }

    /// Returns the text in green.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// Returns the text in red.
    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// Returns the text in yellow.
    pub fn open(self, text: &str) -> String {
        self.with("33", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn wanted(terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
    let refused = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    terminal && !refused && variable("TERM").as_deref() != Some("dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_terminals_have_colours() {
        let with = |set: Option<(&'static str, &'static str)>| {
            move |name: &str| set.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        assert!(wanted(true, with(None)) && wanted(true, with(Some(("NO_COLOR", "")))));
        assert!(!wanted(false, with(None)) && !wanted(true, with(Some(("NO_COLOR", "1")))));
        assert!(!wanted(true, with(Some(("TERM", "dumb")))));
        assert_eq!(Paint { on: true }.good("x"), "\x1b[32mx\x1b[0m");
        assert_eq!(Paint::none().bad("x"), "x");
    }
}
