//! What the cgroups of a process say about who runs it.
//!
//! There is no one rule for what runtimes and systemd call them; this knows what they do by default.
//! The parts of a path have any byte but `/` and newline in them (kernel/cgroup/cgroup.c,
//! `cgroup_mkdir`), and are relative to the cgroup namespace of the reader: from within a container
//! they may begin with `/../..` and lack what is above.

use super::hex_digits;

/// Characters of a container's id that are shown, as the tools of docker and podman do.
pub(super) const SHORT_ID: usize = 12;

/// Who a process belongs to. No text of it is fit for a terminal yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// The UID with `-`; the container within a container of the pod, if it is one.
    Pod { uid: String, inner: Option<String> },
    /// Name or short id; `outer/inner` where one runs in another.
    Container(String),
    /// A unit of systemd.
    Unit(String),
}

impl Owner {
    fn rank(&self) -> u8 {
        match self {
            Self::Unit(_) => 0,
            Self::Container(_) => 1,
            Self::Pod { .. } => 2,
        }
    }
}

/// From the text of `/proc/PID/cgroup`: lines of `number:controllers:path`, one under v2, one for
/// each hierarchy under v1, both where they are mixed. The line that says most is believed: under v1
/// some hierarchies may be left at a path above.
pub(super) fn owner(text: &str) -> Option<Owner> {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    // The last of equals: systemd's own hierarchies (1:name=systemd, 0:) come last where it runs.
    paths.filter_map(of_path).max_by_key(Owner::rank)
}

fn of_path(path: &str) -> Option<Owner> {
    // A process that has ended, in a cgroup that has been removed (`proc_cgroup_show`).
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let mut pod = None;
    let mut containers = Containers::default();
    let mut units = Vec::new();
    // containerd by itself: a namespace, which is most often this one, and an id of any form.
    if let Some(below) = path.strip_prefix("/default/") {
        containers.enter(short(below.split('/').next().unwrap_or_default()));
    }
    let mut parent = "";
    for part in path.split('/').filter(|part| !part.is_empty()) {
        // Where kubelet and containerd differ in the driver: `parent.slice:runtime:ID` is one cgroup.
        let (slice, scope) = match part.split_once(".slice:") {
            Some((slice, scope)) => (slice, scope.rsplit(':').next().unwrap_or_default()),
            None => (part, part),
        };
        if pod.is_none() {
            // The outermost: who is in a pod may call the cgroups below it what he likes.
            pod = pod_uid(slice);
            if pod.is_some() {
                containers = Containers::default();
            }
        }
        match role(scope, parent) {
            Some(Role::Container(name)) => containers.enter(name),
            // It has a cgroup in the pod, and the namespaces of the host.
            Some(Role::Monitor) if containers.outer.is_none() => pod = None,
            Some(Role::Monitor) | None => {}
            Some(Role::Unit(name)) => units.push(name),
        }
        parent = part;
    }
    if let Some(uid) = pod {
        return Some(Owner::Pod { uid, inner: containers.inner });
    }
    if let Some(text) = containers.text() {
        return Some(Owner::Container(text));
    }
    // As systemd has it (src/basic/cgroup-util.c, `cg_path_get_unit`): the outermost, and below a
    // user's manager one of that. What is called like a unit further in is none.
    match units[..] {
        [manager, unit, ..] if manager.starts_with("user@") => {
            Some(Owner::Unit(format!("{manager}/{unit}")))
        }
        [unit, ..] => Some(Owner::Unit(unit.to_owned())),
        [] => None,
    }
}

/// The containers that a process is in.
#[derive(Debug, Default)]
struct Containers {
    outer: Option<String>,
    /// The innermost.
    inner: Option<String>,
}

impl Containers {
    fn enter(&mut self, name: String) {
        match &self.outer {
            _ if name.is_empty() => {}
            None => self.outer = Some(name),
            // Some runtimes have a second cgroup for the same container.
            Some(outer) if *outer == name => {}
            Some(_) => self.inner = Some(name),
        }
    }

    fn text(self) -> Option<String> {
        let outer = self.outer?;
        Some(match self.inner {
            Some(inner) => format!("{outer}/{inner}"),
            None => outer,
        })
    }
}

/// The UID of the pod whose cgroup this is, with `-`: `podUID` of the cgroupfs driver, and
/// `kubepods-burstable-podUID.slice` of the systemd driver, where `-` would be a level and is `_`
/// (pkg/kubelet/cm/cgroup_manager_linux.go, `ToSystemd`).
///
/// A UUID; of a static pod 32 digits, the hash of its manifest.
fn pod_uid(part: &str) -> Option<String> {
    let uid = match part.strip_prefix("pod") {
        Some(uid) => uid.to_owned(),
        None => {
            let (parent, uid) = part.strip_suffix(".slice").unwrap_or(part).rsplit_once("-pod")?;
            parent.contains("kubepods").then(|| uid.replace('_', "-"))?
        }
    };
    let digits =
        |digits: &[usize]| uid.split('-').map(hex_digits).eq(digits.iter().copied().map(Some));
    (digits(&[8, 4, 4, 4, 12]) || digits(&[32])).then_some(uid)
}

enum Role<'a> {
    /// Its name or short id.
    Container(String),
    /// What keeps a container, outside of it.
    Monitor,
    Unit(&'a str),
}

fn role<'a>(part: &'a str, parent: &str) -> Option<Role<'a>> {
    let scope = part.strip_suffix(".scope");
    // ID, docker-ID.scope, cri-containerd-ID.scope, crio-ID, libpod-ID.scope, libpod-payload-ID.
    let stem = scope.unwrap_or(part);
    let (runtime, id) = stem.rsplit_once('-').unwrap_or(("", stem));
    if hex_digits(id) == Some(64) {
        // crio-conmon-ID, libpod-conmon-ID.scope
        let monitor = runtime.ends_with("conmon");
        return Some(if monitor { Role::Monitor } else { Role::Container(short(id)) });
    }
    // LXC and what is built on it: lxc.payload.NAME, lxc.payload/NAME (4.0), lxc/NAME (Proxmox). Its
    // monitors are below lxc.monitor, and in no container's cgroup.
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some(Role::Container(name.to_owned()));
    }
    if matches!(parent, "lxc" | "lxc.payload") {
        return Some(Role::Container(part.to_owned()));
    }
    // systemd-machined, systemd-nspawn@.service.
    let nspawn =
        part.strip_prefix("systemd-nspawn@").and_then(|name| name.strip_suffix(".service"));
    if let Some(name) = nspawn.or_else(|| scope?.strip_prefix("machine-")) {
        return Some(Role::Container(unescape(name)));
    }
    // systemd puts `_` before names that the kernel might use (`cg_escape`).
    let unit = part.strip_prefix('_').unwrap_or(part);
    // They hold whatever somebody who logged in has started, or PID 1: the process says more.
    let vague = unit == "init.scope" || unit.starts_with("session-");
    (scope.is_some() && !vague || unit.ends_with(".service")).then_some(Role::Unit(unit))
}

/// An id of 64 digits as it is shown; other names as they are.
fn short(id: &str) -> String {
    let len = if hex_digits(id) == Some(64) { SHORT_ID } else { id.len() };
    id.chars().take(len).collect()
}

/// `\xNN` in the name of a unit (systemd.unit(5), string escaping); `-` is left, as it stands for
/// `/` in paths only.
fn unescape(name: &str) -> String {
    let mut parts = name.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part.get(..2).filter(|code| hex_digits(code).is_some());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
