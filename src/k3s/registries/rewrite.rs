//! Whether a rewrite does what it says once it is in containerd's file.

use std::sync::LazyLock;

use regex::Regex;
use regex_syntax::hir::{Hir, HirKind, Look};

use crate::api::rules;

static FLAGS: LazyLock<Regex> = LazyLock::new(|| regex(r"\(\?[imsU-]*[xuR]"));
static REPETITION: LazyLock<Regex> = LazyLock::new(|| regex(r"\{([0-9]+)(?:,([0-9]*))?\}"));
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| regex(r"\$(?:\$|([0-9A-Za-z_]+)|\{([0-9A-Za-z_]+)\})?"));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the patterns are constants")
}

/// What is wrong with one, and what to write instead.
pub(super) fn problem(pattern: &str, replacement: &str) -> Option<String> {
    if pattern.is_empty() {
        return Some("the pattern is empty: write a regular expression such as ^library/(.*)".into());
    }
    if pattern.len() > 255 || replacement.len() > 255 {
        return Some("it is longer than 255 characters: split it up".into());
    }
    for text in [pattern, replacement] {
        if text.contains(['\\', '"']) || text.chars().any(char::is_control) {
            return Some(
                "K3s copies it into a TOML file as it is, and a backslash, a quote or a line break makes containerd \
                 ignore all mirrors of the registry: write [.] for a dot, [0-9] for a digit"
                    .into(),
            );
        }
    }
    let compiled = match Regex::new(pattern) {
        Ok(compiled) if goes_with_re2(pattern) => compiled,
        _ => {
            return Some(
                "it is no regular expression that K3s understands (RE2, thus no lookahead and no back-references), \
                 and would be ignored: write one such as ^library/(.*)"
                    .into(),
            );
        }
    };
    if let Some(problem) = of_no_name(pattern, replacement) {
        return Some(problem);
    }
    REFERENCE.captures_iter(replacement).find_map(|reference| {
        let whole = &reference[0];
        let Some(name) = reference.get(1).or_else(|| reference.get(2)) else {
            return Some(
                "no image name has a $ in it, and one alone stands for no group: write $1 for the first group of the \
                 pattern, or leave it out"
                    .to_owned(),
            );
        };
        unknown_group(&compiled, name.as_str()).map(|instead| {
            format!("{whole} stands for a group that the pattern does not have, and becomes nothing: {instead}")
        })
    })
}

/// What can do nothing, or nothing good, since names are without registry and tag and have no slash in front.
fn of_no_name(pattern: &str, replacement: &str) -> Option<String> {
    let parsed = regex_syntax::parse(pattern).ok()?;
    let slash = |hir: &Hir| leads(hir, |h| matches!(h, HirKind::Literal(l) if l.0.starts_with(b"/")));
    let start = |hir: &Hir| leads(hir, |h| matches!(h, HirKind::Look(Look::Start)));
    let plain = replacement.trim_start_matches('/');
    if let HirKind::Concat(parts) = parsed.kind()
        && let [first, second, ..] = parts.as_slice()
        && start(first)
        && slash(second)
    {
        let pattern = pattern.replacen('/', "", 1);
        return Some(format!(
            "names have no slash in front, so that it never matches: write \"{pattern}\": \"{plain}\""
        ));
    }
    if replacement.starts_with('/') && rules::matches_at_start(pattern) {
        return Some(format!("names have no slash in front, and none with one is found: write {plain}"));
    }
    needs_colon(&parsed).then(|| {
        "names are matched without registry and tag, so that there is no colon in them and it never matches: leave the \
         colon out, and what is behind it"
            .into()
    })
}

/// Whether all that it matches begins so.
fn leads(hir: &Hir, so: impl Fn(&HirKind) -> bool + Copy) -> bool {
    match hir.kind() {
        HirKind::Capture(c) => leads(&c.sub, so),
        HirKind::Concat(parts) => parts.first().is_some_and(|first| leads(first, so)),
        HirKind::Alternation(ways) => ways.iter().all(|way| leads(way, so)),
        HirKind::Repetition(r) => r.min > 0 && leads(&r.sub, so),
        other => so(other),
    }
}

