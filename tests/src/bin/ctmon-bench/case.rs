//! What is measured.

/// The name of the measurement without a monitor.
pub(crate) const NOTHING: &str = "nothing";

/// Where `ctmon serve` is scraped.
pub(crate) const SOCKET: &str = "/tmp/ctmon-bench.socket";

/// A monitor and how it is started.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) command: Vec<String>,
    /// Measured in the first round only: not for its rate.
    pub(crate) once: bool,
}

/// What its output is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// There is no monitor.
    Nothing,
    /// `ctmon watch --output json`
    Ctmon {
        /// Whether what it sees are events, not counts.
        events: bool,
    },
    /// `ctmon serve`, which listens at [`SOCKET`] and is scraped each second.
    Serve,
    /// `conntrack -E`
    Conntrack,
    /// A script that prints `ready`, and in the end its maps.
    Bpftrace,
}

/// The hooks that a new flow or its end passes, and so cost something without a full table.
const HOOKS: [&str; 5] = ["alloc", "insert", "delete-cause", "delete", "free"];

/// Counts at the functions that a new flow and its end pass, as ctmon's hooks do.
const BPFTRACE: &str = "BEGIN { printf(\"ready\\n\"); } \
    kretprobe:__nf_conntrack_alloc { @alloc = count(); } \
    kprobe:__nf_conntrack_insert_prepare { @insert = count(); } \
    kprobe:__nf_ct_delete_from_lists { @delete = count(); } \
    kprobe:nf_conntrack_free { @free = count(); }";

/// All of them; `hooks`: also ctmon without one hook.
pub(crate) fn all(hooks: bool) -> Vec<Case> {
    let case = |name: &str, kind, command: &[&str]| Case {
        name: name.to_owned(),
        kind,
        command: command.iter().map(|&word| word.to_owned()).collect(),
        once: false,
    };
    let ctmon = |name: &str, events, more: &[&str]| {
        let watch = ["ctmon", "watch", "--output", "json", "--interval", "1s"];
        let silent: &[&str] = if events { &[] } else { &["--no-events"] };
        case(name, Kind::Ctmon { events }, &[&watch, silent, more].concat())
    };
    let mut all = vec![
        case(NOTHING, Kind::Nothing, &[]),
        ctmon("ctmon, counters", false, &[]),
        ctmon("ctmon, counters and events", true, &[]),
        case(
            "ctmon serve, scraped each second",
            Kind::Serve,
            &["ctmon", "serve", "--listen", &format!("unix:{SOCKET}"), "--interval", "1s"],
        ),
        ctmon("ctmon, counters, by kprobe", false, &["--attach", "kprobe"]),
        case("conntrack -E", Kind::Conntrack, &["conntrack", "-E", "-o", "timestamp,id"]),
        case("bpftrace, kprobes", Kind::Bpftrace, &["bpftrace", "-e", BPFTRACE]),
        Case { once: true, ..ctmon("timed: counters", false, &["--probe-stats"]) },
        Case { once: true, ..ctmon("timed: counters and events", true, &["--probe-stats"]) },
    ];
    if hooks {
        all.push(ctmon("ctmon, counters, with confirm", false, &["--fault-all-hooks"]));
        all.extend(HOOKS.iter().map(|&hook| {
            ctmon(&format!("ctmon, counters, without {hook}"), false, &["--fault-without", hook])
        }));
    }
    all
}
