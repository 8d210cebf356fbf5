//! Whether a rewrite does what it says once it is in containerd's file.

use std::sync::LazyLock;

use regex::Regex;

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
        ] {
            let problem = problem(pattern, replacement).unwrap_or_else(|| panic!("{pattern} {replacement}"));
            assert!(problem.contains(told), "{pattern} {replacement}: {problem}");
        }
    }
}
