//! Runs one virtual machine to its verdict. A VM never outlives this program, and never runs longer than it may.

use std::{
    error::Error,
    fmt,
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _, stdin},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::{self, Child, ChildStdin, ChildStdout, Stdio},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};

use super::{
    accel::Accel,
    console::{Console, Event, Markers, emulator_fault},
    initramfs::{ADDRESS, Forward},
    kernel::Kernel,
};
use crate::{
    process::{Sink, command, line, tail},
    progress::note,
    workspace,
};

/// After a fatal line, the time that the rest of its report has to arrive.
const REPORT: Duration = Duration::from_secs(2);
/// After the command has ended, the time to power off.
const POWER_OFF: Duration = Duration::from_secs(5);
/// How often the console is looked at.
const TICK: Duration = Duration::from_millis(50);
const SHOWN_LINES: usize = 60;
const KEPT_LOGS: usize = 30;
/// Ctrl-] ends an interactive VM, as it ends telnet.
const ESCAPE: u8 = 0x1d;

/// The virtual hardware and its limits.
pub(crate) struct Machine<'a> {
    pub(crate) accel: Accel,
    pub(crate) cpus: u32,
    /// In MiB.
    pub(crate) memory: u32,
    /// More arguments for the kernel.
    pub(crate) append: &'a str,
    /// From start to power-off.
    pub(crate) time_limit: Option<Duration>,
    /// From start until the command begins.
    pub(crate) boot_limit: Duration,
    /// Whether our standard input goes to the VM.
    pub(crate) interactive: bool,
    /// Whether it has a network card, and the port that is forwarded to it.
    pub(crate) forward: Option<Forward>,
}

enum Message {
    Output(Vec<u8>),
    /// QEMU has closed its output.
    Ended,
    /// The user has asked for the end.
    Quit,
}

/// Why the command's exit status is not known.
#[derive(Debug)]
pub(crate) struct NoResult {
    message: String,
    /// Whether the command had begun.
    pub(crate) started: bool,
    /// Whether the emulator is to blame, so that another attempt may well succeed.
    pub(crate) emulator_fault: bool,
}

impl fmt::Display for NoResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for NoResult {}

