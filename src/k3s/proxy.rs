//! Destinations that nodes with an HTTP proxy connect to directly.
//!
//! K3s and containerd read their proxy from the environment when they start. K3s adds the networks of Pods and Services
//! and the cluster domain to the exceptions, but on servers only, and after containerd was started (k3s-io/k3s#2377);
//! nothing adds the hosts on the Docker network of the cluster. Without them, nodes would use an outside proxy for the
//! API server, for each other and for registries (k3d-io/k3d#341).

use std::collections::{BTreeMap, BTreeSet};

/// Variables that set a proxy. K3s passes those with the prefix [`CONTAINERD`] to containerd only, without the prefix.
const PROXIES: [&str; 2] = ["HTTP_PROXY", "HTTPS_PROXY"];
/// Variable that lists the exceptions.
const PAST: &str = "NO_PROXY";
const CONTAINERD: &str = "CONTAINERD_";

/// Returns the name of a variable in upper case without the prefix for containerd, and whether it had the prefix.
fn plain(name: &str) -> (bool, String) {
    let rest = name.strip_prefix(CONTAINERD);
    (rest.is_some(), rest.unwrap_or(name).to_ascii_uppercase())
}

/// Reports whether an environment sets a proxy.
pub fn is_set(env: &BTreeMap<String, String>) -> bool {
    let names = |(name, value): (&String, &String)| {
        PROXIES.contains(&plain(name).1.as_str()) && !value.trim().is_empty()
    };
    env.iter().any(names)
}

/// Returns the variables that replace the user's in the environment of a node: the user's exceptions, followed by the
/// entries of `inside` that they do not contain yet. Returns none if no proxy is set.
///
/// All variants get the same list. K3s prefers the upper-case one, others the lower-case one, and whether the variable
/// for K3s or the one for containerd applies to containerd depends on their order (k3s-io/k3s#5642).
pub fn past(env: &BTreeMap<String, String>, inside: &[String]) -> BTreeMap<String, String> {
    if !is_set(env) {
        return BTreeMap::new();
    }
    let lists = || env.iter().filter(|(name, _)| plain(name).1 == PAST);
    let theirs =
        lists().flat_map(|(_, value)| value.split(',')).map(str::trim).filter(|entry| !entry.is_empty());
    let mut seen = BTreeSet::new();
    let all: Vec<&str> = theirs
        .chain(inside.iter().map(String::as_str))
        .filter(|entry| seen.insert(entry.to_ascii_lowercase()))
        .collect();
    let all = all.join(",");
    let mut names: BTreeSet<String> = lists().map(|(name, _)| name.clone()).collect();
    for (containerd, name) in [(false, PAST.to_owned()), (true, format!("{CONTAINERD}{PAST}"))] {
        let of = |name: &str| plain(name).0 == containerd;
        let proxied =
            env.iter().any(|(name, value)| is_set(&[(name.clone(), value.clone())].into()) && of(name));
        if proxied && !names.iter().any(|name| of(name)) {
            names.insert(name);
        }
    }
    names.into_iter().map(|name| (name, all.clone())).collect()
}

/// Returns the lists of exceptions in the environment of a container as reported by the engine (`NAME=value`).
pub fn lists<'a>(env: impl Iterator<Item = &'a str>) -> Vec<String> {
    let list = |line: &'a str| {
        let (name, value) = line.split_once('=')?;
        (plain(name).1 == PAST).then(|| value.to_owned())
    };
    env.filter_map(list).collect()
}

/// Reports whether a host name is an exception by such a list, as Go programs read it: a name matches itself and its
/// subdomains, a name with a leading dot only the subdomains, and an asterisk everything. Names are not resolved, so a
/// network never matches one.
pub fn passes(list: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        let entry = entry.strip_prefix("*.").map_or(entry.clone(), |rest| format!(".{rest}"));
        let name = entry.split(':').next().unwrap_or_default();
        let below = |domain: &str| host.ends_with(domain) && host.len() > domain.len();
        match name.strip_prefix('.') {
            _ if entry == "*" => true,
            Some("") => false,
            Some(_) => below(name),
            None => !name.is_empty() && (host == name || below(&format!(".{name}"))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn past(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        super::past(&env(pairs), &["localhost".to_owned(), "172.31.0.0/24".into(), "k3d-dev-serverlb".into()])
    }

    #[test]
    fn nothing_is_said_without_a_proxy() {
        for none in [&[][..], &[("NO_PROXY", "a")], &[("HTTP_PROXY", "")], &[("MY_HTTP_PROXY", "http://p")]] {
            assert_eq!(past(none), BTreeMap::new(), "{none:?}");
        }
    }

    #[test]
    fn theirs_come_first_and_none_is_lost_or_there_twice() {
        const OURS: &str = "localhost,172.31.0.0/24,k3d-dev-serverlb";
        let proxy = ("HTTPS_PROXY", "http://proxy:3128");
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            assert_eq!(past(&[(name, "http://proxy:3128")]), env(&[("NO_PROXY", OURS)]), "{name}");
        }
        let theirs = past(&[proxy, ("NO_PROXY", "corp.example, K3D-dev-serverlb,,10.0.0.0/8 ")]);
        let all = "corp.example,K3D-dev-serverlb,10.0.0.0/8,localhost,172.31.0.0/24";
        assert_eq!(theirs, env(&[("NO_PROXY", all)]));
        // Programs read one spelling or the other.
        let both = past(&[proxy, ("no_proxy", "b.example"), ("NO_PROXY", "a.example")]);
        let all = format!("a.example,b.example,{OURS}");
        assert_eq!(both, env(&[("NO_PROXY", &all), ("no_proxy", &all)]));
        let small = past(&[proxy, ("no_proxy", "b.example")]);
        assert_eq!(small, env(&[("no_proxy", &format!("b.example,{OURS}"))]));
    }

    #[test]
    fn what_is_containerds_alone_stays_so() {
        let proxy = ("CONTAINERD_HTTPS_PROXY", "http://proxy:3128");
        let alone = past(&[proxy]);
        assert_eq!(alone.keys().collect::<Vec<_>>(), ["CONTAINERD_NO_PROXY"]);
        let small = past(&[proxy, ("CONTAINERD_no_proxy", "a")]);
        assert_eq!(small.keys().collect::<Vec<_>>(), ["CONTAINERD_no_proxy"]);
        assert!(small["CONTAINERD_no_proxy"].starts_with("a,localhost,"));
        let both = past(&[proxy, ("HTTP_PROXY", "http://proxy:3128"), ("CONTAINERD_NO_PROXY", "a")]);
        assert_eq!(both.keys().collect::<Vec<_>>(), ["CONTAINERD_NO_PROXY", "NO_PROXY"]);
        assert!(both.values().all(|list| list.starts_with("a,localhost,")), "{both:?}");
    }

    #[test]
    fn names_pass_as_in_go() {
        let list = "corp.example,.svc,*.lab.example,172.31.0.0/24,k3d-r,k3d-s:5000";
        for host in ["corp.example", "x.corp.example", "a.b.svc", "y.lab.example", "k3d-r", "K3D-R", "k3d-s"]
        {
            assert!(passes(list, host), "{host}");
        }
        for host in ["svc", "lab.example", "mycorp.example", "k3d-other", "172.31.0.5", "", ".svc"] {
            assert!(!passes(list, host), "{host}");
        }
        assert!(passes("a,*", "anything") && !passes("", "anything") && !passes(".", "anything"));
        assert_eq!(lists(["A=b", "no_proxy=x,y", "CONTAINERD_NO_PROXY=z"].into_iter()), ["x,y", "z"]);
    }
}
