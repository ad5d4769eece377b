//! However a service ends, nothing of it is left: no process, and no program but what is pinned.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{TRACK, causes, kill::none_loaded, pin};
use crate::{
    checks::{Checks, Skip},
    command, kernel,
    netns::{Netns, write},
    runner::{Env, Test},
    served::Served,
    stage, wait,
};

/// What ends takes less, or never ends.
const LIMIT: Duration = Duration::from_secs(30);

/// Moments at which it is killed while it attaches, after it was started.
const WHILE_ATTACHING: [Duration; 4] = [
    Duration::from_millis(150),
    Duration::from_millis(600),
    Duration::from_millis(1500),
    Duration::from_millis(3000),
];

pub(super) fn tests() -> Vec<Test> {
    // Minutes: a few seconds for each way and home.
    let on_demand = |test: Test| Test { on_demand: true, ..test };
    let tests = [
        Test::new(
            "no-exit-path-leaves-anything",
            "Killed in every way, in the initial PID namespace and as process 1 of another: nothing is left",
            |env, checks| {
                stage::prepare(TRACK)?;
                all(env, checks, None)
            },
        ),
        Test::new(
            "every-exit-path-leaves-what-is-pinned",
            "Killed in every way while its programs are pinned: no process is left, and counting goes on",
            |env, checks| {
                stage::prepare(TRACK)?;
                let pins = pin::BpfFs::mount()?;
                all(env, checks, Some(&pins.pins()?))
            },
        ),
    ];
    tests.map(on_demand).into()
}

/// Where a service runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    /// In the PID namespace of this machine.
    Initial,
    /// As process 1 of another.
    First,
    /// In another, below a process 1 that is not ctmon.
    BelowInit,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The serving half is killed.
    KillServing,
    /// The helper is killed, and what goes on without it is asked to end.
    KillHelper,
    /// The serving half is asked to end.
    Terminate,
    /// Process 1 of its PID namespace is killed.
    KillFirst,
    /// The kernel kills both halves for want of memory in their control group.
    OutOfMemory,
    /// Killed while it attaches, so long after its start.
    WhileAttaching(Duration),
    /// Killed while it detaches.
    WhileDetaching,
}

/// What can happen to a service at home.
fn ends(home: Home) -> Vec<End> {
    let always = [End::KillServing, End::KillHelper, End::Terminate, End::WhileDetaching];
    let attaching = WHILE_ATTACHING.map(End::WhileAttaching);
    let first = (home != Home::Initial).then_some(End::KillFirst);
    always.into_iter().chain(first).chain([End::OutOfMemory]).chain(attaching).collect()
}

fn all(env: &Env, checks: &mut Checks, pins: Option<&str>) -> Result<()> {
    none_loaded()?;
    let mut seconds: BTreeMap<String, String> = BTreeMap::new();
    for home in [Home::Initial, Home::First, Home::BelowInit] {
        for end in ends(home) {
            let what = format!("{home:?}, {end:?}");
            let took = match one(env, home, end, pins).with_context(|| what.clone()) {
                Ok(took) => format!("{:.1} s", took.as_secs_f64()),
                Err(error) if Skip::reason(&error).is_some() => "not tried".to_owned(),
                Err(error) => return Err(error),
            };
            if let Some(pins) = pins {
                goes_on(env, checks, &what, pins)?;
            } else {
                none_loaded().with_context(|| what.clone())?;
            }
            seconds.insert(what, took);
        }
    }
    for (what, took) in seconds {
        checks.note(format!("{what}: {took}"));
    }
    if let Some(pins) = pins {
        fs::remove_dir_all(pins)?;
    }
    Ok(())
}

/// Starts a service, ends it, and waits until none of its processes is left; how long that took.
fn one(env: &Env, home: Home, end: End, pins: Option<&str>) -> Result<Duration> {
    let group = match end {
        End::OutOfMemory => Some(Group::new()?),
        _ => None,
    };
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("socket");
    let mut service = start(env, home, pins, &socket, group.as_ref())?;
    if let End::WhileAttaching(after) = end {
        thread::sleep(after);
    } else {
        ready(&socket)?;
    }
    let family = processes()?;
    let halves: Vec<&Task> = family.iter().filter(|one| one.is_ctmon()).collect();
    let serving = halves.iter().find(|one| !halves.iter().any(|other| other.pid == one.parent));
    let helper = halves.iter().find(|one| halves.iter().any(|other| other.pid == one.parent));
    let began = Instant::now();
    match end {
        End::KillServing | End::WhileAttaching(_) => kill(serving, Signal::KILL)?,
        End::KillHelper => {
            kill(helper, Signal::KILL)?;
            // The other half goes on without it, or ends.
            thread::sleep(Duration::from_secs(1));
            kill(serving, Signal::TERM)?;
        }
        End::Terminate => kill(serving, Signal::TERM)?,
        End::WhileDetaching => {
            kill(serving, Signal::TERM)?;
            thread::sleep(Duration::from_millis(20));
            kill(serving, Signal::KILL)?;
        }
        End::KillFirst => {
            let first = family.iter().find(|one| Some(one.parent) == Some(service.0.id() as i32));
            kill(first.as_ref(), Signal::KILL)?;
        }
        End::OutOfMemory => group.as_ref().map_or(Ok(()), Group::squeeze)?,
    }
    let gone = || {
        // Whose parent is this process has to be taken notice of.
        let _ = service.0.try_wait();
        let is_left = processes()?.iter().any(Task::is_ctmon);
        Ok((!is_left).then_some(()))
    };
    wait::until("no process of ctmon is left", LIMIT, gone)
        .with_context(|| format!("{:?}", processes()))?;
    let took = began.elapsed();
    Ok(took)
}

