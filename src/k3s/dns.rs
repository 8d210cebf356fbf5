//! Additional names that the Pods of a cluster resolve through CoreDNS.
//!
//! K3s writes the ConfigMap `coredns` at each start and with each node, so changes to it do not last (k3d-io/k3d#1221).
//! Its Corefile imports the files of the ConfigMap `coredns-custom`, which K3s never writes: `*.override` into the
//! server block for all queries. There the `hosts` plugin is in use already and may appear only once; `template` may
//! appear any number of times. Each block is for one name, in the zone of that name, so that no other query is
//! affected: a block for `.` broke all outside names (k3d-io/k3d#1462).

use std::{collections::BTreeMap, fmt::Write, net::IpAddr};

/// Name of the Docker host in clusters.
pub const HOST: &str = "host.k3d.internal";
/// Namespace of CoreDNS.
pub const NAMESPACE: &str = "kube-system";
/// ConfigMap from which the Corefile imports files. It may contain keys of other owners.
pub const CONFIG_MAP: &str = "coredns-custom";
/// Key of the operator in the ConfigMap.
pub const KEY: &str = "localcluster.override";
/// Label selector of the Pods of CoreDNS.
pub const PODS: &str = "k8s-app=kube-dns";

/// Time to live of a response in seconds. A recreated registry may have another address.
const TTL: u32 = 15;

/// Renders the file with the address of each name.
///
/// Queries for other record types of a name, above all for the other address family, need an empty response too: a
/// forwarded query would return that the name does not exist, from which musl concludes that it has no address at all.
/// The response has an SOA record, which caches need to keep it, and since older CoreDNS rejects a block without any
/// record.
pub fn render(names: &BTreeMap<String, IpAddr>) -> String {
    let mut out = String::from("# Written by localcluster-operator.\n");
    for (name, address) in names {
        let pattern = name.replace('.', "\\.");
        let kind = kind(address);
        write!(
            out,
            "template IN {kind} {name} {{\n  match \"(?i)^{pattern}\\.$\"\n  answer \"{{{{ .Name }}}} {TTL} IN {kind} \
             {address}\"\n  fallthrough\n}}\n\
             template IN ANY {name} {{\n  match \"(?i)^{pattern}\\.$\"\n  authority \"{name}. {TTL} IN SOA {name}. \
             hostmaster.{name}. 1 60 60 60 {TTL}\"\n  fallthrough\n}}\n"
        )
        .expect("writing to a String never fails");
    }
    out
}

/// Returns the record type of an address.
fn kind(address: &IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "A",
        IpAddr::V6(_) => "AAAA",
    }
}

/// Last line of a file that was applied a second time.
const AGAIN: &str = "# Applied again, since CoreDNS loses a change that arrives while it starts.\n";

/// Returns a file with the same content that CoreDNS regards as another one.
///
/// CoreDNS reads its files, waits up to 5 s for the Kubernetes API, and only then remembers which files it runs with
/// (its plugin `reload`). It never loads a change that arrives meanwhile, which is likely after a start of the server,
/// unless the files change once more.
pub fn again(file: &str) -> String {
    format!("{file}{AGAIN}")
}

/// Parses the addresses from a file of the operator.
pub fn parse(file: &str) -> BTreeMap<String, IpAddr> {
    let mut names = BTreeMap::new();
    let mut current = None;
    for line in file.lines() {
        let block = line.strip_prefix("template IN A ").or_else(|| line.strip_prefix("template IN AAAA "));
        if let Some(rest) = block {
            current = rest.strip_suffix(" {");
        } else if let Some(answer) = line.strip_prefix("  answer ") {
            let address = answer.rsplit(' ').next().and_then(|a| a.trim_end_matches('"').parse().ok());
            names.extend(current.take().zip(address).map(|(name, address)| (name.to_owned(), address)));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[(&str, [u8; 4])]) -> BTreeMap<String, IpAddr> {
        of.iter().map(|(name, ip)| ((*name).to_owned(), IpAddr::from(*ip))).collect()
    }

    #[test]
    fn an_ipv6_address_is_in_a_record_of_its_kind() {
        let names = BTreeMap::from([("six.internal".to_owned(), "2001:db8::5".parse().unwrap())]);
        let file = render(&names);
        insta::assert_snapshot!(file, @r#"
        # Written by localcluster-operator.
        template IN AAAA six.internal {
          match "(?i)^six\.internal\.$"
          answer "{{ .Name }} 15 IN AAAA 2001:db8::5"
          fallthrough
        }
        template IN ANY six.internal {
          match "(?i)^six\.internal\.$"
          authority "six.internal. 15 IN SOA six.internal. hostmaster.six.internal. 1 60 60 60 15"
          fallthrough
        }
        "#);
        assert_eq!(parse(&file), names);
    }

    #[test]
    fn each_name_has_blocks_of_its_own() {
        insta::assert_snapshot!(render(&names(&[
            ("host.k3d.internal", [172, 31, 0, 1]),
            ("k3d-registry", [172, 31, 0, 52]),
        ])), @r#"
        # Written by localcluster-operator.
        template IN A host.k3d.internal {
          match "(?i)^host\.k3d\.internal\.$"
          answer "{{ .Name }} 15 IN A 172.31.0.1"
          fallthrough
        }
        template IN ANY host.k3d.internal {
          match "(?i)^host\.k3d\.internal\.$"
          authority "host.k3d.internal. 15 IN SOA host.k3d.internal. hostmaster.host.k3d.internal. 1 60 60 60 15"
          fallthrough
        }
        template IN A k3d-registry {
          match "(?i)^k3d-registry\.$"
          answer "{{ .Name }} 15 IN A 172.31.0.52"
          fallthrough
        }
        template IN ANY k3d-registry {
          match "(?i)^k3d-registry\.$"
          authority "k3d-registry. 15 IN SOA k3d-registry. hostmaster.k3d-registry. 1 60 60 60 15"
          fallthrough
        }
        "#);
    }

    #[test]
    fn only_the_name_itself_is_matched() {
        let file = render(&names(&[("registry.localhost", [10, 0, 0, 1])]));
        let pattern = file.lines().find_map(|l| l.strip_prefix("  match \"")?.strip_suffix('"')).unwrap();
        let matches = regex::Regex::new(pattern).unwrap();
        assert!(matches.is_match("registry.localhost.") && matches.is_match("ReGistry.LocalHost."));
        for other in
            ["xregistry.localhost.", "x.registry.localhost.", "registry-localhost.", "registry.localhost.x."]
        {
            assert!(!matches.is_match(other), "{other}");
        }
    }

    #[test]
    fn there_is_never_a_block_for_everything() {
        let file = render(&names(&[("a.b", [10, 0, 0, 1]), ("c", [10, 0, 0, 2])]));
        for block in file.lines().filter(|l| l.starts_with("template")) {
            let words: Vec<_> = block.split(' ').collect();
            assert!(matches!(words[..], ["template", "IN", "A" | "ANY", "a.b" | "c", "{"]), "{block}");
        }
        assert_eq!(render(&BTreeMap::new()), "# Written by localcluster-operator.\n");
    }

    #[test]
    fn what_was_written_can_be_read() {
        let written = names(&[("host.k3d.internal", [172, 31, 0, 1]), ("k3d-r", [172, 31, 0, 52])]);
        assert_eq!(parse(&render(&written)), written);
        assert_eq!(
            parse("hosts {\n  answer x\n}\ntemplate IN A x {\n  answer \"x IN A y\"\n"),
            BTreeMap::new()
        );
    }
}
