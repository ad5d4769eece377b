//! `ctmon serve` as a process of its own, and what it takes.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long it may take to start.
const START: Duration = Duration::from_secs(20);
/// Between two looks at what it takes.
const LOOK: Duration = Duration::from_millis(50);

/// The process under attack.
pub(super) struct Victim {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Victim {
    /// Starts it at 127.0.0.1, with `folder`'s web configuration if there is one.
    pub(super) fn start(folder: &Path) -> Self {
        // A port that is free, unless another takes it meanwhile.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ctmon"));
        command.args(["serve", "--source", "procfs", "--listen", &address.to_string()]);
        let web = folder.join("web.yml");
        if web.exists() {
            command.arg("--web-config").arg(web);
        }
        let mut child = command.spawn().unwrap();
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert_eq!(child.try_wait().unwrap(), None, "it has ended");
            assert!(begin.elapsed() < START, "it does not listen");
            thread::sleep(LOOK);
        }
        Self { child, address }
    }

    /// What it takes now.
    pub(super) fn takes(&self) -> Takes {
        Takes::of(self.child.id())
    }

    /// What it takes at the most until that is asked for.
    pub(super) fn watch(&self) -> Watch {
        let (stop, id) = (Arc::new(AtomicBool::new(false)), self.child.id());
        let stopped = stop.clone();
        let look = move || {
            let mut most = Takes::of(id);
            while !stopped.load(Relaxed) {
                most = most.at_most(Takes::of(id));
                thread::sleep(LOOK);
            }
            most
        };
        Watch { stop, thread: thread::spawn(look) }
    }

    /// Has it end as a service manager does, and sees that it does so in order.
    pub(super) fn end(mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Where a test has failed; it has ended otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes down what it takes.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Takes>,
}

impl Watch {
    pub(super) fn most(self) -> Takes {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}

/// Memory in KiB and descriptors of the half that answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Takes {
    /// Resident (smaps_rollup).
    pub(super) rss: u64,
    /// Of that, what it shares with nobody: without the file that it was started from.
    pub(super) private: u64,
    pub(super) descriptors: u64,
}

impl Takes {
    fn of(id: u32) -> Self {
        let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap();
        let of = |keys: &[&str]| -> u64 {
            let figure = |line: &str| {
                let (key, figure) = line.split_once(':')?;
                keys.contains(&key)
                    .then(|| figure.trim_end_matches("kB").trim().parse::<u64>().unwrap())
            };
            text.lines().filter_map(figure).sum()
        };
        let descriptors = fs::read_dir(format!("/proc/{id}/fd")).unwrap().count() as u64;
        Self { rss: of(&["Rss"]), private: of(&["Private_Clean", "Private_Dirty"]), descriptors }
    }

    fn at_most(self, other: Self) -> Self {
        Self {
            rss: self.rss.max(other.rss),
            private: self.private.max(other.private),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }
}
