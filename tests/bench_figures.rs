//! The arithmetic of the benches: percentiles, ratios, and K3s's own time in a phase.
#![allow(clippy::float_cmp)] // all of these numbers are exact

#[allow(dead_code)] // the benches use the rest
#[path = "bench/figures.rs"]
mod figures;
#[path = "bench/own_time.rs"]
mod own_time;

use figures::{Figure, percentile};
use own_time::{Action, Event, NodeState, OwnTime, Span};

#[test]
fn percentiles_are_values_of_the_list() {
    let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
    assert_eq!([0, 50, 99, 100].map(|p| percentile(&hundred, p)), [1.0, 50.0, 99.0, 100.0]);
    let three = [1.0, 2.0, 4.0];
    assert_eq!([0, 50, 99, 100].map(|p| percentile(&three, p)), [1.0, 2.0, 4.0, 4.0]);
    assert_eq!([0, 50, 99, 100].map(|p| percentile(&[7.0], p)), [7.0; 4]);
}

#[test]
fn a_figure_is_a_line_of_json() {
    let base = Figure::of("life", "K3s", &[2.0], "s");
    let figure = Figure::of("life", "total", &[3.0, 2.5, 4.0], "s").compared_with(&base);
    assert_eq!(
        serde_json::to_string(&figure).unwrap(),
        r#"{"bench":"life","case":"total","n":3,"min":2.5,"p50":3.0,"mean":3.167,"p99":4.0,"max":4.0,"unit":"s","ratio_to":"K3s","ratio":1.5}"#
    );
    let line = serde_json::to_string(&base).unwrap();
    assert!(!line.contains("ratio"), "{line}");
}

#[test]
fn nothing_has_a_ratio_to_zero() {
    let zero = Figure::of("life", "K3s", &[0.0], "s");
    assert_eq!(Figure::of("life", "total", &[3.0], "s").compared_with(&zero).ratio, None);
}

fn event(at: f64, container: &str, action: Action) -> Event {
    Event { at, container: container.to_owned(), action }
}

fn node(at: f64, node: &str, ready: bool, heartbeat: f64) -> NodeState {
    NodeState { at, node: node.to_owned(), ready, heartbeat }
}

const PHASE: Span = Span { begin: 10.0, end: 30.0 };

fn own_time(events: &[Event], nodes: &[NodeState]) -> OwnTime {
    OwnTime::of(events, nodes, PHASE, |name| name != "lb")
}

#[test]
fn a_start_ends_with_a_heartbeat_since_then() {
    let events = [
        event(5.0, "a", Action::Started),
        event(12.5, "a", Action::Started),
        event(13.0, "lb", Action::Started),
    ];
    let nodes = [
        node(12.6, "a", true, 4.0),
        node(13.0, "a", false, 13.0),
        node(14.0, "b", true, 14.0),
        node(15.0, "a", true, 12.0),
        node(16.0, "a", true, 16.0),
    ];
    let own = own_time(&events, &nodes);
    assert_eq!(own.starts, [Span { begin: 12.5, end: 15.0 }]);
    assert_eq!((own.stops, own.unseen), (vec![], 0));
}

#[test]
fn a_start_that_fails_has_no_ready_node() {
    let events = [
        event(11.0, "a", Action::Started),
        event(12.0, "a", Action::Died),
        event(13.0, "a", Action::Started),
        event(14.0, "b", Action::Started),
    ];
    let own = own_time(&events, &[node(20.0, "a", true, 20.0)]);
    assert_eq!(own.starts, [Span { begin: 13.0, end: 20.0 }]);
    assert_eq!(own.unseen, 2, "the first of a, and that of b");
}

#[test]
fn a_watch_that_is_late_ends_no_start_after_the_phase() {
    let own = own_time(&[event(25.0, "a", Action::Started)], &[node(31.0, "a", true, 29.0)]);
    assert_eq!(own.starts, [Span { begin: 25.0, end: 30.0 }]);
}

#[test]
fn a_stop_is_from_its_first_signal_until_the_end() {
    let events = [
        event(11.0, "a", Action::Signalled),
        event(14.0, "a", Action::Signalled),
        event(15.0, "a", Action::Died),
        // Nobody stops this one.
        event(16.0, "b", Action::Died),
        event(31.0, "c", Action::Signalled),
    ];
    assert_eq!(own_time(&events, &[]).stops, [Span { begin: 11.0, end: 15.0 }]);
}

#[test]
fn what_overlaps_counts_once() {
    let span = |begin, end| Span { begin, end };
    let own = OwnTime {
        starts: vec![span(20.0, 26.0), span(11.0, 14.0), span(12.0, 13.0)],
        stops: vec![span(13.5, 16.0)],
        unseen: 0,
    };
    assert_eq!(own.sum(), 12.5);
    assert_eq!(own.at_once(), 11.0);
    assert_eq!(OwnTime::default().at_once(), 0.0);
}
