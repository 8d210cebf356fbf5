//! Registries like those of companies, all used by one running cluster. The tests of this group push from this
//! machine and pull in Pods.

use serde_json::{Value, json};

use crate::{
    live::{
        Kubectl,
        harness::Group,
        install,
        pulls::{network, node},
        registries::{Authority, FIRST, NOBODY, SECOND, Setup, TokenServer, Upstream, push},
        scene::Scene,
    },
    registries_auth, registries_containers, registries_file, registries_live, registries_tls, secrets,
};

pub const GROUP: Group = Group {
    name: "registries",
    setup,
    tests: &[
        ("each_source_of_a_file", registries_file::each_source),
        ("all_of_it_is_merged", registries_file::all_of_it_is_merged),
        ("what_k3s_would_ignore_is_refused", registries_file::what_k3s_would_ignore_is_refused),
        ("each_kind_of_secret_logs_in", registries_auth::each_kind_of_secret_logs_in),
        ("a_wrong_password_is_reported", registries_auth::a_wrong_password_is_reported),
        ("private_authority", registries_tls::private_authority),
        ("authority_changes_without_a_restart", registries_tls::authority_changes_without_a_restart),
        ("client_certificate", registries_tls::client_certificate),
        ("own_registry_with_all_of_it", registries_tls::own_registry_with_all_of_it),
        (
            "own_certificate_changes_without_a_restart",
            registries_tls::own_certificate_changes_without_a_restart,
        ),
        ("an_unmanaged_container", registries_containers::an_unmanaged_container),
        ("changes_take_two_seconds", registries_live::changes_take_two_seconds),
        ("a_restart_of_k3s_changes_nothing", registries_live::a_restart_of_k3s_changes_nothing),
        ("changed_passwords_roll_the_nodes", registries_auth::changed_passwords_roll_the_nodes),
        ("secrets_are_nowhere_else", secrets::of_registries),
    ],
};

/// The names of the registry with passwords in the cluster; each uses another type of Secret.
pub const SAFE: [&str; 4] = ["user", "basic", "docker", "auth"];

/// The fixtures of this group.
pub struct Stage {
    /// Has TLS and passwords.
    pub safe: Upstream,
    /// Has TLS and requires client certificates. Has the images of `plain`.
    pub strict: Upstream,
    /// Accepts users of a token server. Has the images of `plain`.
    pub tokened: Upstream,
    pub tokens: TokenServer,
    /// The authority of their certificates.
    pub authority: Authority,
    /// Accepts everyone. Dropped last, since others use its volume.
    pub plain: Upstream,
}

