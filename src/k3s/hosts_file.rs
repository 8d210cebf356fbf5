//! The `/etc/hosts` of a node. Docker writes it when it starts or connects a container and never updates it afterwards.
//! It is a mount of the engine that can only be written from inside: an archive that replaces the file is rejected
//! (`unlinkat /etc/hosts: device or resource busy`).

use std::{collections::BTreeMap, net::IpAddr};

/// Path of the file.
pub const FILE: &str = "/etc/hosts";

/// Returns the corrected content in which each of these names resolves to its address only; `None` if it is already
/// correct. All other lines are kept, since others add lines of their own. `also` reports whether an additional address
/// is acceptable for a name.
pub fn repaired(
    content: &str,
    wanted: &BTreeMap<String, IpAddr>,
    also: impl Fn(&str, IpAddr) -> bool,
) -> Option<String> {
    let wanted: BTreeMap<String, IpAddr> =
        wanted.iter().map(|(name, address)| (name.to_ascii_lowercase(), *address)).collect();
    let mut missing = wanted.clone();
    let mut lines: Vec<String> = Vec::new();
    // Lines of others stay as they are, with any carriage return.
    let whole = content.strip_suffix('\n').unwrap_or(content);
    let before: Vec<&str> = if whole.is_empty() { Vec::new() } else { whole.split('\n').collect() };
    for line in &before {
        let text = line.split('#').next().unwrap_or_default();
        let mut words = text.split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
            lines.push((*line).to_owned());
            continue;
        };
        let mut right = Vec::new();
        let mut wrong = false;
        for name in words {
            let lower = name.to_ascii_lowercase();
            match wanted.get(&lower) {
                Some(there) if *there == address => drop(missing.remove(&lower)),
                Some(_) if !also(&lower, address) => {
                    wrong = true;
                    continue;
                }
                Some(_) | None => {}
            }
            right.push(name);
        }
        match (wrong, right.is_empty()) {
            (false, _) => lines.push((*line).to_owned()),
            (true, true) => {}
            (true, false) => lines.push(format!("{address}\t{}", right.join(" "))),
        }
    }
    lines.extend(missing.iter().map(|(name, address)| format!("{address}\t{name}")));
    (before != lines).then(|| lines.join("\n") + "\n")
}

/// Returns the command that writes this content to the file.
pub fn write(content: &str) -> Vec<String> {
    let script = format!("printf %s \"$1\" >{FILE}");
    ["sh", "-c", &script, "sh", content].map(str::to_owned).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Docker 20.10 writes it; later versions omit the IPv6 lines if there is none.
    const DOCKER: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
                          10.0.0.5\tdb.internal\n172.31.0.1\thost.k3d.internal\n172.31.0.10\tk3d-dev-server-0\n";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn repaired(content: &str) -> Option<String> {
        let wanted = [
            ("localhost", "127.0.0.1"),
            ("db.internal", "10.0.0.5"),
            ("host.k3d.internal", "172.31.0.1"),
            ("k3d-dev-server-0", "172.31.0.10"),
        ];
        let wanted = wanted.map(|(name, address)| (name.to_owned(), ip(address))).into();
        let also = |name: &str, address| {
            (name == "localhost" && address == ip("::1"))
                || (name == "k3d-dev-server-0" && address == ip("10.9.0.3"))
        };
        super::repaired(content, &wanted, also)
    }

    #[test]
    fn carriage_returns_are_no_reason_to_write_it() {
        assert_eq!(repaired(&format!("{DOCKER}10.0.0.9 x\r\r\r\n")), None);
        assert_eq!(repaired(&DOCKER.replace('\n', "\r\n")), None);
        assert_eq!(repaired(DOCKER.trim_end()), None);
    }

    #[test]
    fn what_docker_wrote_is_right_and_so_is_what_others_add() {
        assert_eq!(repaired(DOCKER), None);
        for added in [
            "192.168.1.5 nas.example nas # of ours\n",
            "# a comment with db.internal\n\n",
            "10.9.0.3 k3d-dev-server-0\n",
            "nonsense\n",
            "10.0.0.5 db.internal DB.internal\n",
        ] {
            assert_eq!(repaired(&format!("{DOCKER}{added}")), None, "{added}");
            assert_eq!(repaired(&format!("{added}{DOCKER}")), None, "{added}");
        }
        assert_eq!(repaired(DOCKER.trim_end()), None, "without a last line end");
        // Otherwise each reconciliation would plan a step.
        let once = repaired("").unwrap();
        assert_eq!(repaired(&once), None);
    }

    #[test]
    fn what_is_missing_comes_back_and_what_is_wrong_goes() {
        let without = |line: &str| DOCKER.replace(line, "");
        for line in ["127.0.0.1\tlocalhost\n", "10.0.0.5\tdb.internal\n", "172.31.0.10\tk3d-dev-server-0\n"] {
            let mended = repaired(&without(line)).unwrap();
            assert_eq!(mended, format!("{}{line}", without(line)));
        }
        assert_eq!(
            repaired("").unwrap(),
            "10.0.0.5\tdb.internal\n172.31.0.1\thost.k3d.internal\n172.31.0.10\tk3d-dev-server-0\n\
             127.0.0.1\tlocalhost\n"
        );
        // Resolvers use the first line or all of them.
        let theirs = "9.9.9.9 db.internal other.example\n9.9.9.8 DB.internal\n9.9.9.7 keep.example # why\n";
        let mended = repaired(&format!("{theirs}{DOCKER}")).unwrap();
        assert_eq!(mended, format!("9.9.9.9\tother.example\n9.9.9.7 keep.example # why\n{DOCKER}"));
        let changed = DOCKER.replace("10.0.0.5", "10.0.0.6");
        assert!(repaired(&changed).unwrap().ends_with("10.0.0.5\tdb.internal\n"));
    }
}
