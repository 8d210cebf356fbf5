//! The Helm chart: it installs an operator that works, an upgrade takes up its values, and an uninstallation leaves what
//! users have.

use std::{env, fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    live::{
        DEPLOYMENT, Kubectl, SYSTEM, build, command, docker, eventually, harness::Group, holds, inspect,
        install, operator::settings, scene::Scene, scratch, world,
    },
    trouble::delete,
};

pub const GROUP: Group = Group {
    name: "chart",
    setup: || {
        install();
        Scene::new("chart").with(Release::instead())
    },
    tests: &[
        ("its_own_test_passes", its_own_test_passes),
        ("an_upgrade_takes_up_its_values", an_upgrade_takes_up_its_values),
        ("what_users_have_survives_an_uninstallation", what_users_have_survives_an_uninstallation),
    ],
};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/localcluster-operator");
const WORLD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/world");
const NAME: &str = "operator";
const CRDS: [&str; 3] = [
    "crd/localclusters.localcluster.dev",
    "crd/registries.localcluster.dev",
    "crd/hostpolicies.localcluster.dev",
];

/// A release of the chart in place of what the other tests install, which is restored on drop.
struct Release {
    values: PathBuf,
    kubectl: Option<String>,
}

impl Release {
    fn instead() -> Self {
        let k = Kubectl::management();
        let get = |path: &str| k.run(&["-n", SYSTEM, "get", DEPLOYMENT, "-o", &format!("jsonpath={path}")]);
        let image = get("{.spec.template.spec.containers[0].image}");
        let (repository, tag) = image.rsplit_once(':').expect("it has a tag");
        let mut flags: Value = json!({});
        for (variable, value) in settings() {
            if let Some(flag) = variable.strip_prefix("LOCALCLUSTER_") {
                flags[flag.to_lowercase().replace('_', "-")] = value.into();
            }
        }
        flags["network-pool"] = "10.231.0.0/16".into();
        let mut values = json!({
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "settings": flags,
        });
        let kubectl = (world("STANDIN") == "true").then(kubectl_image);
        if let Some(image) = &kubectl {
            values["test"] = json!({"image": image});
        }
        let file = scratch("values.json");
        fs::write(&file, values.to_string()).expect("it can be written");
        let release = Self { values: file, kubectl };
        command(WORLD, &["uninstall"], "").unwrap_or_else(|e| panic!("{e}"));
        release.install();
        release
    }

    fn file(&self) -> &str {
        self.values.to_str().expect("it is text")
    }

    fn install(&self) {
        let wait = ["--create-namespace", "--wait", "--timeout=2m"];
        helm(&[&["install", NAME, CHART, "-f", self.file()], &wait[..]].concat());
    }

    /// Upgrades the release to its values and these.
    fn upgrade(&self, more: &[&str]) {
        helm(&[&["upgrade", NAME, CHART, "-f", self.file(), "--wait", "--timeout=2m"], more].concat());
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        let k = Kubectl::management();
        let _ = try_helm(&["uninstall", NAME, "--ignore-not-found", "--wait"]);
        let _ = k.attempt(&[&["delete", "--ignore-not-found"], &CRDS[..]].concat());
        let _ = k.attempt(&["delete", "namespace", SYSTEM, "--ignore-not-found"]);
        // `install` does it once in a process.
        let _ = command(WORLD, &["install"], "");
        if let Some(image) = &self.kubectl {
            docker(&["rmi", image]);
        }
    }
}

fn try_helm(args: &[&str]) -> Result<String, String> {
    let helm = env::var("HELM").unwrap_or_else(|_| "helm".to_owned());
    let kubeconfig = world("KUBECONFIG");
    command(&helm, &[&["--kubeconfig", &kubeconfig, "-n", SYSTEM], args].concat(), "")
}

fn helm(args: &[&str]) -> String {
    try_helm(args)
        .unwrap_or_else(|e| panic!("helm {args:?}: {e} (HELM is the path of helm; `make chart` builds it)"))
}

