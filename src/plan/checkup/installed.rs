//! Hub, management cluster, and the operator there.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::{
    super::hub::{
        desired::HubNames,
        manifests::Installation,
        observed::{Answer, Api, Host},
    },
    Finding, Level,
};
use crate::{
    api::{
        LocalCluster,
        condition::{self, ConditionType, Status},
    },
    docker::engine::{ContainerDetail, State},
};

/// Age of the last renewal of a Lease from which no operator has it: four times its duration.
const STALE: SignedDuration = SignedDuration::from_secs(60);

/// Judges a hub; nothing if there is none.
pub fn hub(names: &HubNames, (host, api): (&Host, &Api), all: &Installation, now: Timestamp) -> Vec<Finding> {
    let of = |level, message: String| Finding::new("hub", level, message);
    if host.server.is_none() && host.operator.is_none() && host.volume.is_none() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (detail, name) in [(&host.server, names.server()), (&host.operator, names.operator())] {
        found.push(match detail {
            None => {
                of(Level::Error, format!("container {name} does not exist; `localcluster up` creates it"))
            }
            Some(detail) if !names.owns(&detail.container.labels) => of(
                Level::Error,
                format!("container {name} is not of a hub of this name; remove or rename it"),
            ),
            Some(detail) => container(detail),
        });
    }
    let other = host
        .operator
        .as_ref()
        .filter(|operator| is_other(&operator.container.image, env!("CARGO_PKG_VERSION")));
    if let Some(operator) = other {
        let message = format!(
            "the operator is of {}, and this command is {}; `localcluster up` replaces it by that of this version",
            operator.container.image,
            env!("CARGO_PKG_VERSION")
        );
        found.push(of(Level::Warning, message));
    }
    match api {
        // Its container has been judged.
        Api::Away => {}
        Api::Silent(why) => found.push(of(
            Level::Error,
            format!(
                "its API does not answer: {why}; see `docker logs {}`, or repair it with `localcluster up`",
                names.server()
            ),
        )),
        Api::Answers(answer) => found.extend(answers(names, answer, all, now)),
    }
    found
}

fn container(detail: &ContainerDetail) -> Finding {
    let (name, image) = (&detail.container.name, &detail.container.image);
    match detail.container.state {
        State::Running => Finding::new("hub", Level::Ok, format!("container {name} of {image} runs")),
        state => Finding::new(
            "hub",
            Level::Error,
            format!(
                "container {name} does not run, it is {state:?}; repair it with `localcluster up`, or see `docker logs {name}`"
            ),
        ),
    }
}

fn answers(names: &HubNames, answer: &Answer, all: &Installation, now: Timestamp) -> [Finding; 2] {
    let applied = match all.keys.is_subset(&answer.applied) {
        true => Finding::new("hub", Level::Ok, "definitions and permissions are of this version"),
        false => Finding::new(
            "hub",
            Level::Warning,
            "definitions and permissions are of another version than this command; `localcluster up` applies those of \
             this version",
        ),
    };
    let late = format!("see `docker logs {}`, or repair it with `localcluster up`", names.operator());
    let leader = match &answer.leader {
        None => Finding::new("hub", Level::Error, format!("no operator has had the Lease; {late}")),
        Some((_, at)) if now.duration_since(*at) > STALE => {
            Finding::new("hub", Level::Error, format!("no operator has renewed the Lease since {at}; {late}"))
        }
        Some((holder, _)) => Finding::new("hub", Level::Ok, format!("the operator {holder} has the Lease")),
    };
    [applied, leader]
}

/// A definition in the API of a management cluster.
#[derive(Clone, Debug)]
pub enum Installed {
    /// The API has it.
    There(Box<CustomResourceDefinition>),
    /// It has not.
    Missing,
    /// It does not say, and why.
    Unknown(String),
}

