//! ConfigMaps in the created cluster that provide the registries, the Docker host and `spec.hostAliases` to Pods and
//! tools.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use jiff::{SignedDuration, Timestamp};

use super::steps::{Action, Plan};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    child::state::{ChildState, ClusterConfigMap, ConfigKey, DNS, Held, REGISTRY_HOSTING},
    k3s::{
        dns,
        registry_hosting::{self, Advertised},
    },
    time::after,
};

/// Time after which CoreDNS has started with a changed file, or has it in place when it starts.
const STARTED: SignedDuration = SignedDuration::from_secs(30);

/// Returns the desired content of the keys. `registries` contains the names of all registries in use, each with its
/// current address on the network of the cluster. `aliases` contains the names of the spec. `advertised` is the
/// registry that is advertised to tools.
pub fn wanted(
    gateway: Ipv4Addr,
    registries: &BTreeMap<String, Option<Ipv4Addr>>,
    aliases: &BTreeMap<String, IpAddr>,
    advertised: Option<&Advertised>,
    state: &ChildState,
) -> Vec<ClusterConfigMap> {
    // A registry without a container usually comes back at the same address. CoreDNS takes half a minute for each
    // change, so the name is kept meanwhile.
    let before = state.config.get(&DNS).map(|held| dns::parse(&held.content)).unwrap_or_default();
    let known = registries.iter().filter_map(|(name, address)| {
        Some((name.clone(), address.map(IpAddr::V4).or_else(|| before.get(name).copied())?))
    });
    // The name of a registry takes precedence, although such an alias is refused as soon as the registry is known.
    let aliases = aliases.iter().map(|(name, address)| (name.clone(), *address));
    let mut names: BTreeMap<String, IpAddr> = aliases.chain(known).collect();
    names.insert(dns::HOST.to_owned(), gateway.into());
    let mut all = vec![ClusterConfigMap {
        key: DNS,
        content: Some(dns::render(&names)),
        claimed: true,
        readers: Some(dns::PODS),
    }];
    let hosting =
        |content| ClusterConfigMap { key: REGISTRY_HOSTING, content, claimed: false, readers: None };
    match advertised {
        None => all.push(hosting(None)),
        // Until its port is known again, the previous content is kept.
        Some(registry) => {
            all.extend(registry_hosting::render(registry).map(|content| hosting(Some(content))))
        }
    }
    all
}

/// Plans the changes of the keys in the cluster.
pub fn plan(plan: &mut Plan, wanted: &[ClusterConfigMap], state: &ChildState, now: Timestamp) {
    for map in wanted {
        let held = state.config.get(&map.key);
        if held.map(|h| &h.content) == map.content.as_ref() {
            if let Some(held) = held.filter(|_| map.readers.is_some()) {
                apply_again(plan, map, held, now);
            }
            continue;
        }
        if let Some((held, content)) = held.zip(map.content.as_ref())
            && map.readers.is_some()
            && held.content == dns::again(content)
        {
            continue;
        }
        let ConfigKey { namespace, name, key } = map.key;
        if held.is_some_and(|h: &Held| !h.ours) && !map.claimed {
            if map.content.is_some() {
                plan.notes.push(format!(
                    "{key} in the ConfigMap {namespace}/{name} of the cluster is not managed by the operator and is \
                     left unchanged; delete the ConfigMap to let the operator recreate it"
                ));
            }
            continue;
        }
        let why = match (held, &map.content) {
            (None, _) => "it did not exist",
            (_, None) => "the cluster no longer advertises a registry",
            (Some(_), Some(_)) => "it was out of date",
        };
        plan.step(Action::SetConfig(map.clone()), &[], why);
        let message = format!("updating the ConfigMap {namespace}/{name} in the cluster");
        plan.waits(ConditionType::RegistriesReady, Reason::Updating, message);
    }
}

