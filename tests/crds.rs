//! The CustomResourceDefinitions: the files in `crds/` are what the code says, and a real API server takes and enforces
//! them with the words that the code has for it.
//!
//! The API server is the management cluster of `tests/world/world up`; `WORLD_KUBECONFIG` names another.

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::{CustomResourceExt, ResourceExt};
use localcluster_operator::{
    api::{
        LocalCluster, LocalClusterSpec, Registry, crds,
        rules::{self, text},
    },
    plan::validate,
};
use serde_json::{Value, json};

#[path = "crds/documents.rs"]
mod documents;

const LC: &str = "LocalCluster";
const REGISTRY: &str = "Registry";

/// Specs that have to be refused: kind, spec, what the refusal says.
#[rustfmt::skip]
const BAD: &[(&str, &str, &str)] = &[
    (LC, "{version: v1.36.2-k3s1}", text::VERSION),
    (LC, "{version: 1.36.2+k3s1}", text::VERSION),
    (LC, "{version: v1.36+k3s1}", text::VERSION),
    (LC, "{version: latest}", text::VERSION),
    (LC, "{version: v1.36.2+k3s1, image: 'rancher/k3s:v1.36.2-k3s1'}", text::VERSION_OR_IMAGE),
    (LC, "{image: rancher/k3s}", text::IMAGE),
    (LC, "{image: 'localhost:5000/k3s'}", text::IMAGE),
    (LC, "{image: 'rancher/K3s:v1'}", text::IMAGE),
    (LC, "{image: 'rancher/k3s: v1'}", text::IMAGE),
    (LC, "{image: 'rancher/k3s@sha256:12'}", text::IMAGE),
    (LC, "{image: 'https://rancher/k3s:v1'}", text::IMAGE),
    (LC, "{image: ''}", text::IMAGE),
    (LC, "{imagePullSecret: {name: Reg_cred}}", text::OBJECT_NAME),
    (LC, "{imagePullSecret: {}}", "Required value"),
    (LC, "{clusterName: Dev}", text::CLUSTER_NAME),
    (LC, "{clusterName: dev-}", text::CLUSTER_NAME),
    (LC, "{clusterName: de.v}", text::CLUSTER_NAME),
    (LC, "{clusterName: ''}", text::CLUSTER_NAME),
    (LC, "{clusterName: a23456789012345678901234567890123}", "Too long"),
    (LC, "{servers: {count: 0}}", text::SERVERS),
    (LC, "{servers: {count: 2}}", text::SERVERS),
    (LC, "{servers: {count: 7}}", text::SERVERS),
    (LC, "{agents: {count: 33}}", "less than or equal to 32"),
    (LC, "{agents: {count: -1}}", "greater than or equal to 0"),
    (LC, "{agents: {count: '2'}}", "must be of type integer"),
    (LC, "{agents: {maxUnavailable: 0}}", text::MAX_UNAVAILABLE),
    (LC, "{agents: {maxUnavailable: 33}}", text::MAX_UNAVAILABLE),
    (LC, "{agents: {maxUnavailable: 25%}}", "must be of type integer"),
    (LC, "{servers: {maxUnavailable: 1}}", "unknown field"),
    (LC, "{servers: {args: [traefik]}}", text::ARG),
    (LC, "{servers: {args: [--disable-default-registry-endpoint]}}", "use spec.registries.defaultEndpoint"),
    (LC, "{servers: {args: ['--disable traefik']}}", text::ARG),
    (LC, "{servers: {args: ['-v=3']}}", text::ARG),
    (LC, "{servers: {args: ['--Disable=traefik']}}", text::ARG),
    (LC, "{servers: {args: ['--disable', 'traefik']}}", text::ARG),
    (LC, "{servers: {args: ['--']}}", text::ARG),
    (LC, "{servers: {args: ['']}}", text::ARG),
    (LC, r#"{servers: {args: ["--v=3\n--token=x"]}}"#, text::ARG),
    (LC, "{servers: {args: ['--disable=traefik --tls-san=x.example']}}", text::TWO_ARGS),
    (LC, "{agents: {args: ['--kubelet-arg=max-pods=50  --node-label=a=b']}}", text::TWO_ARGS),
    (LC, "{servers: {args: ['--disable=traefik@server:*']}}", text::FILTERED_ARG),
    (LC, "{agents: {args: ['--kubelet-arg=v=3@agent:0,1']}}", text::FILTERED_ARG),
    (LC, "{servers: {args: ['--kube-apiserver-arg=v=3@servers']}}", text::FILTERED_ARG),
    (LC, "{servers: {args: [--disable=helm-controller]}}", "use --disable-helm-controller"),
    (LC, "{servers: {args: ['--disable=traefik,cloud-controller']}}", "use --disable-cloud-controller"),
    (LC, "{servers: {args: ['--disable=kube-proxy , traefik']}}", "use --disable-kube-proxy"),
    (LC, "{servers: {args: ['--disable=a, network-policy,b']}}", "use --disable-network-policy"),
    (LC, "{servers: {args: [--disable=scheduler]}}", "use --disable-scheduler"),
    (LC, "{servers: {args: [--disable=controller-manager]}}", "use --disable-controller-manager"),
    (LC, "{servers: {args: [--flannel-backend=wireguard]}}", "use --flannel-backend=wireguard-native"),
    (LC, "{servers: {args: [--flannel-backend=ipsec]}}", "use --flannel-backend=wireguard-native"),
    (LC, "{servers: {args: [--no-deploy=traefik]}}", "use --disable with the same value: --disable=traefik"),
    (LC, "{agents: {args: [--no-flannel]}}", "use --flannel-backend=none in spec.servers.args"),
    (LC, "{servers: {args: ['--k3s-arg=--disable=traefik@server:0']}}", "this is a k3d flag"),
    (LC, "{servers: {args: [--disable-apiserver-lb]}}", rules::AGENT_FLAGS.instead),
    (LC, "{servers: {args: ['--token=abc']}}", "reference a Secret in spec.token"),
    (LC, "{servers: {args: ['--node-label=a=b']}}", "use labels"),
    (LC, "{servers: {args: ['--tls-san=example.test']}}", "spec.api.sans"),
    (LC, "{agents: {args: ['--server=https://example.test:6443']}}", "remove it"),
    (LC, "{agents: {args: ['--disable=traefik']}}", rules::SERVER_FLAGS.instead),
    (LC, "{agents: {args: ['--embedded-registry']}}", rules::SERVER_FLAGS.instead),
    (LC, "{agents: {args: ['--etcd-arg=x=y']}}", rules::SERVER_FLAGS.instead),
    (LC, "{servers: {env: [{name: 1A}]}}", text::ENV_NAME),
    (LC, "{servers: {env: [{name: A-B}]}}", text::ENV_NAME),
    (LC, "{servers: {env: [{name: ''}]}}", text::ENV_NAME),
    (LC, "{servers: {env: [{value: x}]}}", "Required value"),
    (LC, "{servers: {env: [{name: A, value: '1'}, {name: A, value: '2'}]}}", "Duplicate value"),
    (LC, "{agents: {env: [{name: K3S_TOKEN, value: x}]}}", "reference a Secret in spec.token"),
    (LC, "{agents: {env: [{name: K3S_URL, value: x}]}}", "remove it"),
    (LC, "{agents: {env: [{name: LD_PRELOAD, value: x}]}}", "use a custom image"),
    (LC, "{agents: {labels: {a/b/c: x}}}", text::LABEL_KEY),
    (LC, "{agents: {labels: {-a: x}}}", text::LABEL_KEY),
    (LC, "{agents: {labels: {Example.com/a: x}}}", text::LABEL_KEY),
    (LC, "{agents: {labels: {tier: a b}}}", text::LABEL_VALUE),
    (LC, "{agents: {labels: {tier: a-}}}", text::LABEL_VALUE),
    (LC, "{agents: {labels: {kubernetes.io/hostname: x}}}", "K3s manages these labels"),
    (LC, "{agents: {taints: ['a=b']}}", text::TAINT),
    (LC, "{agents: {taints: ['a=b:Never']}}", text::TAINT),
    (LC, "{agents: {taints: [':NoSchedule']}}", text::TAINT),
    (LC, "{agents: {taints: ['a=b:NoSchedule', 'a:NoSchedule']}}", text::TAINT_TWICE),
    (LC, "{agents: {taints: ['a=b:NoSchedule', 'a=b:NoSchedule']}}", "Duplicate value"),
    (LC, "{agents: {memory: 2GB}}", text::MEMORY),
    (LC, "{agents: {memory: 2gi}}", text::MEMORY),
    (LC, "{agents: {memory: '0'}}", text::MEMORY),
    (LC, "{agents: {memory: 5Mi}}", text::MEMORY),
    (LC, "{agents: {memory: '2'}}", text::MEMORY),
    (LC, "{agents: {memory: -1Gi}}", text::MEMORY),
    (LC, "{agents: {memory: 2000Ti}}", text::MEMORY),
    (LC, "{agents: {memory: 999999999999999Ti}}", text::MEMORY),
    (LC, "{agents: {memory: 2}}", "must be of type string"),
    (LC, "{agents: {cpus: '0'}}", text::CPUS),
    (LC, "{agents: {cpus: '0.001'}}", text::CPUS),
    (LC, "{agents: {cpus: 500m}}", text::CPUS),
    (LC, "{agents: {cpus: '1,5'}}", text::CPUS),
    (LC, "{agents: {cpus: '-1'}}", text::CPUS),
    (LC, "{agents: {cpus: '2000'}}", text::CPUS),
    (LC, "{agents: {ulimits: [{name: files, soft: 1}]}}", text::ULIMIT_NAME),
    (LC, "{agents: {ulimits: [{name: nproc, soft: 2, hard: 1}]}}", text::ULIMIT_ORDER),
    (LC, "{agents: {ulimits: [{name: nproc, soft: -1, hard: 1}]}}", text::ULIMIT_ORDER),
    (LC, "{agents: {ulimits: [{name: nofile, soft: -1}]}}", text::ULIMIT_NOFILE),
    (LC, "{agents: {ulimits: [{name: nofile, soft: 1, hard: -1}]}}", text::ULIMIT_NOFILE),
    (LC, "{agents: {ulimits: [{name: nproc, soft: -2}]}}", "greater than or equal to -1"),
    (LC, "{agents: {ulimits: [{name: nproc}]}}", "Required value"),
    (LC, "{agents: {ulimits: [{name: nproc, soft: 1}, {name: nproc, soft: 2}]}}", "Duplicate value"),
    (LC, "{agents: {volumes: [{hostPath: srv, mountPath: /data}]}}", text::HOST_PATH),
    (LC, "{agents: {volumes: [{hostPath: /srv/../etc, mountPath: /data}]}}", text::HOST_PATH),
    (LC, "{agents: {volumes: [{hostPath: /, mountPath: /data}]}}", text::HOST_PATH),
    (LC, "{agents: {volumes: [{hostPath: /srv, mountPath: data}]}}", text::MOUNT_PATH),
    (LC, "{agents: {volumes: [{hostPath: /srv, mountPath: /}]}}", text::MOUNT_PATH),
    (LC, "{agents: {volumes: [{hostPath: /srv, mountPath: /a/../b}]}}", text::MOUNT_PATH),
    (LC, "{agents: {volumes: [{hostPath: /srv, mountPath: /etc}]}}", "hide files that the node needs"),
    (LC, "{agents: {volumes: [{hostPath: /srv, mountPath: /var/lib/rancher/k3s/server/db}]}}", "K3s stores its state there"),
    (LC, "{agents: {volumes: [{hostPath: /srv, mountPath: /run/x}]}}", "its own file systems there"),
    (LC, "{agents: {volumes: [{hostPath: /srv, mountPath: /etc/hosts}]}}", "Docker mounts its own file"),
    (LC, "{agents: {volumes: [{hostPath: /srv, mountPath: /usr/bin/x}]}}", "use a custom image"),
    (LC, "{agents: {volumes: [{hostPath: /srv}]}}", "Required value"),
    (LC, "{agents: {volumes: [{hostPath: /srv, mountPath: /a}, {hostPath: /srv/b, mountPath: /a/b}]}}", text::MOUNTS_APART),
    (LC, "{agents: {volumes: [{hostPath: /srv, mountPath: /a}, {hostPath: /srv/b, mountPath: /a}]}}", "Duplicate value"),
    (LC, "{agents: {volumes: [{hostPath: /srv, mountPath: /a}]}, files: [{path: /a/b, inline: x}]}", text::FILE_IN_VOLUME),
    (LC, "{servers: {volumes: [{hostPath: /srv, mountPath: /a}]}, files: [{path: /a, inline: x}]}", text::FILE_IN_VOLUME),
    (LC, "{agents: {gpus: '0'}}", text::GPUS),
    (LC, "{agents: {gpus: '129'}}", text::GPUS),
    (LC, "{agents: {gpus: any}}", text::GPUS),
    (LC, "{agents: {gpus: ''}}", text::GPUS),
    (LC, "{agents: {gpus: 1}}", "must be of type string"),
    (LC, "{token: {key: token}}", "Required value"),
    (LC, "{token: {secretName: 'my token'}}", text::OBJECT_NAME),
    (LC, "{token: {secretName: t, key: 'a/b'}}", text::SECRET_KEY),
    (LC, "{network: {subnet: 172.31.16.1/24}}", text::SUBNET),
    (LC, "{network: {subnet: 172.30.0.0/15}}", text::SUBNET),
    (LC, "{network: {subnet: 172.31.0.0/26}}", text::SUBNET),
    (LC, "{network: {subnet: 172.31.0.0}}", text::SUBNET),
    (LC, "{network: {subnet: 'fd00::/64'}}", text::SUBNET),
    (LC, "{network: {subnet: 172.31.016.0/24}}", text::SUBNET),
    (LC, "{network: {subnet: ''}}", text::SUBNET),
    (LC, "{network: {subnet: 10.42.0.0/24}}", text::SUBNET_RANGE),
    (LC, "{network: {subnet: 10.43.0.0/16}}", text::SUBNET_RANGE),
    (LC, "{network: {subnet: 127.0.0.0/24}}", text::SUBNET_RANGE),
    (LC, "{network: {subnet: 239.0.0.0/24}}", text::SUBNET_RANGE),
    (LC, "{api: {hostIP: '::1'}}", text::HOST_IP),
    (LC, "{api: {hostIP: localhost}}", text::HOST_IP),
    (LC, "{api: {hostIP: 256.1.1.1}}", text::HOST_IP),
    (LC, "{api: {hostIP: 127.0.0.01}}", text::HOST_IP),
    (LC, "{api: {hostIP: ''}}", text::HOST_IP),
    (LC, "{api: {hostPort: 0}}", "greater than or equal to 1"),
    (LC, "{api: {hostPort: 65536}}", "less than or equal to 65535"),
    (LC, "{api: {sans: ['a b']}}", text::SAN),
    (LC, "{api: {sans: ['K3s.example.test']}}", text::SAN),
    (LC, "{api: {sans: ['a,b']}}", text::SAN),
    (LC, "{api: {sans: ['']}}", text::SAN),
    (LC, "{api: {sans: [a, a]}}", "Duplicate value"),
    (LC, "{ttl: 0s}", text::LIFETIME),
    (LC, "{ttl: 0h0m}", text::LIFETIME),
    (LC, "{ttl: ''}", text::LIFETIME),
    (LC, "{ttl: 2d}", text::LIFETIME),
    (LC, "{ttl: 30m1h}", text::LIFETIME),
    (LC, "{ttl: '8'}", text::LIFETIME),
    (LC, "{ttl: 8}", "must be of type string"),
    (LC, "{ports: [{port: 80}]}", "Required value"),
    (LC, "{ports: [{name: http}]}", "Required value"),
    (LC, "{ports: [{name: HTTP, port: 80}]}", text::PORT_NAME),
    (LC, "{ports: [{name: http, port: 0}]}", "greater than or equal to 1"),
    (LC, "{ports: [{name: http, port: 65536}]}", "less than or equal to 65535"),
    (LC, "{ports: [{name: http, port: 80, hostPort: 0}]}", "greater than or equal to 1"),
    (LC, "{ports: [{name: http, port: 80, hostIP: nowhere}]}", text::HOST_IP),
    (LC, "{ports: [{name: http, port: 80, protocol: SCTP}]}", "Unsupported value"),
    (LC, "{ports: [{name: http, port: 80, nodes: Some}]}", "Unsupported value"),
    (LC, "{ports: [{name: api, port: 6443}]}", text::API_PORT),
    (LC, "{ports: [{name: a, port: 80, endPort: 79, hostPort: 80}]}", text::END_PORT),
    (LC, "{ports: [{name: a, port: 80, endPort: 90}]}", text::HOST_RANGE),
    (LC, "{ports: [{name: a, port: 80, endPort: 90, hostPort: 65530}]}", text::HOST_RANGE),
    (LC, "{ports: [{name: a, port: 80, endPort: 65536, hostPort: 80}]}", "less than or equal to 65535"),
    (LC, "{ports: [{name: a, port: 6440, endPort: 6450, hostPort: 7000}]}", text::API_PORT),
    (LC, "{ports: [{name: a, port: 8000, endPort: 8128, hostPort: 8000}]}", text::PORTS_IN_ALL),
    (LC, "{ports: [{name: a, port: 8000, endPort: 8063, hostPort: 8000}, {name: b, port: 80, endPort: 144, hostPort: 9000}]}",
        text::PORTS_IN_ALL),
    (LC, "{ports: [{name: a, port: 80, endPort: 90, hostPort: 8080}, {name: b, port: 80, hostPort: 8090}]}",
        text::HOST_PORT_TWICE),
    (LC, "{ports: [{name: a, port: 80, hostPort: 8085}, {name: b, port: 80, endPort: 90, hostPort: 8080, hostIP: 0.0.0.0}]}",
        text::HOST_PORT_TWICE),
    (LC, "{api: {hostPort: 8085}, ports: [{name: a, port: 80, endPort: 90, hostPort: 8080}]}", text::API_HOST_PORT),
    (LC, "{ports: [{name: a, port: 80}, {name: a, port: 81}]}", "Duplicate value"),
    (LC, "{ports: [{name: a, port: 80, hostPort: 8080, hostIP: 127.0.0.1}, {name: b, port: 81, hostPort: 8080}]}",
        text::HOST_PORT_TWICE),
    (LC, "{ports: [{name: a, port: 80, hostPort: 8080, protocol: TCP}, {name: b, port: 81, hostPort: 8080}]}",
        text::HOST_PORT_TWICE),
    (LC, "{ports: [{name: api, port: 6443, protocol: TCP}]}", text::API_PORT),
    (LC, "{ports: [{name: a, port: 80, hostPort: 8080}, {name: b, port: 81, hostPort: 8080}]}", text::HOST_PORT_TWICE),
    (LC, "{ports: [{name: a, port: 80, hostPort: 8080}, {name: b, port: 81, hostPort: 8080, hostIP: 0.0.0.0}]}",
        text::HOST_PORT_TWICE),
    (LC, "{api: {hostPort: 8080}, ports: [{name: a, port: 80, hostPort: 8080}]}", text::API_HOST_PORT),
    (LC, "{api: {hostPort: 8080, hostIP: 0.0.0.0}, ports: [{name: a, port: 80, hostPort: 8080}]}", text::API_HOST_PORT),
    (LC, "{registries: {use: [{name: r}, {name: r}]}}", text::TWICE),
    (LC, "{registries: {use: [{name: r, namespace: ''}, {name: r}]}}", text::TWICE),
    (LC, "{registries: {use: [{name: r, namespace: a}, {name: s}, {name: r, namespace: a}]}}", text::TWICE),
    (LC, "{registries: {use: [{name: 'localhost:5000'}]}}", text::OBJECT_NAME),
    (LC, "{registries: {use: [{}]}}", "Required value"),
    (LC, "{registries: {use: [{name: r, namespace: Shared}]}}", text::NAMESPACE),
    (LC, "{registries: {create: {hostname: localhost}}}", text::HOSTNAME),
    (LC, "{registries: {create: {memory: much}}}", text::MEMORY),
    (LC, "{registries: {containers: [{name: 'r:5000'}]}}", text::HOSTNAME),
    (LC, "{registries: {containers: [{name: r, port: 0}]}}", "greater than or equal to 1"),
    (LC, "{registries: {containers: [{name: r}, {name: r}]}}", "Duplicate value"),
    (LC, "{registries: {mirrors: [{registry: 'https://docker.io'}]}}", text::MIRRORED),
    (LC, "{registries: {mirrors: [{registry: docker.io/library}]}}", text::MIRRORED),
    (LC, "{registries: {mirrors: [{registry: index.docker.io}]}}", text::MIRRORED),
    (LC, "{registries: {mirrors: [{registry: registry-1.docker.io}]}}", text::MIRRORED),
    (LC, "{registries: {mirrors: [{registry: a.test}, {registry: a.test}]}}", "Duplicate value"),
    (LC, "{registries: {mirrors: [{registry: rancher}]}}", text::MIRRORED_WORD),
    (LC, "{registries: {mirrors: [{registry: configs}]}}", text::MIRRORED_WORD),
    (LC, "{registries: {mirrors: [{registry: a.test, endpoints: ['ftp://b']}]}}", text::ENDPOINT),
    (LC, "{registries: {mirrors: [{registry: a.test, endpoints: ['http://[::1]:5000']}]}}", text::ENDPOINT),
    (LC, "{registries: {mirrors: [{registry: a.test, endpoints: ['https://b/google_containers']}]}}", text::ENDPOINT_PATH),
    (LC, "{registries: {mirrors: [{registry: a.test, endpoints: ['b:5000/v22/']}]}}", text::ENDPOINT_PATH),
    (LC, "{registries: {mirrors: [{registry: a.test, rewrites: [{pattern: '^/(.*)', replacement: a}]}]}}", text::PATTERN_SLASH),
    (LC, "{registries: {mirrors: [{registry: a.test, rewrites: [{pattern: '(.*)', replacement: '/a/$1'}]}]}}",
        text::REPLACEMENT_SLASH),
    (LC, "{registries: {configs: [{host: 'https://a:5443'}]}}", text::CONFIG_HOST),
    (LC, "{registries: {configs: [{host: index.docker.io}]}}", text::CONFIG_HOST),
    (LC, "{registries: {configs: [{host: a, auth: {}}]}}", "Required value"),
    (LC, "{registries: {configs: [{host: a, auth: {secretName: A}}]}}", text::OBJECT_NAME),
    (LC, "{registries: {configs: [{host: a, tls: {caSecretName: a, caConfigMapName: b}}]}}", text::ONE_CA),
    (LC, "{registries: {configs: [{host: a, tls: {clientSecretName: A}}]}}", text::OBJECT_NAME),
    (LC, "{registries: {config: {}}}", text::ONE_SOURCE),
    (LC, "{registries: {config: {inline: '', secretName: a}}}", text::ONE_SOURCE),
    (LC, "{registries: {config: {inline: '', key: a}}}", text::ONE_SOURCE),
    (LC, "{preloadImages: [nginx]}", text::PRELOAD_IMAGE),
    (LC, "{preloadImages: ['nginx@sha256:0000000000000000000000000000000000000000000000000000000000000000']}", text::PRELOAD_IMAGE),
    (LC, "{preloadImages: ['https://example.test/nginx:1']}", text::PRELOAD_IMAGE),
    (LC, "{preloadImages: ['nginx:1', 'nginx:1']}", "Duplicate value"),
    (LC, "{preloadImages: [1]}", "must be of type string"),
    (LC, "{manifests: [{name: a}]}", text::ONE_CONTENT),
    (LC, "{manifests: [{name: a, inline: x, configMap: {name: a, key: b}}]}", text::ONE_CONTENT),
    (LC, "{manifests: [{name: A, inline: x}]}", text::MANIFEST_NAME),
    (LC, "{manifests: [{name: a.b, inline: x}]}", text::MANIFEST_NAME),
    (LC, "{manifests: [{name: a2345678901234567890123456789012345678901, inline: x}]}", "Too long"),
    (LC, "{manifests: [{name: a, inline: x}, {name: a, inline: y}]}", "Duplicate value"),
    (LC, "{manifests: [{name: a, secret: {name: A, key: k}}]}", text::OBJECT_NAME),
    (LC, "{manifests: [{inline: x}]}", "Required value"),
    (LC, "{files: [{path: /a}]}", text::ONE_CONTENT),
    (LC, "{files: [{path: /a, inline: x, secret: {name: a, key: b}}]}", text::ONE_CONTENT),
    (LC, "{files: [{path: a, inline: x}]}", text::FILE_PATH),
    (LC, "{files: [{path: /a/../b, inline: x}]}", text::FILE_PATH),
    (LC, "{files: [{path: /a//b, inline: x}]}", text::FILE_PATH),
    (LC, "{files: [{path: /a, inline: x}, {path: /a, inline: y}]}", "Duplicate value"),
    (LC, "{files: [{path: /etc/rancher/k3s/registries.yaml, inline: x}]}", "use spec.registries"),
    (LC, "{files: [{path: /etc/rancher/k3s/config.yaml.d/a.yaml, inline: x}]}", "use args of the pool"),
    (LC, "{files: [{path: /var/lib/rancher/k3s/server/token, inline: x}]}", "K3s stores its state there"),
    (LC, "{files: [{path: /run/x, inline: x}]}", "this file system does not persist"),
    (LC, "{files: [{path: /etc/hosts, inline: x}]}", "Docker mounts its own file"),
    (LC, "{files: [{path: /bin/k3s, inline: x}]}", "use a custom image"),
    (LC, "{files: [{path: /a, secret: {name: a}}]}", "Required value"),
    (LC, "{hostAliases: [{ip: 10.0.0, hostnames: [db]}]}", text::ALIAS_IP),
    (LC, "{hostAliases: [{ip: 10.0.0.05, hostnames: [db]}]}", text::ALIAS_IP),
    (LC, "{hostAliases: [{ip: '::ffff:10.0.0.5', hostnames: [db]}]}", text::ALIAS_IP),
    (LC, "{hostAliases: [{hostnames: [db]}]}", "Required value"),
    (LC, "{hostAliases: [{ip: 10.0.0.5, hostnames: []}]}", "at least 1"),
    (LC, "{hostAliases: [{ip: 10.0.0.5, hostnames: [DB]}]}", text::ALIAS_NAME),
    (LC, "{hostAliases: [{ip: 10.0.0.5, hostnames: ['*.db']}]}", text::ALIAS_NAME),
    (LC, "{hostAliases: [{ip: 10.0.0.5, hostnames: [localhost]}]}", "to itself"),
    (LC, "{hostAliases: [{ip: 10.0.0.5, hostnames: [host.k3d.internal]}]}", "the Docker host"),
    (LC, "{hostAliases: [{ip: 10.0.0.5, hostnames: [kubernetes.default.svc.cluster.local]}]}", text::ALIAS_DOMAIN),
    (LC, "{hostAliases: [{ip: 10.0.0.5, hostnames: [db, db]}]}", "Duplicate value"),
    (LC, "{hostAliases: [{ip: 10.0.0.5, hostnames: [a]}, {ip: 10.0.0.5, hostnames: [b]}]}", "Duplicate value"),
    (LC, "{hostAliases: [{ip: 10.0.0.5, hostnames: [db]}, {ip: '2001:db8::5', hostnames: [a, db]}]}", text::ALIAS_TWICE),
    (LC, "{registries: {containers: [{name: r}]}, hostAliases: [{ip: 10.0.0.5, hostnames: [r]}]}",
        text::ALIAS_OF_CONTAINER),
    (LC, "{agent: {count: 1}}", "unknown field"),
    (REGISTRY, "{image: registry}", text::IMAGE),
    (REGISTRY, "{hostname: 'registry:5000'}", text::HOSTNAME),
    (REGISTRY, "{hostname: Registry.localhost}", text::HOSTNAME),
    (REGISTRY, "{hostname: localhost}", text::HOSTNAME),
    (REGISTRY, "{hostname: a234567890123456789012345678901234567890123456789012345678901234}", "Too long"),
    (REGISTRY, "{hostIP: 'localhost'}", text::HOST_IP),
    (REGISTRY, "{hostPort: 70000}", "less than or equal to 65535"),
    (REGISTRY, "{memory: much}", text::MEMORY),
    (REGISTRY, "{storage: {volumeName: /srv/registry}}", text::VOLUME_NAME),
    (REGISTRY, "{storage: {volumeName: x}}", text::VOLUME_NAME),
    (REGISTRY, "{storage: {hostPath: srv}}", text::HOST_PATH),
    (REGISTRY, "{storage: {hostPath: /}}", text::HOST_PATH),
    (REGISTRY, "{storage: {hostPath: /srv/}}", text::HOST_PATH),
    (REGISTRY, "{storage: {hostPath: //srv}}", text::HOST_PATH),
    (REGISTRY, "{storage: {hostPath: /srv/../etc}}", text::HOST_PATH),
    (REGISTRY, "{storage: {hostPath: /srv/./a}}", text::HOST_PATH),
    (REGISTRY, "{storage: {hostPath: '/srv/a:b'}}", text::HOST_PATH),
    (REGISTRY, "{storage: {hostPath: ''}}", text::HOST_PATH),
    (REGISTRY, "{storage: {hostPath: /srv, retain: true}}", text::HOST_PATH_ALONE),
    (REGISTRY, "{storage: {hostPath: /srv, volumeName: images}}", text::HOST_PATH_ALONE),
    (REGISTRY, "{proxy: {}}", "Required value"),
    (REGISTRY, "{proxy: {remoteURL: quay.io}}", text::REMOTE_URL),
    (REGISTRY, "{proxy: {remoteURL: 'https://quay.io/'}}", text::REMOTE_URL),
    (REGISTRY, "{proxy: {remoteURL: 'https://quay.io/v2'}}", text::REMOTE_URL),
    (REGISTRY, "{proxy: {remoteURL: 'https://user:pass@quay.io'}}", text::REMOTE_URL),
    (REGISTRY, "{proxy: {remoteURL: 'ftp://quay.io'}}", text::REMOTE_URL),
    (REGISTRY, "{proxy: {remoteURL: 'https://quay.io', ttl: 7d}}", text::TTL),
    (REGISTRY, "{proxy: {remoteURL: 'https://quay.io', ttl: 1m1h}}", text::TTL),
    (REGISTRY, "{proxy: {remoteURL: 'https://quay.io', ttl: ''}}", text::TTL),
    (REGISTRY, "{proxy: {remoteURL: 'https://quay.io', credentialsSecret: 'a b'}}", text::OBJECT_NAME),
    (REGISTRY, "{auth: {}}", "Required value"),
    (REGISTRY, "{auth: {htpasswdSecret: Users}}", text::OBJECT_NAME),
    (REGISTRY, "{auth: {htpasswdSecret: users, clientSecret: 'a/b'}}", text::OBJECT_NAME),
    (REGISTRY, "{tls: {}}", "Required value"),
    (REGISTRY, "{tls: {secretName: Tls}}", text::OBJECT_NAME),
    (REGISTRY, "{tls: {secretName: tls, caSecretName: ''}}", text::OBJECT_NAME),
    (REGISTRY, "{allowedNamespaces: [Team]}", text::ALLOWED_NAMESPACE),
    (REGISTRY, "{allowedNamespaces: ['team-*']}", text::ALLOWED_NAMESPACE),
    (REGISTRY, "{allowedNamespaces: [a, a]}", "Duplicate value"),
    (REGISTRY, "{env: [{name: REGISTRY_STORAGE_DELETE_ENABLED, value: 'true'}]}", "use spec.deleteEnabled"),
    (REGISTRY, "{env: [{name: REGISTRY_AUTH_HTPASSWD_PATH, value: x}]}", "use spec.auth"),
    (REGISTRY, "{env: [{name: REGISTRY_PROXY_PASSWORD, value: x}]}", "use spec.proxy"),
    (REGISTRY, "{env: [{name: REGISTRY_HTTP_TLS_KEY, value: x}]}", "use spec.tls"),
    (REGISTRY, "{env: [{name: REGISTRY_HTTP_SECRET, value: x}]}", "visible to anyone who can inspect containers"),
    (REGISTRY, "{env: [{name: LD_PRELOAD, value: x}]}", "use a custom image"),
    (REGISTRY, "{env: [{name: 'a b'}]}", text::ENV_NAME),
];

/// What the API server says of its own: types, bounds and duplicates.
const SCHEMA_SAYS: &[&str] = &[
    "Duplicate value",
    "Required value",
    "Too long",
    "Unsupported value",
    "at least 1",
    "greater than or equal to -1",
    "greater than or equal to 0",
    "greater than or equal to 1",
    "less than or equal to 32",
    "less than or equal to 65535",
    "metadata.name",
    "must be of type integer",
    "must be of type string",
    "unknown field",
];

/// Names that have to be refused: kind, name, what the refusal says.
const BAD_NAMES: &[(&str, &str, &str)] = &[
    (LC, "my.cluster", text::NAME),
    (LC, "a234567890123456789012345678901234567890123456789012345678901234", text::NAME),
    (LC, "My-cluster", "metadata.name"),
    (REGISTRY, "a234567890123456789012345678901234567890123456789012345678901234", text::REGISTRY_NAME),
];

/// What has to be taken: kind, name, spec.
#[rustfmt::skip]
const GOOD: &[(&str, &str, &str)] = &[
    (LC, "dev", "{}"),
    (LC, "0", "{}"),
    (LC, "a23456789012345678901234567890123456789012345678901234567890123", "{agents: {count: 32}}"),
    (LC, "nulls", "{version: null, image: null, agents: null, servers: {count: null, memory: null}, api: {hostIP: null, \
        hostPort: null}, network: {subnet: null}, ports: null, token: null}"),
    (LC, "pool-of-settings-only", "{servers: {memory: 2Gi}}"),
    (LC, "full", "{
        version: v1.36.2-rc1+k3s12, clusterName: full-2, ttl: 0h90m, imagePullSecret: {name: reg.cred},
        servers: {count: 1, args: ['--disable=traefik', '--disable=servicelb', '--secrets-encryption', \
            '--kubelet-arg=max-pods=50', '--tls-san-security=false', '--disable-cloud-controller', '--v=3', \
            '--disable=my-kube-proxy, scheduler-x', '--flannel-backend=wireguard-native', \
            '--etcd-snapshot-schedule-cron=*/5 * * * *', '--kubelet-arg=eviction-hard=imagefs.available<1%,nodefs.available<1%', \
            '--kube-apiserver-arg=audit-webhook-x=a - b', '--kube-apiserver-arg=oidc-username-claim=me@server.example'], \
            env: [{name: HTTP_PROXY, value: 'http://proxy:3128'}, {name: K3S_DEBUG, value: 'true'}, {name: _a}], \
            labels: {tier: control, example.com/Zone_1: '', node-role.kubernetes.io/worker: 'true', \
            topology.kubernetes.io/zone: z.1}, \
            taints: ['node-role.kubernetes.io/control-plane=true:NoSchedule', 'a:NoExecute', 'a:NoSchedule', \
            'aPrefer:NoSchedule', 'a:PreferNoSchedule'], memory: 1.5Gi, cpus: '1.5'},
        agents: {count: 2, maxUnavailable: 2, args: ['--kubelet-arg=max-pods=50', '--snapshotter=native', '--disable-apiserver-lb'], \
            memory: '536870912', cpus: '2', ulimits: [{name: nofile, soft: 1024, hard: 1048576}, \
            {name: memlock, soft: -1}, {name: core, soft: 0, hard: -1}, {name: stack, soft: 1, hard: 1}], \
            volumes: [{hostPath: /srv/data, mountPath: /data, readOnly: true}, {hostPath: /srv, mountPath: /data2}, \
            {hostPath: /srv/s, mountPath: /var/lib/rancher/k3s/storage}], gpus: all},
        token: {secretName: my-token, key: the.key},
        network: {subnet: 172.31.16.0/24},
        api: {hostIP: 0.0.0.0, hostPort: 6550, sans: [k8s.example.test, 10.0.0.1, 'fd00::1']},
        ports: [{name: http, port: 80, hostPort: 80}, {name: https, port: 443}, \
            {name: range, port: 30000, endPort: 30063, hostPort: 7000}, {name: one, port: 90, endPort: 90, hostPort: 7064}, \
            {name: range-udp, port: 6440, endPort: 6450, hostPort: 7060, protocol: UDP}, \
            {name: dns, port: 53, hostPort: 80, protocol: UDP, nodes: Servers}, \
            {name: dns-tcp, port: 53, hostPort: 8053, hostIP: 127.0.0.2, nodes: Agents}, \
            {name: other, port: 80, hostPort: 8053, hostIP: 127.0.0.3}, {name: api-udp, port: 6443, protocol: UDP}],
        registries: {use: [{name: registry.localhost}, {name: two}, {name: two, namespace: shared}], \
            create: {hostPort: 5051}, containers: [{name: registry.other, port: 5001, hostPort: 12345}], \
            mirrors: [{registry: docker.io, endpoints: ['http://cache:5000', 'mirror.example', 'https://harbor/v2/p', \
            'http://nexus/repository/hub/v2', 'https://a/v2/', 'b/'], \
            rewrites: [{pattern: '^library/(.*)', replacement: 'mirror/$1'}]}, {registry: '*'}, \
            {registry: 'a.example:5000', endpoints: ['https://a.example:5443']}, {registry: localhost}, \
            {registry: Word, endpoints: [c], rewrites: [{pattern: '/a', replacement: '/b'}, {pattern: '^/a|b', replacement: c}]}], \
            configs: [{host: 'a.example:5443', auth: {secretName: a}, tls: {caSecretName: a, clientSecretName: b}}, \
            {host: docker.io, auth: {secretName: a}}, \
            {host: b, tls: {caConfigMapName: c}}], \
            config: {secretName: regs, key: my.yaml}, defaultEndpoint: false}, \
        files: [{path: /etc/ssl/certs/corp.pem, configMap: {name: c, key: ca.pem}, nodes: All}, \
            {path: /opt/.x/a-b_c@d, secret: {name: s, key: k}, nodes: Agents}, {path: /x, inline: 'a'}], \
        preloadImages: ['nginx:1.29', 'localhost:5000/a/b_c:V1.2-x', 'registry.example/app:1'], \
        manifests: [{name: a-1, inline: 'kind: A'}, {name: b, secret: {name: s, key: k}}, {name: c, configMap: {name: m, key: k.yaml}}], \
        hostAliases: [{ip: 10.0.0.5, hostnames: [db.internal, db, xcluster.local]}, {ip: '2001:db8::5', hostnames: [s]}]}"),
    (LC, "by-image", "{image: 'registry.example:5000/some/k3s:v1.36.2-k3s1', network: {subnet: 10.44.0.0/16}}"),
    (LC, "by-digest", "{image: 'rancher/k3s:v1@sha256:\
        0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}"),
    (LC, "by-short-image", "{image: 'k3s:dev', network: {subnet: 192.168.7.128/25}, \
        registries: {configs: [{host: '*', tls: {insecureSkipVerify: true}}]}}"),
    (REGISTRY, "registry", "{}"),
    (REGISTRY, "registry.localhost", "{hostname: k3d-registry.localhost, image: 'docker.io/library/registry:3', \
        hostIP: 0.0.0.0, hostPort: 5000, storage: {retain: true, volumeName: my_images-1.x}, deleteEnabled: true, \
        env: [{name: REGISTRY_LOG_LEVEL, value: debug}, {name: OTEL_TRACES_EXPORTER, value: none}], memory: 512Mi}"),
    (REGISTRY, "cache", "{proxy: {remoteURL: 'https://registry-1.docker.io', credentialsSecret: hub, ttl: 168h}, \
        storage: {hostPath: /srv/registry}, auth: {htpasswdSecret: users, clientSecret: login}, \
        tls: {secretName: tls, caSecretName: ca}, allowedNamespaces: ['*', team-a], localRegistryHosting: false}"),
    (REGISTRY, "nulls", "{proxy: null, auth: null, tls: null, storage: {hostPath: null, retain: false}, \
        allowedNamespaces: null}"),
];

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: localcluster.dev/v1alpha1\nkind: {kind}\nmetadata:\n  name: \"{name}\"\n  \
         annotations: {{localcluster.dev/paused: \"true\"}}\nspec: {spec}\n"
    )
}

