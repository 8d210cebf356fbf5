//! Kubeconfigs with limited rights and a limited life, and none at all.

use std::fs;

use crate::{
    live::{
        Kubectl, eventually, holds, now,
        scene::{LIMIT, Scene},
        scratch,
    },
    secrets::places,
};

/// Time within which an API server forgets that it has accepted a token.
const FORGETS: u64 = 60;

/// Returns a kubectl with a copy of what the Secret has now.
fn copy(scene: &Scene, name: &str) -> Kubectl {
    let path = scratch(&format!("{}-{name}.kubeconfig", scene.namespace));
    fs::write(&path, scene.kubeconfig("c", "kubeconfig")).expect("the file can be written");
    Kubectl::new(path)
}

/// Returns the token in the Secret, which both keys have.
fn token(scene: &Scene) -> String {
    let template = "go-template={{range $key, $value := .data}}{{$value | base64decode}}{{\"\\n\"}}{{end}}";
    let files = scene.run(&["get", "secret", "c-kubeconfig", "-o", template]);
    let tokens: Vec<&str> = files.lines().filter_map(|l| l.trim().strip_prefix("token: ")).collect();
    let [one, other] = tokens[..] else { panic!("there are {} tokens", tokens.len()) };
    assert_eq!(one, other);
    one.to_owned()
}

fn change(scene: &Scene, kubeconfig: &str) {
    let patch = format!(r#"{{"spec": {{"kubeconfig": {kubeconfig}}}}}"#);
    scene.run(&["patch", "lc", "c", "--type=merge", "-p", &patch]);
    scene.ready("lc/c");
}

fn rejected(kubectl: &Kubectl, what: &str) {
    eventually(FORGETS, &format!("{what} is rejected"), || {
        let refused = kubectl.attempt(&["get", "pods"]).err().ok_or("it is accepted")?;
        holds(refused.contains("Unauthorized") || refused.contains("must be logged in"), || refused.clone())
    });
}

fn forbidden(kubectl: &Kubectl, args: &[&str]) {
    let refused = kubectl.attempt(args).expect_err("it may not do this");
    assert!(refused.contains("forbidden"), "{refused}");
}

pub fn grant_what_the_spec_says(scene: &Scene) {
    let (admin, since) = (copy(scene, "admin"), now());
    let certificate = scene.kubeconfig("c", "kubeconfig");
    let mut tokens = Vec::new();

    change(scene, r#"{"access": "View", "ttl": "10m"}"#);
    let view = copy(scene, "view");
    tokens.push(token(scene));
    assert!(!scene.kubeconfig("c", "value").contains("client-key-data"));
    eventually(FORGETS, "Pods can be read", || view.attempt(&["get", "pods", "-A"]));
    forbidden(&view, &["create", "configmap", "e2e-view"]);
    forbidden(&view, &["get", "secrets", "-A"]);
    let status = &scene.get("lc/c")["status"];
    assert_eq!(status["kubeconfig"]["access"], "View", "{status}");
    assert!(status["kubeconfig"]["expiresAt"].as_str().is_some_and(|at| at > since.as_str()), "{status}");
    eventually(LIMIT, "a Warning tells of the certificate", || {
        let events = scene.events(&since);
        holds(events.iter().any(|e| e.starts_with("CertificateNotRevoked ")), || events.join("\n"))
    });

    // Someone in the cluster revokes the tokens, and takes the rights away.
    admin.run(&["-n", "kube-system", "delete", "serviceaccount", "localcluster-kubeconfig-view"]);
    eventually(LIMIT, "there is another token", || {
        holds(token(scene) != tokens[0], || "the first one".to_owned())
    });
    scene.ready("lc/c");
    tokens.push(token(scene));
    rejected(&view, "the first token");
    let view = copy(scene, "view-again");
    eventually(FORGETS, "the second token is accepted", || view.attempt(&["get", "pods", "-A"]));
    let taken = ["localcluster-kubeconfig-view", "--clusterrole=cluster-admin", "--user=nobody"];
    eventually(30, "another binding has its name before the operator creates it again", || {
        admin.attempt(&["delete", "clusterrolebinding", taken[0]])?;
        admin.attempt(&[&["create", "clusterrolebinding"], &taken[..]].concat()).map(drop)
    });
    let bound = || {
        let path = "jsonpath={.roleRef.name} {.subjects[*].name}";
        admin.attempt(&["get", "clusterrolebinding", "localcluster-kubeconfig-view", "-o", path])
    };
    eventually(LIMIT, "the binding is as before", || {
        let bound = bound()?;
        holds(bound == "view localcluster-kubeconfig-view", || bound.clone())
    });
    assert_eq!(token(scene), tokens[1], "it is as good as before");

    change(scene, r#"{"access": "Edit", "ttl": null}"#);
    tokens.push(token(scene));
    rejected(&view, "a token of another access");
    let edit = copy(scene, "edit");
    eventually(FORGETS, "a ConfigMap can be created", || edit.attempt(&["create", "configmap", "e2e-edit"]));
    edit.run(&["delete", "configmap", "e2e-edit"]);
    forbidden(&edit, &["create", "clusterrole", "e2e-edit", "--verb=get", "--resource=pods"]);
    let accounts = || {
        admin.run(&["-n", "kube-system", "get", "serviceaccounts,clusterrolebindings", "-A", "-o", "name"])
    };
    let ours =
        || accounts().lines().filter(|l| l.contains("/localcluster-")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        ours(),
        [
            "serviceaccount/localcluster-kubeconfig-edit",
            "clusterrolebinding.rbac.authorization.k8s.io/localcluster-kubeconfig-edit"
        ]
    );

    for (place, text) in places(scene) {
        assert!(tokens.iter().all(|token| !text.contains(token)), "a token is in {place}");
    }

    change(scene, r#"{"access": "None"}"#);
    let secret = scene.attempt(&["get", "secret", "c-kubeconfig"]).expect_err("the Secret is deleted");
    assert!(secret.contains("NotFound"), "{secret}");
    assert_eq!(ours(), [] as [String; 0]);
    rejected(&edit, "a token of an access that ended");
    let status = &scene.get("lc/c")["status"];
    assert!(status["kubeconfigSecret"].is_null() && status["kubeconfig"].is_null(), "{status}");

    change(scene, "null");
    assert_eq!(scene.kubeconfig("c", "kubeconfig"), certificate);
    scene.child("c").run(&["get", "--raw", "/readyz"]);
}
