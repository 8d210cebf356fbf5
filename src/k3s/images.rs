//! Images in a node's containerd: their names there, and the commands of `ctr` by which they get there and are told.
//!
//! K3s's own `crictl` and `ctr` are in every node; `ctr` alone reads an image from its standard input.

use std::collections::BTreeMap;

use super::CONTAINERD_SOCKET;

/// The label that tells which image of the Docker host one in containerd was made from, by its id there.
pub const ID_LABEL: &str = "localcluster.dev/image-id";
/// The label of one that has an id of its own there, see [`own_image`](super::own_image): the digest of what was made so. A
/// label stays when the name comes to stand for something else.
pub const OWN_LABEL: &str = "localcluster.dev/own-id";
/// What keeps the kubelet from removing an image when disk space runs out. K3s takes it away at its next start only
/// from images that have a label of its own besides.
const PINNED: &str = "io.cri-containerd.pinned=pinned";

/// The name that containerd has for an image reference with a tag: in full, as Docker and Kubernetes understand it.
pub fn canonical(reference: &str) -> String {
    let (domain, rest) = match reference.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.contains(|c: char| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => ("docker.io", reference),
    };
    let domain = if domain == "index.docker.io" { "docker.io" } else { domain };
    let library = if domain == "docker.io" && !rest.contains('/') { "library/" } else { "" };
    format!("{domain}/{library}{rest}")
}

/// An image of the Docker host in a node's containerd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Its id on the Docker host.
    pub id: String,
    /// Whether it has an id of its own here, or can't have one.
    pub own: bool,
}

fn ctr(args: &[&str]) -> Vec<String> {
    let begin = ["ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io"];
    begin.iter().chain(args).map(|arg| (*arg).to_owned()).collect()
}

/// Reads the archive of an image, as `docker save` writes it, from standard input.
pub fn import() -> Vec<String> {
    import_file("-")
}

/// Reads the archive of an image from a file of the node.
pub fn import_file(path: &str) -> Vec<String> {
    ctr(&["images", "import", path])
}

/// Writes some content of an image.
pub fn content(digest: &str) -> Vec<String> {
    ctr(&["content", "get", digest])
}

/// Notes on an image that it was made from the one with this id and has one of its own by what has this digest, and keeps it
/// from the kubelet's garbage collection.
pub fn label(reference: &str, id: &str, digest: &str) -> Vec<String> {
    let (id, own) = (format!("{ID_LABEL}={id}"), format!("{OWN_LABEL}={digest}"));
    ctr(&["images", "label", &canonical(reference), PINNED, &id, &own])
}

/// Lists all images.
pub fn list() -> Vec<String> {
    ctr(&["images", "list"])
}

/// The kind and the digest of what an image of such a list is the name of.
pub fn target(output: &str, reference: &str) -> Option<(String, String)> {
    let name = canonical(reference);
    output.lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        let named = columns.next()? == name;
        let target = (columns.next()?.to_owned(), columns.next()?.to_owned());
        named.then_some(target)
    })
}

/// The labels in a line of such a list: its last column.
fn labels(line: &str) -> Option<impl Iterator<Item = &str>> {
    Some(line.split_whitespace().next_back()?.split(','))
}

/// The images of such a list that were put there from the Docker host, by containerd's name.
pub fn listed(output: &str) -> BTreeMap<String, Held> {
    // The name is in the first column and the digest in the third.
    let line = |line: &str| {
        let mut columns = line.split_whitespace();
        let (name, digest) = (columns.next()?, columns.nth(1)?);
        let value = |key: &str| labels(line)?.find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        let id = value(ID_LABEL)?.to_owned();
        Some((name.to_owned(), Held { id, own: value(OWN_LABEL) == Some(digest) }))
    };
    output.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_containerd_has_them() {
        for (reference, name) in [
            ("nginx:1.29", "docker.io/library/nginx:1.29"),
            ("standin/http:1", "docker.io/standin/http:1"),
            ("docker.io/nginx:1", "docker.io/library/nginx:1"),
            ("index.docker.io/a/b:1", "docker.io/a/b:1"),
            ("localhost/idle:1", "localhost/idle:1"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
            ("registry.example/app:1", "registry.example/app:1"),
            ("quay.io/a/b/c:v1.2", "quay.io/a/b/c:v1.2"),
            ("HOST/app:1", "HOST/app:1"),
        ] {
            assert_eq!(canonical(reference), name);
        }
    }

    #[test]
    fn only_what_came_from_the_host_is_told() {
        let list = "\
REF                                TYPE                                                 DIGEST        SIZE    PLATFORMS   LABELS                                                          
docker.io/library/nginx:1.29       application/vnd.docker.distribution.manifest.v2+json sha256:aaaa   2.0 MiB linux/amd64 io.cri-containerd.image=managed,io.cri-containerd.pinned=pinned,localcluster.dev/image-id=sha256:cc
docker.io/rancher/mirrored-pause:3 application/vnd.oci.image.index.v1+json              sha256:bbbb   0.7 MiB linux/amd64 io.cri-containerd.image=managed,io.cri-containerd.pinned=pinned 
docker.io/library/plain:1          application/vnd.oci.image.index.v1+json              sha256:dddd   1.0 KiB linux/amd64 -                                                               
";
        let held = |own| {
            BTreeMap::from([(
                "docker.io/library/nginx:1.29".to_owned(),
                Held { id: "sha256:cc".into(), own },
            )])
        };
        assert_eq!(listed(list), held(false));
        let own = |digest| {
            listed(&list.replace("=sha256:cc", &format!("=sha256:cc,localcluster.dev/own-id={digest}")))
        };
        assert_eq!(own("sha256:aaaa"), held(true));
        assert_eq!(own("sha256:bbbb"), held(false), "the name stands for something else by now");
        let kind = "application/vnd.docker.distribution.manifest.v2+json".to_owned();
        assert_eq!(target(list, "nginx:1.29"), Some((kind, "sha256:aaaa".to_owned())));
        assert_eq!(target(list, "nginx:1"), None);
        assert_eq!(listed(""), BTreeMap::new());
    }

    #[test]
    fn the_commands_in_full() {
        let line = |command: Vec<String>| command.join(" ");
        let ctr = "ctr --address /run/k3s/containerd/containerd.sock --namespace k8s.io";
        assert_eq!(line(import()), format!("{ctr} images import -"));
        assert_eq!(line(import_file("/tmp/x")), format!("{ctr} images import /tmp/x"));
        assert_eq!(line(content("sha256:cc")), format!("{ctr} content get sha256:cc"));
        assert_eq!(line(list()), format!("{ctr} images list"));
        assert_eq!(
            line(label("nginx:1", "sha256:cc", "sha256:dd")),
            format!(
                "{ctr} images label docker.io/library/nginx:1 io.cri-containerd.pinned=pinned \
                 localcluster.dev/image-id=sha256:cc localcluster.dev/own-id=sha256:dd"
            )
        );
    }
}