/// Issues the certificate of the company's registries.
pub fn certificate(scene: &Scene, authority: &Authority) -> crate::live::registries::Certificate {
    let names = SAFE.iter().chain(&["wrong", "strict"]).map(|n| format!("{n}.test"));
    let names: Vec<String> = names.chain(["localhost".into(), format!("{}-safe", scene.namespace)]).collect();
    authority.issue(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Makes the cluster trust an authority.
pub fn trust(scene: &Scene, authority: &Authority) {
    scene.secret("ca", "Opaque", &[("ca.crt", &authority.pem)]);
    scene.config_map("ca", &[("ca.crt", &authority.pem)]);
}

/// Creates the certificate of the operator's own registry, and its authority.
pub fn own_tls(scene: &Scene) {
    let authority = Authority::new("own");
    let hostname = scene.registry("own");
    let tls = authority.issue(&[&hostname, "localhost"]);
    let keys = [("tls.crt", tls.crt.as_str()), ("tls.key", &tls.key), ("ca.crt", &authority.pem)];
    scene.secret("own-tls", "kubernetes.io/tls", &keys);
}

/// Applies the Secret of a login.
pub fn login(scene: &Scene, name: &str, who: crate::live::registries::Login) {
    scene.secret(name, "Opaque", &[("username", who.user), ("password", who.password())]);
}

fn setup() -> Scene {
    install();
    let scene = Scene::new("rgs");
    let of = |name: &str| format!("{}-{name}", scene.namespace);
    let authority = Authority::new("corp");
    let tls = certificate(&scene, &authority);
    trust(&scene, &authority);
    own_tls(&scene);
    scene.secret("own-users", "Opaque", &[("htpasswd", &FIRST.htpasswd())]);
    login(&scene, "own-client", FIRST);
    login(&scene, "user", FIRST);
    login(&scene, "wrong", NOBODY);
    let pair = [("username", FIRST.user), ("password", FIRST.password())];
    scene.secret("basic", "kubernetes.io/basic-auth", &pair);
    let config = FIRST.docker_config("docker.test:5000");
    scene.secret("docker", "kubernetes.io/dockerconfigjson", &[(".dockerconfigjson", &config)]);
    scene.secret("auth", "Opaque", &[("auth", &FIRST.basic())]);
    scene.secret("identity", "Opaque", &[("identity_token", TokenServer::identity())]);

    let own = json!({
        "tls": {"secretName": "own-tls"},
        "auth": {"htpasswdSecret": "own-users", "clientSecret": "own-client"},
    });
    scene.apply("Registry", "own", &own.to_string());
    let cluster = json!({
        "servers": {"count": 1, "args": ["--disable=traefik,metrics-server,servicelb"]},
        "agents": {"count": 1},
        "registries": registries(&scene),
    });
    scene.apply("LocalCluster", "c", &cluster.to_string());

    let plain = Upstream::start(&of("plain"), &Setup::default());
    let users = [FIRST, SECOND];
    let safe = Upstream::start(&of("safe"), &Setup { tls: Some(&tls), users: &users, ..Setup::default() });
    let clients = Some(authority.pem.as_str());
    let strict = Setup { tls: Some(&tls), clients, images_of: Some(&plain), ..Setup::default() };
    let strict = Upstream::start(&of("strict"), &strict);
    scene.ready("lc/c");
    let network = network(&scene, "c");
    let tokens = TokenServer::start(&of("tokens"), &network);
    let tokened = Setup { token: Some(&tokens), images_of: Some(&plain), ..Setup::default() };
    let tokened = Upstream::start(&of("tokened"), &tokened);
    for one in [&plain, &tokened] {
        one.join(&network, &[]);
    }
    let aliases: Vec<String> = SAFE.iter().chain(&["wrong"]).map(|n| format!("{n}.test")).collect();
    safe.join(&network, &aliases.iter().map(String::as_str).collect::<Vec<_>>());
    strict.join(&network, &["strict.test"]);
    scene.with(Stage { plain, safe, strict, tokened, tokens, authority })
}

/// Returns `spec.registries` of the cluster between the tests.
pub fn registries(scene: &Scene) -> Value {
    let tokened = format!("{}-tokened:5000", scene.namespace);
    let config = |name: &str, tls: Value| json!({"host": format!("{name}.test:5000"), "auth": {"secretName": name}, "tls": tls});
    json!({
        "use": [{"name": "own"}],
        "mirrors": [{"registry": "token.test", "endpoints": [format!("http://{tokened}")]}],
        "configs": [
            config("user", json!({"caSecretName": "ca"})),
            config("basic", json!({"caConfigMapName": "ca"})),
            config("docker", json!({"caSecretName": "ca"})),
            config("auth", json!({"caSecretName": "ca"})),
            config("wrong", json!({"caSecretName": "ca"})),
            {"host": tokened, "auth": {"secretName": "identity"}},
        ],
    })
}

/// Edits `spec.registries` of the cluster while `test` runs.
pub fn with(scene: &Scene, edit: impl FnOnce(&mut Value), test: impl FnOnce()) {
    let mut edited = registries(scene);
    edit(&mut edited);
    set_registries(scene, &edited);
    test();
    set_registries(scene, &registries(scene));
    scene.ready("lc/c");
}

/// Sets `spec.registries` of the cluster and removes fields that are not in it.
pub fn set_registries(scene: &Scene, registries: &Value) {
    let patch = json!([{"op": "replace", "path": "/spec/registries", "value": registries}]);
    scene.run(&["patch", "lc/c", "--type=json", "-p", &patch.to_string()]);
}

/// Adds an entry to a list.
pub fn add(registries: &mut Value, list: &str, entry: Value) {
    let list = &mut registries[list];
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().expect("it is a list").push(entry);
}

/// Pushes a new image to the registry that accepts everyone, and returns its name without the registry.
pub fn push_plain(scene: &Scene, name: &str) -> String {
    let path = format!("e2e/{name}:1");
    push(&format!("{}/{path}", scene.stage::<Stage>().plain.host()), None).unwrap_or_else(|e| panic!("{e}"));
    path
}

/// Returns kubectl for the cluster, and its two nodes.
pub fn cluster(scene: &Scene) -> (Kubectl, [String; 2]) {
    (scene.child("c"), ["server-0", "agent-0"].map(|n| node(scene, "c", n)))
}
