use std::{
    io::{Read as _, Write as _},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
};

use rand::{Rng as _, SeedableRng as _};

use super::{super::message::DESCRIPTORS_OF_NETNS, *};
use crate::{
    model::{name::NameKind, reading::KernelStat},
    source::{
        ebpf::parts::Parts,
        procfs::{
            Namespaces,
            enter::{Entered, Visit},
            seen::{Seen, Sight, Unseen},
        },
    },
};

#[path = "helper_life_tests.rs"]
mod life;

/// Stands for a kernel with so many namespaces.
#[derive(Debug, Clone, Default)]
struct Fake {
    netns: u64,
    /// Set to make texts that are longer than an answer may be.
    is_wordy: bool,
    attached: Arc<AtomicU32>,
}

struct FakeAttachment(Arc<AtomicU32>);

impl Drop for FakeAttachment {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Attachment for FakeAttachment {
    fn detach(self: Box<Self>) -> Result<()> {
        Ok(())
    }

    fn debug_log(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>> {
        bail!("none")
    }
}

/// A file that holds `text`.
fn file(text: &str) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.into()
}

fn text(descriptor: OwnedFd) -> String {
    let mut text = String::new();
    let mut file = fs::File::from(descriptor);
    std::io::Seek::rewind(&mut file).unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

impl Access for Fake {
    fn attach(&self, _: &ebpf::Options) -> Result<(Parts, Box<dyn Attachment>)> {
        let facts = r#"{"family":"Tracing","cookie_is_address":false,"cpus":2,"window_copies":1,"rings":1,"hooks":[],"sends_events":true,"without":[],
            "since_ns":0,"not_pinned":null,"maps":["BLOCKS"],"asked":{"Err":"too old"},"list":{"Err":"too old"},"attached":[]}"#;
        let reason = if self.is_wordy { "\\u0001".repeat(ANSWER_BYTES) } else { "too old".into() };
        let facts = serde_json::from_str(&facts.replace("too old", &reason))?;
        self.attached.fetch_add(1, Ordering::Relaxed);
        let attachment = Box::new(FakeAttachment(Arc::clone(&self.attached)));
        Ok((Parts { facts, descriptors: vec![file("blocks")] }, attachment))
    }

    fn time_programs(&self) -> Result<OwnedFd> {
        ensure!(!self.is_wordy, "\u{1}".repeat(ANSWER_BYTES));
        Ok(file("timed"))
    }

    fn discover(&self) -> Result<Sight> {
        let seen = |inode| Seen {
            inode,
            is_own: inode == 0,
            is_first: false,
            process: Some(1),
            // As long as a file's name may be, of the characters that take most room.
            name: Some((NameKind::IpNetns, "\u{1}".repeat(if self.is_wordy { 1024 } else { 255 }))),
        };
        let unseen = Unseen {
            hidden: Some(3),
            marks: (0..64).map(|mark| (u64::MAX - mark, u64::MAX)).collect(),
            stale_files: vec!["\u{1}".repeat(128); 4],
            ..Unseen::default()
        };
        Ok(Sight { seen: (0..self.netns).map(seen).collect(), unseen })
    }

    fn enter(&self, inodes: &[u64]) -> Result<Vec<Visit<Entered>>> {
        let known = inodes.iter().filter(|inode| **inode < self.netns);
        let visit = |inode: &u64| Visit {
            inode: *inode,
            outcome: match inode {
                7 => Err("it has none".into()),
                inode => Ok(Entered {
                    cookie: Some(inode + 1000),
                    mark: Some(inode + 2000),
                    count: file(&format!("count {inode}")),
                    max: file(&format!("max {inode}")),
                    folder: file(&format!("folder {inode}")),
                }),
            },
        };
        Ok(known.map(visit).collect())
    }

    fn listen(&self, inodes: &[u64], receive_bytes: u32) -> Result<Vec<Visit<OwnedFd>>> {
        let known = inodes.iter().filter(|inode| **inode < self.netns);
        let visit = |inode: &u64| Visit {
            inode: *inode,
            outcome: match inode {
                7 => Err("it sends no events".into()),
                inode => Ok(file(&format!("socket {inode} of {receive_bytes}"))),
            },
        };
        Ok(known.map(visit).collect())
    }

    fn statistics(&self, inodes: &[u64]) -> Result<Vec<Visit<KernelStat>>> {
        let known = inodes.iter().filter(|inode| **inode < self.netns);
        let visit = |inode: &u64| Visit {
            inode: *inode,
            outcome: match inode {
                7 if self.is_wordy => Err("x".repeat(ANSWER_BYTES)),
                7 => Err("it takes CAP_NET_ADMIN".into()),
                inode => Ok(KernelStat { drop: Some(*inode), ..KernelStat::default() }),
            },
        };
        Ok(known.map(visit).collect())
    }

    fn is_there(&self) -> bool {
        true
    }
}

/// `all`: it may do what is to be asked for at its start.
fn options(all: bool) -> Options {
    let listen = all.then_some(4096);
    Options { ebpf: ebpf::Options::default(), probe_stats: all, listen, asks_ctnetlink: all }
}

/// A helper in a thread, and the other end.
fn raw(fake: Fake, all: bool) -> (Channel, JoinHandle<Result<()>>) {
    let (ours, theirs) = Channel::pair().unwrap();
    let helper = thread::spawn(move || serve(&theirs, &options(all), &fake, Pace::new(), |_| ()));
    (ours, helper)
}

fn remote(fake: Fake, all: bool) -> (Remote, JoinHandle<Result<()>>) {
    let (channel, helper) = raw(fake, all);
    (Remote::new(channel, options(all), None), helper)
}

#[test]
fn what_is_no_request_ends_the_helper() {
    let long = format!("{{\"enter\":[{}1]}}", "1,".repeat(REQUEST_BYTES));
    let deep = "[".repeat(REQUEST_BYTES);
    let cases: [&[u8]; 13] = [
        b"\xff\x00\x17garbage",
        b"\"reboot\"",
        b"\"attac",
        b"{\"enter\":[1,2",
        b"{\"enter\":[-1]}",
        b"{\"enter\":[18446744073709551616]}",
        b"{\"enter\":[\"/proc/1/ns/net\"]}",
        b"{\"listen\":[1],\"bytes\":1}",
        b"{\"attach\":{\"procfs\":\"/tmp\"}}",
        b"\"attach\"\"attach\"",
        b"null",
        long.as_bytes(),
        deep.as_bytes(),
    ];
    for case in cases {
        let fake = Fake { netns: 3, ..Fake::default() };
        let attached = Arc::clone(&fake.attached);
        let (channel, helper) = raw(fake, true);
        channel.send(b"\"attach\"", &[]).unwrap();
        channel.receive(ANSWER_BYTES, true).unwrap().unwrap();
        assert_eq!(attached.load(Ordering::Relaxed), 1);
        channel.send(case, &[]).unwrap();
        let said = String::from_utf8_lossy(case);
        assert!(channel.receive(ANSWER_BYTES, true).unwrap().is_none(), "{said}: no answer");
        let error = helper.join().unwrap().unwrap_err();
        assert!(format!("{error:#}").contains("request"), "{said}: {error:#}");
        assert_eq!(attached.load(Ordering::Relaxed), 0, "{said}: detached");
    }
}

#[test]
fn descriptors_beside_a_request_are_not_taken() {
    let (channel, helper) = raw(Fake::default(), true);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let many = vec![writer.as_fd(); 100];
    channel.send(b"\"discover\"", &many).unwrap();
    drop(writer);
    assert!(helper.join().unwrap().is_err());
    // Nobody holds the other end: it ends.
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn what_cannot_be_done_is_answered_and_the_helper_goes_on() {
    let fake = Fake { netns: 3, ..Fake::default() };
    let attached = Arc::clone(&fake.attached);
    let (channel, helper) = raw(fake, false);
    let many = format!("{{\"enter\":[{}1]}}", "1,".repeat(NETNS));
    for (request, answer) in [
        ("\"detach\"", "\"detached\""),
        ("\"attach\"", "{\"attached\":"),
        ("\"attach\"", "attached already"),
        ("\"detach\"", "\"detached\""),
        ("\"attach\"", "{\"attached\":"),
        ("\"time\"", "without --probe-stats"),
        ("{\"listen\":[1]}", "without --source netlink"),
        ("{\"enter\":[]}", "{\"entered\":[]}"),
        ("{\"enter\":[77]}", "{\"entered\":[]}"),
        (many.as_str(), "too many"),
        (many.replace("enter", "listen").as_str(), "too many"),
        (many.replace("enter", "statistics").as_str(), "too many"),
        ("{\"statistics\":[77]}", "{\"statistics\":[]}"),
        ("\"discover\"", "{\"seen\":"),
    ] {
        channel.send(request.as_bytes(), &[]).unwrap();
        let message = channel.receive(ANSWER_BYTES, true).unwrap().unwrap();
        let said = String::from_utf8(message.bytes).unwrap();
        assert!(said.contains(answer), "{request}: {said}");
    }
    assert_eq!(attached.load(Ordering::Relaxed), 1);
    drop(channel);
    helper.join().unwrap().unwrap();
    assert_eq!(attached.load(Ordering::Relaxed), 0, "the client's end detaches");
}

#[test]
fn an_answer_that_is_too_long_costs_its_request_alone() {
    let fake = Fake { netns: 100, is_wordy: true, ..Fake::default() };
    let attached = Arc::clone(&fake.attached);
    let (remote, helper) = remote(fake, true);
    // Each twice: nothing is left of the first answer.
    for _ in 0..2 {
        let error = remote.discover().unwrap_err();
        assert!(format!("{error:#}").contains("65536 at most"), "{error:#}");
        let error = remote.statistics(&[7]).unwrap_err();
        assert!(format!("{error:#}").contains("65536 at most"), "{error:#}");
        let error = remote.time_programs().unwrap_err();
        assert_eq!(error.to_string(), "\u{1}".repeat(REASON_BYTES));
        let error = remote.attach(&ebpf::Options::default()).err().unwrap();
        assert!(format!("{error:#}").contains("65536 at most"), "{error:#}");
        assert_eq!(attached.load(Ordering::Relaxed), 0, "detached: nobody knows of them");
        assert_eq!(remote.enter(&[1]).unwrap().len(), 1);
    }
    drop(remote);
    helper.join().unwrap().unwrap();
}

#[test]
fn a_look_that_fails_is_not_taken_for_hidden_processes() {
    let (remote, _helper) = remote(Fake { netns: 100, is_wordy: true, ..Fake::default() }, true);
    let mut namespaces = Namespaces::new("/proc".into(), "/nowhere".into());
    for _ in 0..2 {
        namespaces.scan(&remote);
        let coverage = namespaces.coverage(&[], false);
        assert_eq!((coverage.unread, coverage.blind_spots), (1, vec![]));
        let reason = coverage.not_read[0].reason.to_string();
        assert!(reason.starts_with("network namespaces could not be looked for: "), "{reason}");
    }
}

#[test]
fn a_client_that_does_not_wait_for_its_answers_ends_the_helper_quietly() {
    let (channel, helper) = raw(Fake { netns: 2000, ..Fake::default() }, false);
    channel.send(b"\"discover\"", &[]).unwrap();
    drop(channel);
    helper.join().unwrap().unwrap();
}

#[test]
fn a_flood_of_requests_waits_for_who_reads_the_answers() {
    let (channel, helper) = raw(Fake { netns: 2, ..Fake::default() }, true);
    channel.wait_at_most(Duration::from_secs(1)).unwrap();
    let request = serde_json::to_vec(&Request::Enter(vec![0, 1])).unwrap();
    let mut sent = 0;
    // Room for messages in the kernel is all that it takes.
    while channel.send(&request, &[]).is_ok() {
        sent += 1;
        assert!(sent < 10_000, "requests wait for nobody");
    }
    // Nothing of it is lost.
    for _ in 0..sent {
        let message = channel.receive(ANSWER_BYTES, true).unwrap().unwrap();
        assert_eq!(message.descriptors.all.len(), 2 * DESCRIPTORS_OF_NETNS);
    }
    drop(channel);
    helper.join().unwrap().unwrap();
}

#[test]
fn a_helper_that_has_worked_much_rests_before_the_next_request() {
    for (pace, rests_some) in [(Pace::new(), false), (Pace::spent(), true)] {
        let (ours, theirs) = Channel::pair().unwrap();
        // As many as a socket takes before it waits (net.unix.max_dgram_qlen). Not after each there is a rest: where this test is
        // kept waiting between two, that was one.
        for _ in 0..8 {
            ours.send(b"\"discover\"", &[]).unwrap();
        }
        rustix::net::shutdown(&ours, rustix::net::Shutdown::Write).unwrap();
        let rests = std::cell::Cell::new(0);
        let fake = Fake { netns: 3, ..Fake::default() };
        serve(&theirs, &options(true), &fake, pace, |_| rests.set(rests.get() + 1)).unwrap();
        assert_eq!(rests.get() > 0, rests_some);
    }
}

#[test]
fn random_bytes_make_no_panic() {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(6);
    let valid: [&[u8]; 5] = [
        b"\"attach\"",
        b"\"discover\"",
        b"\"time\"",
        b"{\"enter\":[1,2,3]}",
        b"{\"listen\":[1,2,3]}",
    ];
    for round in 0..500 {
        let mut bytes = valid[round % valid.len()].to_vec();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.random();
        }
        let (channel, helper) = raw(Fake { netns: 4, ..Fake::default() }, true);
        channel.send(&bytes, &[]).unwrap();
        drop(channel);
        // Whether it was one or not.
        let _ = helper.join().unwrap();
    }
}

#[test]
fn many_namespaces_come_in_several_messages_each_with_its_own_files() {
    let (remote, helper) = remote(Fake { netns: 500, ..Fake::default() }, false);
    let Sight { seen, unseen } = remote.discover().unwrap();
    assert_eq!(unseen.hidden, Some(3));
    let inodes: Vec<u64> = seen.iter().map(|seen| seen.inode).collect();
    assert_eq!(inodes, (0..500).collect::<Vec<_>>());
    assert!(seen[0].is_own && !seen[1].is_own);
    let visits = remote.enter(&inodes).unwrap();
    assert_eq!(visits.len(), 500);
    for visit in visits {
        let inode = visit.inode;
        if inode == 7 {
            assert_eq!(visit.outcome.unwrap_err(), "it has none");
            continue;
        }
        let entered = visit.outcome.unwrap();
        assert_eq!((entered.cookie, entered.mark), (Some(inode + 1000), Some(inode + 2000)));
        assert_eq!(text(entered.count), format!("count {inode}"));
        assert_eq!(text(entered.max), format!("max {inode}"));
        assert_eq!(text(entered.folder), format!("folder {inode}"));
    }
    drop(remote);
    helper.join().unwrap().unwrap();
}

#[test]
fn sockets_come_in_several_messages_with_the_room_that_was_given_at_the_start() {
    let (remote, helper) = remote(Fake { netns: 100, ..Fake::default() }, true);
    let inodes: Vec<u64> = (0..100).collect();
    let visits = remote.listen(&inodes, 4096).unwrap();
    assert_eq!(visits.len(), 100);
    for Visit { inode, outcome } in visits {
        match inode {
            7 => assert_eq!(outcome.unwrap_err(), "it sends no events"),
            _ => assert_eq!(text(outcome.unwrap()), format!("socket {inode} of 4096")),
        }
    }
    let error = remote.listen(&[1], 8192).unwrap_err();
    assert!(error.to_string().contains("they take a restart"), "{error}");
    assert!(remote.is_there());
    drop(remote);
    helper.join().unwrap().unwrap();
}

#[test]
fn counters_come_in_several_messages() {
    let (remote, helper) = remote(Fake { netns: 100, ..Fake::default() }, false);
    let inodes: Vec<u64> = (0..120).collect();
    let visits = remote.statistics(&inodes).unwrap();
    assert_eq!(visits.len(), 100);
    for Visit { inode, outcome } in visits {
        match inode {
            7 => assert_eq!(outcome.unwrap_err(), "it takes CAP_NET_ADMIN"),
            _ => assert_eq!(outcome.unwrap().drop, Some(inode)),
        }
    }
    drop(remote);
    helper.join().unwrap().unwrap();
}

#[test]
fn a_refusal_is_known_for_one_on_the_other_side() {
    #[derive(Debug)]
    struct Refusing;
    impl Access for Refusing {
        fn attach(&self, _: &ebpf::Options) -> Result<(Parts, Box<dyn Attachment>)> {
            Err(io::Error::from_raw_os_error(libc::EPERM)).context("the kernel refuses it")
        }
        fn time_programs(&self) -> Result<OwnedFd> {
            bail!("not asked")
        }
        fn discover(&self) -> Result<Sight> {
            bail!("not asked")
        }
        fn enter(&self, _: &[u64]) -> Result<Vec<Visit<Entered>>> {
            bail!("not asked")
        }
        fn listen(&self, _: &[u64], _: u32) -> Result<Vec<Visit<OwnedFd>>> {
            bail!("not asked")
        }
        fn statistics(&self, _: &[u64]) -> Result<Vec<Visit<KernelStat>>> {
            bail!("not asked")
        }
        fn is_there(&self) -> bool {
            true
        }
    }
    let (ours, theirs) = Channel::pair().unwrap();
    let helper =
        thread::spawn(move || serve(&theirs, &options(true), &Refusing, Pace::new(), |_| ()));
    let remote = Remote::new(ours, options(true), None);
    let error = remote.attach(&ebpf::Options::default()).err().unwrap();
    assert!(ebpf::is_refused(&error), "{error:#}");
    assert!(format!("{error:#}").contains("the kernel refuses it"), "{error:#}");
    let error = remote.discover().unwrap_err();
    assert!(!ebpf::is_refused(&error), "{error:#}");
    drop(remote);
    helper.join().unwrap().unwrap();
}
