//! The changes, as cargo-mutants lists them.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

/// What is changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Genre {
    /// A function returns a constant.
    FnValue,
    /// An operator is another one.
    BinaryOperator,
    /// An operator is left out.
    UnaryOperator,
    /// The guard of an arm is a constant.
    MatchArmGuard,
    /// An arm is left out.
    MatchArm,
    /// A field comes from the base of a struct expression.
    StructField,
}

/// A change. Lines begin with 1, columns with 0, as those of proc-macro2.
#[derive(Clone, Debug)]
pub struct Change {
    pub id: u32,
    pub name: String,
    pub file: String,
    pub genre: Genre,
    pub line: usize,
    pub column: usize,
    pub replacement: String,
    /// The return type of the function.
    pub returns: String,
}

impl Change {
    /// Reports whether it can be chosen at run time. `impl Trait` is one type, which a constant beside it is not.
    pub fn expressible(&self) -> bool {
        !self.returns.contains("impl ") || self.genre != Genre::FnValue || self.replacement == "None"
    }
}

/// Returns a digest of the changes and their IDs, and of what judges them.
pub fn digest(changes: &[Change], judges: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    judges.hash(&mut hasher);
    changes.iter().for_each(|change| change.name.hash(&mut hasher));
    hasher.finish()
}

/// Parses the output of `cargo mutants --list --json`.
pub fn parse(json: &str) -> Vec<Change> {
    let all: Vec<Value> = serde_json::from_str(json).expect("the list is an array");
    all.iter().zip(1..).map(|(value, id)| change(value, id)).collect()
}

fn change(value: &Value, id: u32) -> Change {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let number = |value: &Value| value.as_u64().expect("a number") as usize;
    let genre = match value["genre"].as_str().expect("a genre") {
        "FnValue" => Genre::FnValue,
        "BinaryOperator" => Genre::BinaryOperator,
        "UnaryOperator" => Genre::UnaryOperator,
        "MatchArmGuard" => Genre::MatchArmGuard,
        "MatchArm" => Genre::MatchArm,
        "StructField" => Genre::StructField,
        other => panic!("cargo-mutants knows a genre that is unknown here: {other}"),
    };
    Change {
        id,
        name: text(&value["name"]),
        file: text(&value["file"]),
        genre,
        line: number(&value["span"]["start"]["line"]),
        column: number(&value["span"]["start"]["column"]) - 1,
        replacement: text(&value["replacement"]),
        returns: value["function"]["return_type"].as_str().unwrap_or_default().to_owned(),
    }
}
