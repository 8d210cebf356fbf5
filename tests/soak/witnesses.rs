//! What was written at the beginning and must be there at the end.

use serde_json::Value;

use crate::live::{cluster::push, command, http, scene::Scene};

/// Data in the cluster and an image in the registry.
pub struct Witnesses {
    port: u64,
    /// The path of its repository.
    image: String,
    manifest: String,
}

impl Witnesses {
    /// Writes them.
    pub fn new(scene: &Scene) -> Self {
        scene.child("c").run(&["create", "configmap", "witness", "--from-literal=said=before"]);
        let image = push(scene, "witness");
        let status = &scene.get("lreg/r")["status"];
        let port = status["hostPort"].as_u64().expect("a registry tells its port");
        let (_, path) = image.split_once('/').expect("it has a host");
        let image = path.split_once(':').expect("it has a tag").0.to_owned();
        let mut new = Self { port, image, manifest: String::new() };
        new.manifest = new.read().unwrap_or_else(|e| panic!("{e}"));
        new
    }

    fn read(&self) -> Result<String, String> {
        let accept = "Accept: application/vnd.docker.distribution.manifest.v2+json, \
                      application/vnd.oci.image.manifest.v1+json\r\n";
        let path = format!("/v2/{}/manifests/1", self.image);
        let answer = http("GET", self.port, &path, accept)?;
        if answer.status == 200 { Ok(answer.body) } else { Err(format!("{path}: {}", answer.head)) }
    }

    /// What is in the cluster.
    pub fn data_is_there(&self, scene: &Scene) {
        let said = scene.child("c").run(&["get", "configmap", "witness", "-o", "jsonpath={.data.said}"]);
        assert_eq!(said, "before", "the data of the cluster is lost");
    }

    /// The image, byte for byte.
    pub fn image_is_intact(&self) {
        assert_eq!(self.read().unwrap_or_else(|e| panic!("{e}")), self.manifest, "it is another image");
        let manifest: Value = serde_json::from_str(&self.manifest).expect("a manifest is JSON");
        let layers = manifest["layers"].as_array().expect("an image has layers");
        for blob in layers.iter().chain([&manifest["config"]]) {
            let digest = blob["digest"].as_str().expect("a blob has a digest");
            let url = format!("http://127.0.0.1:{}/v2/{}/blobs/{digest}", self.port, self.image);
            let sum = command("sh", &["-c", "curl -fsS \"$0\" | sha256sum", &url], "");
            let sum = sum.unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(format!("sha256:{}", sum.split(' ').next().unwrap_or_default()), digest);
        }
    }
}
