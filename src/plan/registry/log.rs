//! Log of a registry before it exits.

/// Maximum length of the reported error.
const MAX: usize = 300;

/// Returns why a registry exited, by the last lines of its log, oldest first: a panic or fatal error, its last error,
/// or its last line.
pub fn last_words(lines: &[String]) -> Option<String> {
    let find = |what: &str| lines.iter().rev().find(|line| line.contains(what));
    let line = find("panic: ")
        .or_else(|| find("level=fatal"))
        .or_else(|| find("level=error"))
        .or_else(|| lines.iter().rev().find(|line| !line.trim().is_empty()))?;
    // Without the time, so that the same cause has the same text. The message is followed by fields that every line
    // has.
    let message = line.split_once("msg=\"").map_or(line.as_str(), |(_, rest)| {
        let end = rest.char_indices().find(|(i, c)| *c == '"' && !rest[..*i].ends_with('\\'));
        end.map_or(rest, |(end, _)| &rest[..end])
    });
    Some(message.replace("\\\"", "\"").trim().chars().take(MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_in_the_noise() {
        let said = |lines: &[&str]| last_words(&lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            said(&[
                r#"time="x" level=warning msg="No HTTP secret provided""#,
                "panic: unable to configure authorization (htpasswd): no access controller registered",
                "goroutine 1 [running]:",
                "main.main()",
            ])
            .as_deref(),
            Some("panic: unable to configure authorization (htpasswd): no access controller registered")
        );
        assert_eq!(
            said(&[
                r#"time="x" level=fatal msg="open \"/etc/x\": no such file" go.version=go1.19.8 version=2"#
            ])
            .as_deref(),
            Some("open \"/etc/x\": no such file")
        );
        assert_eq!(said(&["configuration error", " "]).as_deref(), Some("configuration error"));
        assert_eq!(said(&[]), None);
    }
}
