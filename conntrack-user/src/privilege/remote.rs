//! The helper, as the half without privileges sees it.

use std::{
    fmt,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::{
    channel::{Channel, Descriptors},
    helper::Options,
    message::{ANSWER_BYTES, Answer, Known, NETNS, Request, Visited},
};
use crate::source::{
    access::{Access, Attachment},
    ebpf::{self, parts::Parts},
    procfs::{
        NO_DESCRIPTORS,
        enter::{Entered, Visit},
        seen::Sight,
    },
};
use crate::{lock::lock, model::reading::KernelStat};

/// Asks the helper. Copies ask the same one.
#[derive(Clone)]
pub struct Remote(Arc<Inner>);

struct Inner {
    /// Channel to the helper for callers that do not wait for the lock.
    line: Arc<Channel>,
    /// None: it did not answer as it should, and is not asked any more.
    channel: Mutex<Option<Arc<Channel>>>,
    options: Options,
    process: Option<Pid>,
}

/// Has the programs detached when it is dropped, unless they are pinned.
struct Guard(Remote);

impl Guard {
    fn ask(&self, request: &Request) -> Result<()> {
        self.0.ask_once(request, |answer, _| match answer {
            Answer::Detached => Ok(()),
            other => Err(mismatch(&other)),
        })
    }
}

impl Remote {
    pub(super) fn new(channel: Channel, options: Options, process: Option<Pid>) -> Self {
        let line = Arc::new(channel);
        let channel = Mutex::new(Some(Arc::clone(&line)));
        Self(Arc::new(Inner { line, channel, options, process }))
    }

    /// Number of the helper; none where it is a thread of a test.
    #[must_use]
    pub fn process(&self) -> Option<Pid> {
        self.0.process
    }

    /// Ends the connection with the helper, which then ends, also while an answer is waited for: a helper that is stopped
    /// gives none. The programs are detached with it.
    pub fn cut(&self) {
        self.0.line.shut_down();
    }

    fn channel(&self) -> MutexGuard<'_, Option<Arc<Channel>>> {
        lock(&self.0.channel)
    }

    /// Leaves no zombie.
    fn bury(&self, options: WaitOptions) {
        if let Some(process) = self.0.process {
            // Nobody else waits for it; where it has been waited for, there is nothing to do.
            let _ = waitpid(Some(process), options);
        }
    }

    /// Sends `request` and hands each answer to `take`, as long as that wants more.
    fn ask(
        &self,
        request: &Request,
        mut take: impl FnMut(Answer, Descriptors) -> Result<bool>,
    ) -> Result<()> {
        let mut channel = self.channel();
        let Some(open) = channel.as_ref() else {
            bail!("the privileged helper has ended");
        };
        let mut ask = || {
            open.send(&serde_json::to_vec(request)?, &[])?;
            loop {
                let message = open.receive(ANSWER_BYTES, true)?.context("it has ended")?;
                let answer = serde_json::from_slice(&message.bytes)?;
                let more = match answer {
                    Answer::Failed(failure) => return Ok(Some(failure)),
                    answer => take(answer, message.descriptors)?,
                };
                if !more {
                    return Ok(None);
                }
            }
        };
        match ask() {
            Ok(None) => Ok(()),
            Ok(Some(failure)) => Err(failure.into()),
            Err(error) => {
                // An answer that comes late must not be taken for that of the next request. The helper ends with it.
                *channel = None;
                self.cut();
                Err(anyhow::Error::context(error, "the privileged helper does not answer"))
            }
        }
    }

    /// Asks for one answer.
    fn ask_once<T>(
        &self,
        request: &Request,
        mut take: impl FnMut(Answer, Descriptors) -> Result<T>,
    ) -> Result<T> {
        let mut taken = None;
        self.ask(request, |answer, descriptors| {
            taken = Some(take(answer, descriptors)?);
            Ok(false)
        })?;
        taken.context("the privileged helper has not answered")
    }
}

/// An answer to another question.
fn mismatch(answer: &Answer) -> anyhow::Error {
    anyhow!("it answered something else: {answer:?}")
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("process", &self.0.process).finish_non_exhaustive()
    }
}

impl Access for Remote {
    fn attach(&self, options: &ebpf::Options) -> Result<(Parts, Box<dyn Attachment>)> {
        ensure!(
            *options == self.0.options.ebpf,
            "the privileged helper was started with other options for the kernel programs; they \
             take a restart"
        );
        let parts = self.ask_once(&Request::Attach, |answer, descriptors| match answer {
            Answer::Attached(facts) => Ok(Parts { facts: *facts, descriptors: descriptors.all }),
            other => Err(mismatch(&other)),
        })?;
        Ok((parts, Box::new(Guard(self.clone()))))
    }

    fn time_programs(&self) -> Result<OwnedFd> {
        self.ask_once(&Request::Time, |answer, descriptors| match answer {
            Answer::Timed => descriptors.all.into_iter().next().context("without a descriptor"),
            other => Err(mismatch(&other)),
        })
    }