/// Counting goes on where the programs are pinned: a new service has what was counted, and counts.
fn goes_on(env: &Env, checks: &mut Checks, what: &str, pins: &str) -> Result<()> {
    let own = Netns::own()?.inode();
    let sent = causes::send(checks, causes::udp(20))? as f64;
    let served = Served::start(env, &["--pin", pins])?;
    if served.said().contains("that takes Linux 5.15") {
        return Err(Skip("kprobes cannot be pinned before Linux 5.15".to_owned()).into());
    }
    let allocs = || served.metrics().map(|all| all.of("ctmon_allocs_total", own).unwrap_or(0.0));
    let before = allocs()?;
    causes::send(checks, causes::udp(30))?;
    wait::until("30 more", wait::SHORT, || Ok((allocs()? >= before + 30.0).then_some(())))?;
    checks.that(&format!("{what}: programs stay"), !kernel::ctmon_programs()?.is_empty(), sent);
    checks.equal(&format!("{what}: exit code"), served.terminate()?.status.code(), Some(0));
    Ok(())
}

fn start(
    env: &Env,
    home: Home,
    pins: Option<&str>,
    socket: &Path,
    group: Option<&Group>,
) -> Result<Service> {
    let listen = format!("unix:{}", socket.display());
    let mut words = vec!["serve".to_owned(), "--listen".to_owned(), listen];
    words.extend(env.arguments(&[]).into_iter().map(str::to_owned));
    words.extend(pins.iter().flat_map(|pins| ["--pin".to_owned(), (*pins).to_owned()]));
    let ctmon = env.ctmon.to_string_lossy().into_owned();
    let mut command = match home {
        Home::Initial => Command::new(&ctmon),
        Home::First | Home::BelowInit => {
            let mut unshare = Command::new("unshare");
            unshare.args(["-p", "-f", "--mount-proc"]);
            if home == Home::BelowInit {
                // It stays, because it has something to do afterwards.
                unshare.args(["sh", "-c", "\"$@\"; sleep 1000", "sh"]);
            }
            unshare.arg(&ctmon);
            unshare
        }
    };
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(group) = group {
        let procs = group.folder.join("cgroup.procs");
        // SAFETY: only a file is written between fork(2) and exec(2).
        unsafe {
            command.pre_exec(move || fs::write(&procs, "0"));
        }
    }
    command.spawn().map(Service).context("cannot start ctmon serve")
}

fn ready(socket: &Path) -> Result<()> {
    let ask = || {
        let answer = conntrack_tests::client::get(socket, "/readyz");
        Ok(answer.ok().filter(|answer| answer.status == 200).map(drop))
    };
    wait::until("ctmon serve is ready", wait::SHORT, ask)
}

/// A service, or what its home was made by; killed when this is dropped.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process of this machine.
#[derive(Debug, Clone)]
struct Task {
    pid: i32,
    parent: i32,
    name: String,
    #[expect(dead_code, reason = "for messages")]
    state: String,
}

impl Task {
    /// Whether it is one of the two halves of a service.
    fn is_ctmon(&self) -> bool {
        self.name.starts_with("ctmon")
    }
}

fn kill(task: Option<&&Task>, signal: Signal) -> Result<()> {
    let Some(task) = task else {
        bail!("there is no such process: {:?}", processes());
    };
    let pid = Pid::from_raw(task.pid).context("a process without a number")?;
    match kill_process(pid, signal) {
        // It has ended meanwhile.
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The processes of ctmon, and those that its home is made of.
fn processes() -> Result<Vec<Task>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'))
        else {
            continue;
        };
        let mut words = rest.split_whitespace();
        let (Some(state), Some(Ok(parent))) = (words.next(), words.next().map(str::parse)) else {
            continue;
        };
        if state != "Z" {
            found.push(Task { pid, parent, name: name.to_owned(), state: state.to_owned() });
        }
    }
    Ok(found)
}

/// A control group with a limit of memory.
struct Group {
    root: tempfile::TempDir,
    folder: PathBuf,
}

impl Group {
    fn new() -> Result<Self> {
        let root = tempfile::tempdir()?;
        let path = root.path().to_string_lossy().into_owned();
        command::run("mount", &["-t", "cgroup2", "cgroup2", &path])?;
        let group = Self { folder: root.path().join("ctmon-test"), root };
        let controllers = fs::read_to_string(group.root.path().join("cgroup.controllers"))?;
        if !controllers.split_whitespace().any(|one| one == "memory") {
            return Err(Skip("this kernel has no control groups of memory".to_owned()).into());
        }
        let subtree = group.root.path().join("cgroup.subtree_control");
        write(&subtree.to_string_lossy(), "+memory")?;
        fs::create_dir_all(&group.folder)?;
        write(&group.folder.join("memory.oom.group").to_string_lossy(), "1")?;
        Ok(group)
    }

    /// Leaves the group no memory: the kernel kills all that is in it.
    fn squeeze(&self) -> Result<()> {
        write(&self.folder.join("memory.max").to_string_lossy(), "65536")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let empty = || Ok(fs::remove_dir(&self.folder).is_ok().then_some(()));
        let _ = wait::until("the control group is empty", Duration::from_secs(5), empty);
        let path = self.root.path().to_string_lossy().into_owned();
        if let Err(error) = command::run("umount", &[&path]) {
            eprintln!("kernel-tests: {error:#}");
        }
    }
}
