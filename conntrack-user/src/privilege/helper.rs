//! The half that keeps privileges. It parses [`Request`]s and nothing else.

use std::{
    fs,
    io::{self, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    process,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, set_parent_process_death_signal, setsid,
};

use super::{
    capabilities,
    channel::Channel,
    filter,
    message::{ANSWER_BYTES, Answer, Known, NETNS, REQUEST_BYTES, Request, Visited},
    pace::Pace,
    remote::Remote,
};
use crate::source::{
    access::{Access, Attachment, Own},
    ebpf::{self, attach::Failure},
    limits,
    procfs::seen::Sight,
};

/// Time in which a request is answered: attaching in an emulated machine takes seconds. A helper that takes longer
/// is as good as gone. The serving half waits for it meanwhile, and does nothing else.
pub const ANSWERED_IN: Duration = Duration::from_secs(30);

/// Time after the end of the other half in which it ends by itself: it reads that end once it has done what it was asked for.
const ORPHANED: Duration = Duration::from_secs(2);

/// Bytes of a reason in an answer, at most; JSON writes each as six at most.
const REASON_BYTES: usize = 8 << 10;

/// What the helper is for. It cannot be told otherwise later.
#[derive(Debug, Clone)]
pub struct Options {
    /// What to attach, and where procfs and sysfs are mounted.
    pub ebpf: ebpf::Options,
    /// Whether the programs may be timed.
    pub probe_stats: bool,
    /// Room for messages in each socket for the events of ctnetlink, in bytes; none: it opens none.
    pub listen: Option<u32>,
    /// Set where it asks ctnetlink for the kernel's own counters, which are not in procfs.
    pub asks_ctnetlink: bool,
}

impl Options {
    /// Reports whether it makes sockets for ctnetlink.
    const fn uses_ctnetlink(&self) -> bool {
        self.listen.is_some() || self.asks_ctnetlink
    }
}

/// Starts the helper: a copy of this process, which keeps its capabilities, as far as they are needed, when this one
/// gives them up. It ends with this process.
///
/// # Errors
/// There are other threads already, or those of fork(2).
pub fn start(options: Options) -> Result<Remote> {
    let procfs = &options.ebpf.procfs;
    let threads = fs::read_dir(procfs.join("self/task")).map_or(1, Iterator::count);
    ensure!(threads == 1, "the privileged helper must be started before other threads are");
    // Inherited; raising it later takes CAP_SYS_RESOURCE.
    limits::raise(libc::RLIMIT_NOFILE);
    limits::raise(libc::RLIMIT_MEMLOCK);
    let (ours, theirs) = Channel::pair().context("cannot make a socket pair")?;
    let client = Client {
        process: getpid(),
        // Where the kernel or a container refuses it, the end of the socket has to do.
        pidfd: pidfd_open(getpid(), PidfdFlags::empty()).ok(),
    };
    // SAFETY: there is no other thread, so nothing that the child uses is held by one.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()).context("cannot start the privileged helper"),
        0 => {
            drop(ours);
            let outcome = run(&Arc::new(theirs), &options, client);
            if let Err(error) = &outcome {
                let why = crate::text::one_line(&format!("{error:#}"));
                let _ = writeln!(anstream::stderr(), "ctmon: the privileged helper ends: {why}");
            }
            process::exit(i32::from(outcome.is_err()))
        }
        child => {
            drop(theirs);
            ours.wait_at_most(ANSWERED_IN).context("cannot set up the socket pair")?;
            Ok(Remote::new(ours, options, Pid::from_raw(child)))
        }
    }
}

/// The process that the helper was started for.
struct Client {
    process: Pid,
    pidfd: Option<OwnedFd>,
}

