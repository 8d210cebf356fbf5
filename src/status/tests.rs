use jiff::Timestamp;

use super::*;

const TYPES: [ConditionType; 3] =
    [ConditionType::Accepted, ConditionType::NetworkReady, ConditionType::ControlPlaneReady];

fn moment() -> Moment {
    Moment { generation: 7, now: Timestamp::from_second(1_000).unwrap() }
}

/// Status, reason and message of a condition; empty if there is none.
fn told(conditions: &[Condition], type_: ConditionType) -> (String, String, String) {
    let found = condition::get(conditions, type_);
    found.map(|c| (c.status.clone(), c.reason.clone(), c.message.clone())).unwrap_or_default()
}

fn row(status: &str, reason: &str, message: &str) -> (String, String, String) {
    (status.into(), reason.into(), message.into())
}

/// A problem by a letter: one that `w`aits, that `s`talls, or an `u`nknown state.
fn problem(condition: ConditionType, letter: char) -> Problem {
    let message = format!("{condition} {letter}");
    match letter {
        'w' => Problem::waits(condition, Reason::Creating, message),
        's' => Problem::stalls(condition, Reason::NameConflict, message),
        'u' => Problem::unknown(condition, Reason::DockerUnavailable, message),
        other => panic!("{other}"),
    }
}

/// What a condition tells that has these problems, and is or is not evaluated.
fn expected(type_: ConditionType, letters: &str, evaluated: bool) -> (String, String, String) {
    let worst = "swu".chars().find(|letter| letters.contains(*letter));
    let (status, reason) = match worst {
        Some('s') => ("False", "NameConflict"),
        Some('w') => ("False", "Creating"),
        Some(_) => ("Unknown", "DockerUnavailable"),
        None if !evaluated => {
            return row("Unknown", "Pending", "not evaluated yet: an earlier condition is not met");
        }
        None if type_ == ConditionType::Accepted => return row("True", "Accepted", ""),
        None => return row("True", "Ready", ""),
    };
    row(status, reason, &format!("{type_} {}", worst.unwrap_or_default()))
}

/// Every object with up to two problems of each of three conditions, in either order, of which the first ones can be
/// evaluated.
#[test]
fn the_conditions_tell_the_worst_problem_and_ready_the_first_cause() {
    let lists = ["", "w", "s", "u", "ws", "sw", "wu", "uw", "su", "us"];
    let each = |(a, b): (&'static str, &'static str)| lists.map(|c| [a, b, c]);
    let pairs = lists.into_iter().flat_map(|a| lists.map(|b| (a, b)));
    for (letters, cut) in pairs.flat_map(each).flat_map(|letters| [0, 1, 2, 3].map(|cut| (letters, cut))) {
        let all = TYPES.into_iter().zip(letters);
        let problems = all.flat_map(|(type_, letters)| letters.chars().map(move |l| problem(type_, l)));
        // Their order says nothing about conditions.
        let problems: Vec<Problem> = problems.rev().collect();
        let mut conditions = Vec::new();
        judge(&mut conditions, &TYPES, &problems, TYPES.get(cut).copied(), moment());
        let rows: Vec<_> = (0..3).map(|i| expected(TYPES[i], letters[i], i < cut)).collect();
        for (type_, row) in TYPES.into_iter().zip(&rows) {
            assert_eq!(told(&conditions, type_), *row, "{letters:?} {cut}");
        }
        let stalled = rows.iter().find(|row| row.1 == "NameConflict");
        let unmet =
            || rows.iter().find(|row| row.0 == "False").or(rows.iter().find(|row| row.0 == "Unknown"));
        let cause = stalled.or_else(unmet);
        let (reason, message) = cause.map_or(("Ready", ""), |row| (row.1.as_str(), row.2.as_str()));
        let is_ready = if cause.is_none() { "True" } else { "False" };
        assert_eq!(told(&conditions, ConditionType::Ready), row(is_ready, reason, message), "{letters:?}");
        let [reconciling, stalls] = match (stalled, cause) {
            (Some(_), _) => [row("False", "Settled", ""), row("True", reason, message)],
            (None, Some(_)) => [row("True", "Progressing", message), row("False", "NotStalled", "")],
            (None, None) => [row("False", "Settled", ""), row("False", "NotStalled", "")],
        };
        assert_eq!(told(&conditions, ConditionType::Reconciling), reconciling, "{letters:?}");
        assert_eq!(told(&conditions, ConditionType::Stalled), stalls, "{letters:?}");
        assert_eq!(told(&conditions, ConditionType::Paused), row("False", "NotPaused", ""));
    }
}

#[test]
fn a_problem_of_no_condition_keeps_an_object_from_being_ready() {
    let elsewhere = problem(ConditionType::HostReady, 'w');
    let mut conditions = Vec::new();
    judge(&mut conditions, &TYPES, std::slice::from_ref(&elsewhere), None, moment());
    assert_eq!(told(&conditions, ConditionType::Ready), row("False", "Creating", "HostReady w"));
    assert_eq!(told(&conditions, ConditionType::Reconciling), row("True", "Progressing", "HostReady w"));
    // What a condition tells is more.
    let both = [elsewhere, problem(ConditionType::NetworkReady, 'u')];
    judge(&mut conditions, &TYPES, &both, None, moment());
    assert_eq!(told(&conditions, ConditionType::Ready), row("False", "DockerUnavailable", "NetworkReady u"));
}

