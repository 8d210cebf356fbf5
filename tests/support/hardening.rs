//! The settings of containers as docs/security.md lists them, compared with what `docker inspect` shows.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

/// A row of the table, by the value of the label `k3d.role`.
pub struct Row {
    pub role: String,
    cells: Vec<String>,
}

/// Returns the rows of the table.
pub fn table() -> Vec<Row> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let text = fs::read_to_string(file).unwrap();
    let (_, section) = text.split_once("\n## Containers\n").expect("the section exists");
    let lines = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|l| l.starts_with('|'));
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect::<Vec<_>>();
    let mut rows = lines.map(cells);
    let head = rows.next().unwrap();
    let columns =
        ["container", "privileged", "capabilities", "no-new-privileges", "processes", "memory", "networks"];
    assert_eq!(head, columns);
    let of_roles = |cells: Vec<String>| {
        let roles: Vec<String> = cells[0].split(", ").map(str::to_owned).collect();
        roles.into_iter().map(move |role| Row { role, cells: cells.clone() })
    };
    rows.skip(1).flat_map(of_roles).collect()
}

impl Row {
    /// Compares a container, by `docker inspect`, with the row. `memory` is the limit of its spec.
    pub fn check(&self, container: &Value, memory: Option<i64>) {
        let (name, host) = (&container["Name"], &container["HostConfig"]);
        let begins = |column: usize, word: &str| self.cells[column].starts_with(word);
        assert_eq!(host["Privileged"], begins(1, "yes"), "{name}");
        let words = |value: &Value| -> BTreeSet<String> {
            let list = value.as_array().cloned().unwrap_or_default();
            // Engines from 28 on show them with this prefix.
            list.iter().map(|v| v.as_str().unwrap().trim_start_matches("CAP_").to_owned()).collect()
        };
        let named: BTreeSet<String> =
            self.cells[2].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let dropped = if begins(2, "all") { BTreeSet::new() } else { BTreeSet::from(["ALL".to_owned()]) };
        assert_eq!((words(&host["CapAdd"]), words(&host["CapDrop"])), (named, dropped), "{name}");
        let options = words(&host["SecurityOpt"]);
        let restricted = options.iter().any(|option| option.starts_with("no-new-privileges"));
        assert_eq!(restricted, begins(3, "yes"), "{name}: {options:?}");
        assert!(!options.iter().any(|option| option.contains("unconfined")), "{name}: {options:?}");
        // No limit is null, 0 or -1.
        let limit = |value: &Value| value.as_i64().filter(|n| *n > 0);
        assert_eq!(limit(&host["PidsLimit"]), self.cells[4].parse().ok(), "{name}");
        let default = (!begins(5, "no limit")).then_some(1 << 30);
        assert_eq!(limit(&host["Memory"]), memory.or(default), "{name}");
        assert_eq!(host["ReadonlyRootfs"], false, "{name}");
        for namespace in ["PidMode", "UTSMode"] {
            assert_eq!(host[namespace], "", "{name}: {namespace}");
        }
        assert_ne!(host["IpcMode"], "host", "{name}");
        let networks: Vec<&String> =
            container["NetworkSettings"]["Networks"].as_object().unwrap().keys().collect();
        match self.cells[6].as_str() {
            "none" => assert!(networks.iter().all(|n| *n == "none"), "{name}: {networks:?}"),
            _ => assert!(!networks.iter().any(|n| *n == "bridge" || *n == "host"), "{name}: {networks:?}"),
        }
    }
}
