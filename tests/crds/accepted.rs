//! Specs that the API server has to take.

use super::*;

/// What has to be taken: kind, name, spec.
#[rustfmt::skip]
pub(super) const GOOD: &[(&str, &str, &str)] = &[
    (LC, "dev", "{}"),
    (LC, "0", "{}"),
    (LC, "a23456789012345678901234567890123456789012345678901234567890123", "{agents: {count: 32}}"),
    (LC, "nulls", "{version: null, image: null, agents: null, servers: {count: null, memory: null}, api: {hostIP: null, \
        hostPort: null}, network: {subnet: null}, ports: null, token: null}"),
    (LC, "pool-of-settings-only", "{servers: {memory: 2Gi}}"),
    (LC, "full", "{
        version: v1.36.2-rc1+k3s12, durability: Ephemeral, clusterName: full-2, ttl: 0h90m, imagePullSecret: {name: reg.cred},
        servers: {count: 1, args: ['--disable=traefik', '--disable=servicelb', '--secrets-encryption', \
            '--kubelet-arg=max-pods=50', '--tls-san-security=false', '--disable-cloud-controller', '--v=3', \
            '--disable=my-kube-proxy, scheduler-x', '--flannel-backend=wireguard-native', \
            '--etcd-snapshot-schedule-cron=*/5 * * * *', '--kubelet-arg=eviction-hard=imagefs.available<1%,nodefs.available<1%', \
            '--kube-apiserver-arg=audit-webhook-x=a - b', '--kube-apiserver-arg=oidc-username-claim=me@server.example'], \
            env: [{name: HTTP_PROXY, value: 'http://proxy:3128'}, {name: K3S_DEBUG, value: 'true'}, {name: _a}], \
            labels: {tier: control, example.com/Zone_1: '', node-role.kubernetes.io/worker: 'true', \
            topology.kubernetes.io/zone: z.1}, \
            taints: ['node-role.kubernetes.io/control-plane=true:NoSchedule', 'a:NoExecute', 'a:NoSchedule', \
            'aPrefer:NoSchedule', 'a:PreferNoSchedule'], memory: 1.5Gi, shmSize: 64m, cpus: '1.5', runtime: sysbox-runc, privileged: false},
        agents: {count: 2, maxUnavailable: 2, excludedIndexes: [0, 31], containerLabels: {team: shop, com.example/tier: 'a b=c', traefik.http.routers.x: ''}, args: ['--kubelet-arg=max-pods=50', '--snapshotter=native', '--disable-apiserver-lb'], \
            memory: '536870912', cpus: '2', ulimits: [{name: nofile, soft: 1024, hard: 1048576}, \
            {name: memlock, soft: -1}, {name: core, soft: 0, hard: -1}, {name: stack, soft: 1, hard: 1}], \
            volumes: [{hostPath: /srv/data, mountPath: /data, readOnly: true}, {hostPath: /srv, mountPath: /data2}, \
            {volumeName: cache, mountPath: /cache, readOnly: true}, \
            {hostPath: /srv/s, mountPath: /var/lib/rancher/k3s/storage}], gpus: all},
        agentPools: [{name: gpu, count: 2, maxUnavailable: 32, gpus: '1', runtime: nvidia, privileged: true, labels: {a: b}, taints: ['a:NoSchedule'], \
            args: ['--kubelet-arg=max-pods=50'], env: [{name: A, value: b}], memory: 1Gi, shmSize: 1Gi, cpus: '1', pids: 2048, \
            volumes: [{hostPath: /srv, mountPath: /data}], ulimits: [{name: core, soft: 0}]}, {name: a2345678901234567890, \
            count: 28}, {name: pool1, count: 0}],
        token: {secretName: my-token, key: the.key},
        network: {subnet: 172.31.16.0/24, join: [shared, db_net.1]},
        api: {hostIP: 0.0.0.0, hostPort: 6550, sans: [k8s.example.test, 10.0.0.1, 'fd00::1'], serverName: k8s.example.test, service: ClusterIP},
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
        images: {fromDockerHost: true}, preloadImages: ['nginx:1.29', 'localhost:5000/a/b_c:V1.2-x', 'registry.example/app:1'], \
        manifests: [{name: a-1, inline: 'kind: A'}, {name: b, secret: {name: s, key: k}}, {name: c, configMap: {name: m, key: k.yaml}}], \
        hostAliases: [{ip: 10.0.0.5, hostnames: [db.internal, db, xcluster.local]}, {ip: '2001:db8::5', hostnames: [s]}, {ip: host-gateway, hostnames: [host.docker.internal]}]}"),
    (LC, "by-image", "{image: 'registry.example:5000/some/k3s:v1.36.2-k3s1', network: {subnet: 10.44.0.0/16}}"),
    (LC, "by-digest", "{image: 'rancher/k3s:v1@sha256:\
        0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}"),
    (LC, "by-short-image", "{image: 'k3s:dev', network: {subnet: 192.168.7.128/25}, \
        registries: {configs: [{host: '*', tls: {insecureSkipVerify: true}}]}}"),
    (REGISTRY, "registry", "{}"),
    (REGISTRY, "registry.localhost", "{hostname: k3d-registry.localhost, image: 'docker.io/library/registry:3', \
        hostIP: 0.0.0.0, hostPort: 5000, storage: {retain: true, volumeName: my_images-1.x, maxSize: 1.5Ti}, deleteEnabled: true, \
        env: [{name: REGISTRY_LOG_LEVEL, value: debug}, {name: OTEL_TRACES_EXPORTER, value: none}], memory: 512m, \
        garbageCollection: {schedule: '*/15 0-6 1,15 * MON-FRI'}, retention: {keepTags: 10000, keepFor: 1h30m}}"),
    (REGISTRY, "cache", "{proxy: {remoteURL: 'https://registry-1.docker.io', credentialsSecret: hub, ttl: 168h}, \
        storage: {hostPath: /srv/registry, maxSize: 500m}, auth: {htpasswdSecret: users, clientSecret: login}, \
        tls: {secretName: tls, caSecretName: ca}, allowedNamespaces: ['*', team-a], localRegistryHosting: false}"),
    (REGISTRY, "nulls", "{proxy: null, auth: null, tls: null, storage: {hostPath: null, retain: false}, \
        allowedNamespaces: null}"),
];
