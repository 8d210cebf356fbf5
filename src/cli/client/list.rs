//! `list`: the columns of `kubectl get lc`, which the API server prints.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use http::{Request, header::ACCEPT};
use kube::Resource;
use serde_json::Value;

use super::{management::Target, output};
use crate::{
    api::LocalCluster,
    cli::{Failure, Result},
};

/// What to list.
#[derive(Args)]
pub struct List {
    /// Lists the clusters of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Format
    #[arg(short, long)]
    output: Option<Format>,
    #[command(flatten)]
    target: Target,
}

/// Format of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// More columns
    Wide,
    Json,
    Yaml,
    /// Names only
    Name,
}

/// The API server renders the columns of the CustomResourceDefinition.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// Runs the verb.
pub(super) async fn run(List { all_namespaces, output: format, target }: List) -> Result {
    let management = target.connect().await?;
    let flag = match format {
        Some(Format::Wide) => " -o wide",
        Some(Format::Json) => " -o json",
        Some(Format::Yaml) => " -o yaml",
        Some(Format::Name) => " -o name",
        None => "",
    };
    management.tell(&format!("get lc{}{flag}", if all_namespaces { " -A" } else { "" }));
    let namespace = (!all_namespaces).then_some(management.namespace.as_str());
    let as_table = matches!(format, None | Some(Format::Wide));
    let accept = if as_table { TABLE } else { "application/json" };
    let request =
        Request::get(LocalCluster::url_path(&(), namespace)).header(ACCEPT, accept).body(Vec::new());
    let request = request.map_err(|e| Failure::Failed(e.to_string()))?;
    let answer = management.client().request::<Value>(request).await;
    let list = answer.map_err(|error| management.told("cannot list LocalClusters", &error))?;
    let mut out = io::stdout().lock();
    match format {
        Some(Format::Json) => output::print(&mut out, &list, output::Format::Json)?,
        Some(Format::Yaml) => output::print(&mut out, &list, output::Format::Yaml)?,
        Some(Format::Name) => {
            for item in list["items"].as_array().into_iter().flatten() {
                writeln!(out, "localcluster.localcluster.dev/{}", cell(&item["metadata"]["name"]))?;
            }
        }
        None | Some(Format::Wide) => {
            let rows = table(&list, all_namespaces, format.is_some());
            if rows.len() > 1 {
                write!(out, "{}", columns(&rows))?;
            } else {
                let place = namespace.map(|namespace| format!(" in the namespace {namespace}"));
                eprintln!("no LocalClusters{}", place.unwrap_or_default());
            }
        }
    }
    Ok(())
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Returns the rows of a table of the API server, with a head.
fn table(table: &Value, namespaces: bool, wide: bool) -> Vec<Vec<String>> {
    let items = |key: &str| table[key].as_array().cloned().unwrap_or_default();
    let shown: Vec<(usize, String)> = items("columnDefinitions")
        .iter()
        .enumerate()
        .filter(|(_, column)| wide || column["priority"].as_i64().unwrap_or_default() == 0)
        .map(|(at, column)| (at, cell(&column["name"]).to_uppercase()))
        .collect();
    let first = |text: String| namespaces.then_some(text).into_iter();
    let head = first("NAMESPACE".into()).chain(shown.iter().map(|(_, name)| name.clone())).collect();
    let rows = items("rows").into_iter().map(|row| {
        let namespace = cell(&row["object"]["metadata"]["namespace"]);
        first(namespace).chain(shown.iter().map(|(at, _)| cell(&row["cells"][*at]))).collect()
    });
    [head].into_iter().chain(rows).collect()
}

/// Returns rows as aligned columns, three spaces apart, as kubectl does.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| visible(cell)).max();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let gap = width(at).unwrap_or_default() - visible(cell) + 3;
            line.push_str(cell);
            line.push_str(&" ".repeat(gap));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Returns the width of a cell without its colours.
fn visible(cell: &str) -> usize {
    let parts = cell.split("\x1b[").enumerate();
    parts
        .map(|(at, part)| {
            if at == 0 { part } else { part.split_once('m').map_or("", |(_, text)| text) }.chars().count()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn colours_have_no_width() {
        assert_eq!((visible("\x1b[32m✓\x1b[0m x"), visible("✓ x")), (3, 3));
    }

    #[test]
    fn a_table_is_what_kubectl_prints() {
        let from_server = json!({
            "kind": "Table",
            "columnDefinitions": [
                {"name": "Name", "priority": 0}, {"name": "Ready", "priority": 0},
                {"name": "Image", "priority": 1}, {"name": "Agents", "priority": 0},
            ],
            "rows": [
                {"cells": ["dev", "True", "k3s", 2], "object": {"metadata": {"namespace": "default"}}},
                {"cells": ["another", null, "k3s", 0], "object": {"metadata": {"namespace": "team"}}},
            ],
        });
        let text = columns(&table(&from_server, false, false));
        assert_eq!(text, "NAME      READY   AGENTS\ndev       True    2\nanother           0\n");
        let text = columns(&table(&from_server, true, true));
        assert_eq!(
            text,
            "NAMESPACE   NAME      READY   IMAGE   AGENTS\ndefault     dev       True    k3s     2\nteam        another           k3s     0\n"
        );
    }
}