#[test]
fn files_are_what_the_code_says() {
    for (name, crd) in crds::all() {
        let file = fs::read_to_string(root().join("crds").join(&name)).unwrap_or_default();
        let same = file == serde_saphyr::to_string(&crd).unwrap();
        assert!(same, "crds/{name} is out of date: cargo run -- crds --output crds");
    }
}

/// The API server would write them into the list, and every `kubectl apply` of the same file would find another one.
#[test]
fn no_item_of_a_list_has_a_default_and_each_tells_what_is_taken() {
    fn walk(
        path: &str,
        schema: &JSONSchemaProps,
        written: &JSONSchemaProps,
        in_list: bool,
        seen: &mut Vec<String>,
    ) {
        if in_list {
            assert_eq!(schema.default, None, "{path}");
            if written.default.is_some() {
                let told = written.description.as_deref().unwrap_or_default();
                assert!(told.contains("Defaults to"), "{path}: {told}");
                seen.push(path.to_owned());
            }
        }
        for (name, property) in schema.properties.iter().flatten() {
            let written = &written.properties.as_ref().unwrap()[name];
            walk(&format!("{path}.{name}"), property, written, in_list, seen);
        }
        if let (Some(JSONSchemaPropsOrArray::Schema(item)), Some(JSONSchemaPropsOrArray::Schema(written))) =
            (&schema.items, &written.items)
        {
            walk(&format!("{path}[]"), item, written, true, seen);
        }
    }
    let root = |crd: &CustomResourceDefinition| {
        let schema = crd.spec.versions[0].schema.clone().unwrap();
        schema.open_api_v3_schema.unwrap()
    };
    let mut seen = Vec::new();
    for ((_, crd), written) in crds::all().iter().zip([LocalCluster::crd(), Registry::crd()]) {
        walk("", &root(crd), &root(&written), false, &mut seen);
    }
    assert!(seen.iter().any(|path| path == ".spec.ports[].hostIP"), "{seen:?}");
}