/// Whether there is a colon in all that it matches.
fn needs_colon(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Literal(l) => l.0.contains(&b':'),
        HirKind::Capture(c) => needs_colon(&c.sub),
        HirKind::Concat(parts) => parts.iter().any(needs_colon),
        HirKind::Alternation(ways) => ways.iter().all(needs_colon),
        HirKind::Repetition(r) => r.min > 0 && needs_colon(&r.sub),
        HirKind::Empty | HirKind::Class(_) | HirKind::Look(_) => false,
    }
}

fn unknown_group(pattern: &Regex, name: &str) -> Option<String> {
    let groups = pattern.captures_len() - 1;
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    let has = |number: &str| number.parse().is_ok_and(|n: usize| n <= groups);
    if digits == name.len() {
        return (!has(name)).then(|| {
            if groups == 0 {
                "put what it is to stand for into parentheses".into()
            } else {
                format!("write one from $1 to ${groups}, or put more of the pattern into parentheses")
            }
        });
    }
    if pattern.capture_names().flatten().any(|n| n == name) {
        return None;
    }
    Some(if digits > 0 && has(&name[..digits]) {
        format!("write ${{{}}}{}", &name[..digits], &name[digits..])
    } else {
        "write $1 for the first group".into()
    })
}

/// Whether Go's regular expressions mean the same by it, given that it has no backslash in it.
fn goes_with_re2(pattern: &str) -> bool {
    let nests = ["&&", "--", "~~"].iter().any(|operator| pattern.contains(operator)) && pattern.contains('[');
    let repeats_too_often = REPETITION.captures_iter(pattern).any(|c| {
        [c.get(1), c.get(2)]
            .into_iter()
            .flatten()
            .any(|n| n.as_str().parse::<u32>().map_or(!n.is_empty(), |n| n > 1000))
    });
    !nests && !repeats_too_often && !FLAGS.is_match(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrites_that_work() {
        for (pattern, replacement) in [
            ("^library/(.*)", "mirror/$1"),
            ("^(?P<org>[a-z]+)/(.*)$", "${org}-x/${2}"),
            ("^(?i)rancher/", ""),
            ("(a)(b){2,1000}[.]c", "$2/${1}x/$0"),
            // Somewhere within a name.
            ("/google_(.*)", "/$1"),
            ("(/|-)x", "/y"),
            ("^/a|b", "c"),
            // A colon that need not be there, or is none.
            ("^pause(:.*)?$", "p"),
            ("^(?:a|b:c)/(.*)", "$1"),
            ("^[[:alpha:]:]+", "x"),
        ] {
            assert_eq!(problem(pattern, replacement), None, "{pattern} {replacement}");
        }
    }

    #[test]
    fn rewrites_that_do_not() {
        for (pattern, replacement, told) in [
            ("", "a", "empty"),
            (r"^a\.b", "c", "[.]"),
            ("a\"b", "c", "TOML"),
            ("a", "b\\1", "TOML"),
            ("a", "b\nc", "TOML"),
            ("(", "c", "RE2"),
            ("a(?=b)", "c", "RE2"),
            ("(?x) a b", "c", "RE2"),
            ("a{1001}", "c", "RE2"),
            ("[a-z&&b]", "c", "RE2"),
            ("^a", "b/$1", "parentheses"),
            ("^(a)", "b/$2", "from $1 to $1"),
            ("^(a)", "b/$1x", "write ${1}x"),
            ("^(a)", "b/$x", "write $1"),
            ("^(a)", "b$", "leave it out"),
            ("^(a)", "b$$1", "leave it out"),
            (
                "^/(.*)",
                "/mirror/$1",
                "names have no slash in front, so that it never matches: write \"^(.*)\": \"mirror/$1\"",
            ),
            ("^/(.*)", "$1", "write \"^(.*)\": \"$1\""),
            ("(?i)^(/a|/b)/c", "x", "no slash in front"),
            (
                "^(.*)",
                "/mirror/$1",
                "names have no slash in front, and none with one is found: write mirror/$1",
            ),
            ("((.+))", "//mirror", "write mirror"),
            ("^rancher/mirrored-pause:(.*)", "pause:$1", "without registry and tag"),
            ("^(a|b)(:|@sha256:)+x", "c", "there is no colon in them"),
        ] {
            let problem = problem(pattern, replacement).unwrap_or_else(|| panic!("{pattern} {replacement}"));
            assert!(problem.contains(told), "{pattern} {replacement}: {problem}");
        }
    }
}
