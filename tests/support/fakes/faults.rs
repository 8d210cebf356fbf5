//! Failures on demand: the k-th call to one of the three sides goes wrong.

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use localcluster_operator::docker::engine::{Event, Subject};
use tokio::sync::Notify;

use crate::support::model::lab::Chance;

thread_local! {
    /// How often calls on this thread have let others have their turn.
    static TURNS: Cell<u64> = const { Cell::new(0) };
}

/// Lets the tasks in the background go on, for so many turns at most, until all of them wait for something.
pub async fn let_go_on(most: u32) {
    let mut quiet = 0;
    for _ in 0..most {
        let before = TURNS.get();
        tokio::task::yield_now().await;
        // What runs goes on until it waits, unless a call lets others have their turn.
        quiet = if TURNS.get() == before { quiet + 1 } else { 0 };
        if quiet == 2 {
            return;
        }
    }
}

/// Who is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Docker,
    Child,
    Kube,
}

pub const SIDES: [Side; 3] = [Side::Docker, Side::Child, Side::Kube];

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    NotFound,
    Conflict,
    Refused,
    /// Nothing is done, and no answer comes.
    Timeout,
    /// It is done, and no answer comes.
    Lost,
    /// It is said to be done, and nothing is.
    Void,
    /// Docker does it only when it is told to, see [`Faults::is_late`].
    Late,
}

/// What a test does at each call: it may change the world, and have the call go wrong.
pub type Script = Box<dyn FnMut(Side, &str, bool) -> Option<Fault> + Send>;

pub const FAULTS: [Fault; 5] =
    [Fault::NotFound, Fault::Conflict, Fault::Refused, Fault::Timeout, Fault::Lost];

#[derive(Default)]
pub struct Faults {
    state: Mutex<State>,
    /// Whether Docker is away altogether.
    pub away: AtomicBool,
    /// Names of the calls to Docker that never end; one may end in `*`.
    hanging: Mutex<Vec<String>>,
    /// Who listens to the events of Docker.
    listeners: Mutex<Vec<UnboundedSender<Event>>>,
    /// Whether the way to the created clusters' APIs is closed.
    pub unreachable: AtomicBool,
    /// Whether they never respond, as behind a container that is gone.
    pub silent: AtomicBool,
    script: Mutex<Option<Script>>,
    /// Where others have their turn between two calls of Docker, of chance.
    turns: Mutex<Option<Chance>>,
    /// A call is late, or goes on.
    pub late: Notify,
    pub lands: Notify,
}

#[derive(Default)]
struct State {
    /// Each with whether it changes something.
    calls: [Vec<(String, bool)>; 3],
    writes: Vec<String>,
    planned: Option<(Side, usize, Fault)>,
    every: Option<(String, Fault)>,
    panics: Option<String>,
}

impl Faults {
    /// Has this happen at each call, until nothing is to happen any more.
    pub fn follow(&self, script: Option<Script>) {
        *self.script.lock().unwrap() = script;
    }

    /// Has others have their turn before a call of Docker, of this chance.
    pub fn interleave(&self, chance: Chance) {
        *self.turns.lock().unwrap() = Some(chance);
    }

    /// Lets others have their turn.
    pub async fn take_time(&self) {
        let turns = self.turns.lock().unwrap().as_mut().map_or(0, |chance| chance.below(3));
        for _ in 0..turns {
            TURNS.set(TURNS.get() + 1);
            tokio::task::yield_now().await;
        }
    }

    /// Waits until a late call may go on.
    pub async fn is_late(&self) {
        self.late.notify_one();
        self.lands.notified().await;
    }

    /// Has Docker tell of an event with its labels.
    pub fn tell(&self, event: &Event) {
        self.listeners.lock().unwrap().retain(|listener| listener.unbounded_send(event.clone()).is_ok());
    }

    /// Breaks the streams of events.
    pub fn hang_up(&self) {
        self.listeners.lock().unwrap().clear();
    }

    /// Events of Docker from now on. Nothing happens by itself: see [`Self::happened`].
    pub fn listen(&self) -> UnboundedReceiver<Event> {
        let (tell, told) = unbounded();
        self.listeners.lock().unwrap().push(tell);
        told
    }

    /// Has Docker tell of an event.
    pub fn happened(&self, subject: Subject, action: &str) {
        self.tell(&Event { subject, action: action.to_owned(), labels: BTreeMap::new() });
    }

    /// Has the call with this number, counted from the beginning, go wrong.
    pub fn plan(&self, side: Side, number: usize, fault: Fault) {
        self.state.lock().unwrap().planned = Some((side, number, fault));
    }

    /// Has every call of this name go wrong, or none any more. A name may end in `*`.
    pub fn every(&self, call: Option<(&str, Fault)>) {
        self.state.lock().unwrap().every = call.map(|(call, fault)| (call.to_owned(), fault));
    }

    /// Has whoever makes this call panic.
    pub fn panic_at(&self, call: Option<&str>) {
        self.state.lock().unwrap().panics = call.map(str::to_owned);
    }

    /// Has calls to Docker with these names never end, and no others any more.
    pub fn hang(&self, calls: &[&str]) {
        *self.hanging.lock().unwrap() = calls.iter().map(|call| (*call).to_owned()).collect();
    }

    /// Never ends if a call with this name hangs.
    pub async fn hold(&self, call: &str) {
        let hangs = self.hanging.lock().unwrap().iter().any(|name| is(name, call));
        if hangs {
            std::future::pending::<()>().await;
        }
    }

    /// Counts a call; how it goes wrong, if it does.
    pub fn gate(&self, side: Side, call: String, writes: bool) -> Option<Fault> {
        let scripted = self.script.lock().unwrap().as_mut().and_then(|script| script(side, &call, writes));
        let mut state = self.state.lock().unwrap();
        if state.panics.as_ref() == Some(&call) {
            drop(state);
            panic!("told to at {call}");
        }
        if writes {
            state.writes.push(format!("{side:?} {call}"));
        }
        let every = state.every.as_ref().filter(|(name, _)| is(name, &call)).map(|(_, fault)| *fault);
        let calls = &mut state.calls[side as usize];
        calls.push((call, writes));
        let number = calls.len() - 1;
        scripted
            .or(every)
            .or(state.planned.filter(|(s, n, _)| *s == side && *n == number).map(|(.., fault)| fault))
    }

    /// All calls to a side so far, each with whether it changes something.
    pub fn calls(&self, side: Side) -> Vec<(String, bool)> {
        self.state.lock().unwrap().calls[side as usize].clone()
    }

    /// What was changed since the last time.
    pub fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().writes)
    }

    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }
}

/// Whether a call has this name, which may end in `*`.
fn is(name: &str, call: &str) -> bool {
    name.strip_suffix('*').map_or(name == call, |begins| call.starts_with(begins))
}
