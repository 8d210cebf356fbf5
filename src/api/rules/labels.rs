//! Labels of containers that users may not set.

use super::{Refused, refused};

/// Container labels refused in every pool: tools take what has them for their own, and change or remove it.
pub const CONTAINER_LABELS: &[Refused] = &[
    refused(
        &["localcluster.dev/*", "app", "k3d.*", "k3s.registry.*"],
        "the operator sets these labels, by which it and k3d find their containers; use another key",
    ),
    refused(
        &[
            "com.docker.*",
            "io.docker.*",
            "org.dockerproject.*",
            "io.x-k8s.*",
            "io.kubernetes.*",
            "io.cri-containerd.*",
            "org.testcontainers*",
        ],
        "Docker, Compose, kind and other tools take containers with these labels for their own; use another key",
    ),
];
