//! A registries file: read from each possible source, merged with everything else, and refused if K3s would ignore it
//! or fail on it.

use serde_json::{Value, json};

use crate::{
    live::{
        eventually, holds,
        pulls::{pulls, registries_file},
        scene::{LIMIT, Scene, condition},
    },
    registries::{Stage, add, cluster, push_plain, registries, set_registries, with},
    trouble::{becomes_true, delete, idle_cluster},
};

/// Returns a file that mirrors `registry` by the one that accepts everyone.
fn file(scene: &Scene, registry: &str) -> String {
    format!("mirrors:\n  {registry}:\n    endpoint: [\"http://{}\"]\n", scene.stage::<Stage>().plain.inside())
}

pub fn each_source(scene: &Scene) {
    let path = push_plain(scene, "file");
    let (child, [server, agent]) = cluster(scene);
    let before = scene.picture();
    scene.secret("file", "Opaque", &[("registries.yaml", &file(scene, "secret.test"))]);
    scene.config_map("file", &[("other.yaml", &file(scene, "map.test"))]);
    let sources = [
        ("inline.test", json!({"inline": file(scene, "inline.test")})),
        ("secret.test", json!({"secretName": "file"})),
        ("map.test", json!({"configMapName": "file", "key": "other.yaml"})),
    ];
    for (registry, source) in sources {
        let mut edited = registries(scene);
        edited["config"] = source;
        set_registries(scene, &edited);
        scene.ready("lc/c");
        pulls(&child, &format!("{registry}/{path}"), &server);
    }
    // The ConfigMap changes, and the cluster does not.
    scene.config_map("file", &[("other.yaml", &file(scene, "changed.test"))]);
    eventually(LIMIT, "the node has the changed file", || {
        let file = registries_file(&agent);
        holds(file["mirrors"]["changed.test"].is_object(), || file.to_string())
    });
    pulls(&child, &format!("changed.test/{path}"), &agent);
    let endpoint = format!("http://{}", scene.stage::<Stage>().plain.inside());
    let mirror = json!({"registry": "typed.test", "endpoints": [endpoint]});
    with(
        scene,
        |r| add(r, "mirrors", mirror),
        || {
            scene.ready("lc/c");
            pulls(&child, &format!("typed.test/{path}"), &agent);
        },
    );
    assert_eq!(scene.picture(), before, "a container was touched");
}

pub fn all_of_it_is_merged(scene: &Scene) {
    let own = format!("{}:5000", scene.registry("own"));
    let text = format!(
        "mirrors:\n  typed.test: {{endpoint: [\"http://file:1\"]}}\n  file.test: {{endpoint: [\"http://file:2\"]}}\n  \
         \"{own}\": {{}}\nconfigs:\n  \"typed:1\": {{tls: {{insecure_skip_verify: true}}}}\n"
    );
    let edit = |r: &mut Value| {
        r["config"] = json!({"inline": text});
        add(r, "mirrors", json!({"registry": "typed.test", "endpoints": ["https://typed:1"]}));
        add(
            r,
            "mirrors",
            json!({"registry": "both.test", "endpoints": ["https://typed:1", "http://typed:2"]}),
        );
        add(r, "configs", json!({"host": "typed:1", "tls": {"caConfigMapName": "ca"}}));
    };
    with(scene, edit, || {
        scene.ready("lc/c");
        let (_, nodes) = cluster(scene);
        let [one, two] = nodes.map(|n| registries_file(&n));
        assert_eq!(one, two, "the nodes have different files");
        let mirrors = &one["mirrors"];
        assert_eq!(mirrors["typed.test"]["endpoint"], json!(["http://file:1"]), "the file does not win");
        assert_eq!(mirrors["file.test"]["endpoint"], json!(["http://file:2"]));
        assert_eq!(mirrors["both.test"]["endpoint"], json!(["https://typed:1", "http://typed:2"]));
        let ours = json!([format!("https://{own}")]);
        assert_eq!(mirrors[&own]["endpoint"], ours, "an entry without endpoints emptied a list");
        let tls = &one["configs"]["typed:1"]["tls"];
        assert_eq!(tls["insecure_skip_verify"], true);
        assert!(tls["ca_file"].is_string(), "the file's field took the other one's place: {tls}");
        assert_eq!(one["configs"]["user.test:5000"]["auth"]["username"], "first");
    });
}

/// Returns the message of the condition that refuses a spec, once it describes the newest one.
fn refusal(scene: &Scene, object: &str) -> Result<String, String> {
    let seen = scene.try_get(object)?;
    for type_ in ["Accepted", "ResolvedRefs"] {
        let condition = condition(&seen, type_)?;
        holds(condition["observedGeneration"] == seen["metadata"]["generation"], || condition.to_string())?;
        if condition["status"] == "False" {
            return Ok(condition["message"].as_str().unwrap_or_default().to_owned());
        }
    }
    Err(format!("not refused: {}", seen["status"]["conditions"]))
}

pub fn what_k3s_would_ignore_is_refused(scene: &Scene) {
    let refused = [
        ("mirrors: {a.test: {endpoints: [\"http://a\"]}}", "endpoints"),
        ("mirrors: {\"https://a.test\": {endpoint: [\"http://a\"]}}", "https://a.test"),
        ("mirrors: {index.docker.io: {endpoint: [\"http://a\"]}}", "docker.io"),
        ("mirrors: {a.test: {endpoint: [\"http://a\"], rewrite: {\"^a(\": b}}}", "^a("),
        ("mirrors: {a.test: {endpoint: [\"http://a\"], rewrite: {'^a\\.b': b}}}", "backslash"),
        (
            "mirrors: {a.test: {endpoint: [\"https://a.test:1\"]}}\nconfigs: {a.test: {tls: {insecure_skip_verify: true}}}",
            "a.test:1",
        ),
        ("configs: {\"a:1\": {tls: {ca_file: /nowhere/ca.pem}}}", "/nowhere/ca.pem"),
        ("configs: {\"https://a:1\": {auth: {username: u, password: p}}}", "https://a:1"),
        ("mirrors: [", ""),
    ];
    for (text, words) in refused {
        scene.apply(
            "LocalCluster",
            "bad",
            &idle_cluster(&format!("registries: {{config: {}}}", json!({"inline": text}))),
        );
        let message = eventually(30, &format!("it is refused: {text}"), || {
            let message = refusal(scene, "lc/bad")?;
            holds(message.contains(words), || message.clone())?;
            Ok(message)
        });
        println!("        {text:?}: {message}");
    }
    for (source, words) in [("secretName: missing", "missing"), ("configMapName: missing, key: a", "missing")]
    {
        scene.apply("LocalCluster", "bad", &idle_cluster(&format!("registries: {{config: {{{source}}}}}")));
        eventually(30, &format!("it is refused: {source}"), || {
            let message = refusal(scene, "lc/bad")?;
            holds(message.contains(words), || message)
        });
    }
    let left = scene.containers().iter().filter(|c| c.to_string().contains("-bad-")).count();
    assert_eq!(left, 0, "containers were made of a spec that is refused");
    let good = json!({"inline": file(scene, "a.test")});
    scene.apply("LocalCluster", "bad", &idle_cluster(&format!("registries: {{config: {good}}}")));
    becomes_true(scene, "lc/bad", "Accepted");
    becomes_true(scene, "lc/bad", "ResolvedRefs");
    delete(scene, "lc/bad");
}
