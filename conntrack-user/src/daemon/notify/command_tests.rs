//! Real commands: one that takes what it is given, and those that fail, hang and leave others behind.

use std::{fs, path::Path};

use serde_json::json;

use super::*;
use crate::model::reading::NetnsId;

fn command(script: &str, arguments: &[&str], timeout_seconds: f64) -> Command {
    let words = ["/bin/sh", "-c", script, "sh"].into_iter().chain(arguments.iter().copied());
    let run = words.map(str::to_owned).collect();
    Command::new(&config::Command { run, timeout_seconds }).unwrap()
}

fn message() -> Message {
    let fields = vec![
        ("kind", json!("warning")),
        ("state", json!("critical")),
        ("reason", json!("$(touch /tmp/never); two words")),
        ("entries", json!(990)),
        ("netns_name", json!(null)),
    ];
    Message { netns: NetnsId { cookie: None, inode: 1 }, fields }
}

fn deliver(command: &Command) -> Result<(), String> {
    command.deliver(&message(), &|| false).map_err(|failure| failure.why)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn it_gets_the_change_in_variables_and_on_its_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let (variables, stdin) = (folder.path().join("variables"), folder.path().join("stdin"));
    let script = "env | grep ^CTMON_ | sort > \"$1\" && cat > \"$2\"";
    let places = [variables.to_str().unwrap(), stdin.to_str().unwrap()];
    assert_eq!(deliver(&command(script, &places, 10.0)), Ok(()));
    assert_eq!(
        text(&variables),
        "CTMON_CHANGE_ENTRIES=990\nCTMON_CHANGE_KIND=warning\n\
         CTMON_CHANGE_REASON=$(touch /tmp/never); two words\nCTMON_CHANGE_STATE=critical\n"
    );
    let said: serde_json::Value = serde_json::from_str(&text(&stdin)).unwrap();
    assert_eq!((&said["entries"], &said["netns_name"]), (&json!(990), &json!(null)));
}

#[test]
fn it_need_not_read_its_standard_input() {
    assert_eq!(deliver(&command("exec 0<&-; exit 0", &[], 10.0)), Ok(()));
}

#[test]
fn failures_say_how_it_ended() {
    let cases = [
        ("exit 3", "/bin/sh ended with exit status 3"),
        ("kill -TERM $$", "/bin/sh was ended by signal 15"),
    ];
    for (script, expected) in cases {
        assert_eq!(deliver(&command(script, &[], 10.0)), Err(expected.into()));
    }
    let run = vec!["/nowhere/to-be-found".to_owned()];
    let nowhere = config::Command { run, ..config::Command::default() };
    let said = deliver(&Command::new(&nowhere).unwrap()).unwrap_err();
    assert!(said.starts_with("/nowhere/to-be-found cannot be started: No such file"), "{said}");
    assert!(Command::new(&config::Command::default()).is_none());
}

#[test]
fn one_that_hangs_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let numbers = folder.path().join("pids");
    let script = "sleep 600 & echo $! $$ > \"$1\"; wait";
    let place = [numbers.to_str().unwrap()];
    let said = deliver(&command(script, &place, 1.0)).unwrap_err();
    assert_eq!(said, "/bin/sh had not ended after 1 s and was killed");
    for pid in text(&numbers).split_whitespace() {
        wait_for_end(pid);
    }
}

#[test]
fn it_does_not_outlive_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let numbers = folder.path().join("pids");
    let place = [numbers.to_str().unwrap()];
    let hangs = command("echo $$ > \"$1\"; exec sleep 600", &place, 600.0);
    let is_abandoned = || fs::read_to_string(&numbers).is_ok_and(|text| text.ends_with('\n'));
    let failure = hangs.deliver(&message(), &is_abandoned).unwrap_err();
    assert_eq!(failure.why, "/bin/sh was killed, because the daemon ends");
    wait_for_end(text(&numbers).trim());
}

/// Returns when there is no such process any more, or only what its parent has not asked for.
fn wait_for_end(pid: &str) {
    let stat = format!("/proc/{pid}/stat");
    let runs = || {
        let text = fs::read_to_string(&stat).unwrap_or_default();
        text.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
    };
    for _ in 0..500 {
        if !runs() {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
    panic!("process {pid} still runs");
}
