//! Images of the Docker host that a namespace may use: with `images.proveAccess`, an image counts as present once the
//! namespace has shown that it can read this content in a registry.
//!
//! The proof is for the content and not for its name: who controls the name in a registry may put other content there, and
//! would get the image that the host has under that name.

use super::rules::{Rules, any};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    docker::{engine::ImageNames, error::Error},
    k3s::images::canonical,
    plan::{
        observed::Unproven,
        settings::Settings,
        steps::{Plan, Problem},
    },
};

/// Number of references that one proof tries.
const TRIED: usize = 4;

/// What makes an image of the Docker host one that a namespace may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The policy allows it.
    Nothing,
    /// One of these references, by digest, can be read in its registry.
    OneOf(Vec<String>),
    /// No registry is known to have its content.
    Registry,
}

/// Reports whether the rules require a proof for an image. Those of the repositories of the operator's own images need
/// none: other tags of them are those of other versions.
pub fn is_required(rules: &Rules, settings: &Settings, image: &str) -> bool {
    let operators = || {
        let Settings { node_image_repository, load_balancer_image, registry_image, .. } = settings;
        let own = canonical(repository(image));
        [node_image_repository, load_balancer_image, registry_image]
            .map(|i| canonical(repository(i)))
            .contains(&own)
    };
    rules.prove_access && !rules.audit && !operators()
}

/// Returns what the namespace has to show for an image with these names on the Docker host.
pub fn need(rules: &Rules, settings: &Settings, image: &str, names: &ImageNames) -> Need {
    if !is_required(rules, settings, image) {
        return Need::Nothing;
    }
    let (full, own) = (canonical(image), canonical(repository(image)));
    let digest = image.split_once('@').map(|(_, digest)| digest);
    let known: Vec<String> = names
        .digests
        .iter()
        .filter_map(|name| name.split_once('@'))
        .filter(|(name, its)| canonical(name) == own && digest.is_none_or(|digest| digest == *its))
        .map(|(name, digest)| format!("{name}@{digest}"))
        .take(TRIED)
        .collect();
    // Docker also finds an image by a part of its ID, which is not its name.
    let tagged = names.tags.iter().any(|tag| canonical(tag) == with_tag(&full));
    if any(&rules.shared, &full) && (tagged || !known.is_empty()) {
        return Need::Nothing;
    }
    if known.is_empty() { Need::Registry } else { Need::OneOf(known) }
}

/// Returns an image reference without its tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

fn with_tag(image: &str) -> String {
    let tagged = image.contains('@') || repository(image) != image;
    if tagged { image.to_owned() } else { format!("{image}:latest") }
}

/// Requests a proof of access to an image, and adds the problem that it is missing.
pub fn prove(plan: &mut Plan, condition: ConditionType, image: &str, unproven: &Unproven) {
    // A failed proof is requested too: who asks the registry decides when to retry.
    if *unproven != Unproven::NoRegistry && !plan.proofs.iter().any(|asked| asked == image) {
        plan.proofs.push(image.to_owned());
    }
    plan.problems.push(problem(condition, image, unproven));
}