#[test]
fn everything_is_described_and_of_a_format_that_api_servers_know() {
    fn walk(path: &str, schema: &JSONSchemaProps, found: &mut Vec<String>) {
        if !matches!(schema.format.as_deref(), None | Some("int32" | "int64" | "date-time")) {
            found.push(format!("{path}: format {:?}", schema.format));
        }
        for (name, property) in schema.properties.iter().flatten() {
            let path = format!("{path}.{name}");
            // These three are Kubernetes' own, at the top.
            let own = !matches!(path.as_str(), ".apiVersion" | ".kind" | ".metadata");
            if own && property.description.as_ref().is_none_or(|d| d.trim().is_empty()) {
                found.push(format!("{path}: no description"));
            }
            walk(&path, property, found);
        }
        match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => walk(&format!("{path}[]"), item, found),
            Some(JSONSchemaPropsOrArray::Schemas(_)) => {
                found.push(format!("{path}: items of several schemas"))
            }
            None => {}
        }
        if let Some(JSONSchemaPropsOrBool::Schema(value)) = &schema.additional_properties {
            walk(&format!("{path}{{}}"), value, found);
        }
    }
    for (_, crd) in crds::all() {
        let mut found = Vec::new();
        for version in &crd.spec.versions {
            let schema = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()).unwrap();
            walk("", schema, &mut found);
        }
        assert!(found.is_empty(), "{}: {found:#?}", crd.name_any());
    }
}

