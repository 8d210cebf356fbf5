//! Images in containerd on a node: their names, and the `ctr` commands that import, label and list them.
//!
//! A node that asks a mirror for an image names it in two parts: the path of the manifest, as in every registry, and the
//! registry as a parameter, `GET /v2/library/nginx/manifests/1.29?ns=docker.io`.
//!
//! Every node has `crictl` and `ctr` of K3s; only `ctr` reads an image from standard input.

use std::collections::BTreeMap;

use super::CONTAINERD_SOCKET;

/// Label with the ID of the image on the Docker host that an image in containerd was created from.
pub const ID_LABEL: &str = "localcluster.dev/image-id";
/// The same of an image that a node asked for. Another one, so that an image which is to be imported on all nodes later
/// is imported again, and kept.
pub const ASKED_LABEL: &str = "localcluster.dev/host-image-id";
/// Label of an image with its own ID in containerd, see [`own_image`](super::own_image): the digest of the rewritten
/// image. A label remains when the name is moved to another image.
pub const OWN_LABEL: &str = "localcluster.dev/own-id";
/// Label that keeps the kubelet from removing an image when disk space runs out. At its next start K3s removes it only
/// from images that also have a label of K3s.
const PINNED: &str = "io.cri-containerd.pinned=pinned";

/// Returns the name in containerd of an image reference with a tag: fully qualified, as Docker and Kubernetes interpret
/// it. The ID of an image (`sha256:…`) is none: Docker finds any image by it, so it stays as it is, and no pattern of a
/// policy for names in a registry matches it.
pub fn canonical(reference: &str) -> String {
    if reference.starts_with("sha256:") {
        return reference.to_owned();
    }
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

/// Returns the registry and the full name of the image whose manifest is requested of a mirror. `None` for anything else:
/// other requests, images by digest, and names that no image has.
pub fn requested(path: &str, query: &str) -> Option<(String, String)> {
    let (name, tag) = path.strip_prefix("/v2/")?.rsplit_once("/manifests/")?;
    let registry = query.split('&').find_map(|parameter| parameter.strip_prefix("ns="))?;
    let registry = registry.replace("%3A", ":").replace("%3a", ":");
    let word = |text: &str, more: &str, max: usize| {
        let first = |c: char| c.is_ascii_alphanumeric();
        let fits = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
        text.len() <= max && text.starts_with(first) && text.chars().all(fits)
    };
    let parts = name.len() <= 255 && name.split('/').all(|part| word(part, "._-", 255));
    let lower = !name.contains(|c: char| c.is_ascii_uppercase());
    let tagged = word(tag.strip_prefix('_').unwrap_or(tag), "._-", 127);
    let full = format!("{registry}/{name}:{tag}");
    // A name that means another image to Docker is not the one that the node asks for.
    let fits = word(&registry, ".-:", 255) && parts && lower && tagged && canonical(&full) == full;
    fits.then_some((registry, full))
}

/// An image of the Docker host in containerd on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// ID on the Docker host.
    pub id: String,
    /// True if it has its own ID in containerd, or cannot have one.
    pub own: bool,
}

fn ctr(args: &[&str]) -> Vec<String> {
    let begin = ["ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io"];
    begin.iter().chain(args).map(|arg| (*arg).to_owned()).collect()
}

/// Returns the command that imports an archive of `docker save` from standard input.
pub fn import() -> Vec<String> {
    import_file("-")
}

/// Returns the command that imports an archive from a file on the node.
pub fn import_file(path: &str) -> Vec<String> {
    ctr(&["images", "import", path])
}

/// Returns the command that prints a content blob.
pub fn content(digest: &str) -> Vec<String> {
    ctr(&["content", "get", digest])
}

/// Returns the command that labels an image with the ID of the image that it was created from and the digest that has
/// its own ID, and excludes it from garbage collection by the kubelet.
pub fn label(reference: &str, id: &str, digest: &str) -> Vec<String> {
    let (id, own) = (format!("{ID_LABEL}={id}"), format!("{OWN_LABEL}={digest}"));
    ctr(&["images", "label", &canonical(reference), PINNED, &id, &own])
}

/// Returns the command that does the same for an image that the node asked for, which the kubelet may remove.
pub fn label_asked(reference: &str, id: &str, digest: &str) -> Vec<String> {
    let (id, own) = (format!("{ASKED_LABEL}={id}"), format!("{OWN_LABEL}={digest}"));
    ctr(&["images", "label", &canonical(reference), &id, &own])
}

/// Returns the command that lists all images.
pub fn list() -> Vec<String> {
    ctr(&["images", "list"])
}

/// Returns media type and digest of the target of an image in such a list.
pub fn target(output: &str, reference: &str) -> Option<(String, String)> {
    let name = canonical(reference);
    output.lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        let named = columns.next()? == name;
        let target = (columns.next()?.to_owned(), columns.next()?.to_owned());
        named.then_some(target)
    })
}

