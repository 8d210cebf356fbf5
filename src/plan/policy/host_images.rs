//! Images of the Docker host that the nodes of a namespace get when they ask for them.

use super::{
    access::{self, Need},
    rules::{Rules, any},
};
use crate::{docker::engine::ImageNames, k3s::images::canonical, plan::settings::Settings};

/// Reports whether the rules allow nodes to use an image, by its full name, that Docker has with these names.
///
/// An image that needs a proof of access is not served: a node pulls it from its registry, with the credentials of the
/// namespace, which proves the same.
pub fn allows(rules: &Rules, settings: &Settings, image: &str, names: &ImageNames) -> bool {
    // Docker finds images by more than their names.
    let named = names.tags.iter().any(|tag| canonical(tag) == image);
    let allowed = rules.audit || rules.preload.as_ref().is_none_or(|patterns| any(patterns, image));
    named && allowed && access::need(rules, settings, image, names) == Need::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::policy::parse;

    #[test]
    fn the_policy_says_which() {
        let rules = |images: &str| {
            let yaml = format!("{{namespaceSelector: {{}}, images: {{{images}}}}}");
            let policy = parse::policy("teams", &serde_saphyr::from_str(&yaml).unwrap());
            assert_eq!(policy.errors, [""; 0]);
            policy.rules
        };
        let names = ImageNames {
            id: "sha256:1".into(),
            tags: vec!["app:1".into(), "r.example/team-b/app:1".into()],
            digests: vec!["r.example/team-b/app@sha256:aa".into()],
        };
        let of = |rules: &Rules, image: &str| allows(rules, &Settings::sample(), image, &names);
        let (local, pulled) = ("docker.io/library/app:1", "r.example/team-b/app:1");
        assert!(of(&Rules::default(), local) && of(&Rules::default(), pulled));
        assert!(!of(&Rules::default(), "docker.io/library/app:2"), "not a name of the image");
        let listed = rules("preload: ['docker.io/library/**']");
        assert!(of(&listed, local) && !of(&listed, pulled));
        assert!(!of(&rules("preload: []"), local));
        // The content of another team's registry, and what was built by whomever.
        let proves = rules("proveAccess: true, shared: ['docker.io/library/**']");
        assert!(of(&proves, local) && !of(&proves, pulled));
        assert!(!of(&rules("proveAccess: true"), local));
        assert!(of(&Rules { audit: true, ..rules("preload: [], proveAccess: true") }, pulled));
    }
}