    fn discover(&self) -> Result<Sight> {
        let mut all = Sight::default();
        self.ask(&Request::Discover, |answer, _| match answer {
            Answer::Seen { seen, unseen, more } => {
                all.seen.extend(seen);
                all.unseen = unseen;
                Ok(more)
            }
            other => Err(mismatch(&other)),
        })?;
        Ok(all)
    }

    fn enter(&self, inodes: &[u64]) -> Result<Vec<Visit<Entered>>> {
        let mut visits = Vec::new();
        for inodes in inodes.chunks(NETNS) {
            visits.extend(self.ask_once(
                &Request::Enter(inodes.to_vec()),
                |answer, descriptors| match answer {
                    Answer::Entered(visited) => {
                        visits_of(visited, descriptors, |Known { cookie, mark }, next| {
                            let (count, max, folder) = (next()?, next()?, next()?);
                            Ok(Entered { cookie, mark, count, max, folder })
                        })
                    }
                    other => Err(mismatch(&other)),
                },
            )?);
        }
        Ok(visits)
    }

    fn listen(&self, inodes: &[u64], receive_bytes: u32) -> Result<Vec<Visit<OwnedFd>>> {
        ensure!(
            self.0.options.listen == Some(receive_bytes),
            "the privileged helper was started with other options; they take a restart"
        );
        let mut visits = Vec::new();
        for inodes in inodes.chunks(NETNS) {
            visits.extend(self.ask_once(
                &Request::Listen(inodes.to_vec()),
                |answer, descriptors| match answer {
                    Answer::Listening(visited) => {
                        visits_of(visited, descriptors, |(), next| next())
                    }
                    other => Err(mismatch(&other)),
                },
            )?);
        }
        Ok(visits)
    }

    fn statistics(&self, inodes: &[u64]) -> Result<Vec<Visit<KernelStat>>> {
        let mut visits = Vec::new();
        for inodes in inodes.chunks(NETNS) {
            let request = Request::Statistics(inodes.to_vec());
            visits.extend(self.ask_once(&request, |answer, descriptors| match answer {
                Answer::Statistics(visited) => visits_of(visited, descriptors, |stat, _| Ok(stat)),
                other => Err(mismatch(&other)),
            })?);
        }
        Ok(visits)
    }

    fn is_there(&self) -> bool {
        let mut channel = self.channel();
        match channel.as_ref() {
            // It was given up, and may not have noticed yet.
            None => self.bury(WaitOptions::NOHANG),
            Some(open) if open.is_open() => return true,
            Some(_) => {
                *channel = None;
                // It is on its way out: the kernel has closed its socket.
                self.bury(WaitOptions::empty());
            }
        }
        false
    }
}

/// Gives each visit that went well its descriptors. One for which there was no room is refused.
///
/// # Errors
/// Descriptors are missing for which there was room.
fn visits_of<K, T>(
    visited: Vec<Visited<K>>,
    Descriptors { all, is_cut }: Descriptors,
    with: impl Fn(K, &mut dyn FnMut() -> Result<OwnedFd>) -> Result<T>,
) -> Result<Vec<Visit<T>>> {
    let mut left = all.into_iter();
    let mut next = || left.next().context("a descriptor of a namespace is missing");
    let visit = |Visited { inode, outcome }| {
        let outcome = match outcome.map(|known| with(known, &mut next)) {
            Ok(Err(_)) if is_cut => Err(NO_DESCRIPTORS.into()),
            Ok(with) => Ok(with?),
            Err(why) => Err(why),
        };
        Ok(Visit { inode, outcome })
    };
    visited.into_iter().map(visit).collect()
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A helper that is gone has left them, too.
        let _ = self.ask(&Request::Leave);
    }
}

impl Attachment for Guard {
    fn detach(self: Box<Self>) -> Result<()> {
        self.ask(&Request::Detach)
    }

    fn debug_log(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>> {
        bail!("the programs' debug log can be read only where they are attached without a helper")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_without_room_for_its_descriptors_is_refused_and_those_before_it_stay() {
        let of = |is_cut| {
            let visited = |inode| Visited { inode, outcome: Ok(()) };
            let file = || OwnedFd::from(tempfile::tempfile().unwrap());
            let descriptors = Descriptors { all: vec![file(), file(), file()], is_cut };
            let two = |(), next: &mut dyn FnMut() -> Result<OwnedFd>| Ok((next()?, next()?));
            visits_of([1, 2, 3].map(visited).into(), descriptors, two)
        };
        let visits = of(true).unwrap();
        let refused: Vec<_> = visits.iter().map(|visit| visit.outcome.as_ref().err()).collect();
        let reason = NO_DESCRIPTORS.to_owned();
        assert_eq!(refused, [None, Some(&reason), Some(&reason)]);
        assert!(of(false).is_err());
    }
}
