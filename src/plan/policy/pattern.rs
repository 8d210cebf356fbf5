//! Patterns for whole values.

/// A pattern with wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

/// A part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// This character.
    Char(char),
    /// Any text without a slash.
    Segment,
    /// Any text.
    Any,
}

impl Pattern {
    /// Returns a pattern for images, in which `*` matches no slash.
    pub fn of_images(text: &str) -> Self {
        Self::new(text, Part::Segment)
    }

    /// Returns a pattern for names and arguments, in which `*` matches any text.
    pub fn of_names(text: &str) -> Self {
        Self::new(text, Part::Any)
    }

    fn new(text: &str, star: Part) -> Self {
        let mut parts = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' if chars.next_if_eq(&'*').is_some() => Part::Any,
                '*' => star,
                other => Part::Char(other),
            });
        }
        Self { text: text.to_owned(), parts }
    }

    /// Returns the text of the pattern.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reports whether the pattern matches the whole value.
    pub fn matches(&self, value: &str) -> bool {
        // Element `n` is true if the first `n` parts match the value so far, which takes no more time for any pattern.
        let mut reached = vec![false; self.parts.len() + 1];
        reached[0] = true;
        self.skip(&mut reached);
        for c in value.chars() {
            let mut next = vec![false; reached.len()];
            for (n, part) in self.parts.iter().enumerate().filter(|(n, _)| reached[*n]) {
                match part {
                    Part::Char(own) if *own == c => next[n + 1] = true,
                    Part::Any => next[n] = true,
                    Part::Segment if c != '/' => next[n] = true,
                    Part::Char(_) | Part::Segment => {}
                }
            }
            self.skip(&mut next);
            reached = next;
        }
        reached[self.parts.len()]
    }

    /// Marks what is reached because wildcards match no text.
    fn skip(&self, reached: &mut [bool]) {
        for (n, part) in self.parts.iter().enumerate() {
            if reached[n] && !matches!(part, Part::Char(_)) {
                reached[n + 1] = true;
            }
        }
    }
}

/// Reports whether a K3s argument is one that a pattern such as `--kube-apiserver-arg=*` denies. A flag without a value
/// takes it from the next argument, so a pattern with any value denies it.
pub fn denies(pattern: &str, arg: &str) -> bool {
    let (pattern, arg) = (pattern.trim_start_matches('-'), arg.trim_start_matches('-'));
    let (flag, value) = arg.split_once('=').map_or((arg, None), |(flag, value)| (flag, Some(value)));
    let (flags, values) = pattern.split_once('=').map_or((pattern, None), |(f, v)| (f, Some(v)));
    Pattern::of_names(flags).matches(flag)
        && values.zip(value).is_none_or(|(values, value)| Pattern::of_names(values).matches(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_in_their_segment_unless_they_are_two() {
        for (pattern, value, matches) in [
            ("docker.io/rancher/k3s:*", "docker.io/rancher/k3s:v1.36.2-k3s1", true),
            ("docker.io/rancher/k3s:*", "docker.io/rancher/k3s", false),
            ("docker.io/rancher/k3s:*", "docker.io/rancher/k3s-evil:v1", false),
            ("docker.io/rancher/k3s:*", "docker.io/rancher/k3s:v1/x", false),
            ("docker.io/rancher/*", "docker.io/rancher/k3s:v1", true),
            ("docker.io/*", "docker.io/rancher/k3s:v1", false),
            ("docker.io/**", "docker.io/rancher/k3s:v1", true),
            ("docker.io/**", "docker.io.evil.example/x:1", false),
            ("*/rancher/k3s:1", "evil.example/rancher/k3s:1", true),
            ("**/k3s:1", "a/b/k3s:1", true),
            ("**", "anything/at:all", true),
            ("*", "a/b", false),
            ("a**b*c", "a/x/bc", true),
            ("", "", true),
            ("", "x", false),
            ("x", "", false),
            ("*", "", true),
        ] {
            assert_eq!(Pattern::of_images(pattern).matches(value), matches, "{pattern} {value}");
        }
        assert!(Pattern::of_names("team-a-*").matches("team-a-x/y"));
        let hard = Pattern::of_images(&"*a".repeat(250));
        assert!(!hard.matches(&"a".repeat(500).replace("aaaa", "aab/")));
    }

    #[test]
    fn arguments_are_denied_in_all_their_forms() {
        for (pattern, arg, denied) in [
            ("--kube-apiserver-arg=*", "--kube-apiserver-arg=audit-log-path=/a/b", true),
            ("--kube-apiserver-arg=*", "--kube-apiserver-arg", true),
            ("--kube-apiserver-arg", "--kube-apiserver-arg=x", true),
            ("kube-apiserver-arg=*", "--kube-apiserver-arg=x", true),
            ("--kube-*", "--kube-proxy-arg=x", true),
            ("--kubelet-arg=allowed-unsafe-sysctls=*", "--kubelet-arg=max-pods=50", false),
            ("--kubelet-arg=allowed-unsafe-sysctls=*", "--kubelet-arg=allowed-unsafe-sysctls=net.*", true),
            ("--kubelet-arg=allowed-unsafe-sysctls=*", "--kubelet-arg", true),
            ("--kube-apiserver-arg=*", "--kubelet-arg=x", false),
            ("--disable=*", "--disable-kube-proxy", false),
        ] {
            assert_eq!(denies(pattern, arg), denied, "{pattern} {arg}");
        }
    }
}
