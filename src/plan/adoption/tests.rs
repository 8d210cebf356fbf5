use super::*;
use crate::{
    docker::engine::{Container, Network, Volume},
    plan::policy::{pattern::Pattern, rules::Rules},
};

fn labels(object: &str, uid: &str, manager: &str, more: &[(&str, &str)]) -> Labels {
    let own = [(names::OWNER, object), (names::UID, uid), (names::MANAGER, manager)];
    own.iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn claim(kind: Kind, object: &str, pairs: &str) -> Claim {
    let owner = Owner { uid: "new".into(), manager: "m".into(), object: object.into() };
    Claim { kind, owner, pairs: parse(pairs).0 }
}

fn all(claim: Claim) -> Adoptions {
    Adoptions::of(vec![claim], &BTreeSet::from(["new".into(), "living".into()]), |_, _| Consent::Given)
}

const REGISTRY: (&str, &str) = (names::ROLE, "registry");

#[test]
fn the_annotation_has_pairs_and_says_what_is_none() {
    let (pairs, errors) = parse("u1@m1, u2@m2,u1@m1");
    assert_eq!(pairs.iter().map(ToString::to_string).collect::<Vec<_>>(), ["u1@m1", "u2@m2"]);
    assert_eq!(errors, Vec::<String>::new());
    for bad in ["", "u", "u@", "@m", "u@m@n", "u m@n", "u1@m1,"] {
        let (pairs, errors) = parse(bad);
        assert!(
            errors.len() == 1 && errors[0].contains("write <UID>@<management cluster>"),
            "{bad}: {errors:?}"
        );
        assert!(pairs.len() < 2, "{bad}");
    }
    let many: Vec<String> = (0..40).map(|n| format!("u{n}@m")).collect();
    let (pairs, errors) = parse(&many.join(","));
    assert_eq!((pairs.len(), errors.len()), (MOST, 1));
}

#[test]
fn only_namespace_name_and_kind_of_the_labels_make_an_owner() {
    let adoptions = all(claim(Kind::LocalCluster, "team/dev", "old@gone,older@m"));
    let owner = |object: &str, uid: &str, manager: &str, more: &[(&str, &str)]| {
        adoptions.owner(&labels(object, uid, manager, more)).map(|owner| owner.uid.as_str())
    };
    assert_eq!(owner("team/dev", "old", "gone", &[]), Some("new"));
    assert_eq!(owner("team/dev", "older", "m", &[]), Some("new"));
    // Another namespace or name, whose UID somebody wrote.
    assert_eq!(owner("other/dev", "old", "gone", &[]), None);
    assert_eq!(owner("team/prod", "old", "gone", &[]), None);
    // Half a pair.
    assert_eq!(owner("team/dev", "old", "m", &[]), None);
    assert_eq!(owner("team/dev", "older", "gone", &[]), None);
    // A Registry with the name of the cluster.
    assert_eq!(owner("team/dev", "old", "gone", &[REGISTRY]), None);
    assert_eq!(owner("team/dev", "old", "gone", &[(names::VOLUME_OF, "x")]), None);
    // Nothing without the labels.
    assert!(adoptions.owner(&Labels::new()).is_none());
}

#[test]
fn nothing_is_taken_from_an_object_that_exists() {
    let adoptions = all(claim(Kind::LocalCluster, "team/dev", "living@m,living@gone"));
    for manager in ["m", "gone"] {
        let theirs = labels("team/dev", "living", manager, &[]);
        assert!(adoptions.owner(&theirs).is_none());
        let host = Host { volumes: vec![Volume { labels: theirs, ..Volume::default() }], ..Host::default() };
        let owner = claim(Kind::LocalCluster, "team/dev", "").owner;
        let problem = adoptions.problem(Kind::LocalCluster, &owner, &host).expect("it is told");
        assert!(problem.message.contains("an object with this UID exists"), "{}", problem.message);
        assert!(adoptions.problem(Kind::Registry, &owner, &host).is_none());
        assert!(
            adoptions.problem(Kind::LocalCluster, &owner, &Host::default()).is_none(),
            "nothing is there"
        );
    }
}

#[test]
fn a_policy_decides_about_other_management_clusters_only() {
    let rules = |adopt: &[&str], audit| {
        let adopt = adopt.iter().map(|text| Pattern::of_names(text)).collect();
        Standing {
            policy: Some("p".into()),
            rules: Rules { adopt, audit, ..Rules::default() },
            ..Standing::default()
        }
    };
    assert_eq!(Consent::of(&Standing::default(), "gone"), Consent::Given, "without any policy");
    assert_eq!(Consent::of(&rules(&[], false), "gone"), Consent::Refused("p".into()));
    assert_eq!(Consent::of(&rules(&[], true), "gone"), Consent::Refused("p".into()), "audited");
    assert_eq!(Consent::of(&rules(&["other"], false), "gone"), Consent::Refused("p".into()));
    assert_eq!(Consent::of(&rules(&["other", "go*"], false), "gone"), Consent::Given);
    let unknown = Problem::waits(ConditionType::Accepted, Reason::Pending, "x");
    assert_eq!(
        Consent::of(&Standing { problem: Some(unknown), ..rules(&["*"], false) }, "gone"),
        Consent::Unknown
    );

    let host = |manager: &str| {
        let labels = labels("team/dev", "old", manager, &[]);
        Host { networks: vec![Network { labels, ..Network::default() }], ..Host::default() }
    };
    let given = |manager: &str, consent: &Consent| {
        let claim = claim(Kind::LocalCluster, "team/dev", "old@gone,old@m");
        let owner = claim.owner.clone();
        let adoptions = Adoptions::of(vec![claim], &BTreeSet::new(), |namespace, manager| {
            assert_eq!((namespace, manager), ("team", "gone"), "nobody is asked about our own");
            consent.clone()
        });
        let mut host = host(manager);
        let problem = adoptions.problem(Kind::LocalCluster, &owner, &host);
        let pending = adoptions.is_pending(Kind::LocalCluster, &owner, &host).is_some();
        adoptions.read_all(&mut host);
        (owner.owns_network(&host.networks[0]), problem.map(|p| p.reason), pending)
    };
    let refused = Consent::Refused("p".into());
    assert_eq!(given("m", &refused), (true, None, false));
    assert_eq!(given("gone", &refused), (false, Some(Reason::PolicyViolation), false));
    assert_eq!(given("gone", &Consent::Unknown), (false, Some(Reason::Pending), true));
    assert_eq!(given("gone", &Consent::Given), (true, None, false));
}

#[test]
fn what_is_adopted_is_read_as_the_objects_own_and_keeps_its_other_labels() {
    let adoptions = all(claim(Kind::Registry, "team/images", "old@gone"));
    let theirs = labels("team/images", "old", "gone", &[REGISTRY, (names::SPEC_HASH, "v1-x")]);
    let container = |labels| Container { labels, ..Container::default() };
    let untouched = labels("team/other", "old", "gone", &[REGISTRY]);
    let mut host = Host {
        containers: vec![container(theirs), container(untouched.clone())],
        volumes: vec![Volume {
            labels: labels("team/images", "old", "gone", &[(names::VOLUME_OF, "x")]),
            ..Volume::default()
        }],
        ..Host::default()
    };
    adoptions.read_all(&mut host);
    assert_eq!(
        host.containers[0].labels,
        labels("team/images", "new", "m", &[REGISTRY, (names::SPEC_HASH, "v1-x")])
    );
    assert_eq!(host.containers[1].labels, untouched);
    assert_eq!(host.volumes[0].labels, labels("team/images", "new", "m", &[(names::VOLUME_OF, "x")]));
}

#[test]
fn a_pair_has_two_ids_of_up_to_64_characters() {
    let long = "u".repeat(64);
    let (longest, first, second) = (format!("{long}@{long}"), format!("{long}u@m"), format!("u@{long}m"));
    for good in ["u@m", "A-z_0.9@a.b-c_d", longest.as_str()] {
        let (pairs, errors) = parse(good);
        assert_eq!((pairs.len(), errors.len()), (1, 0), "{good}");
    }
    for bad in [first.as_str(), second.as_str(), "u/v@m", "u@m/n"] {
        assert_eq!(parse(bad).0.len(), 0, "{bad}");
    }
    let pairs = |n: usize| (0..n).map(|n| format!("u{n}@m")).collect::<Vec<_>>().join(",");
    for (count, kept, errors) in [(MOST, MOST, 0), (MOST + 1, MOST, 1)] {
        let parsed = parse(&pairs(count));
        assert_eq!((parsed.0.len(), parsed.1.len()), (kept, errors), "{count}");
    }
}

#[test]
fn an_object_may_name_itself() {
    let adoptions = all(claim(Kind::LocalCluster, "team/dev", "new@gone"));
    assert!(adoptions.owner(&labels("team/dev", "new", "gone", &[])).is_some(), "it was restored elsewhere");
}

#[test]
fn inspected_containers_are_read_like_listed_ones() {
    let adoptions = all(claim(Kind::LocalCluster, "team/dev", "old@gone"));
    let theirs = || labels("team/dev", "old", "gone", &[]);
    let mut host = Host::default();
    host.own.entry("1".into()).or_default().container.labels = theirs();
    let untouched = host.clone();
    adoptions.read_all(&mut host);
    assert_eq!(host.own["1"].container.labels, labels("team/dev", "new", "m", &[]));
    let mut host = untouched;
    Adoptions::default().read_all(&mut host);
    assert_eq!(host.own["1"].container.labels, theirs());
}

#[test]
fn a_denial_is_told_of_what_is_on_the_host_only() {
    let adoptions = all(claim(Kind::LocalCluster, "team/dev", "living@m,old@m"));
    let owner = claim(Kind::LocalCluster, "team/dev", "").owner;
    let told = |uid: &str, change: fn(&mut Host, Labels)| {
        let mut host = Host::default();
        change(&mut host, labels("team/dev", uid, "m", &[]));
        adoptions.problem(Kind::LocalCluster, &owner, &host).is_some()
    };
    let container = |host: &mut Host, labels| {
        host.containers = vec![Container { labels, ..Container::default() }];
    };
    assert!(told("living", container));
    assert!(told("living", |host, labels| host.networks = vec![Network { labels, ..Network::default() }]));
    assert!(!told("old", container), "it is adopted");
    assert!(!told("strange", container), "nobody names it");
}

#[test]
fn nothing_is_made_beside_what_an_earlier_object_left() {
    let owner = Owner { uid: "new".into(), manager: "m".into(), object: "team/dev".into() };
    let left = |name: &str, labels: Labels, more: fn(&mut Host)| {
        let container = Container { name: name.into(), labels, ..Container::default() };
        let mut host = Host { containers: vec![container], ..Host::default() };
        more(&mut host);
        let of = (Kind::LocalCluster, &owner);
        super::left(of, &host, ConditionType::NetworkReady, |name| name == "k3d-dev-server-0")
            .map(|problem| (problem.condition, problem.reason))
    };
    let nothing = |_: &mut Host| ();
    let server = "k3d-dev-server-0";
    let found = Some((ConditionType::NetworkReady, Reason::NameConflict));
    assert_eq!(left(server, labels("team/dev", "old", "m", &[]), nothing), found);
    assert_eq!(left(server, labels("team/dev", "old", "gone", &[]), nothing), found);
    assert_eq!(left("other", labels("team/dev", "old", "m", &[]), nothing), None, "no name of it");
    assert_eq!(left(server, labels("team/other", "old", "m", &[]), nothing), None, "of another object");
    assert_eq!(left(server, labels("team/dev", "old", "m", &[REGISTRY]), nothing), None, "of another kind");
    assert_eq!(left(server, labels("team/dev", "new", "m", &[]), nothing), None, "its own");
    let begun = |host: &mut Host| drop(host.own.insert("1".into(), Default::default()));
    assert_eq!(left(server, labels("team/dev", "old", "m", &[]), begun), None, "it has begun");
}
