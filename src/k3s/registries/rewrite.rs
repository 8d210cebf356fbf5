//! Validation of rewrites, whose effect depends on how containerd reads them.

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

/// Returns the problem of a rewrite and what to write instead.
pub(super) fn problem(pattern: &str, replacement: &str) -> Option<String> {
    if pattern.is_empty() {
        return Some("the pattern must not be empty; use a regular expression such as ^library/(.*)".into());
    }
    if pattern.len() > 255 || replacement.len() > 255 {
        return Some("must have at most 255 characters; split it".into());
    }
    for text in [pattern, replacement] {
        if text.contains(['\\', '"']) || text.chars().any(char::is_control) {
            return Some(
                "K3s copies it to a TOML file without escaping, where a backslash, a quote or a line break makes \
                 containerd ignore all mirrors of the registry; use [.] for a dot, [0-9] for a digit"
                    .into(),
            );
        }
    }
    let compiled = match Regex::new(pattern) {
        Ok(compiled) if goes_with_re2(pattern) => compiled,
        _ => {
            return Some(
                "K3s ignores it, since it is not a valid RE2 expression (without lookahead and backreferences); use \
                 one such as ^library/(.*)"
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
                "image names contain no $, and it references no group here; use $1 for the first group of the \
                 pattern, or remove it"
                    .to_owned(),
            );
        };
        unknown_group(&compiled, name.as_str()).map(|instead| {
            format!("{whole} references a group that the pattern does not have and is replaced by nothing; {instead}")
        })
    })
}

/// Returns the problem of a rewrite that never matches or produces invalid names, since names have no registry, no tag
/// and no leading slash.
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
            "never matches: image names have no leading slash; use \"{pattern}\": \"{plain}\""
        ));
    }
    if replacement.starts_with('/') && rules::matches_at_start(pattern) {
        return Some(format!(
            "produces names that do not exist: image names have no leading slash; use {plain}"
        ));
    }
    needs_colon(&parsed).then(|| {
        "never matches: names are matched without registry and tag and contain no colon; remove the colon and what \
         follows it"
            .into()
    })
}

/// Reports whether everything that the expression matches starts with such a node.
fn leads(hir: &Hir, so: impl Fn(&HirKind) -> bool + Copy) -> bool {
    match hir.kind() {
        HirKind::Capture(c) => leads(&c.sub, so),
        HirKind::Concat(parts) => parts.first().is_some_and(|first| leads(first, so)),
        HirKind::Alternation(ways) => ways.iter().all(|way| leads(way, so)),
        HirKind::Repetition(r) => r.min > 0 && leads(&r.sub, so),
        other => so(other),
    }
}

/// Reports whether everything that the expression matches contains a colon.
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
                "enclose the part of the pattern in parentheses".into()
            } else {
                format!("use $1 to ${groups}, or enclose more of the pattern in parentheses")
            }
        });
    }
    if pattern.capture_names().flatten().any(|n| n == name) {
        return None;
    }
    Some(if has(&name[..digits]) {
        format!("use ${{{}}}{}", &name[..digits], &name[digits..])
    } else {
        "use $1 for the first group".into()
    })
}

/// Reports whether Go interprets the expression in the same way, given that it contains no backslash.
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
            ("^a{2,}", "x"),
            // A slash that need not be there.
            ("^(?:/a)*b", "c"),
            (&"a".repeat(255), &"b".repeat(255)),
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
            (&"a".repeat(256), "b", "at most 255"),
            ("a", &"b".repeat(256), "at most 255"),
            ("^(?:/a)+b", "c", "no leading slash"),
            ("^(?:/a){2,}b", "c", "no leading slash"),
            ("^a", "b/$1", "parentheses"),
            ("^(a)", "b/$2", "use $1 to $1"),
            ("^(a)", "b/$1x", "use ${1}x"),
            ("^(a)", "b/$x", "use $1"),
            ("^(a)", "b/$2x", "use $1 for the first group"),
            ("^(a)", "b$", "remove it"),
            ("^(a)", "b$$1", "remove it"),
            (
                "^/(.*)",
                "/mirror/$1",
                "never matches: image names have no leading slash; use \"^(.*)\": \"mirror/$1\"",
            ),
            ("^/(.*)", "$1", "use \"^(.*)\": \"$1\""),
            ("(?i)^(/a|/b)/c", "x", "no leading slash"),
            (
                "^(.*)",
                "/mirror/$1",
                "produces names that do not exist: image names have no leading slash; use mirror/$1",
            ),
            ("((.+))", "//mirror", "use mirror"),
            ("^rancher/mirrored-pause:(.*)", "pause:$1", "without registry and tag"),
            ("^(a|b)(:|@sha256:)+x", "c", "contain no colon"),
        ] {
            let problem = problem(pattern, replacement).unwrap_or_else(|| panic!("{pattern} {replacement}"));
            assert!(problem.contains(told), "{pattern} {replacement}: {problem}");
        }
    }
}