/// Returns media type and digest of an image in such a list if it was created from the image of the Docker host with this
/// ID, and has its own ID.
pub fn made_of(output: &str, reference: &str, id: &str) -> Option<(String, String)> {
    let name = canonical(reference);
    let line = output.lines().find(|line| line.split_whitespace().next() == Some(&name))?;
    let (kind, digest) = target(line, reference)?;
    let has = |key: &str, value: &str| {
        labels(line).is_some_and(|mut all| {
            all.any(|l| l.strip_prefix(key).and_then(|l| l.strip_prefix('=')) == Some(value))
        })
    };
    let whole = has(OWN_LABEL, &digest) && (has(ID_LABEL, id) || has(ASKED_LABEL, id));
    whole.then_some((kind, digest))
}

/// Returns the labels in a line of such a list, the last column.
fn labels(line: &str) -> Option<impl Iterator<Item = &str>> {
    Some(line.split_whitespace().next_back()?.split(','))
}

/// Returns the images in such a list that were imported from the Docker host, by their name in containerd.
pub fn listed(output: &str) -> BTreeMap<String, Held> {
    // The first column is the name, the third one the digest.
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
            ("sha256:5c87c6", "sha256:5c87c6"),
            ("a/sha256:5c87c6", "docker.io/a/sha256:5c87c6"),
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
    fn a_request_names_an_image() {
        for (path, query, full) in [
            ("/v2/library/app/manifests/1", "ns=docker.io", "docker.io/library/app:1"),
            ("/v2/team/app/manifests/v1.2_x-y", "ns=docker.io", "docker.io/team/app:v1.2_x-y"),
            ("/v2/app/manifests/1", "ns=localhost%3A5000", "localhost:5000/app:1"),
            ("/v2/a/b/c/manifests/latest", "x=1&ns=quay.io", "quay.io/a/b/c:latest"),
            ("/v2/manifests/manifests/1", "ns=localhost", "localhost/manifests:1"),
        ] {
            let (registry, name) = requested(path, query).unwrap();
            assert_eq!(name, full);
            assert!(full.starts_with(&format!("{registry}/")), "{registry}");
        }
        let long = "a".repeat(300);
        for (path, query) in [
            ("/v2/", "ns=docker.io"),
            ("/v2/library/app/blobs/sha256:00", "ns=docker.io"),
            ("/v2/library/app/manifests/sha256:00", "ns=docker.io"),
            ("/v2/library/app/manifests/1", ""),
            ("/v2/library/app/manifests/1", "ns="),
            ("/v2/library/app/manifests/1", "ns=a/b"),
            ("/v2/library/app/manifests/1", "ns=%2e%2e"),
            ("/v2/../app/manifests/1", "ns=docker.io"),
            ("/v2//app/manifests/1", "ns=docker.io"),
            ("/v2/library/app/manifests/", "ns=docker.io"),
            ("/v2/library/App/manifests/1", "ns=docker.io"),
            // Docker takes it for an image of Docker Hub, which another registry was asked for.
            ("/v2/app/manifests/1", "ns=team"),
            ("/v2/app/manifests/1", "ns=index.docker.io"),
            ("/v2/app/manifests/1", "ns=docker.io"),
            (&format!("/v2/{long}/manifests/1"), "ns=docker.io"),
            (&format!("/v2/library/app/manifests/{long}"), "ns=docker.io"),
        ] {
            assert_eq!(requested(path, query), None, "{path}?{query}");
        }
    }

    #[test]
    fn an_image_of_the_host_is_told_by_its_id() {
        let of = |labels: &str| {
            let list = format!(
                "REF TYPE DIGEST SIZE PLATFORMS LABELS\ndocker.io/library/app:1 kind sha256:dd 2.0 MiB linux/amd64 {labels}"
            );
            made_of(&list, "docker.io/library/app:1", "sha256:cc")
        };
        let whole = Some(("kind".to_owned(), "sha256:dd".to_owned()));
        assert_eq!(of("localcluster.dev/host-image-id=sha256:cc,localcluster.dev/own-id=sha256:dd"), whole);
        assert_eq!(of("localcluster.dev/image-id=sha256:cc,localcluster.dev/own-id=sha256:dd"), whole);
        for labels in [
            "-",
            "localcluster.dev/host-image-id=sha256:cc",
            "localcluster.dev/host-image-id=sha256:bb,localcluster.dev/own-id=sha256:dd",
            "localcluster.dev/host-image-id=sha256:cc,localcluster.dev/own-id=sha256:ee",
        ] {
            assert_eq!(of(labels), None, "{labels}");
        }
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
            line(label_asked("nginx:1", "sha256:cc", "sha256:dd")),
            format!(
                "{ctr} images label docker.io/library/nginx:1 localcluster.dev/host-image-id=sha256:cc \
                 localcluster.dev/own-id=sha256:dd"
            )
        );
        assert_eq!(
            line(label("nginx:1", "sha256:cc", "sha256:dd")),
            format!(
                "{ctr} images label docker.io/library/nginx:1 io.cri-containerd.pinned=pinned \
                 localcluster.dev/image-id=sha256:cc localcluster.dev/own-id=sha256:dd"
            )
        );
    }
}
