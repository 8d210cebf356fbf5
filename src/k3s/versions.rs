//! K3s versions and image tags: `v1.36.2+k3s1` is the tag `v1.36.2-k3s1`, since a tag cannot contain `+`.

use std::cmp::Ordering;

/// Returns the tag of the image of a version.
pub fn tag(version: &str) -> String {
    version.replace('+', "-")
}

/// Returns the version of a node image by the tag of its reference; `None` if it is not a K3s tag.
pub fn of_image(reference: &str) -> Option<String> {
    let name = reference.split('@').next()?;
    let tag = name.rsplit('/').next()?.split_once(':')?.1;
    let (base, build) = tag.rsplit_once("-k3s")?;
    let build: String = build.chars().take_while(char::is_ascii_digit).collect();
    let version = format!("{base}+k3s{build}");
    Version::parse(&version).map(|_| version)
}

/// A comparable version. Unlike in semantic versioning, the build number counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Major, minor and patch version.
    pub numbers: [u64; 3],
    /// Pre-release such as `rc1`; a version without one is higher.
    pub pre: Option<String>,
    /// Number after `+k3s`.
    pub build: u64,
}

impl Version {
    /// Parses `v1.36.2+k3s1` or `v1.36.2-rc1+k3s1`.
    pub fn parse(text: &str) -> Option<Self> {
        let (core, build) = text.strip_prefix('v')?.split_once("+k3s")?;
        let (numbers, pre) = match core.split_once('-') {
            Some((n, p)) => (n, Some(p.to_owned())),
            None => (core, None),
        };
        let mut parts = numbers.split('.').map(|p| p.parse().ok());
        let numbers = [parts.next()??, parts.next()??, parts.next()??];
        if parts.next().is_some() {
            return None;
        }
        Some(Self { numbers, pre, build: build.parse().ok()? })
    }

    /// Reports whether K3s knows mirrors of all registries, and containerd still asks the registry itself after them.
    pub fn has_mirrors_of_all(&self) -> bool {
        let [major, minor, patch] = self.numbers;
        if major > 1 {
            return true;
        }
        match minor {
            ..26 => false,
            26 => patch >= 15,
            27 => patch >= 12,
            28 => patch >= 8,
            29 => patch >= 3,
            // k3s-io/k3s#11857
            31 => patch != 6,
            32 => patch != 2,
            _ => true,
        }
    }

    /// Reports whether the kubelet rejects hosts with cgroup v1 by default (Kubernetes 1.35 and later).
    pub fn refuses_cgroup_v1(&self) -> bool {
        (self.numbers[0], self.numbers[1]) >= (1, 35)
    }
}

impl std::fmt::Display for Version {
    /// Formats the version as K3s does.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "v{major}.{minor}.{patch}")?;
        if let Some(pre) = &self.pre {
            write!(f, "-{pre}")?;
        }
        write!(f, "+k3s{}", self.build)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let pre = |v: &Self| (v.pre.is_none(), v.pre.clone());
        (self.numbers, pre(self), self.build).cmp(&(other.numbers, pre(other), other.build))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_versions_convert() {
        assert_eq!(tag("v1.36.2+k3s1"), "v1.36.2-k3s1");
        for (image, version) in [
            ("docker.io/rancher/k3s:v1.36.2-k3s1", Some("v1.36.2+k3s1")),
            ("localhost:5000/k3s:v1.36.1-rc1-k3s2-amd64@sha256:00", Some("v1.36.1-rc1+k3s2")),
            ("rancher/k3s:latest", None),
            ("localhost:5000/k3s", None),
        ] {
            assert_eq!(of_image(image).as_deref(), version, "{image}");
        }
    }

    #[test]
    fn mirrors_of_all_registries_are_known_to_some() {
        let knows = |version: &str| Version::parse(version).unwrap().has_mirrors_of_all();
        for (first, before) in [
            ("v1.26.15", "v1.26.14"),
            ("v1.27.12", "v1.27.11"),
            ("v1.28.8", "v1.28.7"),
            ("v1.29.3", "v1.29.2"),
        ] {
            assert!(knows(&format!("{first}+k3s1")) && !knows(&format!("{before}+k3s1")), "{first}");
        }
        for broken in ["v1.25.16+k3s4", "v1.31.6+k3s1", "v1.32.2+k3s1"] {
            assert!(!knows(broken), "{broken}");
        }
        for good in
            ["v1.30.0+k3s1", "v1.31.5+k3s1", "v1.31.7+k3s1", "v1.32.3+k3s1", "v1.36.2+k3s1", "v2.0.0+k3s1"]
        {
            assert!(knows(good), "{good}");
        }
    }

    #[test]
    fn respins_and_candidates_are_ordered() {
        let mut v = ["v1.36.2+k3s10", "v1.36.2+k3s2", "v1.36.2-rc1+k3s1", "v1.9.0+k3s1"]
            .map(|t| Version::parse(t).unwrap());
        v.sort();
        assert_eq!(v.map(|v| (v.numbers[1], v.build)), [(9, 1), (36, 1), (36, 2), (36, 10)]);
        for text in ["v1.36.1-rc1+k3s2", "v1.36.2+k3s1"] {
            assert_eq!(Version::parse(text).unwrap().to_string(), text);
        }
        let old = |text| Version::parse(text).unwrap().refuses_cgroup_v1();
        assert!(!old("v1.34.9+k3s1") && old("v1.35.0+k3s1") && old("v2.0.0+k3s1"));
        assert!(Version::parse("v1.36+k3s1").is_none() && Version::parse("1.36.2+k3s1").is_none());
    }
}
