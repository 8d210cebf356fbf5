//! Secrets of registries: what follows them, and where nothing of them may be.

use super::*;

/// Whether the registry asks for a password, and the list of users in its container.
pub(super) fn registry_files(rig: &Rig) -> (bool, String) {
    rig.world(|w| {
        let id = w.id("k3d-images").unwrap();
        let read = |path: &str| w.read(&id, path).map(|c| String::from_utf8_lossy(&c).into_owned());
        let config = read("/etc/localcluster/registry.yml").unwrap();
        (config.contains("htpasswd:"), read("/etc/localcluster/htpasswd").unwrap_or_default())
    })
}

#[tokio::test(start_paused = true)]
async fn users_change_under_the_running_registry_and_a_certificate_with_another_one() {
    let mut rig = Scenario::Users.before().await;
    let id = rig.world(|w| w.id("k3d-images"));
    assert!(registry_files(&rig).0 && registry_files(&rig).1.ends_with("first\n"));
    put_secrets(&rig, "second");
    rig.round().await;
    rig.settle(ENOUGH).await;
    assert!(registry_files(&rig).1.ends_with("second\n"));
    assert_eq!(rig.world(|w| w.id("k3d-images")), id, "it is the same container");
    put_secret(
        &rig,
        "tls",
        &[("tls.crt", "-----BEGIN CERTIFICATE-----\nnew"), ("tls.key", "PRIVATE KEY-----")],
    );
    rig.round().await;
    rig.settle(ENOUGH).await;
    assert_ne!(rig.world(|w| w.id("k3d-images")), id);
    end(&rig);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_registrys_secrets_is_told() {
    let told =
        |rig: &Rig, type_: &str| condition(&rig.api.get(&path("registries", "images")).unwrap(), type_);
    let refs = |reason: Reason| ("False".to_owned(), reason.to_string());
    let mut rig = Rig::new(lab::settings());
    put_registry_with(&rig, json!({}), secured());
    rig.round().await;
    assert_eq!(told(&rig, "ResolvedRefs"), refs(Reason::SecretNotFound));
    put_secrets(&rig, "first");
    put_secret(&rig, "users", &[("htpasswd", "user:plain-password")]);
    rig.round().await;
    assert_eq!(told(&rig, "ResolvedRefs"), refs(Reason::SecretInvalid));
    assert!(!rig.api.get(&path("registries", "images")).unwrap().to_string().contains("plain-password"));
    put_secrets(&rig, "first");
    rig.settle(ENOUGH).await;
    put_secret(&rig, "login", &[("username", "user"), ("password", "other")]);
    rig.round().await;
    rig.round().await;
    assert_eq!(told(&rig, "Reachable"), refs(Reason::CredentialsRefused));
    assert_eq!(told(&rig, "Stalled").0, "True");
    put_secrets(&rig, "other");
    rig.settle(ENOUGH).await;
    assert_eq!(told(&rig, "Reachable").0, "True");
}

/// Nothing of a Secret is anywhere but in the files and in the Secret itself.
#[tokio::test(start_paused = true)]
async fn secrets_are_nowhere_else() {
    let mut rig = applied(1);
    put_secrets(&rig, "registry-password");
    put_secret(&rig, "hub", &[("username", "hub-user-name"), ("password", "hub-password")]);
    let mut spec = secured();
    spec["proxy"] = json!({"remoteURL": "https://registry-1.docker.io", "credentialsSecret": "hub"});
    put_registry_with(&rig, json!({"localcluster.dev/garbage-collect": "1"}), spec);
    rig.settle(ENOUGH).await;
    rig.settle(ENOUGH).await;
    let objects: Vec<_> = rig.api.all("").into_iter().filter(|o| o["kind"] != "Secret").collect();
    assert!(objects.iter().any(|o| o["status"]["proxies"] == "docker.io"));
    let mut told = format!("{objects:?}");
    rig.world(|w| {
        let containers = w.containers.values();
        containers
            .for_each(|c| told += &format!("{:?} {:?} {:?} {:?}", c.name, c.labels, c.command, c.error));
    });
    for secret in ["registry-password", "hub-password", "hub-user-name", "$2y$"] {
        assert!(!told.contains(secret), "{secret} is in {told}");
    }
}
