//! Commands that report changes, a line for each: `docker events`, and the watch of a cluster's Nodes.

use std::{
    cell::Cell,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::Value;

use crate::{
    clock::{clock, time},
    live::{Foreign, now, pause, scene::Scene, world},
    own_time::{Action, Event, NodeState},
};

/// How long after the end of a watch it begins again. It ends whenever the server does that it asks.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a line may be on its way.
const DELIVERY: Duration = Duration::from_secs(60);

/// Listens to a `docker` command, until it is dropped.
pub struct Listener<T> {
    shared: Arc<Shared<T>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<T> {
    heard: Mutex<Vec<T>>,
    changed: Condvar,
    process: Mutex<Process>,
}

enum Process {
    None,
    Running(Child),
    Ended,
}

impl<T: Clone + Send + 'static> Listener<T> {
    /// Starts to listen, to the same command again when it ends if `again` says so. `parse` skips what is of no interest.
    fn start(args: &[&str], again: bool, parse: fn(&str) -> Option<T>) -> Self {
        let mut command = Command::new("docker");
        command.args(["--host", &world("DOCKER_HOST")]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let (heard, changed, process) = (Mutex::default(), Condvar::new(), Mutex::new(Process::None));
        let shared = Arc::new(Shared { heard, changed, process });
        let listening = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while listening.run(&mut command, parse) && again {
                pause(AGAIN);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// Returns all that was heard.
    pub fn heard(&self) -> Vec<T> {
        lock(&self.shared.heard).clone()
    }

    /// Waits until what was heard is enough; reports whether it is.
    pub fn within(&self, limit: Duration, mut enough: impl FnMut(&[T]) -> bool) -> bool {
        let heard = lock(&self.shared.heard);
        let waited = self.shared.changed.wait_timeout_while(heard, limit, |heard| !enough(heard));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl<T> Shared<T> {
    /// Runs the command to its end; reports whether the listener still exists.
    fn run(&self, command: &mut Command, parse: fn(&str) -> Option<T>) -> bool {
        let mut process = lock(&self.process);
        if matches!(*process, Process::Ended) {
            return false;
        }
        let mut child = command.spawn().expect("docker can be started");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        *process = Process::Running(child);
        drop(process);
        for heard in lines.map_while(Result::ok).filter_map(|line| parse(&line)) {
            lock(&self.heard).push(heard);
            self.changed.notify_all();
        }
        self.end(Process::None)
    }

    /// Ends the command; reports whether the listener still exists.
    fn end(&self, next: Process) -> bool {
        let mut process = lock(&self.process);
        if let Process::Running(child) = &mut *process {
            let _ = child.kill();
            let _ = child.wait();
        }
        if !matches!(*process, Process::Ended) {
            *process = next;
        }
        !matches!(*process, Process::Ended)
    }
}

impl<T> Drop for Listener<T> {
    fn drop(&mut self) {
        self.shared.end(Process::Ended);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is heard of the engine.
#[derive(Clone, Debug)]
enum Heard {
    Container(Event),
    /// A volume that marks a place among the events.
    Mark(String),
}

/// The events of containers, from its creation on.
pub struct Events {
    listener: Listener<Heard>,
    /// How many marks it has set.
    marks: Cell<u32>,
}

impl Events {
    /// Starts to listen. The engine keeps only the last 256 events, so that they are written down as they come.
    pub fn listen() -> Self {
        let since = now();
        let filters =
            ["type=container", "type=volume", "event=start", "event=kill", "event=die", "event=create"];
        let filters: Vec<String> = filters.iter().map(|f| format!("--filter={f}")).collect();
        let mut args = vec!["events", "--since", &since, "--format", "{{json .}}"];
        args.extend(filters.iter().map(String::as_str));
        Self { listener: Listener::start(&args, false, event), marks: Cell::new(0) }
    }

    /// Returns all events up to this moment, which a volume marks for as long as it takes to hear of it.
    pub fn up_to_now(&self, scene: &Scene) -> Vec<Event> {
        self.marks.set(self.marks.get() + 1);
        let name = &format!("{}-mark-{}", scene.namespace, self.marks.get());
        let _volume = Foreign::create("volume", &[], name);
        let marked = |heard: &[Heard]| heard.iter().any(|h| matches!(h, Heard::Mark(mark) if mark == name));
        assert!(self.listener.within(DELIVERY, marked), "the engine does not report the volume {name}");
        containers(&self.listener.heard()).cloned().collect()
    }

    /// Waits until a container was started this often.
    pub fn started(&self, container: &str, times: usize, limit: Duration) {
        let is_start = |e: &&Event| e.action == Action::Started && e.container == container;
        let enough = |heard: &[Heard]| containers(heard).filter(is_start).count() >= times;
        assert!(self.listener.within(limit, enough), "{container} was not started after kill {times}");
    }
}

fn containers(heard: &[Heard]) -> impl Iterator<Item = &Event> {
    heard.iter().filter_map(|h| if let Heard::Container(event) = h { Some(event) } else { None })
}

fn event(line: &str) -> Option<Heard> {
    let event: Value = serde_json::from_str(line).ok()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let action = match (event["Type"].as_str()?, event["Action"].as_str()?) {
        ("container", "start") => Action::Started,
        ("container", "kill") => Action::Signalled,
        ("container", "die") => Action::Died,
        ("volume", "create") => return text(&event["Actor"]["ID"]).map(Heard::Mark),
        _ => return None,
    };
    let container = text(&event["Actor"]["Attributes"]["name"])?;
    let at = Duration::from_nanos(event["timeNano"].as_u64()?).as_secs_f64();
    Some(Heard::Container(Event { at, container, action }))
}

/// Starts to watch the Nodes of a cluster, by the container of one of its servers.
pub fn nodes(server: &str) -> Listener<NodeState> {
    let ready = r#".status.conditions[?(@.type=="Ready")]"#;
    let format =
        format!(r#"-ojsonpath={{.metadata.name}} {{{ready}.status}} {{{ready}.lastHeartbeatTime}}{{"\n"}}"#);
    // The watch in the container ends with it.
    Listener::start(&["exec", server, "kubectl", "get", "nodes", "-w", &format], true, node)
}

fn node(line: &str) -> Option<NodeState> {
    let at = clock();
    let mut words = line.split(' ');
    let (node, ready, heartbeat) = (words.next()?, words.next()?, words.next()?);
    // The end of the watch has a message of its own.
    Some(NodeState { at, node: node.to_owned(), ready: ready == "True", heartbeat: time(heartbeat).ok()? })
}