/// The problems that the operator itself finds; `None` where the object can't even be read.
fn problems(object: &str) -> Option<Vec<String>> {
    let value: Value = serde_saphyr::from_str(object).unwrap();
    if value["kind"] == LC {
        let lc: LocalCluster = serde_json::from_value(value).ok()?;
        Some(validate::local_cluster("default", &lc.name_any(), &lc.spec).err().unwrap_or_default())
    } else {
        let registry: Registry = serde_json::from_value(value).ok()?;
        Some(validate::registry("default", &registry.name_any(), &registry.spec).err().unwrap_or_default())
    }
}

/// The API server fills in what a spec leaves out.
fn with_defaults(kind: &str, spec: &str) -> String {
    let mut object = json!({"kind": kind, "spec": serde_saphyr::from_str::<Value>(spec).unwrap()});
    prune_nulls(&mut object);
    with_count(&mut object);
    object["spec"].to_string()
}

fn with_count(object: &mut Value) {
    if object["kind"] != LC {
        return;
    }
    let count = &mut object["spec"]["servers"]["count"];
    if count.is_null() {
        *count = json!(1);
    }
}

/// An object of before lists had no defaults has them written in it, and means what it meant.
#[test]
fn what_the_schema_once_filled_in_changes_nothing() {
    let spec = |yaml: &str| {
        let value = serde_saphyr::from_str::<Value>(yaml).unwrap();
        serde_json::from_value::<LocalClusterSpec>(value).unwrap()
    };
    let written = "{servers: {count: 1}, agents: {count: 2, env: [{name: A}], volumes: [{hostPath: /srv, mountPath: /a}]},
        ports: [{name: a, port: 80, hostPort: 80}, {name: b, port: 53, protocol: UDP}], files: [{path: /x, inline: x}],
        registries: {use: [{name: r}, {name: r, namespace: s}], create: {env: [{name: B}]}, containers: [{name: c}],
        configs: [{host: h, tls: {caSecretName: ca}}]}}";
    let filled = "{servers: {count: 1}, agents: {count: 2, env: [{name: A, value: ''}], volumes: [{hostPath: /srv,
        mountPath: /a, readOnly: false}]}, ports: [{name: a, port: 80, hostPort: 80, hostIP: 127.0.0.1, protocol: TCP,
        nodes: All}, {name: b, port: 53, protocol: UDP, hostIP: 127.0.0.1, nodes: All}], files: [{path: /x, inline: x,
        nodes: All}], registries: {use: [{name: r, namespace: ''}, {name: r, namespace: s}], create: {env: [{name: B,
        value: ''}]}, containers: [{name: c, port: 5000}], configs: [{host: h, tls: {caSecretName: ca,
        insecureSkipVerify: false}}]}}";
    assert_eq!(spec(written), spec(filled));
    let valid = |yaml: &str| validate::local_cluster("default", "dev", &spec(yaml)).unwrap();
    assert_eq!(valid(written), valid(filled));
}

