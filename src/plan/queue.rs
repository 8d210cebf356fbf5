//! The order in which what waits begins, fair by namespace: the next is of the namespace that has least in progress, and
//! among equals of the one that was served longest ago. So a hundred requests of one namespace delay another by one of
//! them. What nobody waits for begins when nothing else can, and leaves a place free for what somebody asks for next.

use std::collections::BTreeMap;

/// A request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Number that the namespace may have in progress.
    pub most: usize,
    /// Nobody waits for it.
    pub idle: bool,
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Others on the same host.
    Host,
    /// Others of its namespace, which may have this number in progress.
    Namespace(usize),
    /// Others that somebody waits for, which come first.
    Others,
}

/// What a namespace has and had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Number in progress.
    pub running: usize,
    /// Number of the last request of any namespace that began when its last one did; 0 if none has lately.
    pub last: u64,
}

/// What may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// Number of all requests.
    pub all: usize,
    /// Number of those that nobody waits for.
    pub idle: usize,
}

impl Free {
    /// Returns what may begin if `most` may be in progress, and `all` are, `idle` of which nobody waits for.
    pub fn of(most: usize, all: usize, idle: usize) -> Self {
        // With a single place there is none to leave free.
        let most_idle = most.saturating_sub(1).max(1);
        Self { all: most.saturating_sub(all), idle: most_idle.saturating_sub(idle) }
    }
}

/// Returns the indices of the requests that may begin, in order. They are given in the order in which they were made.
pub fn next(requests: &[Request<'_>], served: &BTreeMap<&str, Served>, free: Free) -> Vec<usize> {
    let mut running: BTreeMap<&str, usize> = BTreeMap::new();
    let mut chosen: Vec<usize> = Vec::new();
    while chosen.len() < free.all {
        let idle = chosen.iter().filter(|index| requests[**index].idle).count();
        let of = |namespace: &str| served.get(namespace).copied().unwrap_or_default();
        let count =
            |namespace: &str| of(namespace).running + running.get(namespace).copied().unwrap_or_default();
        let open = requests
            .iter()
            .enumerate()
            .filter(|(index, request)| !chosen.contains(index) && count(request.namespace) < request.most)
            .filter(|(_, request)| !request.idle || idle < free.idle);
        let first = open.min_by_key(|(index, request)| {
            (request.idle, count(request.namespace), of(request.namespace).last, *index)
        });
        let Some((index, request)) = first else { break };
        *running.entry(request.namespace).or_default() += 1;
        chosen.push(index);
    }
    chosen
}

/// Returns what a request waits for.
pub fn wait(request: Request<'_>, served: &BTreeMap<&str, Served>) -> Wait {
    let running = served.get(request.namespace).map_or(0, |served| served.running);
    match request {
        _ if running >= request.most => Wait::Namespace(request.most),
        Request { idle: true, .. } => Wait::Others,
        _ => Wait::Host,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(namespaces: &str, most: usize) -> Vec<Request<'_>> {
        let each = (0..namespaces.len()).map(|i| &namespaces[i..=i]);
        each.map(|namespace| Request { namespace, most, idle: false }).collect()
    }

    fn served<'a>(all: &[(&'a str, usize, u64)]) -> BTreeMap<&'a str, Served> {
        all.iter()
            .map(|(namespace, running, last)| (*namespace, Served { running: *running, last: *last }))
            .collect()
    }

    fn places(all: usize) -> Free {
        Free { all, idle: all }
    }

    #[test]
    fn what_nobody_waits_for_leaves_a_place_to_others() {
        let request = |namespace, idle| Request { namespace, most: 9, idle };
        let all = [request("a", true), request("a", true), request("b", false), request("a", true)];
        let none = served(&[]);
        assert_eq!(next(&all, &none, Free::of(3, 0, 0)), [2, 0, 1]);
        // Whoever is asked for comes first, however long others wait.
        assert_eq!(next(&all, &none, Free::of(1, 0, 0)), [2]);
        assert_eq!(next(&all[..2], &none, Free::of(3, 0, 0)), [0, 1]);
        assert_eq!(next(&all[..2], &none, Free::of(2, 0, 0)), [0], "one place is left");
        assert_eq!(next(&all[..2], &none, Free::of(2, 1, 1)), [0; 0], "one place is left");
        assert_eq!(next(&all, &none, Free::of(2, 1, 1)), [2]);
        // Of a single place, none can be left.
        assert_eq!(next(&all[..2], &none, Free::of(1, 0, 0)), [0]);
        // What others have in progress is no matter.
        assert_eq!(next(&all[..2], &none, Free::of(3, 2, 0)), [0]);
    }

    #[test]
    fn one_namespace_is_served_in_order() {
        assert_eq!(next(&of("aaaa", 9), &served(&[]), places(3)), [0, 1, 2]);
        assert_eq!(next(&of("aaaa", 2), &served(&[]), places(3)), [0, 1]);
        assert_eq!(next(&of("aaaa", 2), &served(&[("a", 2, 5)]), places(3)), [0; 0]);
    }

    #[test]
    fn many_requests_of_one_namespace_delay_another_by_one() {
        assert_eq!(next(&of("aaaaab", 9), &served(&[]), places(2)), [0, 5]);
        assert_eq!(next(&of("aaaaab", 9), &served(&[("a", 1, 7)]), places(1)), [5]);
        // Neither has anything in progress: the one that was served longest ago is next.
        assert_eq!(next(&of("aaaaab", 9), &served(&[("a", 0, 7)]), places(1)), [5]);
        assert_eq!(next(&of("ab", 9), &served(&[("a", 0, 6), ("b", 0, 7)]), places(1)), [0]);
    }

    #[test]
    fn a_wait_names_the_narrower_limit() {
        let request = Request { namespace: "a", most: 2, idle: false };
        assert_eq!(wait(request, &served(&[("a", 2, 1)])), Wait::Namespace(2));
        assert_eq!(wait(request, &served(&[("a", 1, 1), ("b", 3, 2)])), Wait::Host);
        let idle = Request { idle: true, ..request };
        assert_eq!(wait(idle, &served(&[("a", 2, 1)])), Wait::Namespace(2));
        assert_eq!(wait(idle, &served(&[("a", 1, 1)])), Wait::Others);
    }

    proptest! {
        /// Whoever waits, no namespace exceeds its limit, no free place is left while one may begin, and none that may
        /// begin has less than another that was chosen instead.
        #[test]
        fn limits_hold_and_no_place_is_wasted(
            waiting in "[a-d]{0,12}", most in 1usize..4, free in 0usize..6, held in prop::collection::vec(0usize..4, 4),
        ) {
            let names = ["a", "b", "c", "d"];
            let had: Vec<(&str, usize, u64)> = names.iter().zip(&held).map(|(n, h)| (*n, *h, 0)).collect();
            let (requests, had) = (of(&waiting, most), served(&had));
            let chosen = next(&requests, &had, places(free));
            prop_assert!(chosen.len() <= free);
            let count = |name: &str| {
                had[name].running + chosen.iter().filter(|i| requests[**i].namespace == name).count()
            };
            for (index, request) in requests.iter().enumerate() {
                let name = request.namespace;
                if chosen.contains(&index) {
                    prop_assert!(count(name) <= most);
                } else if count(name) < most {
                    prop_assert_eq!(chosen.len(), free);
                    for other in chosen.iter().map(|i| requests[*i].namespace).filter(|other| *other != name) {
                        prop_assert!(count(other) <= count(name) + 1);
                    }
                }
            }
        }
    }
}
