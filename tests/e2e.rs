//! End-to-end tests: what users see of the operator through kubectl, docker and running Pods, in the test world.
//!
//! `make e2e` creates the world and runs the tests; `cargo test --test e2e -- drift` runs those with "drift" in their
//! name.

use std::process::ExitCode;

#[path = "e2e/changes.rs"]
mod changes;
#[path = "e2e/chart.rs"]
mod chart;
#[path = "e2e/claims.rs"]
mod claims;
#[path = "e2e/cluster.rs"]
mod cluster;
#[path = "e2e/command.rs"]
mod command;
#[path = "e2e/contents.rs"]
mod contents;
#[path = "e2e/contents_manifests.rs"]
mod contents_manifests;
#[path = "e2e/default_registries.rs"]
mod default_registries;
#[path = "e2e/deletion.rs"]
mod deletion;
#[path = "e2e/dns.rs"]
mod dns;
#[path = "e2e/dns_follows.rs"]
mod dns_follows;
#[path = "e2e/drift.rs"]
mod drift;
#[path = "e2e/expiry.rs"]
mod expiry;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/ha.rs"]
mod ha;
#[path = "support/hardening.rs"]
mod hardening;
#[path = "e2e/host_aliases.rs"]
mod host_aliases;
#[path = "e2e/host_images.rs"]
mod host_images;
#[path = "e2e/hostile.rs"]
mod hostile;
#[path = "e2e/hub.rs"]
mod hub;
#[path = "e2e/idle.rs"]
mod idle;
#[path = "e2e/kills.rs"]
mod kills;
#[path = "e2e/kubeconfigs.rs"]
mod kubeconfigs;
#[path = "e2e/life.rs"]
mod life;
#[path = "e2e/life_ports.rs"]
mod life_ports;
#[path = "e2e/life_token.rs"]
mod life_token;
#[path = "support/live/mod.rs"]
mod live;
#[path = "e2e/nodes.rs"]
mod nodes;
#[path = "e2e/policy.rs"]
mod policy;
#[path = "e2e/pools.rs"]
mod pools;
#[path = "e2e/process.rs"]
mod process;
#[path = "e2e/proxy.rs"]
mod proxy;
#[path = "e2e/registries.rs"]
mod registries;
#[path = "e2e/registries_address.rs"]
mod registries_address;
#[path = "e2e/registries_auth.rs"]
mod registries_auth;
#[path = "e2e/registries_cache.rs"]
mod registries_cache;
#[path = "e2e/registries_containers.rs"]
mod registries_containers;
#[path = "e2e/registries_file.rs"]
mod registries_file;
#[path = "e2e/registries_live.rs"]
mod registries_live;
#[path = "e2e/registries_made.rs"]
mod registries_made;
#[path = "e2e/registries_shared.rs"]
mod registries_shared;
#[path = "e2e/registries_storage.rs"]
mod registries_storage;
#[path = "e2e/registries_tls.rs"]
mod registries_tls;
#[path = "e2e/registry.rs"]
mod registry;
#[path = "e2e/remote.rs"]
mod remote;
#[path = "e2e/repair.rs"]
mod repair;
#[path = "e2e/resolver.rs"]
mod resolver;
#[path = "e2e/rights.rs"]
mod rights;
#[path = "e2e/secrets.rs"]
mod secrets;
#[path = "e2e/topology.rs"]
mod topology;
#[path = "e2e/trouble.rs"]
mod trouble;

/// Tests that take minutes and mostly repeat another test.
const LONG: &[&str] = &[
    // Other tests of `drift`, `agents` and `ha` take the same path.
    "cluster::drift_stopped",
    "cluster::drift_killed",
    "cluster::drift_disconnected",
    "cluster::max_unavailable_agents_are_replaced_at_once",
    "cluster::version_goes_up",
    "ha::all_die_at_once",
    "ha::an_upgrade_that_fails_stops_at_the_first",
    "ha::three_become_five_and_one_again",
    // `an_added_agent_has_them_too` fills a new node in the same way.
    "contents::a_node_that_lost_its_data_gets_them_again",
    // `a_broken_node_is_replaced` begins with it.
    "repair::a_hung_node_is_restarted",
    "repair::an_only_hung_server_is_restarted",
    // `a_broken_server_of_three_rejoins` contains one of them.
    "repair::most_of_three_hung_servers_are_restarted",
    // `kills::at_docker_calls` finds more.
    "kills::at_random_moments",
    // `tenancy` tests the function that creates names.
    "deletion::names_do_not_collide",
];

/// Tests that measure seconds or replace the resolvers of the host, which need the machine to themselves.
const ALONE: &[&str] = &[
    "dns::outside_names_are_still_forwarded",
    "dns::pods_and_nodes_resolve_what_the_host_resolves",
    "dns::a_change_of_the_hosts_resolvers_is_followed",
    "registries::authority_changes_without_a_restart",
    "registries::own_certificate_changes_without_a_restart",
    "registries::changes_take_two_seconds",
    "life::ports_come_and_go_in_two_seconds",
    "life::the_api_moves_to_another_port",
];

/// Tests that limit the duration of outages. They take minutes, and have the machine to themselves only at full
/// length. Otherwise they have more time, see [`live::harness::within`].
const OUTAGES: &[&str] = &[
    "ha::one_becomes_three",
    "ha::a_server_dies",
    "ha::data_of_one_is_lost",
    "ha::upgrade_one_by_one",
    "ha::three_become_five_and_one_again",
];

fn main() -> ExitCode {
    let outages = if live::harness::all() { OUTAGES } else { &[] };
    live::harness::main(
        &[
            cluster::GROUP,
            ha::GROUP,
            trouble::GROUP,
            faults::GROUP,
            registry::GROUP,
            topology::GROUP,
            chart::GROUP,
            remote::GROUP,
            dns::GROUP,
            contents::GROUP,
            pools::GROUP,
            nodes::GROUP,
            proxy::GROUP,
            registries::GROUP,
            registries_shared::GROUP,
            registries_storage::GROUP,
            deletion::GROUP,
            expiry::GROUP,
            command::GROUP,
            life::GROUP,
            repair::GROUP,
            hostile::GROUP,
            rights::GROUP,
            policy::GROUP,
            kills::GROUP,
            process::GROUP,
            hub::GROUP,
        ],
        &[ALONE, outages].concat(),
        LONG,
    )
}
