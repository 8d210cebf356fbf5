//! Two clusters in two namespaces, and the registries and caches that they share.

use serde_json::{Value, json};

use crate::{
    live::{
        Kubectl,
        harness::Group,
        install,
        pulls::node,
        registries::{FIRST, Setup, TokenServer, Upstream, join_registry},
        scene::Scene,
        world,
    },
    registries::login,
    registries_address, registries_cache, registries_made, secrets,
};

pub const GROUP: Group = Group {
    name: "shared",
    setup,
    tests: &[
        ("created_with_the_cluster", registries_made::created_with_the_cluster),
        ("deleted_with_the_cluster", registries_made::deleted_with_the_cluster),
        ("own_name_and_port", registries_made::own_name_and_port),
        ("samples_run", registries_made::samples_run),
        ("consent", registries_made::consent),
        (
            "the_status_shows_the_published_address",
            registries_address::the_status_shows_the_published_address,
        ),
        ("second_cluster_hits_the_cache", registries_cache::second_cluster_hits_the_cache),
        ("upstream_down", registries_cache::upstream_down),
        ("push_to_a_cache_is_refused", registries_cache::push_to_a_cache_is_refused),
        ("cache_logs_in", registries_cache::cache_logs_in),
        ("ports_and_names_are_for_life", registries_made::ports_and_names_are_for_life),
        ("none_disturbs_another", registries_made::none_disturbs_another),
        ("secrets_are_nowhere_else", secrets::of_registries),
    ],
};

/// The fixtures of this group.
pub struct Stage {
    /// The upstream of the cache `cache`.
    pub upstream: Upstream,
    /// The upstream of the cache `closed`: it accepts users that `tokens` knows.
    pub closed: Upstream,
    pub tokens: TokenServer,
    /// Has the images of `closed`, and accepts everyone, to push them. Dropped last, since the volume is its own.
    pub door: Upstream,
}

/// Name of a Registry, from k3d's guide.
pub const GUIDE: &str = "myregistry.localhost";
/// Its port in the guide.
pub const GUIDE_PORT: u16 = 12345;

fn setup() -> Scene {
    install();
    let (scene, other) = (Scene::new("sha"), Scene::new("shb"));
    let of = |name: &str| format!("{}-{name}", scene.namespace);
    let network = world("NETWORK");
    let at = |setup| Setup { network: Some(&network), ..setup };
    let upstream = Upstream::start(&of("upstream"), &at(Setup::default()));
    let door = Upstream::start(&of("door"), &Setup::default());
    let tokens = TokenServer::start(&of("tokens"), &network);
    let closed = Setup { token: Some(&tokens), images_of: Some(&door), ..Setup::default() };
    let closed = Upstream::start(&of("closed"), &at(closed));

    let allowed = json!([other.namespace]);
    let cache = |of: &Upstream, more: Value| {
        let mut proxy = json!({"remoteURL": format!("http://{}", of.inside())});
        proxy.as_object_mut().expect("it is a map").extend(more.as_object().cloned().unwrap_or_default());
        json!({"proxy": proxy, "allowedNamespaces": allowed}).to_string()
    };
    login(&scene, "login", FIRST);
    scene.apply("Registry", "cache", &cache(&upstream, json!({})));
    scene.apply("Registry", "closed", &cache(&closed, json!({"credentialsSecret": "login"})));
    for (registry, upstream) in
        [("cache", &upstream.name), ("closed", &closed.name), ("closed", &tokens.name)]
    {
        join_registry(&scene, registry, upstream);
    }
    let guide = json!({
        "hostname": format!("k3d-{GUIDE}"), "hostPort": GUIDE_PORT, "allowedNamespaces": allowed,
    });
    scene.apply("Registry", GUIDE, &guide.to_string());
    let sample = json!({"hostname": "k3d-registry"});
    scene.apply("Registry", "registry", &sample.to_string());

    let cluster = |registries: Value| {
        let servers = json!({"count": 1, "args": ["--disable=traefik,metrics-server,servicelb"]});
        json!({"servers": servers, "agents": {"count": 0}, "registries": registries}).to_string()
    };
    let a = json!({
        "use": [{"name": GUIDE}, {"name": "registry"}, {"name": "cache"}, {"name": "closed"}], "create": {},
    });
    scene.apply("LocalCluster", "a", &cluster(a));
    let names = [GUIDE, "cache", "closed"];
    let used: Vec<Value> = names.iter().map(|n| json!({"name": n, "namespace": scene.namespace})).collect();
    other.apply("LocalCluster", "b", &cluster(json!({"use": used})));
    scene.ready("lc/a");
    other.ready("lc/b");
    scene.with(Stage { upstream, closed, tokens, door }).with_guest(other)
}

/// Returns kubectl for the cluster of the first namespace, and its node.
pub fn a(scene: &Scene) -> (Kubectl, String) {
    (scene.child("a"), node(scene, "a", "server-0"))
}

/// Returns kubectl for the cluster of the other namespace, and its node.
pub fn b(scene: &Scene) -> (Kubectl, String) {
    let other = scene.guest();
    (other.child("b"), node(other, "b", "server-0"))
}

/// Returns the status of a Registry.
pub fn status(scene: &Scene, registry: &str) -> Value {
    scene.get(&format!("lreg/{registry}"))["status"].clone()
}

/// Returns the name under which this machine pushes to a Registry.
pub fn host(scene: &Scene, registry: &str) -> String {
    status(scene, registry)["host"].as_str().expect("the status has its host").to_owned()
}