#[test]
fn a_condition_that_is_met_has_a_reason_of_its_own() {
    for (type_, reason) in [
        (ConditionType::Accepted, "Accepted"),
        (ConditionType::ResolvedRefs, "Resolved"),
        (ConditionType::DockerReachable, "Reachable"),
        (ConditionType::Reachable, "Reachable"),
        (ConditionType::NetworkReady, "Ready"),
        (ConditionType::AgentsReady, "Ready"),
    ] {
        let mut conditions = Vec::new();
        judge(&mut conditions, &[type_], &[], None, moment());
        assert_eq!(told(&conditions, type_), row("True", reason, ""));
    }
}

/// The conditions of a cluster that is Ready, and of one that knows all of them.
fn ready() -> Vec<Condition> {
    let mut conditions = Vec::new();
    for type_ in ConditionType::ALL {
        condition::set(&mut conditions, *type_, (true, Reason::Ready, "before"), moment());
    }
    conditions
}

#[test]
fn of_a_paused_object_nothing_is_known_to_be_met() {
    let mut conditions = ready();
    paused(&mut conditions, moment());
    let kept: Vec<&str> =
        conditions.iter().filter(|c| c.message == "before").map(|c| c.type_.as_str()).collect();
    assert_eq!(
        kept,
        ["InUse", "Bound", "PolicyViolation", "Ambiguous", "Scheduled", "HostReachable", "Stopped"],
        "they are not what it observes"
    );
    for (type_, status) in [
        (ConditionType::Paused, "True"),
        (ConditionType::Reconciling, "False"),
        (ConditionType::Stalled, "False"),
    ] {
        let (is, reason, _) = told(&conditions, type_);
        assert_eq!((is.as_str(), reason.as_str()), (status, "Paused"));
    }
    let unknown = conditions.iter().filter(|c| c.status == "Unknown" && c.reason == "Paused").count();
    assert_eq!(unknown, ConditionType::ALL.len() - kept.len() - 3);
    // What it did not have it does not get.
    let mut none = Vec::new();
    paused(&mut none, moment());
    assert_eq!(none.len(), 3);
}

#[test]
fn an_object_that_breaks_the_operator_is_stalled_and_the_rest_stays() {
    let mut conditions = ready();
    broken(&mut conditions, "src/plan/x.rs:7", 30, moment());
    for (type_, status) in [(ConditionType::Ready, "False"), (ConditionType::Stalled, "True")] {
        let (is, reason, message) = told(&conditions, type_);
        assert_eq!((is.as_str(), reason.as_str()), (status, "InternalError"));
        assert!(message.contains("src/plan/x.rs:7") && message.contains("every 30 minutes"), "{message}");
    }
    assert_eq!(told(&conditions, ConditionType::Reconciling), row("False", "Settled", ""));
    let changed = conditions.iter().filter(|c| c.message != "before").count();
    assert_eq!(changed, 3);
}

#[test]
fn the_reason_in_the_table_is_why_it_is_paused_or_stopped_or_else_that_of_ready() {
    let shown = |set: &[(ConditionType, bool, Reason)]| {
        let mut conditions = Vec::new();
        for (type_, holds, reason) in set {
            condition::set(&mut conditions, *type_, (*holds, *reason, ""), moment());
        }
        shown_reason(&conditions).map(str::to_owned)
    };
    let ready = (ConditionType::Ready, false, Reason::Creating);
    let stopped = (ConditionType::Stopped, true, Reason::Stopped);
    let not_paused = (ConditionType::Paused, false, Reason::NotPaused);
    assert_eq!(shown(&[]), None);
    assert_eq!(shown(&[ready, not_paused]).as_deref(), Some("Creating"));
    assert_eq!(shown(&[ready, stopped]).as_deref(), Some("Creating"), "it is still stopping");
    assert_eq!(shown(&[not_paused, stopped]).as_deref(), Some("Stopped"));
    assert_eq!(
        shown(&[ready, stopped, (ConditionType::Paused, true, Reason::Paused)]).as_deref(),
        Some("Paused")
    );
}

#[test]
fn stages_are_what_an_object_becomes_ready_by() {
    let stages: Vec<&str> =
        ConditionType::ALL.iter().filter(|type_| is_stage(**type_)).map(|type_| type_.as_str()).collect();
    assert_eq!(
        stages,
        [
            "Ready",
            "Accepted",
            "ResolvedRefs",
            "DockerReachable",
            "NetworkReady",
            "ControlPlaneReady",
            "AgentsReady",
            "LoadBalancerReady",
            "RegistriesReady",
            "ImagesReady",
            "ManifestsReady",
            "KubeconfigReady",
            "ContainerReady",
            "Reachable"
        ]
    );
}
