//! Host directories and files that containers mount: which ones are allowed, and whether they are real ones.
//!
//! The operator cannot see the file system of the host, and a symbolic link below an allowed directory could point
//! outside it. A helper container that is created and never started therefore mounts the allowed directories, and the
//! engine is asked about each component of the rest of a path. This happens before each creation of a container that
//! mounts the path. A user who can write to a directory in the path can still create a link later; the documentation
//! says so.

use std::collections::BTreeMap;

use super::{
    containers::{Site, outdated},
    desired::Look,
    observed::HostPath,
    owner::taken,
    steps::{Action, Plan, Problem, Target},
};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    docker::{
        engine::{PathInfo, State},
        spec::{Bind, ContainerSpec, RestartPolicy, Role},
    },
};

/// Mount point of the host directories in the helper container.
const MOUNTED: &str = "/host";

/// Reports whether a path is a directory or below it.
pub fn is_within(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the longest allowed directory that contains `path`.
pub fn allowed<'a>(path: &str, allowed: &'a [String]) -> Option<&'a str> {
    allowed
        .iter()
        .filter(|prefix| is_within(path, prefix))
        .max_by_key(|prefix| prefix.len())
        .map(String::as_str)
}

/// Returns the problem of a path that must not be mounted. `field` is its field in the spec.
pub fn refusal(field: &str, path: &str, allowed: &[String]) -> Problem {
    let instead = if allowed.is_empty() {
        "allows no host directories; an administrator can allow some with --allow-host-path".to_owned()
    } else {
        format!("only allows {} and directories below (--allow-host-path)", allowed.join(", "))
    };
    let message = format!("{field}: {path} must not be mounted: the operator {instead}");
    Problem::stalls(ConditionType::Accepted, Reason::HostPathNotAllowed, message)
}

/// Returns the paths to check in the helper container, each with its path on the host, from the top.
pub fn parts(prefix: &str, path: &str) -> Vec<(String, String)> {
    let mut parts = vec![prefix.to_owned()];
    for part in path[prefix.len()..].split('/').filter(|p| !p.is_empty()) {
        parts.push(format!("{}/{part}", parts.last().expect("the first one is there")));
    }
    parts.into_iter().map(|outside| (format!("{MOUNTED}{outside}"), outside)).collect()
}

/// Returns the kind of a path from the kinds of its components, from the top as far as they are directories.
pub fn judge(path: &str, parts: &[(String, Option<PathInfo>)]) -> HostPath {
    for (part, info) in parts {
        match info {
            None => return HostPath::Missing(part.clone()),
            Some(info) if info.is_symlink => return HostPath::Link(part.clone()),
            Some(info) if info.is_dir => {}
            Some(info) if info.is_file && part == path => return HostPath::File,
            Some(_) => return HostPath::NoDirectory(part.clone()),
        }
    }
    HostPath::Directory
}

/// A host path that a container is about to mount.
pub struct Mount<'a> {
    /// The path.
    pub path: &'a str,
    /// Condition of the container.
    pub condition: ConditionType,
    /// True if it may be a regular file instead of a directory.
    pub or_file: bool,
    /// Advice if the path is a symbolic link.
    pub instead: &'a str,
}

