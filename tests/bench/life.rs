//! The phases of a cluster's life, from the edit until `kubectl wait` comes back, next to K3s's own time in the same
//! run, see [`crate::own_time`].

use std::time::Duration;

use crate::{
    Scale,
    clock::clock,
    figures::Report,
    listen::{Events, Listener, nodes},
    live::{cluster::container, scene::Scene, world},
    own_time::{NodeState, OwnTime, Span},
    small_cluster,
};

/// How long the watch of the Nodes may be behind the operator.
const BEHIND: Duration = Duration::from_secs(10);

/// Measures it.
pub fn run(scale: &Scale, report: &mut Report) {
    let scene = Scene::new("life");
    let life = Life { scene: &scene, events: Events::listen(), nodes: nodes(&container(&scene, "server-0")) };
    let mut measure = |name: &str, condition: &str, act: &dyn Fn()| {
        let (phase, own) = life.phase(condition, act);
        add(report, name, phase, &own);
    };
    let edit = |spec: &str| scene.patch("lc/c", spec);
    let agents = scale.agents;
    measure("create", "Ready", &|| {
        scene.apply("LocalCluster", "c", &small_cluster(0, ""));
    });
    let more = format!(r#"{{"agents": {{"count": {agents}}}}}"#);
    measure(&format!("agents 0 to {agents}"), "Ready", &|| edit(&more));
    measure("servers 1 to 3", "Ready", &|| edit(r#"{"servers": {"count": 3}}"#));
    let newer = format!(r#"{{"version": "{}"}}"#, world("NODE_VERSION_2"));
    measure("upgrade", "Ready", &|| edit(&newer));
    measure("stop", "Stopped", &|| edit(r#"{"state": "Stopped"}"#));
    measure("start", "Ready", &|| edit(r#"{"state": "Running"}"#));
    scene.end();
}

/// Adds the figures of a phase.
fn add(report: &mut Report, name: &str, phase: Span, own: &OwnTime) {
    let lengths = |spans: &[Span]| spans.iter().map(Span::length).collect::<Vec<_>>();
    for (what, spans) in [("a start of K3s", &own.starts), ("a stop of K3s", &own.stops)] {
        if !spans.is_empty() {
            report.seconds(&format!("{name}: {what}"), &lengths(spans));
        }
    }
    if own.unseen > 0 {
        report.count(&format!("{name}: starts without a Ready Node"), own.unseen);
    }
    let at_once = format!("{name}: K3s, overlaps counted once");
    report.seconds(&format!("{name}: K3s, sum"), &[own.sum()]);
    report.seconds(&at_once, &[own.at_once()]);
    report.compared(&format!("{name}: total"), &[phase.length()], &at_once);
    report.seconds(&format!("{name}: operator"), &[phase.length() - own.at_once()]);
}

struct Life<'a> {
    scene: &'a Scene,
    events: Events,
    nodes: Listener<NodeState>,
}

impl Life<'_> {
    /// Measures from an act until the condition.
    fn phase(&self, condition: &str, act: &dyn Fn()) -> (Span, OwnTime) {
        let begin = clock();
        act();
        self.scene.run(&["wait", &format!("--for=condition={condition}"), "lc/c", "--timeout=600s"]);
        let phase = Span { begin, end: clock() };

        let events = self.events.up_to_now(self.scene);
        let own = |nodes: &[NodeState]| {
            let roles = ["server-", "agent-"].map(|role| container(self.scene, role));
            let is_node = |name: &str| roles.iter().any(|role| name.starts_with(role));
            OwnTime::of(&events, nodes, phase, is_node)
        };
        self.nodes.within(BEHIND, |nodes| own(nodes).unseen == 0);
        (phase, own(&self.nodes.heard()))
    }
}
