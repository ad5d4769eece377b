//! Begin and end of the helper: programs that it holds, a helper that is gone or hangs, the other half's end.

use super::*;

#[test]
fn the_programs_are_attached_until_the_guard_is_dropped() {
    let fake = Fake::default();
    let attached = Arc::clone(&fake.attached);
    let (remote, _helper) = remote(fake, true);
    for _ in 0..2 {
        let (parts, mut guard) = remote.attach(&ebpf::Options::default()).unwrap();
        assert_eq!(parts.descriptors.len(), 1);
        assert!(guard.debug_log().is_err());
        assert_eq!(attached.load(Ordering::Relaxed), 1);
        drop(guard);
        assert_eq!(attached.load(Ordering::Relaxed), 0);
    }
    assert_eq!(text(remote.time_programs().unwrap()), "timed");
    let other = ebpf::Options { ring_bytes: 4096, ..ebpf::Options::default() };
    let error = remote.attach(&other).err().unwrap();
    assert!(error.to_string().contains("they take a restart"), "{error}");
    assert!(remote.is_there());
}

#[test]
fn a_helper_that_is_gone_or_answers_something_else_is_not_asked_again() {
    let (ours, theirs) = Channel::pair().unwrap();
    let gone = Remote::new(ours, options(true), None);
    assert!(gone.is_there());
    drop(theirs);
    assert!(!gone.is_there());
    let error = gone.discover().unwrap_err();
    assert!(error.to_string().contains("has ended"), "{error}");

    for answer in [
        "\"timed\"",
        "{\"entered\":[{\"inode\":1,\"outcome\":{\"Ok\":{}}}]}",
        "{\"listening\":[{\"inode\":1,\"outcome\":{\"Ok\":null}}]}",
        "nonsense",
        "\"detached\"",
    ] {
        let (ours, theirs) = Channel::pair().unwrap();
        let wrong = Remote::new(ours, options(true), None);
        theirs.send(answer.as_bytes(), &[]).unwrap();
        let error = wrong.enter(&[1]).unwrap_err();
        assert!(error.to_string().contains("does not answer"), "{answer}: {error:#}");
        assert!(!wrong.is_there(), "{answer}");
        // It is told by the end of the socket.
        assert!(theirs.receive(REQUEST_BYTES, false).unwrap().is_some());
        assert!(theirs.receive(REQUEST_BYTES, false).unwrap().is_none());
    }
}

#[test]
fn a_helper_that_hangs_is_given_up() {
    let (ours, theirs) = Channel::pair().unwrap();
    ours.wait_at_most(Duration::from_millis(20)).unwrap();
    let remote = Remote::new(ours, options(true), None);
    assert!(remote.discover().is_err());
    assert!(!remote.is_there());
    assert!(theirs.as_fd().as_raw_fd() >= 0);
}

#[test]
fn it_is_not_started_beside_other_threads() {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let other = thread::spawn(move || wait.recv());
    let error = start(options(false)).unwrap_err();
    assert!(error.to_string().contains("before other threads"), "{error}");
    drop(done);
    let _ = other.join();
}

#[test]
fn it_ends_with_the_other_half_whatever_it_does() {
    let (ours, theirs) = Channel::pair().unwrap();
    let theirs = Arc::new(theirs);
    let (ended, end) = std::sync::mpsc::channel();
    end_soon_after(&theirs, None, Duration::ZERO, move || ended.send(()).unwrap()).unwrap();
    assert!(end.recv_timeout(Duration::from_millis(50)).is_err(), "the other end is open");
    // Nobody reads the end.
    drop(ours);
    end.recv_timeout(Duration::from_secs(60)).unwrap();
    drop(theirs);
}

#[test]
fn a_copy_of_the_other_half_that_holds_the_socket_does_not_keep_it() {
    let (ours, theirs) = Channel::pair().unwrap();
    let theirs = Arc::new(theirs);
    let mut half = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let pidfd = pidfd_open(Pid::from_child(&half), PidfdFlags::empty()).unwrap();
    let (ended, end) = std::sync::mpsc::channel();
    let tell = move || ended.send(()).unwrap();
    end_soon_after(&theirs, Some(pidfd), Duration::ZERO, tell).unwrap();
    assert!(end.recv_timeout(Duration::from_millis(50)).is_err(), "it has not ended");
    half.kill().and_then(|()| half.wait()).unwrap();
    end.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(ours.is_open());
}