/// Judges the definitions of a management cluster by those of this version.
pub fn definitions(context: &str, seen: &[(CustomResourceDefinition, Installed)]) -> Vec<Finding> {
    let judge = |(own, installed): &(CustomResourceDefinition, Installed)| {
        let name = own.metadata.name.clone().unwrap_or_default();
        let (level, message) = match installed {
            Installed::There(there) if there.spec.versions == own.spec.versions => {
                (Level::Ok, format!("{name} is of this version"))
            }
            Installed::There(_) => (
                Level::Warning,
                format!(
                    "{name} is of another version than this command: the API may not know all of its fields; apply that of \
                     this version, see docs/install.md"
                ),
            ),
            Installed::Missing => (
                Level::Error,
                format!(
                    "the management cluster {context} has no {name}; install the operator there, see docs/install.md, or \
                     choose another with --context"
                ),
            ),
            Installed::Unknown(why) => (Level::Unknown, why.clone()),
        };
        Finding::new("definitions", level, message)
    };
    seen.iter().map(judge).collect()
}

/// Judges the Deployments of operators in a management cluster: each with its name, image and number of available
/// replicas. `version` is the one of this command.
pub fn operators(deployments: &[(String, String, i32)], version: &str) -> Vec<Finding> {
    let of = |level, message: String| Finding::new("operator", level, message);
    let judge = |(name, image, available): &(String, String, i32)| match available {
        0 => of(
            Level::Error,
            format!(
                "the Deployment {name} of {image} has no available Pod; see `kubectl get pods -A -l app.kubernetes.io/name=localcluster-operator`"
            ),
        ),
        _ if is_other(image, version) => of(
            Level::Warning,
            format!(
                "the Deployment {name} has {image}, and this command is {version}; upgrade the older one"
            ),
        ),
        _ => of(Level::Ok, format!("the Deployment {name} of {image} is available")),
    };
    deployments.iter().map(judge).collect()
}

/// Reports whether an image of the operator is that of another version, by its tag.
fn is_other(image: &str, version: &str) -> bool {
    let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag.trim_start_matches('v'));
    // Others, such as `dev`, or the port of a registry, say nothing.
    tag.starts_with(|c: char| c.is_ascii_digit()) && tag.contains('.') && !tag.contains('/') && tag != version
}

