//! The API of a created cluster: one Node, what K3s makes, and what the operator writes.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    counts::Counts,
    kubernetes::KubernetesApi,
    wire::{Body, full, pieces},
};

pub struct Child {
    api: KubernetesApi,
    client: Client,
    node: String,
}

impl Child {
    pub fn new(node: &str) -> Self {
        let api = KubernetesApi::default();
        api.put(
            "/api/v1/namespaces/default/serviceaccounts/default",
            json!({"metadata": {"name": "default", "namespace": "default", "uid": "u"}}),
        );
        Self { client: api.client(), api, node: node.to_owned() }
    }

    /// Has the kubelet report from this address, since this time.
    pub fn is_at(&self, ip: Ipv4Addr, since: Timestamp, image: &str) {
        let path = format!("/api/v1/nodes/{}", self.node);
        let mut node = self.api.get(&path).unwrap_or_else(|| new_node(&self.node, image));
        // It reports after the container has started.
        let (now, since) = (Timestamp::now(), since + jiff::SignedDuration::from_secs(1));
        let at = |time: Timestamp| json!(time.round(jiff::Unit::Second).expect("a time"));
        node["status"]["addresses"] =
            json!([{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": self.node}]);
        node["status"]["conditions"] = json!([
            {"type": "MemoryPressure", "status": "False", "reason": "KubeletHasSufficientMemory"},
            {"type": "DiskPressure", "status": "False", "reason": "KubeletHasNoDiskPressure"},
            {"type": "PIDPressure", "status": "False", "reason": "KubeletHasSufficientPID"},
            {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
                "lastHeartbeatTime": at(now), "lastTransitionTime": at(since)},
        ]);
        self.api.put(&path, node);
        let lease = json!({"metadata": {"name": self.node, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": self.node, "leaseDurationSeconds": 40, "renewTime": now}});
        self.api.put(
            &format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{}", self.node),
            lease,
        );
    }

    /// Answers a request.
    pub async fn answer(self: Arc<Self>, counts: &Counts, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let watches = value("watch").is_some();
        let path = head.uri.path().trim_end_matches(&self.node).to_owned();
        counts.note(format!("cluster {} {path}", if watches { "WATCH" } else { head.method.as_str() }));
        if watches {
            let seconds = value("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(60);
            // Nothing happens until then.
            let end =
                stream::once(sleep(Duration::from_secs(seconds))).filter_map(|()| async { None::<Bytes> });
            return Response::new(pieces(end));
        }
        if head.uri.path().ends_with("/configmaps") {
            return Response::new(full(
                self.config_maps(head.uri.path(), value("fieldSelector")).to_string(),
            ));
        }
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let request = Request::from_parts(head, kube::client::Body::from(body));
        let (head, body) = self.client.send(request).await.expect("the fake answers").into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Response::from_parts(head, full(body))
    }

    /// Lists the ConfigMap of this name.
    fn config_maps(&self, path: &str, field: Option<&str>) -> Value {
        let name = field.and_then(|field| field.strip_prefix("metadata.name%3D")).unwrap_or_default();
        let items: Vec<Value> = self.api.get(&format!("{path}/{name}")).into_iter().collect();
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})
    }
}

/// A Node of about the size of a real one.
fn new_node(name: &str, image: &str) -> Value {
    let version = image.rsplit(':').next().unwrap_or_default().replace("-k3s", "+k3s");
    let images: Vec<Value> = (0..12)
        .map(|n| json!({"names": [format!("docker.io/rancher/some-image-{n}:v1.0.{n}")], "sizeBytes": 1_000_000 + n}))
        .collect();
    json!({
        "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-11-25T00:00:00Z",
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
                "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux", "node.kubernetes.io/instance-type": "k3s",
                "node-role.kubernetes.io/control-plane": "true"},
            "annotations": {"flannel.alpha.coreos.com/backend-type": "vxlan", "k3s.io/hostname": name,
                "flannel.alpha.coreos.com/public-ip": "10.64.0.3", "node.alpha.kubernetes.io/ttl": "0"}},
        "spec": {"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24"], "providerID": format!("k3s://{name}")},
        "status": {"images": images, "capacity": {"cpu": "2", "memory": "24685000Ki", "pods": "110"},
            "allocatable": {"cpu": "2", "memory": "24685000Ki", "pods": "110"},
            "nodeInfo": {"architecture": "amd64", "bootID": "b", "containerRuntimeVersion": "containerd://2.1.4",
                "kernelVersion": "6.12.48", "kubeProxyVersion": version, "kubeletVersion": version, "machineID": "m",
                "operatingSystem": "linux", "osImage": "K3s", "systemUUID": "s"}},
    })
}
