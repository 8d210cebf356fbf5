//! Files as people have them: those in `tests/field` have the structure of files of public projects, with other names
//! and values. What K3s takes and obeys is accepted and means the same; what it takes and does not obey is refused with
//! what to write.

use std::{collections::BTreeMap, fs, path::Path};

use localcluster_operator::k3s::registries::{Registries, check, parse, parse_rendered};

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/field/registries").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn refused(name: &str) -> String {
    let text = text(name);
    let problems = parse(&text, &|_| true).expect_err(name);
    assert!(!problems.iter().any(|p| p.contains("hunter2")), "{problems:#?}");
    problems.join("\n")
}

fn accepted(name: &str) -> Registries {
    let text = text(name);
    let all = parse(&text, &|_| true).unwrap_or_else(|e| panic!("{name}: {e:#?}"));
    assert_eq!(check(&all, &|_| true), [""; 0], "{name}");
    // As K3s reads it itself, and as it reads what the operator makes of it.
    assert_eq!(parse_rendered(&text).as_ref(), Some(&all), "{name}");
    assert_eq!(parse_rendered(&all.render()).as_ref(), Some(&all), "{name}");
    all
}

/// What containerd is told, without what is in each of its files.
fn hosts(all: &Registries) -> BTreeMap<String, String> {
    let what = |text: &str| {
        text.lines().skip(1).map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
    };
    all.hosts(true)
        .into_iter()
        .map(|(name, text)| (name, what(&text).replace("capabilities = ", "")))
        .collect()
}

#[test]
fn what_is_on_the_wrong_level() {
    insta::assert_snapshot!(refused("too_deep.yaml"), @r#"mirrors["configs"]: configs is one level too deep, where K3s takes it for a registry with that name and ignores it; indent it like mirrors"#);
    insta::assert_snapshot!(refused("too_deep_and_empty.yaml"), @r#"
    mirrors["configs"]: configs is one level too deep, where K3s takes it for a registry with that name and ignores it; indent it like mirrors
    mirrors["auths"]: auths is one level too deep, where K3s takes it for a registry with that name and ignores it; indent it like mirrors
    "#);
    insta::assert_snapshot!(refused("no_registries.yaml"), @r#"
    mirrors["docker.io/rancher"]: K3s matches mirrors by registry, never by a path; use docker.io with a rewrite of "^rancher/(.*)"
    mirrors["docker.io/rancher"].endpoint[0]: K3s replaces /v2 by this path, where no registry responds; use https://registry.cn.test/v2/rancher
    mirrors["rancher"]: matches no image name: a name without a dot or colon other than localhost is a path on Docker Hub; use docker.io, or the full name of the registry: registry.example, cache:5000
    mirrors["rancher"].endpoint[0]: K3s replaces /v2 by this path, where no registry responds; use https://registry.cn.test/v2/rancher
    "#);
}

#[test]
fn what_nobody_would_ask_for() {
    insta::assert_snapshot!(refused("path_outside_v2.yaml"), @r#"
    mirrors["k8s.gcr.io"].endpoint[0]: K3s replaces /v2 by this path, where no registry responds; use https://registry.cn.test/v2/google_containers
    mirrors["registry.k8s.io"].endpoint[0]: K3s replaces /v2 by this path, where no registry responds; use https://registry.cn.test/v2/google_containers
    mirrors["registry.k8s.io"].rewrite["^/(.*)"]: never matches: image names have no leading slash; use "^(.*)": "google_containers/$1"
    "#);
}

#[test]
fn what_is_for_nobody() {
    insta::assert_snapshot!(refused("endpoints_elsewhere.yaml"), @r#"
    configs["harbor.ci.svc.cluster.local"]: configs apply to the host of an endpoint, and no endpoint of harbor.ci.svc.cluster.local uses this entry; use configs["localhost:30046"] or configs["127.0.0.1:30046"], or, for harbor.ci.svc.cluster.local itself, which K3s tries last, add it as the last endpoint: https://harbor.ci.svc.cluster.local
    configs["harbor.ci.svc.cluster.local:30046"]: configs apply to the host of an endpoint, and no endpoint of harbor.ci.svc.cluster.local:30046 uses this entry; use configs["localhost:30046"] or configs["127.0.0.1:30046"], or, for harbor.ci.svc.cluster.local:30046 itself, which K3s tries last, add it as the last endpoint: https://harbor.ci.svc.cluster.local:30046
    "#);
}

#[test]
fn what_is_no_yaml() {
    insta::assert_snapshot!(refused("tab.yaml"), @r"line 3: not valid YAML: tabs cannot be used for indentation; use spaces");
    insta::assert_snapshot!(refused("backslash.yaml"), @r"line 8: not valid YAML: a backslash in double quotes starts an escape sequence, and this one is invalid; remove the backslash ($1), or use single quotes");
}

#[test]
fn registries_that_are_their_own_mirrors() {
    insta::assert_snapshot!(refused("itself_last.yaml"), @r#"mirrors["docker.io"].rewrite["^rancher/mirrored-pause:(.*)"]: never matches: names are matched without registry and tag and contain no colon; remove the colon and what follows it"#);
    // With a pattern that names can have: the mirror is asked by another name, and the registry itself by its own.
    let right =
        text("itself_last.yaml").replace("mirrored-pause:(.*)\": \"pause:$1", "mirrored-(.*)\": \"$1");
    let all = parse(&right, &|_| true).unwrap();
    assert_eq!(check(&all, &|_| true), [""; 0]);
    insta::assert_yaml_snapshot!(hosts(&all), @r#"docker.io: "server = \"https://registry-1.docker.io/v2\" [\"pull\", \"resolve\", \"push\"] [host] [host.\"https://registry.k8s.test/v2\"] [\"pull\", \"resolve\"] [host.\"https://registry.k8s.test/v2\".rewrite] \"^rancher/mirrored-(.*)\" = \"$1\"""#);
}

#[test]
fn anchors_and_words_for_truth() {
    insta::assert_yaml_snapshot!(hosts(&accepted("anchors.yaml")), @r#"
    docker.io: "server = \"https://registry-1.docker.io/v2\" [\"pull\", \"resolve\", \"push\"] [host] [host.\"https://mirror.lab.test/v2\"] [\"pull\", \"resolve\"] skip_verify = true"
    mirror.lab.test: "server = \"https://mirror.lab.test/v2\" [\"pull\", \"resolve\", \"push\"] skip_verify = true [host]"
    quay.io: "server = \"https://quay.io/v2\" [\"pull\", \"resolve\", \"push\"] [host] [host.\"https://mirror.lab.test/v2\"] [\"pull\", \"resolve\"] skip_verify = true [host.\"https://mirror.lab.test/v2\".rewrite] \"^(.*)$\" = \"quay/$1\""
    "#);
}