/// Judges the clusters of a namespace: what their conditions say of the host, and whether they are Ready.
pub fn clusters(clusters: &[LocalCluster]) -> Vec<Finding> {
    let mut found = Vec::new();
    for cluster in clusters {
        let name = cluster.metadata.name.as_deref().unwrap_or_default();
        let conditions =
            cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let is = |type_, status: Status| {
            condition::get(conditions, type_).filter(|condition| condition.status == status.as_str())
        };
        if condition::is_true(conditions, ConditionType::Stopped) {
            continue;
        }
        if let Some(ready) =
            is(ConditionType::Ready, Status::False).or(is(ConditionType::Ready, Status::Unknown))
        {
            let message = format!(
                "{name} is not Ready: {}: {}; see `localcluster status {name}`",
                ready.reason, ready.message
            );
            found.push(Finding::new("clusters", Level::Warning, message));
        }
        if let Some(low) = is(ConditionType::HostReady, Status::False) {
            found.push(Finding::new(
                "clusters",
                Level::Warning,
                format!("{name}: {}: {}", low.reason, low.message),
            ));
        }
    }
    if found.is_empty() && !clusters.is_empty() {
        found.push(Finding::new(
            "clusters",
            Level::Ok,
            format!("{} in the namespace, none with a problem", clusters.len()),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{api::crds, docker::engine::Container};

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn names() -> HubNames {
        HubNames::new("h").unwrap()
    }

    fn part(name: String, state: State) -> ContainerDetail {
        let labels = names().labels();
        let container = Container { name, state, labels, image: "i:1".into(), ..Container::default() };
        ContainerDetail { container, ..ContainerDetail::default() }
    }

    fn levels(found: &[Finding]) -> Vec<Level> {
        found.iter().map(|found| found.level).collect()
    }

    #[test]
    fn a_hub_is_two_containers_an_api_and_an_operator() {
        let all = Installation::of_this_version();
        let judge = |host: &Host, api: &Api| hub(&names(), (host, api), all, NOW);
        assert!(judge(&Host::default(), &Api::Away).is_empty());
        let mut host = Host {
            server: Some(part("h-hub".into(), State::Running)),
            operator: Some(part("h-operator".into(), State::Running)),
            ..Host::default()
        };
        let mut answer = Answer { applied: all.keys.clone(), ..Answer::default() };
        answer.leader = Some(("me".into(), NOW - SignedDuration::from_secs(5)));
        let answers = |answer: &Answer| Api::Answers(Box::new(answer.clone()));
        assert_eq!(levels(&judge(&host, &answers(&answer))), [Level::Ok; 4]);
        answer.leader = Some(("me".into(), NOW - STALE));
        assert_eq!(levels(&judge(&host, &answers(&answer))), [Level::Ok; 4]);
        host.operator.as_mut().unwrap().container.labels.clear();
        let found = judge(&host, &answers(&answer));
        assert!(found[1].level == Level::Error && found[1].message.contains("not of a hub"), "{found:?}");
        host.operator = Some(part("h-operator".into(), State::Running));
        answer.leader = Some(("me".into(), NOW - SignedDuration::from_secs(90)));
        answer.applied.pop_first();
        let found = judge(&host, &answers(&answer));
        assert_eq!(levels(&found)[2..], [Level::Warning, Level::Error], "{found:?}");
        answer.leader = None;
        assert_eq!(levels(&judge(&host, &answers(&answer)))[3], Level::Error);
        assert_eq!(levels(&judge(&host, &Api::Silent("x".into())))[2], Level::Error);
        for state in [State::Paused, State::Restarting, State::Exited, State::Created, State::Dead] {
            host.server = Some(part("h-hub".into(), state));
            let found = judge(&host, &Api::Away);
            assert!(
                found[0].level == Level::Error && found[0].message.contains("localcluster up"),
                "{found:?}"
            );
        }
        host.operator.as_mut().unwrap().container.image = "localcluster-operator:0.0.9".into();
        let found = judge(&host, &Api::Away);
        assert!(
            found[2].level == Level::Warning && found[2].message.contains("`localcluster up` replaces it"),
            "{found:?}"
        );
        host.server = None;
        assert!(judge(&host, &Api::Away)[0].message.contains("h-hub does not exist"));
    }

    #[test]
    fn definitions_are_those_of_this_version() {
        let own = crds::all().remove(0).1;
        let judge = |installed| definitions("c", &[(own.clone(), installed)]).remove(0);
        let mut stored = own.clone();
        // What an API server adds.
        stored.spec.names.list_kind = Some("LocalClusterList".into());
        assert_eq!(judge(Installed::There(Box::new(stored.clone()))).level, Level::Ok);
        stored.spec.versions[0].served = false;
        assert_eq!(judge(Installed::There(Box::new(stored))).level, Level::Warning);
        assert_eq!(judge(Installed::Missing).level, Level::Error);
        assert_eq!(judge(Installed::Unknown("no right".into())).message, "no right");
    }

    #[test]
    fn operators_have_pods_and_this_version() {
        let judge =
            |image: &str, available| operators(&[("n/o".into(), image.into(), available)], "0.1.0")[0].level;
        assert_eq!(judge("localcluster-operator:0.1.0", 1), Level::Ok);
        assert_eq!(judge("r.example:5000/op:v0.1.0", 1), Level::Ok);
        assert_eq!(judge("r.example:5000/op:dev", 1), Level::Ok);
        assert_eq!(judge("r.example:5000/op", 1), Level::Ok);
        assert_eq!(judge("op:0.2.0", 1), Level::Warning);
        assert_eq!(judge("op:0.1.0", 0), Level::Error);
    }

    #[test]
    fn clusters_say_what_they_know_of_the_host() {
        let cluster = |conditions: serde_json::Value| -> LocalCluster {
            serde_json::from_value(
                json!({"metadata": {"name": "dev"}, "spec": {}, "status": {"conditions": conditions}}),
            )
            .unwrap()
        };
        let condition = |type_: &str, status: &str, message: &str| json!({"type": type_, "status": status, "reason": "R", "message": message, "lastTransitionTime": "2026-11-30T00:00:00Z"});
        let well = cluster(json!([condition("Ready", "True", ""), condition("HostReady", "Unknown", "")]));
        assert_eq!(levels(&clusters(&[well])), [Level::Ok]);
        let low =
            cluster(json!([condition("Ready", "False", "no"), condition("HostReady", "False", "free some")]));
        let found = clusters(&[low]);
        assert_eq!(levels(&found), [Level::Warning; 2]);
        assert_eq!(found[1].message, "dev: R: free some");
        assert!(clusters(&[]).is_empty());
        assert_eq!(levels(&clusters(&[cluster(json!([]))])), [Level::Ok], "a new one has no status");
    }
}
