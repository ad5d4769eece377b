//! System calls of `ctmon serve` and of what it starts, as strace(1) writes them: a file a thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::runner::Env;

/// Process that makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Half {
    Serving,
    Helper,
    /// A program that `notify.command` starts.
    Program,
}

/// Calls under a filter: with the arguments that filters compare.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Calls that the filter allowed.
    pub(crate) made: BTreeMap<(Half, String), BTreeSet<String>>,
    /// Calls that the filter refused.
    pub(crate) refused: BTreeMap<(Half, String), BTreeSet<String>>,
}

impl Calls {
    /// Takes over those of another run.
    pub(crate) fn append(&mut self, other: Self) {
        for (all, more) in [(&mut self.made, other.made), (&mut self.refused, other.refused)] {
            for (key, arguments) in more {
                all.entry(key).or_default().extend(arguments);
            }
        }
    }

    fn add(&mut self, half: Half, line: &Line<'_>) {
        let all = if line.is_refused { &mut self.refused } else { &mut self.made };
        all.entry((half, line.call.to_owned())).or_default().insert(compared(line));
    }
}

/// Folder of the files of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    folder: TempDir,
}

impl Trace {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()? })
    }

    /// Environment with a traced ctmon. The process is ctmon's own: strace is a child.
    pub(crate) fn env(&self, env: &Env) -> Result<Env> {
        let ctmon = self.folder.path().join("ctmon");
        let files = self.folder.path().join("thread");
        let text = format!(
            "#!/bin/sh\nexec strace -D -ff -qq -s 0 -o {} {} \"$@\"\n",
            files.display(),
            env.ctmon.display()
        );
        fs::write(&ctmon, text)?;
        fs::set_permissions(&ctmon, fs::Permissions::from_mode(0o755))?;
        Ok(env.with_ctmon(ctmon))
    }

    /// Calls of the traced processes, which must all have ended.
    pub(crate) fn calls(&self) -> Result<Calls> {
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(self.folder.path())? {
            let path: PathBuf = entry?.path();
            let id = path.extension().and_then(|id| id.to_str()?.parse::<u32>().ok());
            if let Some(id) = id {
                threads.insert(id, read(&path)?);
            }
        }
        Ok(calls(&threads))
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A line of strace.
struct Line<'a> {
    call: &'a str,
    arguments: Vec<&'a str>,
    result: &'a str,
    is_refused: bool,
}

/// `call(arguments) = result`; none for signals and ends.
fn parse(line: &str) -> Option<Line<'_>> {
    let (call, rest) = line.split_once('(')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if call.is_empty() || !call.chars().all(is_name) {
        return None;
    }
    let (arguments, result) = rest.rsplit_once(" = ").unwrap_or((rest, "?"));
    let arguments = arguments.trim_end().trim_end_matches(')');
    let is_refused = result.contains("ENOSYS");
    Some(Line { call, arguments: split(arguments), result, is_refused })
}

