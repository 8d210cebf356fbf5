use super::*;

fn of(owner: &str) -> Origin {
    Origin { owner: owner.into(), management: "https://127.0.0.1:6550".into() }
}

fn entry(name: &str, server: &str, owner: &str) -> Entry {
    let file = format!(
        "{{current-context: {name}, contexts: [{{name: {name}, context: {{cluster: {name}, user: admin@{name}}}}}],
           clusters: [{{name: {name}, cluster: {{server: '{server}', certificate-authority-data: Q0E=}}}}],
           users: [{{name: admin@{name}, user: {{token: x}}}}]}}"
    );
    current(&parse(&file).unwrap(), of(owner)).unwrap()
}

fn dev() -> Entry {
    entry("k3d-dev", "https://127.0.0.1:1", "default/dev")
}

fn files(texts: &[&str]) -> Vec<Loaded> {
    let load = |(index, text): (usize, &&str)| Loaded { value: parse(text).unwrap(), default: index == 0 };
    texts.iter().enumerate().map(load).collect()
}

const SWITCH: Merge = Merge { switch: true, force: false };
const WORK: &str = "
apiVersion: v1
kind: Config
current-context: work
preferences: {colors: true}
x-unknown: [1, {deep: true}]
contexts:
- {name: work, context: {cluster: work, user: me, namespace: team}}
clusters:
- {name: work, cluster: {server: https://work.example, proxy-url: socks5://127.0.0.1:1080}}
users:
- {name: me, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: login, args: ['123', 'yes', '0x1', '1e3'], env: null}}}
";

#[test]
fn what_is_merged_is_removed_without_a_trace() {
    let before = files(&[WORK]);
    let mut now = before.clone();
    merge(&mut now, &dev(), SWITCH).unwrap();
    assert_eq!(current_name(&now), Some("k3d-dev"));
    assert_eq!(find(&now, USER, "admin@k3d-dev").unwrap()["token"], "x");
    assert_eq!(find(&now, CLUSTER, "work"), find(&before, CLUSTER, "work"));
    assert_eq!(merged(&now[0].value), [("k3d-dev".into(), of("default/dev"))]);
    let again = now.clone();
    merge(&mut now, &dev(), SWITCH).unwrap();
    assert_eq!(now, again, "a merge changes nothing the second time");
    remove(&mut now, "k3d-dev", &of("default/dev"));
    assert_eq!(now, before);
}

#[test]
fn a_rendered_file_has_the_same_values() {
    let mut now = files(&[WORK]);
    merge(&mut now, &dev(), SWITCH).unwrap();
    let text = render(&now[0].value).unwrap();
    assert_eq!(parse(&text).unwrap(), now[0].value, "{text}");
    assert!(text.contains("\ncurrent-context: k3d-dev\n"), "{text}");
    let kube = kube::config::Kubeconfig::from_yaml(&text).unwrap();
    assert_eq!((kube.contexts.len(), kube.auth_infos.len()), (2, 2));
    let args = kube.auth_infos[0].auth_info.as_ref().unwrap().exec.as_ref().unwrap().args.clone();
    assert_eq!(args.unwrap(), ["123", "yes", "0x1", "1e3"]);
}

#[test]
fn an_entry_goes_where_one_of_its_name_is() {
    let mut now = files(&["", WORK]);
    merge(&mut now, &dev(), Merge::default()).unwrap();
    assert!(has_context(&now[0].value, "k3d-dev") && !has_context(&now[1].value, "k3d-dev"));
    assert_eq!(current_name(&now), Some("work"), "not switched");
    // In the other order, it is found in the second file.
    let mut now: Vec<Loaded> = now.into_iter().rev().collect();
    (now[0].default, now[1].default) = (true, false);
    let first = now[0].clone();
    let mut moved = dev();
    moved.cluster["server"] = "https://127.0.0.1:2".into();
    merge(&mut now, &moved, Merge::default()).unwrap();
    assert_eq!(now[0], first);
    assert_eq!(find(&now, CLUSTER, "k3d-dev").unwrap()["server"], "https://127.0.0.1:2");
}

#[test]
fn the_current_context_is_set_where_kubectl_reads_it() {
    let mut now = files(&["", WORK]);
    switch(&mut now, "other");
    assert_eq!((current_name(&now), &now[0].value["current-context"]), (Some("other"), &"other".into()));
    // The default file is the second one, since the first does not exist: an earlier one that sets it is changed.
    let mut now = files(&["current-context: a", WORK]);
    (now[0].default, now[1].default) = (false, true);
    switch(&mut now, "work");
    assert_eq!(current_name(&now), Some("work"));
}