impl Look {
    /// Creates a look at the allowed `paths` with a container of this name, role, image and labels; `None` if no path
    /// is allowed.
    pub fn new<'a>(
        (name, role, image): (String, Role, &str),
        labels: BTreeMap<String, String>,
        paths: impl IntoIterator<Item = &'a str>,
        allowed_paths: &[String],
    ) -> Option<Self> {
        let paths: BTreeMap<String, String> = paths
            .into_iter()
            .filter_map(|path| Some((path.to_owned(), allowed(path, allowed_paths)?.to_owned())))
            .collect();
        let bind = |prefix: &String| {
            let bind = Bind { source: prefix.clone(), read_only: true };
            (format!("{MOUNTED}{prefix}"), bind)
        };
        let binds = paths.values().map(bind).collect();
        let looker = ContainerSpec {
            labels,
            binds,
            restart_policy: RestartPolicy::No,
            ..ContainerSpec::bare(name, role, image)
        };
        (!paths.is_empty()).then_some(Self { looker, paths })
    }

    /// Reports whether the path of `mount`, one of its paths, is a real directory or file, so that the container may be
    /// created. If not, plans the check or adds a problem.
    pub fn is_sound(&self, plan: &mut Plan, mount: &Mount<'_>, site: &Site<'_>) -> bool {
        let Mount { path, condition, or_file, instead } = *mount;
        let no_directory = |part: &str| {
            let files = if or_file { " or a regular file" } else { "" };
            format!("{part} on the Docker host is not a directory; make {path} a directory{files}")
        };
        match site.observed.host_paths.get(path) {
            Some(HostPath::Directory) => return true,
            Some(HostPath::File) if or_file => return true,
            Some(HostPath::File) => {
                plan.stalls(condition, Reason::HostPathNotFound, no_directory(path));
                return false;
            }
            Some(HostPath::Missing(part)) => {
                let file = if or_file && part == path { "file or " } else { "" };
                let message = format!(
                    "the {file}directory {part} does not exist on the Docker host; create a directory with `mkdir -p \
                     {path}`"
                );
                plan.stalls(condition, Reason::HostPathNotFound, message);
                return false;
            }
            Some(HostPath::NoDirectory(part)) => {
                plan.stalls(condition, Reason::HostPathNotFound, no_directory(part));
                return false;
            }
            Some(HostPath::Link(part)) => {
                let message = format!(
                    "{part} on the Docker host is a symbolic link, which could point outside the directories that \
                     the operator allows; {instead}"
                );
                plan.stalls(condition, Reason::HostPathNotAllowed, message);
                return false;
            }
            None => {}
        }
        self.look(plan, path, condition, site);
        false
    }

    fn look(&self, plan: &mut Plan, path: &str, condition: ConditionType, site: &Site<'_>) {
        let looker = &self.looker;
        let looking = format!("checking {path} on the Docker host");
        // Several paths, and several containers that mount them, use the same helper container.
        let planned = |plan: &Plan| plan.steps.iter().any(|s| s.action.subject() == looker.name);
        match site.own(&looker.name) {
            Some(detail) => {
                let container = &detail.container;
                let other = outdated(site.observed, detail, looker, None);
                if other && container.state != State::Removing && !planned(plan) {
                    let target = Target::of(container);
                    plan.step(Action::RemoveContainer { container: target }, &[], "");
                }
                plan.waits(condition, Reason::Creating, looking);
            }
            None => {
                if let Some(foreign) = site.foreign(&looker.name) {
                    let message = taken(site.owner, "container", &looker.name, &foreign.id, &foreign.labels);
                    plan.stalls(condition, Reason::NameConflict, message);
                } else if site.has_image(plan, looker) {
                    plan.waits(condition, Reason::Creating, looking);
                    if !planned(plan) {
                        site.create(plan, looker, &[], "");
                    }
                }
            }
        }
    }
}