/// Plans to apply a file a second time, see [`dns::again`]. The names resolve meanwhile, unless CoreDNS lost the change.
fn apply_again(plan: &mut Plan, map: &ClusterConfigMap, held: &Held, now: Timestamp) {
    let Some(written) = held.written else { return };
    let due = after(written, STARTED);
    if now >= due {
        let again = ClusterConfigMap { content: Some(dns::again(&held.content)), ..map.clone() };
        plan.step(Action::SetConfig(again), &[], "");
    } else {
        plan.look_again(due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::state::KEYS;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);

    fn ip(last: u8) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::new(172, 31, 0, last))
    }

    fn registries(of: &[(&str, Option<Ipv4Addr>)]) -> BTreeMap<String, Option<Ipv4Addr>> {
        of.iter().map(|(name, ip)| ((*name).to_owned(), *ip)).collect()
    }

    fn none() -> BTreeMap<String, IpAddr> {
        BTreeMap::new()
    }

    fn advertised(host_port: Option<u16>) -> Advertised {
        let host = host_port.map(|port| format!("localhost:{port}"));
        Advertised { hostname: "k3d-r".into(), port: 5000, host }
    }

    /// Returns the cluster after all planned steps.
    fn done(state: &ChildState, wanted: &[ClusterConfigMap]) -> ChildState {
        let mut state = state.clone();
        for map in wanted {
            match &map.content {
                Some(content) => {
                    let held = Held { content: content.clone(), ours: true, written: None };
                    state.config.insert(map.key, held);
                }
                None => drop(state.config.remove(&map.key)),
            }
        }
        state
    }

    fn planned(wanted: &[ClusterConfigMap], state: &ChildState) -> Plan {
        let mut plan = Plan::default();
        super::plan(&mut plan, wanted, state, Timestamp::UNIX_EPOCH);
        plan
    }

    #[test]
    fn what_is_missing_is_written_and_then_nothing_is_left_to_do() {
        let state = ChildState::default();
        let all = wanted(
            GATEWAY,
            &registries(&[("k3d-r", ip(52))]),
            &none(),
            Some(&advertised(Some(5050))),
            &state,
        );
        let plan = planned(&all, &state);
        let acts: Vec<_> = plan.steps.iter().map(|s| s.action.to_string()).collect();
        assert_eq!(acts, ["SetConfig coredns-custom", "SetConfig local-registry-hosting"]);
        assert_eq!(plan.problems[0].reason, Reason::Updating);
        assert!(!plan.problems[0].stalled());
        let state = done(&state, &all);
        assert!(planned(&all, &state).is_settled());
        assert_eq!(
            dns::parse(&state.config[&DNS].content).keys().collect::<Vec<_>>(),
            ["host.k3d.internal", "k3d-r"]
        );
    }

    #[test]
    fn a_change_for_coredns_is_applied_twice() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let write = |state: &ChildState, names: &[ClusterConfigMap], second| {
            let mut state = done(state, names);
            state.config.get_mut(&DNS).unwrap().written = Some(at(second));
            state
        };
        let planned = |names: &[ClusterConfigMap], state: &ChildState, second| {
            let mut plan = Plan::default();
            super::plan(&mut plan, names, state, at(second));
            plan
        };
        let of = |last| registries(&[("k3d-r", ip(last))]);
        let names = wanted(GATEWAY, &of(52), &none(), Some(&advertised(Some(5050))), &ChildState::default());
        let state = write(&ChildState::default(), &names, 1000);
        let early = planned(&names, &state, 1029);
        assert!(early.is_settled());
        assert_eq!(early.again, Some(at(1030)));

        // The cluster stays Ready meanwhile: the names are there.
        let plan = planned(&names, &state, 1030);
        assert!(plan.problems.is_empty());
        let [step] = &plan.steps[..] else { panic!("{:?}", plan.steps) };
        let Action::SetConfig(again) = &step.action else { panic!("{step:?}") };
        assert_eq!(step.event(), None);
        let first = names[0].content.as_ref().unwrap();
        assert_ne!(again.content.as_ref(), Some(first));
        assert_eq!(dns::parse(again.content.as_ref().unwrap()), dns::parse(first));

        let state = write(&state, std::slice::from_ref(again), 1031);
        for second in [1031, 2000] {
            let plan = planned(&names, &state, second);
            assert!(plan.is_settled() && plan.again.is_none(), "not a third time");
        }
        let names = wanted(GATEWAY, &of(53), &none(), Some(&advertised(Some(5050))), &state);
        let plan = planned(&names, &state, 2000);
        assert_eq!(plan.steps.len(), 1, "the next change");
        let state = write(&state, &names, 2000);
        assert_eq!(planned(&names, &state, 2001).again, Some(at(2030)));
    }

    #[test]
    fn without_a_registry_tools_are_told_of_none() {
        let state = done(
            &ChildState::default(),
            &wanted(
                GATEWAY,
                &registries(&[("k3d-r", ip(52))]),
                &none(),
                Some(&advertised(Some(5050))),
                &ChildState::default(),
            ),
        );
        let all = wanted(GATEWAY, &BTreeMap::new(), &none(), None, &state);
        let after = done(&state, &all);
        assert!(!after.config.contains_key(&REGISTRY_HOSTING));
        assert!(!after.config[&DNS].content.contains("k3d-r "));
        assert!(planned(&all, &after).is_settled());
    }

    #[test]
    fn a_registry_that_is_away_for_a_while_keeps_what_was_told_of_it() {
        let known = registries(&[("k3d-r", ip(52))]);
        let all = wanted(GATEWAY, &known, &none(), Some(&advertised(Some(5050))), &ChildState::default());
        let state = done(&ChildState::default(), &all);
        let away = registries(&[("k3d-r", None), ("k3d-new", None)]);
        let all = wanted(GATEWAY, &away, &none(), Some(&advertised(None)), &state);
        assert!(planned(&all, &state).is_settled());
    }

    #[test]
    fn aliases_come_change_and_go_and_give_way_to_registries() {
        let told = |aliases: &[(&str, &str)], state: &ChildState| {
            let aliases =
                aliases.iter().map(|(name, ip)| ((*name).to_owned(), ip.parse().unwrap())).collect();
            let known = registries(&[("k3d-r", ip(52))]);
            let all = wanted(GATEWAY, &known, &aliases, None, state);
            assert_eq!(planned(&all, state).steps.len(), 1, "it is told in one step");
            done(state, &all)
        };
        let names = |state: &ChildState| {
            let parsed = dns::parse(&state.config[&DNS].content);
            parsed.iter().map(|(name, ip)| format!("{name} {ip}")).collect::<Vec<_>>()
        };
        let state =
            told(&[("db.internal", "10.0.0.5"), ("six.internal", "2001:db8::5")], &ChildState::default());
        let others = ["host.k3d.internal 172.31.0.1", "k3d-r 172.31.0.52"];
        assert_eq!(names(&state), ["db.internal 10.0.0.5", others[0], others[1], "six.internal 2001:db8::5"]);
        let state = told(&[("db.internal", "10.0.0.6"), ("k3d-r", "10.0.0.7")], &state);
        assert_eq!(names(&state), ["db.internal 10.0.0.6", others[0], others[1]]);
        assert_eq!(names(&told(&[], &state)), others);
    }

    #[test]
    fn what_others_wrote_is_theirs_but_for_what_bears_our_name() {
        let theirs = Held { content: "theirs".into(), ours: false, written: None };
        let state =
            ChildState { config: KEYS.map(|key| (key, theirs.clone())).into(), ..ChildState::default() };
        for registry in [Some(advertised(Some(5050))), None] {
            let all = wanted(GATEWAY, &BTreeMap::new(), &none(), registry.as_ref(), &state);
            let plan = planned(&all, &state);
            let acts: Vec<_> = plan.steps.iter().map(|s| s.action.to_string()).collect();
            assert_eq!(acts, ["SetConfig coredns-custom"]);
            assert_eq!(plan.notes.len(), usize::from(registry.is_some()));
        }
    }
}