fn prune_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, v| !v.is_null());
        map.values_mut().for_each(prune_nulls);
    }
}

#[test]
fn the_operator_says_the_same_about_objects_that_are_older_than_a_rule() {
    let rows = BAD.iter().map(|(kind, spec, says)| (object(kind, "dev", &with_defaults(kind, spec)), says));
    let names =
        BAD_NAMES.iter().map(|(kind, name, says)| (object(kind, name, &with_defaults(kind, "{}")), says));
    for (object, says) in rows.chain(names).filter(|(_, says)| !SCHEMA_SAYS.contains(says)) {
        let found = problems(&object);
        let told = found.as_ref().is_some_and(|f| f.iter().any(|p| p.contains(says)));
        assert!(told, "{object}wants {says:?}, found {found:#?}");
    }
    for (kind, name, spec) in GOOD {
        let object = object(kind, name, &with_defaults(kind, spec));
        assert_eq!(problems(&object), Some(Vec::new()), "{object}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The API server, with the definitions applied, and a namespace that goes with it.
struct Server {
    kubeconfig: PathBuf,
    namespace: String,
}

struct Output {
    ok: bool,
    stdout: String,
    stderr: String,
}

impl Server {
    fn new(name: &str) -> Self {
        let default = root().join("target/world/mgmt.kubeconfig");
        let kubeconfig = env::var_os("WORLD_KUBECONFIG").map_or(default, PathBuf::from);
        assert!(
            kubeconfig.exists(),
            "there is no management cluster to test with ({}): run tests/world/world up",
            kubeconfig.display()
        );
        let namespace = format!("crds-{name}-{}", std::process::id());
        let server = Self { kubeconfig, namespace };
        static APPLIED: OnceLock<()> = OnceLock::new();
        APPLIED.get_or_init(|| {
            let dir = root().join("crds");
            server.must(&["apply", "--server-side", "--force-conflicts", "-k", dir.to_str().unwrap()]);
            for (_, crd) in crds::all() {
                let crd = format!("crd/{}", crd.name_any());
                server.must(&["wait", "--for=condition=Established", "--timeout=60s", &crd]);
            }
        });
        server.must(&["create", "namespace", &server.namespace]);
        server
    }

    fn run(&self, args: &[&str], input: &str) -> Output {
        let mut child = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--namespace", &self.namespace])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl has to be installed");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Output { ok: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    fn must(&self, args: &[&str]) -> String {
        self.must_with(args, "")
    }

    fn must_with(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input);
        assert!(output.ok, "kubectl {}\n{input}\n{}", args.join(" "), output.stderr);
        output.stdout
    }

    fn must_refuse(&self, args: &[&str], input: &str, says: &str) -> String {
        let output = self.run(args, input);
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(!output.ok, "taken, instead of {says:?}: kubectl {}\n{input}", args.join(" "));
        assert!(
            words(&unescaped(&output.stderr)).contains(&words(says)),
            "kubectl {}\n{input}\nwants {says:?}, got {}",
            args.join(" "),
            output.stderr
        );
        output.stderr
    }

    fn get(&self, what: &str) -> Value {
        serde_json::from_str(&self.must(&["get", what, "-o", "json"])).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Without waiting: the namespace goes by itself, since paused objects hold nothing.
        let _ = self.run(&["delete", "namespace", &self.namespace, "--wait=false", "--ignore-not-found"], "");
    }
}

/// Some refusals quote the message.
fn unescaped(text: &str) -> String {
    text.replace("\\\"", "\"")
}

#[test]
fn bad_input_is_refused_with_what_to_write_instead() {
    let server = Server::new("bad");
    let create = &["create", "--dry-run=server", "-f", "-"];
    for (kind, spec, says) in BAD {
        server.must_refuse(create, &object(kind, "dev", spec), says);
    }
    for (kind, name, says) in BAD_NAMES {
        server.must_refuse(create, &object(kind, name, "{}"), says);
    }
}

#[test]
fn every_flag_and_variable_of_the_tables_is_refused() {
    let server = Server::new("tables");
    let create = &["create", "--dry-run=server", "-f", "-"];
    let example = |name: &str| name.replace('*', "x");
    for refused in rules::FLAGS {
        let args: Vec<_> = refused
            .names
            .iter()
            .flat_map(|n| [format!("--{}=x", example(n)), format!("--{}", example(n))])
            .collect();
        let spec = json!({"servers": {"args": args}}).to_string();
        let errors = server.must_refuse(create, &object(LC, "dev", &spec), refused.instead);
        for (i, arg) in args.iter().enumerate() {
            assert!(errors.contains(&format!("args[{i}]")), "{arg}: {errors}");
        }
    }
    for (pool, refused) in [("agents", rules::SERVER_FLAGS), ("servers", rules::AGENT_FLAGS)] {
        for name in refused.names {
            let spec = json!({pool: {"args": [format!("--{}=x", example(name))]}}).to_string();
            server.must_refuse(create, &object(LC, "dev", &spec), refused.instead);
        }
    }
    let tables = [(LC, rules::NODE_ENV), (REGISTRY, rules::REGISTRY_ENV)];
    for (kind, refused) in tables.iter().flat_map(|(kind, table)| table.iter().map(move |r| (kind, r))) {
        let env: Vec<_> = refused.names.iter().map(|n| json!({"name": example(n)})).collect();
        let spec = if *kind == LC { json!({"agents": {"env": env}}) } else { json!({"env": env}) };
        let errors = server.must_refuse(create, &object(kind, "dev", &spec.to_string()), refused.instead);
        for (i, var) in env.iter().enumerate() {
            assert!(errors.contains(&format!("env[{i}]")), "{var}: {errors}");
        }
    }
    for name in rules::NODE_LABELS.iter().flat_map(|r| r.names) {
        let spec = json!({"agents": {"labels": {*name: "x"}}}).to_string();
        server.must_refuse(create, &object(LC, "dev", &spec), rules::NODE_LABELS[0].instead);
    }
}

#[test]
fn lists_and_texts_are_bounded() {
    let server = Server::new("bounds");
    let create = &["create", "--dry-run=server", "-f", "-"];
    let many = |n: usize, item: &dyn Fn(usize) -> Value| Value::from((0..n).map(item).collect::<Vec<_>>());
    let named = |i: usize| json!({"name": format!("a{i}")});
    let port = |i: usize| json!({"name": format!("a{i}"), "port": 80});
    let labels = |n: usize| Value::Object((0..n).map(|i| (format!("a{i}"), json!("x"))).collect());
    for (n, spec) in [
        (64, &(|n| json!({"servers": {"args": many(n, &|_| json!("--v=3"))}})) as &dyn Fn(usize) -> Value),
        (64, &|n| json!({"servers": {"env": many(n, &named)}})),
        (64, &|n| json!({"servers": {"labels": labels(n)}})),
        (32, &|n| json!({"servers": {"taints": many(n, &|i| json!(format!("a{i}:NoSchedule")))}})),
        (64, &|n| json!({"ports": many(n, &port)})),
        (32, &|n| json!({"api": {"sans": many(n, &|i| json!(format!("a{i}")))}})),
        (16, &|n| json!({"registries": {"use": many(n, &named)}})),
        (
            32,
            &|n| json!({"hostAliases": many(n, &|i| json!({"ip": format!("10.0.0.{i}"), "hostnames": [format!("a{i}")]}))}),
        ),
        (
            16,
            &|n| json!({"hostAliases": [{"ip": "10.0.0.5", "hostnames": many(n, &|i| json!(format!("a{i}")))}]}),
        ),
    ] {
        server.must_with(create, &object(LC, "dev", &spec(n).to_string()));
        server.must_refuse(create, &object(LC, "dev", &spec(n + 1).to_string()), "Too many");
    }
    // All at once: what rules cost to run is bounded too.
    let name = |i: usize, n: usize| format!("{}{i}", "a".repeat(n - 2));
    let pool = |count| {
        json!({
            "count": count,
            "args": many(64, &|_| json!(format!("--v={}", "3".repeat(1020)))),
            "env": many(64, &|i| json!({"name": name(i, 128), "value": "x".repeat(4096)})),
            "labels": Value::Object(
                (0..64).map(|i| (format!("{}/{}", ["b"; 126].join("."), name(i, 63)), json!("x".repeat(63)))).collect()
            ),
            "taints": many(32, &|i| json!(format!("{}/{}=x:PreferNoSchedule", ["b"; 126].join("."), name(i, 63)))),
            "volumes": many(16, &|i| json!({
                "hostPath": format!("/{}", "h".repeat(1023)),
                "mountPath": format!("/m/{}", name(i, 250)),
            })),
        })
    };
    let most = json!({
        "image": format!("{}:v1", "a".repeat(509)),
        "servers": pool(1),
        "agents": pool(32),
        "api": {"sans": many(32, &|i| json!(format!("{}.{}", ["b"; 120].join("."), name(i, 12))))},
        "ports": many(64, &|i| json!({"name": name(i, 63), "port": 80, "hostPort": 8000 + i})),
        "registries": {
            "use": many(16, &|i| json!({"name": name(i, 63), "namespace": "n".repeat(63)})),
            "create": {"env": many(64, &|i| json!({"name": name(i, 128), "value": "x".repeat(4096)}))},
            "containers": many(16, &|i| json!({"name": name(i, 63)})),
            "mirrors": many(32, &|i| json!({
                "registry": format!("{}:5000", name(i, 250)),
                "endpoints": many(8, &|_| json!(format!("https://{}", "e".repeat(260)))),
                "rewrites": many(16, &|_| json!({"pattern": "p".repeat(255), "replacement": "r".repeat(255)})),
            })),
            "configs": many(32, &|i| json!({"host": format!("{}:5000", name(i, 250))})),
            "config": {"inline": "#".repeat(65536)},
        },
        "files": many(32, &|i| json!({"path": format!("/{}", name(i, 250)), "inline": "x".repeat(4096)})),
        "manifests": many(32, &|i| json!({"name": name(i, 40), "inline": "x".repeat(4096)})),
        "preloadImages": many(32, &|i| json!(format!("{}:1", name(i, 253)))),
        "hostAliases": many(32, &|i| json!({
            "ip": format!("2001:db8::{i}"),
            "hostnames": many(16, &|j| json!(format!("{}.a{i}-{j}", ["b"; 120].join(".")))),
        })),
    });
    server.must_with(create, &object(LC, "dev", &most.to_string()));

    let long = |spec: Value| server.must_refuse(create, &object(LC, "dev", &spec.to_string()), "Too long");
    long(json!({"servers": {"args": [format!("--v={}", "3".repeat(1024))]}}));
    long(json!({"servers": {"env": [{"name": "A", "value": "x".repeat(4097)}]}}));
}

#[test]
fn good_input_is_taken_and_defaults_are_shown() {
    let server = Server::new("good");
    for (kind, name, spec) in GOOD {
        server.must_with(&["create", "--dry-run=server", "-f", "-"], &object(kind, name, spec));
    }
    for name in ["dev", "nulls"] {
        let (kind, _, spec) = GOOD.iter().find(|(_, n, _)| *n == name).unwrap();
        server.must_with(&["create", "-f", "-"], &object(kind, name, spec));
        let lc = server.get(&format!("lc/{name}"));
        let shown = json!({
            "agents": {"count": 0},
            "api": {"hostIP": "127.0.0.1"},
            "network": {},
            "onDataLoss": "Stop",
            "registries": {"defaultEndpoint": true},
            "servers": {"count": 1},
            "state": "Running"
        });
        assert_eq!(lc["spec"], shown, "{name}");
        fresh(&lc);
    }
    let spec = "{servers: {memory: 2Gi}, token: {secretName: t}, ports: [{name: http, port: 80}]}";
    server.must_with(&["create", "-f", "-"], &object(LC, "partly", spec));
    let spec = server.get("lc/partly")["spec"].clone();
    assert_eq!(spec["servers"], json!({"count": 1, "memory": "2Gi"}));
    assert_eq!(spec["token"], json!({"secretName": "t", "key": "token"}));
    assert_eq!(spec["ports"], json!([{"name": "http", "port": 80}]), "lists stay as they were written");

    server.must_with(&["create", "-f", "-"], &object(REGISTRY, "registry", "{}"));
    let registry = server.get("lreg/registry");
    let shown = json!({
        "deleteEnabled": false,
        "hostIP": "127.0.0.1",
        "localRegistryHosting": true,
        "storage": {"retain": false}
    });
    assert_eq!(registry["spec"], shown);
    fresh(&registry);
    let all: BTreeSet<_> =
        server.must(&["get", "localdev", "-o", "name"]).lines().map(ToOwned::to_owned).collect();
    assert!(
        all.contains("localcluster.localcluster.dev/dev")
            && all.contains("registry.localcluster.dev/registry")
    );
}

/// Nobody takes the object for ready before the operator has seen it.
fn fresh(object: &Value) {
    let status = &object["status"];
    // An operator that runs meanwhile says at least that the object is paused.
    assert!(status["observedGeneration"] == -1 || !status["conditions"].is_null(), "{status}");
}

#[test]
fn the_default_of_status_never_stands_in_the_way() {
    let server = Server::new("status");
    server.must_with(&["create", "-f", "-"], &object(REGISTRY, "registry", "{}"));
    let patch = |body: &str| {
        server.must(&["patch", "lreg/registry", "--subresource=status", "--type=merge", "-p", body])
    };
    patch(r#"{"status": {"observedGeneration": 1, "hostPort": 5000, "usedBy": ["a/b"]}}"#);
    let status = server.get("lreg/registry")["status"].clone();
    assert_eq!((&status["observedGeneration"], &status["hostPort"]), (&json!(1), &json!(5000)));
    patch(r#"{"status": {"hostPort": null}}"#);
    assert!(server.get("lreg/registry")["status"]["hostPort"].is_null());
    patch(r#"{"status": null}"#);
    fresh(&server.get("lreg/registry"));
}

#[test]
fn what_can_not_change_is_refused_and_the_rest_is_taken() {
    let server = Server::new("edits");
    let set = "{clusterName: other, token: {secretName: t}, network: {subnet: 172.31.16.0/24}}";
    server.must_with(&["create", "-f", "-"], &object(LC, "set", set));
    server.must_with(&["create", "-f", "-"], &object(LC, "unset", "{}"));
    let set = "{hostname: my-registry, storage: {volumeName: images}}";
    server.must_with(&["create", "-f", "-"], &object(REGISTRY, "set", set));
    server.must_with(&["create", "-f", "-"], &object(REGISTRY, "unset", "{}"));
    server.must_with(&["create", "-f", "-"], &object(REGISTRY, "host", "{storage: {hostPath: /srv/a}}"));

    let args = |what, patch| ["patch", what, "--dry-run=server", "--type=merge", "-p", patch];
    let never = "is immutable and cannot be set, changed or removed after creation";
    for (what, patch) in [
        ("lc/set", r#"{"spec": {"clusterName": "another"}}"#),
        ("lc/set", r#"{"spec": {"clusterName": null}}"#),
        ("lc/unset", r#"{"spec": {"clusterName": "unset"}}"#),
        ("lc/set", r#"{"spec": {"token": {"secretName": "u"}}}"#),
        ("lc/set", r#"{"spec": {"token": {"key": "k"}}}"#),
        ("lc/set", r#"{"spec": {"token": null}}"#),
        ("lc/unset", r#"{"spec": {"token": {"secretName": "t"}}}"#),
        ("lc/set", r#"{"spec": {"network": {"subnet": "172.31.17.0/24"}}}"#),
        ("lc/set", r#"{"spec": {"network": {"subnet": null}}}"#),
        ("lc/set", r#"{"spec": {"network": null}}"#),
        ("lc/unset", r#"{"spec": {"network": {"subnet": "172.31.17.0/24"}}}"#),
        ("lreg/set", r#"{"spec": {"hostname": "another"}}"#),
        ("lreg/set", r#"{"spec": {"hostname": null}}"#),
        ("lreg/unset", r#"{"spec": {"hostname": "k3d-unset"}}"#),
        ("lreg/set", r#"{"spec": {"storage": {"volumeName": "another"}}}"#),
        ("lreg/set", r#"{"spec": {"storage": {"volumeName": null}}}"#),
        ("lreg/set", r#"{"spec": {"storage": null}}"#),
        ("lreg/unset", r#"{"spec": {"storage": {"volumeName": "images"}}}"#),
        ("lreg/host", r#"{"spec": {"storage": {"hostPath": "/srv/b"}}}"#),
        ("lreg/host", r#"{"spec": {"storage": {"hostPath": null}}}"#),
        ("lreg/unset", r#"{"spec": {"storage": {"hostPath": "/srv/a"}}}"#),
    ] {
        let says = server.must_refuse(&args(what, patch), "", never);
        assert!(says.contains("create a new"), "{says}");
    }
    for (what, patch) in [
        ("lc/unset", r#"{"spec": {"version": "v1.36.3+k3s1"}}"#),
        (
            "lc/unset",
            r#"{"spec": {"agents": {"count": 3, "args": ["--v=2"], "labels": {"a": "b"}, "memory": "1Gi"}}}"#,
        ),
        ("lc/unset", r#"{"spec": {"api": {"hostIP": "0.0.0.0", "hostPort": 6443, "sans": ["a"]}}}"#),
        ("lc/unset", r#"{"spec": {"ports": [{"name": "http", "port": 80}]}}"#),
        ("lc/unset", r#"{"spec": {"registries": {"use": [{"name": "registry"}]}}}"#),
        ("lc/set", r#"{"metadata": {"labels": {"a": "b"}}}"#),
        ("lreg/set", r#"{"spec": {"storage": {"retain": true}, "hostPort": 5001, "deleteEnabled": true}}"#),
        ("lreg/host", r#"{"spec": {"auth": {"htpasswdSecret": "users"}, "tls": {"secretName": "tls"}}}"#),
        ("lreg/set", r#"{"spec": {"proxy": {"remoteURL": "https://quay.io"}, "allowedNamespaces": ["*"]}}"#),
    ] {
        server.must(&args(what, patch));
    }
}

#[test]
fn agents_are_scaled_by_kubectl() {
    let server = Server::new("scale");
    server.must_with(&["create", "-f", "-"], &object(LC, "dev", "{}"));
    server.must(&["scale", "lc/dev", "--replicas=3"]);
    assert_eq!(server.get("lc/dev")["spec"]["agents"]["count"], 3);
    server.must_refuse(&["scale", "lc/dev", "--replicas=33"], "", "less than or equal to 32");
    let status = r#"{"status": {"agents": {"desired": 3, "replicas": 2, "ready": 1}, "selector": "a=b"}}"#;
    server.must(&["patch", "lc/dev", "--subresource=status", "--type=merge", "-p", status]);
    let path =
        format!("/apis/localcluster.dev/v1alpha1/namespaces/{}/localclusters/dev/scale", server.namespace);
    let scale: Value = serde_json::from_str(&server.must(&["get", "--raw", &path])).unwrap();
    assert_eq!(scale["spec"], json!({"replicas": 3}));
    assert_eq!(scale["status"], json!({"replicas": 2, "selector": "a=b"}));
}

#[test]
fn kubectl_get_and_explain_tell_what_people_ask() {
    let server = Server::new("columns");
    server.must_with(&["create", "-f", "-"], &object(LC, "dev", "{}"));
    server.must_with(&["create", "-f", "-"], &object(REGISTRY, "registry", "{}"));
    let header = |args: &[&str]| {
        let table = server.must(args);
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(header(&["get", "lc"]), "NAME READY REASON VERSION SERVERS AGENTS ENDPOINT EXPIRES AGE");
    assert_eq!(
        header(&["get", "lc", "-o", "wide"]),
        "NAME READY REASON STATE VERSION SERVERS AGENTS ENDPOINT EXPIRES AGE IMAGE NETWORK MESSAGE"
    );
    assert_eq!(header(&["get", "lreg"]), "NAME READY HOST CLUSTER CACHES USED-BY AGE");

    let agents = server.must(&["explain", "lc.spec.agents"]);
    for words in [
        "one at a time",
        "without a restart",
        "Defaults to",
        "must not contain secrets",
        "2Gi",
        "keep running",
    ] {
        assert!(agents.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{words}: {agents}");
    }
    assert!(server.must(&["explain", "lreg.spec.storage.retain"]).contains("deleted"));
    let told = |field: &str| {
        let text = server.must(&["explain", field]);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let port = told("lreg.spec.hostPort");
    assert!(port.contains("without restarting or replacing nodes"), "{port}");
    for (field, default) in [
        ("lc.spec.ports.hostIP", "Defaults to 127.0.0.1"),
        ("lc.spec.ports.protocol", "Defaults to TCP"),
        ("lc.spec.registries.use.namespace", "Defaults to the namespace of this object"),
        ("lc.spec.registries.containers.port", "Defaults to 5000"),
    ] {
        assert!(told(field).contains(default), "{field}: {}", told(field));
    }
}

#[test]
fn the_base_and_the_samples_are_taken() {
    let server = Server::new("deploy");
    let render = |dir: &str| server.must(&["kustomize", root().join(dir).to_str().unwrap()]);
    // In a namespace that exists, since a dry run makes none.
    let base = render("deploy").replace("localcluster-system", &server.namespace);
    let apply =
        &["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-"];
    let taken = server.run(apply, &base);
    assert!(taken.ok && taken.stderr.is_empty(), "{}{}", taken.stdout, taken.stderr);
    for what in
        ["deployment.apps/localcluster-operator", "clusterrole", "customresourcedefinition", "service/"]
    {
        assert!(taken.stdout.contains(what), "{what}: {}", taken.stdout);
    }
    let samples =
        render("deploy/samples").replace("namespace: default", &format!("namespace: {}", server.namespace));
    let taken = server.must_with(apply, &samples);
    assert_eq!(taken.lines().count(), 2, "{taken}");
}