/// The child's life.
fn run(channel: &Arc<Channel>, options: &Options, client: Client) -> Result<()> {
    rustix::thread::set_name(c"ctmon-helper")?;
    leave_terminal()?;
    capabilities::pass_none_on()?;
    capabilities::keep(&capabilities::helper(options.uses_ctnetlink()))?;
    rustix::thread::set_no_new_privs(true)?;
    // After the capabilities, because a change of them takes it back.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(client.process) {
        return Ok(());
    }
    filter::install(&filter::helper(options.ebpf.pins.is_some(), options.uses_ctnetlink())?)?;
    end_soon_after(channel, client.pidfd, ORPHANED, || process::exit(1))?;
    serve(channel, options, &Own::new(options.ebpf.procfs.clone()), Pace::new(), thread::sleep)
}

/// Calls `end` so long after the other end of `channel` was closed, or the process of `peer` (a pidfd) has ended, whatever this
/// process does meanwhile. The kernel's signal (`PR_SET_PDEATHSIG`) comes neither from a process of another user nor out of
/// landlock's scope.
fn end_soon_after(
    channel: &Arc<Channel>,
    peer: Option<OwnedFd>,
    grace: Duration,
    end: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let channel = Arc::clone(channel);
    let watch = move || {
        channel.wait_until_closed(peer.as_ref());
        thread::sleep(grace);
        end();
    };
    thread::Builder::new().name("ctmon-orphan".into()).stack_size(64 << 10).spawn(watch).map(drop)
}

/// Signals of a terminal or of a service manager are for the client, whose end ends the helper. In a session of its own no
/// process of the client's joins its group, and none gets SIGCONT to it without the right to send others.
fn leave_terminal() -> Result<()> {
    setsid()?;
    for signal in
        [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2]
    {
        // SAFETY: no handler is set that could run.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // Who waits for the end of the client's output is not to wait for the helper.
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.context("cannot open /dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// Answers until the other end is closed; `rest`: lets a time pass, after work that is too much ([`Pace`]).
///
/// # Errors
/// What came was no request.
pub(super) fn serve(
    channel: &Channel,
    options: &Options,
    access: &dyn Access,
    mut pace: Pace,
    rest: impl Fn(Duration),
) -> Result<()> {
    let mut helper = Helper { options, access, attachment: None };
    let mut rested = Instant::now();
    while let Some(message) =
        channel.receive(REQUEST_BYTES, false).context("cannot receive a request")?
    {
        let request: Request = serde_json::from_slice(&message.bytes)
            .context("the serving half has sent what is no request")?;
        let begun = Instant::now();
        let answers = helper.answer(&request);
        let worked = begun.elapsed();
        for sent in answers {
            let failure = match send(channel, &sent) {
                Ok(()) => continue,
                Err(error) if is_closed(&error) => return Ok(()),
                Err(error) => error.context("the answer cannot be sent"),
            };
            // Nobody knows of programs that are attached by an answer that does not arrive.
            if matches!(sent.0, Answer::Attached(_)) {
                helper.attachment = None;
            }
            match send(channel, &failed(&failure)) {
                Err(error) if is_closed(&error) => return Ok(()),
                sent => sent.context("cannot send an answer")?,
            }
            // A failure is the last part of an answer.
            break;
        }
        let pause = pace.pause(begun.saturating_duration_since(rested), worked);
        if !pause.is_zero() {
            rest(pause);
        }
        rested = Instant::now();
    }
    Ok(())
}

/// Sends one part of an answer.
///
/// # Errors
/// The answer is too long, or the kernel refuses the message: the request gets no answer, the helper goes on.
fn send(channel: &Channel, (answer, descriptors): &Sent) -> Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> =
        descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    let bytes = serde_json::to_vec(answer)?;
    ensure!(bytes.len() <= ANSWER_BYTES, "it has {} bytes, {ANSWER_BYTES} at most", bytes.len());
    Ok(channel.send(&bytes, &descriptors)?)
}

/// The answer that nothing was done, with the start of a long reason, such as a log of the kernel's verifier.
fn failed(error: &anyhow::Error) -> Sent {
    let mut failure = Failure::from(error);
    let end = failure.text.floor_char_boundary(REASON_BYTES);
    failure.text.truncate(end);
    (Answer::Failed(failure), vec![])
}

/// Reports that the other end of the socket is closed, and nobody waits for the answer.
fn is_closed(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset))
}