/// Plans the removal of the helper container once it is no longer needed.
pub fn forget(plan: &mut Plan, name: &str, site: &Site<'_>) {
    if let Some(detail) = site.own(name).filter(|d| d.container.state != State::Removing) {
        let container = Target::of(&detail.container);
        plan.step(Action::RemoveContainer { container }, &[], "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKET: Option<PathInfo> = Some(PathInfo { is_dir: false, is_symlink: false, is_file: false });
    const DIR: Option<PathInfo> = Some(PathInfo { is_dir: true, is_symlink: false, is_file: false });
    const LINK: Option<PathInfo> = Some(PathInfo { is_dir: false, is_symlink: true, is_file: false });
    const FILE: Option<PathInfo> = Some(PathInfo { is_dir: false, is_symlink: false, is_file: true });

    #[test]
    fn only_what_is_in_an_allowed_directory() {
        let prefixes = ["/srv".to_owned(), "/srv/deep".to_owned(), "/data".to_owned()];
        assert_eq!(allowed("/srv/a", &prefixes), Some("/srv"));
        assert_eq!(allowed("/srv", &prefixes), Some("/srv"));
        assert_eq!(allowed("/srv/deep/a/b", &prefixes), Some("/srv/deep"));
        for path in ["/srvx", "/etc", "/srv2/a", "/dat"] {
            assert_eq!(allowed(path, &prefixes), None, "{path}");
        }
        assert_eq!(allowed("/srv/a", &[]), None);
        assert!(refusal("spec.x", "/etc", &[]).message.starts_with("spec.x: /etc must not be mounted"));
        assert!(refusal("spec.x", "/etc", &[]).message.contains("--allow-host-path"));
        assert!(refusal("spec.x", "/etc", &prefixes).message.contains("/srv, /srv/deep, /data"));
    }

    #[test]
    fn every_part_is_looked_at() {
        let pairs = |list: Vec<(String, String)>| {
            list.into_iter().map(|(a, b)| format!("{a} {b}")).collect::<Vec<_>>()
        };
        assert_eq!(pairs(parts("/srv", "/srv")), ["/host/srv /srv"]);
        assert_eq!(
            pairs(parts("/srv", "/srv/a/b")),
            ["/host/srv /srv", "/host/srv/a /srv/a", "/host/srv/a/b /srv/a/b"]
        );
    }

    #[test]
    fn one_container_looks_at_all_that_is_allowed() {
        let prefixes = ["/srv".to_owned(), "/data".to_owned()];
        let container = || ("looks".to_owned(), Role::RegistryHelper, "image:1");
        let look = Look::new(container(), BTreeMap::new(), ["/srv/a", "/srv/b", "/data", "/etc"], &prefixes)
            .unwrap();
        assert_eq!(look.paths.keys().collect::<Vec<_>>(), ["/data", "/srv/a", "/srv/b"]);
        let binds: Vec<_> =
            look.looker.binds.iter().map(|(to, b)| (to.as_str(), b.source.as_str())).collect();
        assert_eq!(binds, [("/host/data", "/data"), ("/host/srv", "/srv")]);
        assert_eq!(look.looker.restart_policy, RestartPolicy::No);
        assert!(look.looker.binds.values().all(|b| b.read_only));
        assert!(Look::new(container(), BTreeMap::new(), ["/etc"], &prefixes).is_none());
    }

    #[test]
    fn a_link_anywhere_on_the_way_counts() {
        let judged = |infos: &[Option<PathInfo>]| {
            let parts: Vec<_> = infos.iter().enumerate().map(|(i, info)| (format!("/{i}"), *info)).collect();
            judge(&parts.last().unwrap().0.clone(), &parts)
        };
        assert_eq!(judged(&[DIR, DIR]), HostPath::Directory);
        assert_eq!(judged(&[DIR, LINK, DIR]), HostPath::Link("/1".into()));
        assert_eq!(judged(&[DIR, DIR, LINK]), HostPath::Link("/2".into()));
        assert_eq!(judged(&[DIR, FILE]), HostPath::File);
        assert_eq!(judged(&[DIR, FILE, DIR]), HostPath::NoDirectory("/1".into()));
        let until_file = [("/srv".to_owned(), DIR), ("/srv/file".to_owned(), FILE)];
        assert_eq!(judge("/srv/file/deep", &until_file), HostPath::NoDirectory("/srv/file".into()));
        assert_eq!(judged(&[DIR, SOCKET]), HostPath::NoDirectory("/1".into()), "such as that of Docker");
        assert_eq!(judged(&[DIR, None, LINK]), HostPath::Missing("/1".into()));
    }
}
