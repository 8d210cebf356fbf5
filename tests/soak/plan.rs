//! What happens in a soak, to whom and when: a function of the seed and of nothing else, so that a seed is a test.
//! A change of this file makes other plans of the same seeds.

use std::{fmt, time::Duration};

/// A container of the scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Server(u64),
    Agent(u64),
    LoadBalancer,
    Registry,
}

/// Something that somebody else does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// `docker VERB`, with arguments before the container's name.
    Docker(&'static [&'static str], Target),
    /// Taken off the cluster's network.
    Disconnect(Target),
    /// Removed with its volumes. Of the servers only one at a time, and only of several.
    Lose(Target),
    /// Merged into the spec of the cluster.
    Edit(String),
    /// An edit too, of which only the world knows the version.
    Upgrade,
    KillOperator,
    RestartDocker,
}

/// One act, and how long nothing is done before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub pause: Duration,
    pub act: Act,
}

/// What of the cluster's spec decides what can be done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub servers: u64,
    pub agents: u64,
    pub running: bool,
    pub upgraded: bool,
}

impl Spec {
    /// What a soak begins with.
    pub const FIRST: Self = Self { servers: 3, agents: 1, running: true, upgraded: false };
}

/// The steps of a seed, without an end.
pub struct Plan {
    random: Random,
    /// As the steps so far have left it.
    pub spec: Spec,
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        Self { random: Random(seed), spec: Spec::FIRST }
    }

    fn act(&mut self) -> Act {
        // Few things can happen to what is stopped.
        if !self.spec.running && self.random.below(2) == 0 {
            self.spec.running = true;
            return Act::Edit(r#"{"state": "Running"}"#.into());
        }
        match self.random.below(100) {
            0..10 => Act::Docker(&["stop"], self.target()),
            10..24 => Act::Docker(&["kill"], self.target()),
            24..38 => Act::Docker(&["rm", "-f"], self.target()),
            38..46 => Act::Docker(&["pause"], self.target()),
            46..54 => Act::Disconnect(self.target()),
            54..61 => self.loss(),
            61..88 => self.edit(),
            88..97 => Act::KillOperator,
            _ => Act::RestartDocker,
        }
    }

    fn target(&mut self) -> Target {
        match self.random.below(self.spec.servers + self.spec.agents + 2) {
            0 => Target::LoadBalancer,
            1 => Target::Registry,
            n if n < 2 + self.spec.servers => Target::Server(n - 2),
            n => Target::Agent(n - 2 - self.spec.servers),
        }
    }

    /// The data of one that the others have too. Of a stopped cluster nobody could tell whether it is whole.
    fn loss(&mut self) -> Act {
        let servers = if self.spec.servers > 1 { self.spec.servers } else { 0 };
        match self.random.below((servers + self.spec.agents).max(1)) {
            _ if !self.spec.running || servers + self.spec.agents == 0 => {
                Act::Docker(&["kill"], Target::Registry)
            }
            n if n < servers => Act::Lose(Target::Server(n)),
            n => Act::Lose(Target::Agent(n - servers)),
        }
    }

    fn edit(&mut self) -> Act {
        let value = self.random.below(1000);
        Act::Edit(match self.random.below(19) {
            0..5 => {
                // Another number than before, of 0 to 2.
                self.spec.agents = (self.spec.agents + 1 + value % 2) % 3;
                format!(r#"{{"agents": {{"count": {}}}}}"#, self.spec.agents)
            }
            5..7 => {
                self.spec.servers = 4 - self.spec.servers;
                format!(r#"{{"servers": {{"count": {}}}}}"#, self.spec.servers)
            }
            7..10 => {
                let more = ["", r#", {"name": "more", "port": 30081}"#][(value % 2) as usize];
                let dns = ["", r#", {"name": "dns", "port": 30053, "protocol": "UDP"}"#];
                format!(
                    r#"{{"ports": [{{"name": "web", "port": 30080}}{more}{}]}}"#,
                    dns[(value / 2 % 2) as usize]
                )
            }
            10 => format!(r#"{{"servers": {{"labels": {{"soak/value": "{value}"}}}}}}"#),
            11 => format!(r#"{{"agents": {{"labels": {{"soak/value": "{value}"}}}}}}"#),
            12 => format!(r#"{{"agents": {{"taints": ["soak/value={value}:PreferNoSchedule"]}}}}"#),
            13 => format!(
                r#"{{"servers": {{"args": ["--disable=traefik,metrics-server,servicelb", "--kubelet-arg=max-pods={}"]}}}}"#,
                100 + value % 10
            ),
            14 => {
                format!(r#"{{"agents": {{"args": ["--kubelet-arg=max-pods={}"]}}}}"#, 100 + value % 10)
            }
            15 => format!(r#"{{"servers": {{"env": [{{"name": "SOAK", "value": "{value}"}}]}}}}"#),
            16 => format!(r#"{{"agents": {{"env": [{{"name": "SOAK", "value": "{value}"}}]}}}}"#),
            17 if !self.spec.upgraded => {
                self.spec.upgraded = true;
                return Act::Upgrade;
            }
            _ if self.spec.running => {
                self.spec.running = false;
                r#"{"state": "Stopped"}"#.into()
            }
            _ => {
                self.spec.running = true;
                r#"{"state": "Running"}"#.into()
            }
        })
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let pause = Duration::from_secs(5 + self.random.below(36));
        Some(Step { pause, act: self.act() })
    }
}

/// Knuth's MMIX generator; its upper bits are the random ones.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % end
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(n) => write!(f, "server-{n}"),
            Self::Agent(n) => write!(f, "agent-{n}"),
            Self::LoadBalancer => f.write_str("serverlb"),
            Self::Registry => f.write_str("registry"),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker(verb, target) => write!(f, "docker {} {target}", verb.join(" ")),
            Self::Disconnect(target) => write!(f, "docker network disconnect {target}"),
            Self::Lose(target) => write!(f, "docker rm and docker volume rm of {target}"),
            Self::Edit(spec) => write!(f, "edit {spec}"),
            Self::Upgrade => f.write_str("edit the version"),
            Self::KillOperator => f.write_str("kill -9 the operator"),
            Self::RestartDocker => f.write_str("restart Docker"),
        }
    }
}