/// Arguments, which may be structures and texts with commas.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut all, mut is_quoted) = (0_i32, 0, Vec::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth -= 1,
            ',' if depth == 0 => {
                all.push(text.get(begin..at).unwrap_or_default().trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    all.push(text.get(begin..).unwrap_or_default().trim());
    all
}

/// Arguments that filters look at.
fn compared(line: &Line<'_>) -> String {
    let argument = |number: usize| line.arguments.get(number).copied().unwrap_or_default();
    match line.call {
        "fcntl" | "ioctl" | "fchmod" => argument(1).to_owned(),
        "prctl" | "bpf" | "prlimit64" => argument(0).to_owned(),
        "socket" | "socketpair" => [argument(0), argument(1), argument(2)].join(" "),
        "mmap" | "mprotect" => argument(2).to_owned(),
        "sendto" if argument(4) != "NULL" => "an address".to_owned(),
        "utimensat" if argument(1) != "NULL" => "a path".to_owned(),
        "clone" if !is_thread(line) => "a process".to_owned(),
        _ => String::new(),
    }
}

fn is_thread(line: &Line<'_>) -> bool {
    line.arguments.iter().any(|argument| argument.contains("CLONE_THREAD"))
}

/// Calls of threads under filters; the thread with the lowest number comes first.
fn calls(threads: &BTreeMap<u32, String>) -> Calls {
    let mut calls = Calls::default();
    // With each: whether it is under a filter from its begin on.
    let mut open: Vec<(u32, Half, bool)> =
        threads.keys().next().map(|id| (*id, Half::Serving, false)).into_iter().collect();
    while let Some((id, mut half, mut is_filtered)) = open.pop() {
        let text = threads.get(&id).map(String::as_str).unwrap_or_default();
        for line in text.lines().filter_map(parse) {
            if is_filtered {
                calls.add(half, &line);
            }
            let child = line.result.split(' ').next().and_then(|word| word.parse().ok());
            match (line.call, child) {
                ("clone" | "clone3" | "fork" | "vfork", Some(child @ 1..)) => {
                    let is_helper = !is_filtered && !is_thread(&line);
                    let half = if is_helper { Half::Helper } else { half };
                    open.push((child, half, is_filtered));
                }
                ("seccomp", Some(0)) => is_filtered = true,
                ("execve", Some(0)) if is_filtered => half = Half::Program,
                _ => {}
            }
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_of_the_half_that_makes_them_once_it_is_under_its_filter() {
        let threads = [
            (
                10,
                "execve(\"/ctmon\", [\"ctmon\"], 0x1 /* 3 vars */) = 0\n\
                 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x1) = 11\n\
                 chdir(\"/\") = 0\n\
                 seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=9, filter=0x5}) = 0\n\
                 clone3({flags=CLONE_VM|CLONE_THREAD, stack=0x1}, 88) = -1 ENOSYS (Function not implemented)\n\
                 clone(child_stack=0x1, flags=CLONE_VM|CLONE_THREAD, tls=0x2) = 12\n\
                 clone(child_stack=0x1, flags=CLONE_VM|CLONE_VFORK|SIGCHLD) = 13\n\
                 --- SIGHUP {si_signo=SIGHUP, si_code=SI_USER, si_pid=1, si_uid=0} ---\n\
                 exit_group(0) = ?\n+++ exited with 0 +++\n",
            ),
            (
                11,
                "dup2(3, 0) = 0\nseccomp(SECCOMP_SET_MODE_FILTER, 0, {len=9}) = 0\nsetns(5, CLONE_NEWNET) = 0\n",
            ),
            (12, "fcntl(3, F_GETFL) = 0x2 (flags O_RDWR)\nioctl(4, FIONBIO, [1]) = 0\n"),
            (13, "dup2(4, 0) = 0\nexecve(\"/bin/sh\", [\"sh\"], 0x1) = 0\ngetppid() = 1\n"),
        ];
        let threads = threads.map(|(id, text)| (id, text.to_owned())).into();
        let calls = calls(&threads);
        let of = |half: Half| -> Vec<String> {
            let of_half = calls.made.iter().filter(|((other, _), _)| *other == half);
            of_half.map(|((_, call), arguments)| format!("{call} {arguments:?}")).collect()
        };
        assert_eq!(of(Half::Helper), [r#"setns {""}"#]);
        assert_eq!(of(Half::Program), [r#"getppid {""}"#]);
        assert_eq!(
            of(Half::Serving),
            [
                r#"clone {"", "a process"}"#,
                r#"dup2 {""}"#,
                r#"execve {""}"#,
                r#"exit_group {""}"#,
                r#"fcntl {"F_GETFL"}"#,
                r#"ioctl {"FIONBIO"}"#,
            ]
        );
        let refused: Vec<_> = calls.refused.keys().cloned().collect();
        assert_eq!(refused, [(Half::Serving, "clone3".to_owned())]);
    }

    #[test]
    fn commas_in_structures_and_texts_are_none_between_arguments() {
        let line =
            r#"sendto(3, "a,b"..., 12, MSG_NOSIGNAL, {sa_family=AF_INET, sin_port=1}, 16) = 12"#;
        let line = parse(line).unwrap();
        assert_eq!((line.call, line.arguments.len(), line.result), ("sendto", 6, "12"));
        assert_eq!(compared(&line), "an address");
        assert!(parse("+++ exited with 0 +++").is_none());
        assert!(parse("--- SIGSEGV {si_signo=SIGSEGV} ---").is_none());
    }
}