/// What lasts from one request to the next.
struct Helper<'a> {
    options: &'a Options,
    access: &'a dyn Access,
    attachment: Option<Box<dyn Attachment>>,
}

/// An answer and what is beside it.
type Sent = (Answer, Vec<OwnedFd>);

impl Helper<'_> {
    /// One message, or for namespaces as many as it takes.
    fn answer(&mut self, request: &Request) -> Vec<Sent> {
        let answers = match request {
            Request::Attach => self.attach().map(|sent| vec![sent]),
            Request::Detach => {
                let detached = self.attachment.take().map_or(Ok(()), Attachment::detach);
                detached.map(|()| vec![(Answer::Detached, vec![])])
            }
            Request::Leave => {
                self.attachment = None;
                Ok(vec![(Answer::Detached, vec![])])
            }
            Request::Time => self.time().map(|sent| vec![sent]),
            Request::Discover => self.discover(),
            Request::Enter(inodes) => self.enter(inodes).map(|sent| vec![sent]),
            Request::Listen(inodes) => self.listen(inodes).map(|sent| vec![sent]),
            Request::Statistics(inodes) => self.statistics(inodes).map(|sent| vec![sent]),
        };
        answers.unwrap_or_else(|error| vec![failed(&error)])
    }

    fn attach(&mut self) -> Result<Sent> {
        ensure!(self.attachment.is_none(), "the programs are attached already");
        let (parts, attachment) = self.access.attach(&self.options.ebpf)?;
        self.attachment = Some(attachment);
        Ok((Answer::Attached(Box::new(parts.facts)), parts.descriptors))
    }

    fn time(&self) -> Result<Sent> {
        if !self.options.probe_stats {
            bail!("the privileged helper was started without --probe-stats");
        }
        Ok((Answer::Timed, vec![self.access.time_programs()?]))
    }

    fn discover(&self) -> Result<Vec<Sent>> {
        let Sight { seen, unseen } = self.access.discover()?;
        let last = seen.len().div_ceil(NETNS).saturating_sub(1);
        let mut parts: Vec<_> = seen.chunks(NETNS).map(<[_]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let answer = |(at, seen)| {
            let unseen = unseen.clone();
            (Answer::Seen { seen, unseen, more: at < last }, vec![])
        };
        Ok(parts.into_iter().enumerate().map(answer).collect())
    }

    fn enter(&self, inodes: &[u64]) -> Result<Sent> {
        require_few(inodes)?;
        let mut descriptors = Vec::new();
        let visited = self.access.enter(inodes)?.into_iter().map(|visit| {
            let outcome = visit.outcome.map(|entered| {
                descriptors.extend([entered.count, entered.max, entered.folder]);
                Known { cookie: entered.cookie, mark: entered.mark }
            });
            Visited { inode: visit.inode, outcome }
        });
        let answer = Answer::Entered(visited.collect());
        Ok((answer, descriptors))
    }

    fn listen(&self, inodes: &[u64]) -> Result<Sent> {
        require_few(inodes)?;
        let Some(receive_bytes) = self.options.listen else {
            bail!("the privileged helper was started without --source netlink");
        };
        let mut descriptors = Vec::new();
        let visits = self.access.listen(inodes, receive_bytes)?.into_iter();
        let visited = visits.map(|visit| {
            let outcome = visit.outcome.map(|socket| descriptors.push(socket));
            Visited { inode: visit.inode, outcome }
        });
        let answer = Answer::Listening(visited.collect());
        Ok((answer, descriptors))
    }

    fn statistics(&self, inodes: &[u64]) -> Result<Sent> {
        require_few(inodes)?;
        let visits = self.access.statistics(inodes)?.into_iter();
        let visited = visits.map(|visit| Visited { inode: visit.inode, outcome: visit.outcome });
        Ok((Answer::Statistics(visited.collect()), vec![]))
    }
}

fn require_few(inodes: &[u64]) -> Result<()> {
    ensure!(inodes.len() <= NETNS, "{} namespaces are too many for a request", inodes.len());
    Ok(())
}

#[cfg(test)]
#[path = "helper_tests.rs"]
mod tests;
