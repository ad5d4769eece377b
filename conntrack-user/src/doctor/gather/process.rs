//! What this process may do.

use std::path::Path;

use super::{Roots, file};
use crate::doctor::facts::{Fact, Limit, Process};

/// Inodes of the initial namespaces (`PROC_PID_INIT_INO`, `PROC_USER_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_PID: &str = "pid:[4026531836]";
const INITIAL_USER: &str = "user:[4026531837]";

pub(super) fn read(roots: &Roots) -> Process {
    let procfs = &roots.procfs;
    let kernel = procfs.join("sys/kernel");
    let status = file::text(&procfs.join("self/status"));
    let limits = file::text(&procfs.join("self/limits"));
    let number = |name| field(&status, name).and_then(|text| parse(name, &text, 10));
    Process {
        user: field(&status, "Uid")
            .and_then(|ids| {
                // Real, effective, saved, of the file system.
                parse("Uid", ids.split_whitespace().nth(1).unwrap_or_default(), 10)
            })
            .map(|id| id as u32),
        capabilities: field(&status, "CapEff").and_then(|set| parse("CapEff", &set, 16)),
        unprivileged_bpf_disabled: file::number(&kernel.join("unprivileged_bpf_disabled")),
        perf_event_paranoid: file::number(&kernel.join("perf_event_paranoid")),
        kptr_restrict: file::number(&kernel.join("kptr_restrict")),
        lockdown: lockdown(&roots.sysfs),
        seccomp: number("Seccomp").map(|mode| mode as u32),
        no_new_privs: number("NoNewPrivs").map(|set| set == 1),
        locked_memory: limit(&limits, "Max locked memory"),
        open_files: limit(&limits, "Max open files"),
        initial_user_namespace: is_link(&procfs.join("self/ns/user"), INITIAL_USER),
        initial_pid_namespace: is_link(&procfs.join("self/ns/pid"), INITIAL_PID),
        container_signs: container_signs(roots),
    }
}

/// A line `NAME:  value` of /proc/self/status.
pub(super) fn field(status: &Fact<String>, name: &str) -> Fact<String> {
    let missing = || Fact::Unavailable(format!("/proc/self/status has no line {name}"));
    let find = |text: &String| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim().to_owned())
    };
    status.as_ref().and_then(|text| find(text).map_or_else(missing, Fact::Known))
}

pub(super) fn parse(name: &str, text: &str, radix: u32) -> Fact<u64> {
    match u64::from_str_radix(text, radix) {
        Ok(number) => Fact::Known(number),
        Err(error) => Fact::Unavailable(format!("{name} in /proc/self/status: {error}")),
    }
}

/// A line of /proc/self/limits: name, soft limit, hard limit, unit.
pub(super) fn limit(limits: &Fact<String>, name: &str) -> Fact<Limit> {
    let find = |text: &String| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        let mut words = rest.split_whitespace();
        let mut next = || match words.next()? {
            "unlimited" => Some(None),
            number => number.parse().ok().map(Some),
        };
        Some(Limit { soft: next()?, hard: next()? })
    };
    let missing = || Fact::Unavailable(format!("/proc/self/limits has no line {name:?}"));
    limits.as_ref().and_then(|text| find(text).map_or_else(missing, Fact::Known))
}

/// The mode in brackets of `none [integrity] confidentiality`.
fn lockdown(sysfs: &Path) -> Fact<String> {
    let path = sysfs.join("kernel/security/lockdown");
    file::text(&path).and_then(|text| {
        match text.split_once('[').and_then(|(_, rest)| rest.split_once(']')) {
            Some((mode, _)) => Fact::Known(mode.to_owned()),
            None => Fact::Unavailable(format!("{} names no mode", path.display())),
        }
    })
}

fn is_link(link: &Path, target: &str) -> Fact<bool> {
    match std::fs::read_link(link) {
        Ok(found) => Fact::Known(found.as_os_str() == target),
        Err(error) => Fact::Unavailable(file::why(link, &error)),
    }
}

/// What container engines leave for those inside.
fn container_signs(roots: &Roots) -> Vec<String> {
    let files = ["/.dockerenv", "/run/.containerenv"];
    let variables = ["container", "KUBERNETES_SERVICE_HOST"];
    let files = files.iter().filter(|file| roots.file(file).exists()).map(|file| (*file).into());
    let set = variables.iter().filter(|name| std::env::var_os(name).is_some());
    files.chain(set.map(|name| format!("${name}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_status_and_limits() {
        let status = Fact::Known("Name:\tctmon\nUid:\t0\t7\t0\t0\nCapEff:\t000001ff\n".to_owned());
        assert_eq!(field(&status, "CapEff"), Fact::Known("000001ff".into()));
        assert_eq!(parse("CapEff", "000001ff", 16), Fact::Known(511));
        assert!(parse("CapEff", "zz", 16).unavailable().is_some());
        assert_eq!(
            field(&status, "Seccomp").unavailable(),
            Some("/proc/self/status has no line Seccomp")
        );
        let limits = Fact::Known(
            "Limit Soft Hard Units\nMax open files    1024    524288    files\n\
             Max locked memory  8388608   unlimited  bytes\n"
                .to_owned(),
        );
        let open = Limit { soft: Some(1024), hard: Some(524_288) };
        assert_eq!(limit(&limits, "Max open files"), Fact::Known(open));
        let locked = Limit { soft: Some(8_388_608), hard: None };
        assert_eq!(limit(&limits, "Max locked memory"), Fact::Known(locked));
        assert!(limit(&limits, "Max nonsense").unavailable().is_some());
    }

    #[test]
    fn the_mode_of_lockdown_is_in_brackets() {
        let sysfs = tempfile::tempdir().unwrap();
        let folder = sysfs.path().join("kernel/security");
        std::fs::create_dir_all(&folder).unwrap();
        for (text, mode) in [
            ("none [integrity] confidentiality\n", Some("integrity")),
            ("[none] integrity confidentiality\n", Some("none")),
            ("none\n", None),
        ] {
            std::fs::write(folder.join("lockdown"), text).unwrap();
            assert_eq!(lockdown(sysfs.path()).known().map(String::as_str), mode, "{text:?}");
        }
    }
}
