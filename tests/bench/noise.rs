//! Large images with noise in them, which no compression makes smaller.

use std::{
    fs::File,
    io::{self, Read},
};

use crate::live::{build, docker, registries::busybox, try_docker};

/// Removes an image from a node with all its names, so that the next Pod pulls all of it again: the kubelet's names of
/// an image are those of the same digest.
const FORGET: &str = r#"
images() { ctr -a /run/k3s/containerd/containerd.sock -n k8s.io images "$@"; }
digest=$(images ls | awk -v i="$1" '$1 == i {print $3}')
images rm --sync $(images ls | awk -v d="$digest" '$3 == d {print $1}')"#;

/// An image on the host, for as long as this lives.
pub struct Built<'a>(pub &'a str);

impl<'a> Built<'a> {
    /// Builds an image that waits when it runs, with as many megabytes of noise of its own.
    pub fn new(image: &'a str, megabytes: u64) -> Self {
        Self::replace(image, megabytes);
        Self(image)
    }
}

impl Built<'_> {
    /// Builds it in place of one with the same name, which goes.
    pub fn replace(image: &str, megabytes: u64) {
        let before = docker(&["images", "-q", "--no-trunc", image]);
        let dir = busybox();
        let mut noise = File::create(dir.path().join("root/noise")).expect("a file can be created");
        let random = File::open("/dev/urandom").expect("the kernel has noise");
        io::copy(&mut random.take(megabytes << 20), &mut noise).expect("the noise fits on the disk");
        build(image, &dir.path().display().to_string(), "");
        if !before.is_empty() {
            docker(&["rmi", &before]);
        }
    }
}

impl Drop for Built<'_> {
    fn drop(&mut self) {
        let _ = try_docker(&["rmi", self.0]);
    }
}

/// Removes an image from a node.
pub fn forget(node: &str, image: &str) {
    docker(&["exec", node, "sh", "-ec", FORGET, "-", image]);
}
