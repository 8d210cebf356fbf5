//! Members of the etcd of a created cluster, as K3s reports them to servers that join. Pure.
//!
//! etcd itself accepts only clients with certificates of its own CA, on ports that the load balancer does not forward.
//! K3s returns the list of its members at the port of the API to whoever has the token of servers.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::state::Member;

/// Path of the list.
pub const PATH: &str = "/db/info";

/// Response of K3s.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    members: Vec<Listed>,
}

/// A member, in the JSON form of etcd's API.
#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    name: String,
    /// Null for none, as Go encodes an empty list.
    #[serde(default, rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
    #[serde(default, rename = "isLearner")]
    learner: bool,
}

/// Returns the value of the header `Authorization` for the secret of the token of servers. K3s evaluates it before the
/// certificate of the client.
pub fn authorization(secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("server:{secret}")))
}

/// Parses the list of members; `None` if it is none. etcd knows a member as `<node>-<8 hexadecimal digits>`.
pub fn members(body: &str) -> Option<Vec<Member>> {
    let info: Info = serde_json::from_str(body).ok()?;
    let member = |Listed { name, peer_urls, learner }: Listed| {
        let node = name.rsplit_once('-').map_or(name.as_str(), |(node, _)| node).to_owned();
        let address = peer_urls.iter().flatten().find_map(|url| host(url)).unwrap_or_default();
        Member { node, name, address, learner }
    };
    let members: Vec<Member> = info.members.into_iter().map(member).collect();
    (!members.is_empty()).then_some(members)
}

/// Returns the host of a URL such as `https://172.31.0.10:2380`, an IPv6 address without its brackets.
fn host(url: &str) -> Option<String> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    let (host, _) = authority.rsplit_once(':')?;
    Some(host.trim_matches(['[', ']']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_nodes_and_learners() {
        let body = r#"{"members": [
            {"ID": 13194513104226436000, "name": "k3d-dev-server-0-1a2b3c4d", "peerURLs": ["https://10.0.0.10:2380"]},
            {"name": "k3d-dev-server-1-5e6f7a8b", "peerURLs": ["https://[fd00::11]:2380"], "isLearner": true},
            {"ID": 1, "peerURLs": ["https://10.0.0.12:2380"], "isLearner": true},
            {"name": "k3d-dev-server-3-9c0d1e2f", "peerURLs": null}]}"#;
        let member = |node: &str, name: &str, address: &str, learner| {
            let [node, name, address] = [node, name, address].map(str::to_owned);
            Member { node, name, address, learner }
        };
        let all = [
            member("k3d-dev-server-0", "k3d-dev-server-0-1a2b3c4d", "10.0.0.10", false),
            member("k3d-dev-server-1", "k3d-dev-server-1-5e6f7a8b", "fd00::11", true),
            member("", "", "10.0.0.12", true),
            member("k3d-dev-server-3", "k3d-dev-server-3-9c0d1e2f", "", false),
        ];
        assert_eq!(members(body), Some(all.to_vec()));
        for none in ["", "etcd not ready", "{}", r#"{"members": null}"#, r#"{"members": []}"#] {
            assert_eq!(members(none), None, "{none}");
        }
    }

    #[test]
    fn servers_authenticate_with_the_token() {
        assert_eq!(authorization("secret"), "Basic c2VydmVyOnNlY3JldA==");
    }
}