/// Loads an image with the kubectl of this machine into the management cluster. Returns its name.
fn kubectl_image() -> String {
    let image = "localhost/e2e-kubectl:1";
    let path = command("sh", &["-c", "command -v kubectl"], "").expect("kubectl is installed");
    let context = scratch("kubectl");
    fs::create_dir_all(&context).expect("it can be created");
    fs::copy(path.trim(), context.join("kubectl")).expect("it can be copied");
    fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY kubectl /kubectl\nENTRYPOINT [\"/kubectl\"]\n")
        .expect("it can be written");
    build(image, context.to_str().expect("it is text"), "");
    fs::remove_dir_all(&context).expect("it can be removed");
    command(WORLD, &["load", image], "").unwrap_or_else(|e| panic!("{e}"));
    image.to_owned()
}

fn its_own_test_passes(scene: &Scene) {
    let told = helm(&["test", NAME, "--timeout=4m"]);
    assert!(told.contains("Succeeded"), "{told}");
    eventually(60, "nothing of the test is left", || {
        let left = scene.k.attempt(&["-n", "default", "get", "lreg,pods,rolebindings", "-o", "name"])?;
        holds(!left.contains("localcluster-operator-test"), || left)
    });
    let pod = scene.k.run(&[
        "-n",
        SYSTEM,
        "get",
        DEPLOYMENT,
        "-o",
        "jsonpath={.spec.template.spec.securityContext}",
    ]);
    assert!(!pod.contains("supplementalGroups"), "the number of the socket's group is not needed: {pod}");
}

fn an_upgrade_takes_up_its_values(scene: &Scene) {
    let release = scene.stage::<Release>();
    scene.k.run(&["delete", "hostpolicy", "one-user"]);
    let namespaces = format!("namespaces={{{}}}", scene.namespace);
    let group = format!("docker.group={}", world("DOCKER_GROUP"));
    release.upgrade(&["--set", &namespaces, "--set", &group, "--set", "settings.resync=9m"]);
    assert!(
        scene.k.attempt(&["get", "hostpolicy", "one-user"]).is_err(),
        "an upgrade created the policy again that opens the namespace default"
    );
    let bound = |scene: &Scene| scene.attempt(&["get", "rolebinding", "localcluster-operator-objects"]);
    bound(scene).unwrap_or_else(|e| panic!("{e}"));
    let everywhere = ["get", "clusterrolebinding", "localcluster-operator-objects"];
    assert!(scene.k.attempt(&everywhere).is_err(), "it can still read all Secrets");
    let env = scene.k.run(&[
        "-n",
        SYSTEM,
        "get",
        DEPLOYMENT,
        "-o",
        "jsonpath={.spec.template.spec.containers[0].env}",
    ]);
    assert!(env.contains("LOCALCLUSTER_RESYNC") && env.contains("9m"), "{env}");
    let wrong = try_helm(&["upgrade", NAME, CHART, "-f", release.file(), "--set", "hostNetworks=true"]);
    let told = wrong.expect_err("a value that does not exist");
    assert!(told.contains("hostNetworks"), "{told}");

    release.upgrade(&[]);
    scene.k.run(&everywhere);
    assert!(bound(scene).is_err());
}

fn what_users_have_survives_an_uninstallation(scene: &Scene) {
    let policy = format!(
        "{{apiVersion: localcluster.dev/v1alpha1, kind: HostPolicy, metadata: {{name: {0}}}, spec: \
         {{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {0}}}}}}}}}",
        scene.namespace
    );
    scene.k.apply(&policy);
    scene.apply("Registry", "kept", "{storage: {retain: false}}");
    scene.ready("lreg/kept");
    let container = scene.registry("kept");
    let id = || inspect(&container).expect("it exists")["Id"].clone();
    let before = id();

    helm(&["uninstall", NAME, "--wait"]);
    assert!(scene.k.attempt(&["-n", SYSTEM, "get", DEPLOYMENT]).is_err());
    scene.run(&["get", "lreg/kept"]);
    assert_eq!(id(), before);

    scene.stage::<Release>().install();
    scene.patch("lreg/kept", "{\"deleteEnabled\": true}");
    scene.ready("lreg/kept");
    delete(scene, "lreg/kept");
    scene.k.run(&["delete", "hostpolicy", &scene.namespace]);
}
