//! The documentation leads somewhere: every relative link of every page, with its anchor; and the book has every page.

#[path = "docs/commands.rs"]
mod commands;

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
};

use regex::Regex;

/// All pages by their paths in the repository.
fn pages() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(root.join(&dir)).unwrap() {
            let path = dir.join(entry.unwrap().file_name());
            let name = path.file_name().unwrap().to_string_lossy();
            if root.join(&path).is_dir() && !["target", "dist", "out", ".git"].contains(&name.as_ref()) {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                let text = fs::read_to_string(root.join(&path)).unwrap();
                found.insert(path, text);
            }
        }
    }
    assert!(found.len() > 10, "{:?}", found.keys());
    found
}

/// A page without its blocks of code, in which nothing is a heading or a link.
fn prose(page: &str) -> String {
    let mut inside = false;
    let lines = page.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !fence && !inside
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The anchors of a page's headings, by the rule of forges.
fn anchors(page: &str) -> Vec<String> {
    let link = Regex::new(r"\[([^\]]*)\]\([^)]*\)").unwrap();
    let prose = prose(page);
    let headings = prose
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    headings
        .map(|heading| {
            let text = link.replace_all(heading, "$1").to_lowercase();
            let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
            let anchor = kept.collect::<String>().replace(' ', "-");
            let many = seen.entry(anchor.clone()).or_default();
            *many += 1;
            if *many == 1 { anchor } else { format!("{anchor}-{}", *many - 1) }
        })
        .collect()
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{} leaves the repository", path.display()),
            part => plain.push(part),
        }
    }
    plain
}

#[test]
fn every_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = pages();
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut wrong = Vec::new();
    let mut links = 0;
    for (path, page) in &pages {
        for target in link.captures_iter(&prose(&page.replace('\n', " \n"))).map(|c| c[1].to_owned()) {
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (file, anchor) =
                target.split_once('#').map_or((target.as_str(), None), |(f, a)| (f, Some(a)));
            let file = if file.is_empty() { path.clone() } else { plain(&path.parent().unwrap().join(file)) };
            if !root.join(&file).exists() {
                wrong.push(format!("{}: {target}: there is no such file", path.display()));
            } else if let Some(anchor) = anchor
                && !pages.get(&file).is_some_and(|page| anchors(page).iter().any(|a| a == anchor))
            {
                wrong.push(format!("{}: {target}: there is no such heading", path.display()));
            }
        }
    }
    assert!(links > 50, "{links}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_book_has_every_page() {
    let pages = pages();
    let summary = &pages[Path::new("docs/SUMMARY.md")];
    let link = Regex::new(r"\]\(([^)]+)\)").unwrap();
    let mut listed: Vec<PathBuf> =
        link.captures_iter(summary).map(|c| plain(&Path::new("docs").join(&c[1]))).collect();
    listed.sort();
    let written: Vec<PathBuf> =
        pages.into_keys().filter(|p| p.starts_with("docs") && !p.ends_with("SUMMARY.md")).collect();
    assert_eq!(listed, written);
}
