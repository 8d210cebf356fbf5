use std::collections::BTreeMap;

use super::*;
use crate::{
    docker::{
        engine::{Container, ContainerDetail, State},
        spec::{FileChange, FileSpec, Role},
    },
    plan::{
        observed::{Host, ImageState, Observed},
        owner::Owner,
    },
};

fn owner() -> Owner {
    Owner { uid: "uid".into(), manager: "manager".into(), object: "default/images".into() }
}

fn spec(files: &[(&str, &str, FileChange)]) -> ContainerSpec {
    let files = files.iter().map(|(path, content, change)| FileSpec {
        path: (*path).into(),
        mode: 0o600,
        content: content.as_bytes().to_vec(),
        change: *change,
    });
    ContainerSpec {
        labels: owner().labels(),
        files: files.collect(),
        ..ContainerSpec::bare("images", Role::Registry, "registry:3")
    }
}

/// Returns a container created from `spec`, with the content of the files that were read from it.
fn seen(spec: &ContainerSpec, state: State, files: &[(&str, Option<&str>)]) -> Observed {
    let mut labels = spec.labels.clone();
    labels.insert(names::SPEC_HASH.into(), hash::of(spec, None));
    let started_at = (state != State::Created).then(|| jiff::Timestamp::from_second(1).unwrap());
    let container =
        Container { id: "1".into(), name: spec.name.clone(), labels, state, ..Container::default() };
    let detail = ContainerDetail {
        container: container.clone(),
        started_at,
        restart_policy: spec.restart_policy,
        ..ContainerDetail::default()
    };
    let hashed = |content: &str| {
        FileSpec {
            path: String::new(),
            mode: 0,
            content: content.as_bytes().to_vec(),
            change: FileChange::Keep,
        }
        .sha256()
    };
    let host = Host {
        containers: vec![container],
        own: BTreeMap::from([("1".to_owned(), detail)]),
        ..Host::default()
    };
    Observed {
        images: BTreeMap::from([(spec.image.clone(), ImageState::Present)]),
        files: files
            .iter()
            .map(|(path, content)| (("1".to_owned(), (*path).to_owned()), content.map(hashed)))
            .collect(),
        ..Observed::from(host)
    }
}

/// Returns the state of the container and the planned steps with their files.
fn converge(spec: &ContainerSpec, observed: &Observed) -> (Standing, Vec<String>) {
    let mut plan = Plan::default();
    let owner = owner();
    let site = Site { owner: &owner, observed, network: None, further: &[] };
    let standing = site.converge(&mut plan, spec, &[], None);
    let steps = plan.steps.iter().map(|step| match &step.action {
        Action::Upload { files, .. } => {
            let paths: Vec<_> = files.iter().map(|f| f.path.as_str()).collect();
            format!("Upload {}", paths.join(" "))
        }
        other => other.to_string(),
    });
    (standing, steps.collect())
}

#[test]
fn a_file_that_is_read_at_the_start_only_replaces_the_container() {
    let spec = spec(&[("/a", "new", FileChange::Recreate)]);
    let states = [State::Running, State::Paused, State::Restarting, State::Exited];
    for state in states {
        for other in [Some("old"), None] {
            let (standing, steps) = converge(&spec, &seen(&spec, state, &[("/a", other)]));
            assert_eq!((standing, steps.len()), (Standing::Outdated, 0), "{state:?} {other:?}");
        }
        // Files that are equal or could not be read are left unchanged.
        for files in [&[("/a", Some("new"))][..], &[]] {
            assert_ne!(converge(&spec, &seen(&spec, state, files)).0, Standing::Outdated, "{state:?}");
        }
    }
}

#[test]
fn a_live_file_goes_into_the_container_as_it_is() {
    let spec = spec(&[("/a", "new", FileChange::Live), ("/b", "same", FileChange::Live)]);
    for other in [Some("old"), None] {
        let files = [("/a", other), ("/b", Some("same"))];
        let (standing, steps) = converge(&spec, &seen(&spec, State::Running, &files));
        assert_eq!((standing, steps), (Standing::Changing(0), vec!["Upload /a".to_owned()]));
        let (standing, steps) = converge(&spec, &seen(&spec, State::Exited, &files));
        assert_eq!(standing, Standing::Changing(1));
        assert_eq!(steps, ["Upload /a", "Start images"]);
        // One that ends again and again does so until Docker's next start, a minute later.
        let (standing, steps) = converge(&spec, &seen(&spec, State::Restarting, &files));
        assert_eq!(standing, Standing::Changing(2));
        assert_eq!(steps, ["Stop images", "Upload /a", "Start images"]);
    }
    for files in [&[("/a", Some("new")), ("/b", Some("same"))][..], &[]] {
        let (standing, steps) = converge(&spec, &seen(&spec, State::Running, files));
        assert_eq!((standing, steps.len()), (Standing::Running, 0));
    }
}

#[test]
fn before_the_first_start_all_files_go_in() {
    let spec = spec(&[
        ("/a", "1", FileChange::Recreate),
        ("/b", "2", FileChange::Live),
        ("/c", "3", FileChange::Keep),
        ("/d", "4", FileChange::Replace),
    ]);
    let (standing, steps) = converge(&spec, &seen(&spec, State::Created, &[]));
    assert_eq!(standing, Standing::Changing(1));
    assert_eq!(steps, ["Upload /a /b /c /d", "Start images"]);
}

#[test]
fn no_hash_is_stored_of_what_may_be_secret() {
    for change in [FileChange::Recreate, FileChange::Live, FileChange::Keep] {
        let hash = |content| hash::of(&spec(&[("/a", content, change)]), None);
        assert_eq!(hash("secret"), hash("another"), "{change:?}");
    }
}

#[test]
fn a_name_conflict_tells_whose_the_name_is() {
    let message = |kind: &str, id: &str, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let owner = Owner { manager: "m".into(), ..Owner::default() };
        let message = taken(&owner, kind, "k3d-dev", id, &labels);
        message.split_once(" already exists").map(|(what, rest)| (what.to_owned(), rest.to_owned())).unwrap()
    };
    let (what, rest) = message("container", "0123456789abcdef", &[]);
    assert_eq!(what, "a container named k3d-dev (0123456789ab)");
    assert!(rest.starts_with(" on this Docker host and is not managed by this object;"), "{rest}");
    let own = [(names::UID, "u"), (names::MANAGER, "m"), (names::OWNER, "team/dev")];
    for (more, manager, holder) in [
        ((names::CLUSTER, "x"), "m", "the LocalCluster team/dev;"),
        ((names::ROLE, "registry-gc"), "m", "the Registry team/dev;"),
        ((names::VOLUME_OF, "x"), "m", "the Registry team/dev;"),
        ((names::CLUSTER, "x"), "other", "the LocalCluster team/dev of another management cluster;"),
    ] {
        let labels = [own[0], (names::MANAGER, manager), own[2], more];
        // The id of a volume is its name, of which no part is an id.
        let (what, rest) = message("volume", "k3d-dev", &labels);
        assert_eq!(what, "a volume named k3d-dev");
        assert!(rest.contains(&format!("is managed by {holder}")), "{rest}");
    }
}