fn problem(condition: ConditionType, image: &str, unproven: &Unproven) -> Problem {
    let reason = Reason::ImageAccessNotProven;
    let cure = "have an administrator add it to images.shared of the HostPolicy";
    let error = match unproven {
        Unproven::Asking => {
            let message = format!("checking in its registry that this namespace can read {image}");
            return Problem::waits(condition, Reason::CheckingImageAccess, message);
        }
        Unproven::NoRegistry => {
            let message = format!(
                "cannot use {image} of the Docker host: it is of no registry that could show access to it; push it to a \
                 registry and pull it from there, or {cure}"
            );
            return Problem::stalls(condition, reason, message);
        }
        Unproven::Failed(error) => error,
    };
    if error.is_refusal() || matches!(error, Error::NotFound(_)) {
        let message = format!(
            "cannot use {image} of the Docker host: its registry does not let this namespace read it: {error}; set \
             credentials for the registry in spec.imagePullSecret of a LocalCluster, or {cure}"
        );
        return Problem::stalls(condition, reason, message);
    }
    let message =
        format!("failed to check in its registry that this namespace can read {image}: {error}; retrying");
    Problem::waits(condition, reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{policy::parse, steps::Verdict};

    fn rules(images: &str) -> Rules {
        let yaml = format!("{{namespaceSelector: {{}}, images: {{{images}}}}}");
        let policy = parse::policy("teams", &serde_saphyr::from_str(&yaml).unwrap());
        assert_eq!(policy.errors, [""; 0]);
        policy.rules
    }

    fn settings() -> Settings {
        Settings {
            node_image_repository: "rancher/k3s".into(),
            load_balancer_image: "docker.io/library/nginx:1.29".into(),
            registry_image: "registry:3".into(),
            ..Settings::sample()
        }
    }

    fn names(tags: &[&str], digests: &[&str]) -> ImageNames {
        let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        ImageNames { id: "sha256:1".into(), tags: owned(tags), digests: owned(digests) }
    }

    #[test]
    fn a_proof_is_for_the_content_that_the_host_has() {
        let rules = rules("proveAccess: true");
        let of = |image: &str, names: &ImageNames| need(&rules, &settings(), image, names);
        let one = |reference: &str| Need::OneOf(vec![reference.to_owned()]);
        let pulled = names(&["r.example/team-b/app:1"], &["r.example/team-b/app@sha256:aa", "app@sha256:bb"]);
        assert_eq!(of("r.example/team-b/app:1", &pulled), one("r.example/team-b/app@sha256:aa"));
        assert_eq!(of("r.example/team-b/app", &pulled), one("r.example/team-b/app@sha256:aa"));
        assert_eq!(of("docker.io/library/app:1@sha256:bb", &pulled), one("app@sha256:bb"));
        // Content of a repository that somebody else can create, and another digest.
        assert_eq!(of("other/app:1", &pulled), Need::Registry);
        assert_eq!(of("app:1@sha256:aa", &pulled), Need::Registry);
        // Docker finds an image by its ID.
        assert_eq!(of("sha256:1", &pulled), Need::Registry);
        assert_eq!(of("dev:1", &names(&["dev:1"], &[])), Need::Registry);
        // The same name with a port.
        let local = names(&[], &["localhost:5000/app@sha256:cc"]);
        assert_eq!(of("localhost:5000/app", &local), one("localhost:5000/app@sha256:cc"));
    }

    #[test]
    fn images_of_the_operator_and_shared_ones_need_none() {
        let rules =
            rules("proveAccess: true, shared: ['docker.io/library/dev:*', 'docker.io/library/sha256:*']");
        let of = |image: &str, tags: &[&str]| need(&rules, &settings(), image, &names(tags, &[]));
        for image in ["rancher/k3s:v1.36.2-k3s1", "docker.io/rancher/k3s:v1", "registry:2", "nginx:1.27"] {
            assert_eq!(of(image, &[]), Need::Nothing, "{image}");
        }
        for image in ["rancher/k3s-private:v1", "evil.example/rancher/k3s:v1", "a/registry:3"] {
            assert_eq!(of(image, &[image]), Need::Registry, "{image}");
        }
        assert_eq!(of("dev:1", &["dev:1"]), Need::Nothing);
        // Docker found it by a part of its ID; or it has the name by its digest alone.
        assert_eq!(of("dev:1", &["r.example/team-b/app:1"]), Need::Registry);
        let pulled = names(&[], &["dev@sha256:aa"]);
        assert_eq!(need(&rules, &settings(), "dev:1", &pulled), Need::Nothing);
        assert_eq!(of("sha256:1", &["r.example/team-b/app:1"]), Need::Registry);
        let audits = Rules { audit: true, ..rules.clone() };
        assert!(
            !is_required(&audits, &settings(), "x:1") && !is_required(&Rules::default(), &settings(), "x:1")
        );
    }

    #[test]
    fn what_is_missing_is_told_and_asked_for_once() {
        let refusal = Error::Pull("unauthorized: authentication required".into());
        let away = Error::Pull("dial tcp: connection refused".into());
        let mut plan = Plan::default();
        let states = [
            (Unproven::Asking, Verdict::Waits, "checking in its registry"),
            (Unproven::Failed(refusal), Verdict::Stalls, "set credentials"),
            (Unproven::Failed(away), Verdict::Waits, "retrying"),
            (Unproven::NoRegistry, Verdict::Stalls, "images.shared"),
        ];
        for (unproven, _, _) in &states {
            prove(&mut plan, ConditionType::ImagesReady, "x:1", unproven);
        }
        for (problem, (_, verdict, told)) in plan.problems.iter().zip(&states) {
            assert!(problem.verdict == *verdict && problem.message.contains(told), "{problem:?}");
        }
        assert_eq!((plan.problems.len(), plan.proofs), (4, vec!["x:1".to_owned()]));
        let mut plan = Plan::default();
        prove(&mut plan, ConditionType::ImagesReady, "x:1", &Unproven::NoRegistry);
        assert!(plan.proofs.is_empty());
    }
}