impl Machine<'_> {
    /// Starts the kernel and hands on what the command writes. Returns the command's exit status;
    /// that the VM gave none is a [`NoResult`], which shows the end of its console.
    pub(crate) fn run(&self, kernel: &Kernel, initramfs: &File, sink: Sink<'_>) -> Result<u8> {
        let mut log = Log::create(&kernel.release)?;
        let mut qemu = self.start(kernel, initramfs, &log.path)?;
        let verdict = self.watch(&mut qemu, &mut log, sink);
        let started = qemu.started;
        drop(qemu);
        log.read();
        let (name, path, console) = (&kernel.release, log.path.display(), &log.console);
        for warning in &console.warnings {
            note(&format!("kernel {name}: {warning} (console: {path})"));
        }
        let reason = match (verdict?, &console.fatal) {
            (Ok(status), None) => return Ok(status),
            (Err(reason), None) => reason,
            (_, Some(line)) => format!("the kernel reported: {line}"),
        };
        let shown = tail(&console.text, SHOWN_LINES);
        let shown = if shown.is_empty() { "(its console is empty)" } else { &shown };
        let fault = |line: &String| self.accel != Accel::Kvm && emulator_fault(line);
        bail!(NoResult {
            message: format!(
                "no result from the VM with kernel {name}: {reason}\n{shown}\nconsole: {path}"
            ),
            started,
            emulator_fault: console.fatal.as_ref().is_some_and(fault),
        });
    }

    fn start(&self, kernel: &Kernel, initramfs: &File, log: &Path) -> Result<Qemu> {
        // setpriv lets the VM die with us, however we die.
        let mut qemu = command("setpriv");
        qemu.args([
            "--pdeathsig",
            "KILL",
            kernel.arch.qemu,
            "-no-user-config",
            "-nodefaults",
            "-display",
            "none",
        ]);
        qemu.args(["-no-reboot", "-cpu", "max", "-accel", self.accel.argument()]);
        qemu.args(self.accel.more_arguments());
        qemu.args(["-smp", &self.cpus.to_string(), "-m", &self.memory.to_string()]);
        // The kernel's console and the command's output do not mix: each has a serial line.
        qemu.args([
            "-chardev",
            &format!("file,id=console,path={}", log.display()),
            "-serial",
            "chardev:console",
        ]);
        qemu.args(["-chardev", "stdio,id=output,signal=off"]).args(kernel.arch.machine);
        if let Some(Forward { here, there }) = self.forward {
            let forwarded = format!("hostfwd=tcp:127.0.0.1:{here}-{ADDRESS}:{there}");
            qemu.args(["-netdev", &format!("user,id=net,restrict=on,{forwarded}")]);
            qemu.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
        }
        qemu.arg("-kernel").arg(&kernel.image);
        // The file has no other name.
        qemu.arg("-initrd").arg(format!("/proc/{}/fd/{}", process::id(), initramfs.as_raw_fd()));
        let [console, _] = kernel.arch.serial;
        qemu.arg("-append").arg(format!("console={console} panic=-1 {}", self.append));
        qemu.stdin(if self.interactive { Stdio::piped() } else { Stdio::null() });
        qemu.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = qemu.spawn();
        let child = child.with_context(|| format!("cannot start {}", line(&qemu)))?;
        Ok(Qemu { child, started: false })
    }

    /// Waits for the command's exit status, or for the reason why there is none.
    fn watch(&self, qemu: &mut Qemu, log: &mut Log, sink: Sink<'_>) -> Result<Result<u8, String>> {
        let (sender, messages) = channel();
        if let Some(input) = qemu.child.stdin.take() {
            let sender = sender.clone();
            thread::spawn(move || type_into(input, &sender));
        }
        if let Some(output) = qemu.child.stdout.take() {
            thread::spawn(move || forward(output, &sender));
        }
        let begun = Instant::now();
        let mut markers = Markers::default();
        let mut end_of_report = None;
        loop {
            match messages.recv_timeout(TICK) {
                Ok(Message::Output(bytes)) => {
                    for event in markers.push(&bytes) {
                        match event {
                            Event::Started => qemu.started = true,
                            Event::Output(bytes) => sink(&bytes)?,
                            Event::Exited(status) => {
                                qemu.wait(POWER_OFF);
                                return Ok(Ok(status));
                            }
                        }
                    }
                }
                Ok(Message::Quit) => return Ok(Ok(0)),
                Ok(Message::Ended) | Err(RecvTimeoutError::Disconnected) => {
                    qemu.wait(POWER_OFF);
                    return Ok(Err(format!("QEMU ended early {}", qemu.complaint())));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            log.read();
            let now = Instant::now();
            if log.console.fatal.is_some() && now > *end_of_report.get_or_insert(now + REPORT) {
                return Ok(Err("the kernel is broken".to_owned()));
            }
            let (what, limit) = if qemu.started {
                ("the command did not end", self.time_limit)
            } else {
                let limit =
                    self.time_limit.map_or(self.boot_limit, |limit| limit.min(self.boot_limit));
                ("it did not start", Some(limit))
            };
            if let Some(limit) = limit
                && begun.elapsed() > limit
            {
                return Ok(Err(format!("{what} within {} s", limit.as_secs())));
            }
        }
    }
}

/// Sends on what QEMU writes until it closes its output or nobody listens.
fn forward(mut output: ChildStdout, sender: &Sender<Message>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = output.read(&mut buffer) {
        let bytes = buffer.get(..length).unwrap_or_default();
        if sender.send(Message::Output(bytes.to_vec())).is_err() {
            return;
        }
    }
    // Nobody listens once there is a verdict.
    let _ = sender.send(Message::Ended);
}

/// Types what we read into the VM, until one of both closes or the user asks for the end.
fn type_into(mut input: ChildStdin, sender: &Sender<Message>) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stdin().read(&mut buffer) {
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.contains(&ESCAPE) {
            let _ = sender.send(Message::Quit);
            return;
        }
        if input.write_all(bytes).and_then(|()| input.flush()).is_err() {
            return;
        }
    }
}

/// The running process; killed when this goes out of scope.
struct Qemu {
    child: Child,
    /// Whether the command has begun.
    started: bool,
}

impl Qemu {
    fn wait(&mut self, limit: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < limit && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its exit status and what it said on standard error.
    fn complaint(&mut self) -> String {
        match (self.child.try_wait(), self.child.stderr.take()) {
            (Ok(Some(status)), Some(mut stderr)) => {
                let mut said = String::new();
                let _ = stderr.read_to_string(&mut said);
                format!("({status}) {}", said.trim_end())
            }
            _ => "(it still runs)".to_owned(),
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may be gone already. One that does not even die of SIGKILL must not make us hang.
        let _ = self.child.kill();
        self.wait(POWER_OFF);
    }
}

/// The file that takes the kernel's console, and what has been read from it.
struct Log {
    path: PathBuf,
    file: File,
    console: Console,
}

impl Log {
    fn create(release: &str) -> Result<Self> {
        let directory = workspace::target()?.join("vm/logs");
        workspace::create(&directory)?;
        prune(&directory);
        let time = UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
        let path = directory.join(format!("{release}-{time}.log"));
        // QEMU truncates and keeps the file that is there, so that this one can be read from the first byte on.
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path, file, console: Console::default() })
    }

    fn read(&mut self) {
        let mut bytes = Vec::new();
        // What cannot be read now is read at the next tick.
        let _ = self.file.read_to_end(&mut bytes);
        self.console.push(&bytes);
    }
}

/// Keeps the newest logs.
fn prune(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut logs: Vec<_> = entries
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    logs.sort();
    for (_, path) in logs.iter().rev().skip(KEPT_LOGS) {
        // Somebody else's VM may have removed it first.
        let _ = fs::remove_file(path);
    }
}
