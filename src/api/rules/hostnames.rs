//! Names that resolve to something else than what a user may assign to them. Created clusters resolve the names of
//! registries and host aliases before all others.

use super::{Refused, refused};

/// The domain of Services and Pods in every cluster.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// Word for the Docker host in the place of an address, as `docker run --add-host` has it.
pub const HOST_GATEWAY: &str = "host-gateway";

/// Names by which Pods reach Services.
const SERVICES: Refused = refused(
    &["kubernetes", "kubernetes.default", "svc", "*.svc", CLUSTER_DOMAIN, "*.cluster.local"],
    "Services and Pods of the cluster have such names; use another name",
);

/// Networks of Docker itself, which containers with another network cannot join, or on which they would be alone.
pub const DOCKERS_NETWORKS: Refused = refused(
    &["bridge", "default", "host", "none"],
    "nodes cannot join these networks of Docker; create one with `docker network create`",
);

/// Hostnames that users may not assign an address to.
pub const ALIASES: &[Refused] = &[
    refused(&["localhost"], "every node and Pod resolves it to itself; use another name"),
    refused(&["host.k3d.internal"], "the operator resolves it to the Docker host; use another name"),
    SERVICES,
];

/// Names of pools that would give nodes names with another meaning.
pub const POOLS: &[Refused] = &[refused(
    &["agent", "agents", "all", "loadbalancer", "registry", "server", "serverlb", "servers", "tools"],
    "k3d and this operator call other nodes and containers so; use another name, such as gpu",
)];

/// Hostnames that a registry may not have, since every cluster that uses it would resolve them to its container.
pub const REGISTRIES: &[Refused] = &[
    refused(
        &["host.k3d.internal", "*.docker.internal", "host.containers.internal"],
        "containers and Pods reach the Docker host by such names; use another name, such as registry.localhost",
    ),
    SERVICES,
    refused(
        &[
            "docker.io",
            "*.docker.io",
            "docker.com",
            "*.docker.com",
            "ghcr.io",
            "*.ghcr.io",
            "quay.io",
            "*.quay.io",
            "gcr.io",
            "*.gcr.io",
            "*.pkg.dev",
            "k8s.io",
            "*.k8s.io",
            "mcr.microsoft.com",
            "*.azurecr.io",
            "*.amazonaws.com",
            "*.ecr.aws",
            "registry.gitlab.com",
            "docker.pkg.github.com",
            "*.redhat.com",
            "*.redhat.io",
            "nvcr.io",
            "icr.io",
            "*.icr.io",
            "lscr.io",
            "docker.elastic.co",
            "registry.rancher.com",
        ],
        "public registries have such names, and their images would come from here; use a name of your own, such as \
         registry.localhost or registry.corp.example, and spec.proxy to cache a public registry",
    ),
];
