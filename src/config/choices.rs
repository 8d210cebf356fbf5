//! Settings that are one of a few words.

use clap::ValueEnum;

/// Part of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Everything, on a single Docker host
    All,
    /// Places LocalClusters and Registries on one of several Docker hosts. Needs no Docker Engine
    Controller,
    /// Runs those that are placed on the Docker host --node-name
    Agent,
}

/// What objects may do in a namespace that no HostPolicy selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum WithoutPolicy {
    /// Nothing is created
    Refuse,
    /// Everything that the other settings allow
    Unrestricted,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable text
    Text,
    /// One JSON object per line
    Json,
}