#[test]
fn what_others_made_is_not_replaced() {
    let told = |file: &str, new: &Entry| {
        let mut now = files(&[file]);
        let before = now.clone();
        let told = merge(&mut now, new, SWITCH).err().map(|e| e.to_string());
        assert_eq!(now == before, told.is_some());
        assert!(merge(&mut now, new, Merge { force: true, switch: true }).is_ok());
        told
    };
    let foreign = "{contexts: [{name: k3d-dev, context: {cluster: c, user: u}}],
        clusters: [{name: c, cluster: {server: 'https://10.0.0.1:6443'}}]}";
    let end = "; choose another name for this one, or replace it with --force";
    let context = "the kubeconfig has another context \"k3d-dev\": it leads to https://10.0.0.1:6443";
    assert_eq!(told(foreign, &dev()), Some(format!("{context}{end}")));
    // The same server: someone merged it by hand.
    assert_eq!(told(foreign, &entry("k3d-dev", "https://10.0.0.1:6443", "default/dev")), None);
    let cluster = "{clusters: [{name: k3d-dev, cluster: {server: 'https://10.0.0.1:6443'}}]}";
    assert!(told(cluster, &dev()).unwrap().starts_with("the kubeconfig has another cluster"));
    let user =
        "{users: [{name: admin@k3d-dev, user: {}}], contexts: [{name: x, context: {user: admin@k3d-dev}}]}";
    assert!(told(user, &dev()).unwrap().starts_with("the kubeconfig has another user"));
    let mut ours = files(&[""]);
    merge(&mut ours, &dev(), SWITCH).unwrap();
    let ours = render(&ours[0].value).unwrap();
    assert_eq!(told(&ours, &entry("k3d-dev", "https://127.0.0.1:2", "default/dev")), None);
    let other = told(&ours, &entry("k3d-dev", "https://127.0.0.1:2", "team/dev")).unwrap();
    assert!(other.contains("it is that of default/dev of https://127.0.0.1:6550"), "{other}");
}

#[test]
fn only_what_was_merged_is_removed() {
    let mut now = files(&[WORK]);
    merge(&mut now, &dev(), SWITCH).unwrap();
    let before = now.clone();
    for (name, origin) in
        [("work", of("default/dev")), ("k3d-dev", of("team/dev")), ("none", of("default/dev"))]
    {
        remove(&mut now, name, &origin);
        assert_eq!(now, before, "{name}");
    }
    // A context of the user refers to the cluster and to the user.
    put(&mut now, CONTEXT, "mine", json!({"cluster": "k3d-dev", "user": "admin@k3d-dev"}));
    remove(&mut now, "k3d-dev", &of("default/dev"));
    assert!(find(&now, CLUSTER, "k3d-dev").is_some() && find(&now, USER, "admin@k3d-dev").is_some());
    assert!(find(&now, CONTEXT, "k3d-dev").is_none());
}

#[test]
fn the_context_before_becomes_current_again() {
    let mut now = files(&[WORK]);
    merge(&mut now, &dev(), SWITCH).unwrap();
    let second = entry("k3d-two", "https://127.0.0.1:3", "default/two");
    merge(&mut now, &second, SWITCH).unwrap();
    remove(&mut now, "k3d-dev", &of("default/dev"));
    assert_eq!(current_name(&now), Some("k3d-two"));
    // The one before is gone too.
    remove(&mut now, "k3d-two", &of("default/two"));
    assert_eq!(current_name(&now), None);
}

#[test]
fn a_user_of_another_access_replaces_the_one_before() {
    let mut now = files(&[""]);
    merge(&mut now, &dev(), SWITCH).unwrap();
    let mut context = find(&now, CONTEXT, "k3d-dev").unwrap().clone();
    context["namespace"] = "mine".into();
    put(&mut now, CONTEXT, "k3d-dev", context);
    let mut viewer = dev();
    viewer.user_name = "view@k3d-dev".into();
    merge(&mut now, &viewer, SWITCH).unwrap();
    assert!(find(&now, USER, "admin@k3d-dev").is_none());
    let context = find(&now, CONTEXT, "k3d-dev").unwrap();
    assert_eq!((&context["user"], &context["namespace"]), (&"view@k3d-dev".into(), &"mine".into()));
}

#[test]
fn what_is_no_kubeconfig_is_refused_without_its_content() {
    for (text, expected) in [
        ("- secret", "it is not a mapping"),
        ("a: b\n---\nc: secret", "it has several documents"),
        ("contexts: {secret: 1}", "contexts is not a list"),
    ] {
        assert_eq!(parse(text), Err(expected.into()), "{text}");
    }
    let told = parse("users: [secret").unwrap_err();
    assert!(!told.contains("secret") && told.lines().count() == 1, "{told}");
    assert_eq!((parse(""), parse("# none\n")), (Ok(json!({})), Ok(json!({}))));
    let mut now = files(&["contexts: null"]);
    merge(&mut now, &dev(), SWITCH).unwrap();
    assert!(has_context(&now[0].value, "k3d-dev"));
}

#[test]
fn what_has_no_context_is_not_merged() {
    for text in
        ["", "current-context: a", "{current-context: a, contexts: [{name: a, context: {cluster: c}}]}"]
    {
        assert!(current(&parse(text).unwrap(), of("default/dev")).is_err(), "{text}");
    }
}

#[test]
fn another_name_is_that_of_all_parts() {
    let renamed = dev().renamed("mine");
    assert_eq!((renamed.name.as_str(), renamed.user_name.as_str()), ("mine", "admin@mine"));
}
