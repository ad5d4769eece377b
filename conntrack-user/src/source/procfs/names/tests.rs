use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use super::*;

const ID: &str = "34dc0b5e626f2c5c4c5170e34b10e7654ce36f0fcd532739f4445baabea03376";
const UID: &str = "2c48913c-b29f-11e7-9350-020968147796";

/// A folder that goes away with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("ctmon-names-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn with(files: &[(&str, &[u8])]) -> Self {
        let folder = Self::new();
        for (name, content) in files {
            fs::write(folder.0.join(name), content).unwrap();
        }
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn name(kind: NameKind, text: &str) -> Name {
    Name { text: text.to_owned(), kind }
}

/// The name that a process of this cgroup and of the comm `pause` gets.
fn named_by(cgroup: &[u8], pods: &Pods) -> Option<Name> {
    let process = Folder::with(&[("cgroup", cgroup), ("comm", b"pause\n")]);
    of_process(&process.0, pods)
}

#[test]
fn a_pod_goes_by_its_name_and_else_by_its_uid() {
    let logs = Folder::new();
    fs::create_dir(logs.0.join(format!("default_web-0_{UID}"))).unwrap();
    fs::create_dir(logs.0.join("kube-system_etcd-node1_99dcb84d2a34f7e338778606703258c4")).unwrap();
    let pods = Pods::read(&logs.0);
    let slice = "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod";
    let systemd = |uid: &str| format!("{slice}{uid}.slice/cri-containerd-{ID}.scope\n");
    let table = [
        (systemd(&UID.replace('-', "_")), "default/web-0"),
        (format!("0::/kubepods/burstable/pod{UID}/{ID}\n"), "default/web-0"),
        (systemd("99dcb84d2a34f7e338778606703258c4"), "kube-system/etcd-node1"),
        (systemd("72f7f152_440c_66ac_9084_e0fc1d8a910c"), "pod 72f7f152"),
        (
            format!("0::/kubepods/pod{UID}/{}/docker/{ID}\n", ID.replace('3', "4")),
            "default/web-0/34dc0b5e626f",
        ),
    ];
    for (cgroup, text) in table {
        let named = named_by(cgroup.as_bytes(), &pods);
        assert_eq!(named, Some(name(NameKind::Pod, text)), "{cgroup}");
    }
}

#[test]
fn the_process_is_asked_last() {
    let table: [(&[u8], NameKind, &str); 7] = [
        (b"0::/lxc.payload.web/init.scope\n", NameKind::Container, "web"),
        (b"0::/system.slice/nginx.service\n", NameKind::Service, "nginx.service"),
        (b"0::/user.slice/user-1000.slice/session-3.scope\n", NameKind::Process, "pause"),
        (b"", NameKind::Process, "pause"),
        // Nothing of it can be printed.
        (b"0::/lxc.payload. \n", NameKind::Process, "pause"),
        (b"0::/lxc.payload.\xff\x1b[2J\n", NameKind::Container, "??[2J"),
        (b"0::/machine.slice/machine-\\x1b\\x5d0.scope\n", NameKind::Container, "?]0"),
    ];
    for (cgroup, kind, text) in table {
        let named = named_by(cgroup, &Pods::default());
        assert_eq!(named, Some(name(kind, text)), "{}", cgroup.escape_ascii());
    }
}

#[test]
fn a_process_name_may_be_anything() {
    let table: [(&[u8], Option<&str>); 8] = [
        (b"pause\n", Some("pause")),
        (b"tmux: server\n", Some("tmux: server")),
        (b"\x1b[31mred\n", Some("?[31mred")),
        (b"two\nlines\n", Some("two?lines")),
        (b"\xff\xfe\n", Some("??")),
        (b"kworker/u16:3+events_unbound\n", Some("kworker/u16:3+events_unbound")),
        (b"\n", None),
        (b"", None),
    ];
    for (comm, text) in table {
        let process = Folder::with(&[("comm", comm)]);
        let expected = text.map(|text| name(NameKind::Process, text));
        assert_eq!(of_process(&process.0, &Pods::default()), expected, "{}", comm.escape_ascii());
    }
}

#[test]
fn a_process_that_has_ended_has_no_name() {
    assert_eq!(of_process(Path::new("/nowhere/1"), &Pods::default()), None);
    let folder = Folder::new();
    assert_eq!(of_process(&folder.0, &Pods::default()), None);
}

#[test]
fn this_process_has_a_name() {
    assert!(of_process(Path::new("/proc/self"), &Pods::default()).is_some());
}

#[test]
fn no_more_is_read_than_the_limit_and_no_half_line() {
    let folder = Folder::with(&[("lines", b"one\ntwo\nthree\n"), ("line", b"0123456789")]);
    let table = [("lines", 14, "one\ntwo\nthree\n"), ("lines", 9, "one\ntwo\n"), ("line", 5, "")];
    for (file, limit, text) in table {
        assert_eq!(read(&folder.0.join(file), limit).as_deref(), Some(text), "{file} {limit}");
    }
    // A file without an end.
    let zeros = read(Path::new("/dev/zero"), CGROUP_LIMIT);
    assert_eq!(zeros.as_deref(), Some(""));
}

#[test]
fn the_better_name_is_taken() {
    use NameKind::{Container, Generated, IpNetns, Mounted, Pod, Process, Service};
    let of = |kind| Some(name(kind, "text"));
    let table = [
        (Some((IpNetns, "blue")), of(Pod), Some(name(IpNetns, "blue"))),
        (Some((IpNetns, "blue")), None, Some(name(IpNetns, "blue"))),
        (None, of(Process), of(Process)),
        (None, None, None),
        (Some((IpNetns, "")), of(Pod), of(Pod)),
        (Some((IpNetns, "\u{1b}[2J")), None, Some(name(IpNetns, "?[2J"))),
        (Some((Mounted, "net")), of(Container), of(Container)),
        (Some((Mounted, "ingress_sbox")), of(Process), Some(name(Mounted, "ingress_sbox"))),
        // What runtimes make up.
        (Some((Generated, "cni")), of(Pod), of(Pod)),
        (Some((Generated, "cni")), of(Container), of(Container)),
        (Some((Generated, "cni")), of(Service), of(Service)),
        (Some((Generated, "cni")), of(Process), Some(name(Generated, "cni"))),
        (Some((Generated, "cni")), None, Some(name(Generated, "cni"))),
    ];
    for (file, of_process, expected) in table {
        let file = file.map(|(kind, text)| (kind, text.to_owned()));
        assert_eq!(best(file.as_ref(), of_process.clone()), expected, "{file:?} {of_process:?}");
    }
}

#[test]
fn nothing_but_the_hosts_namespace_is_called_host() {
    let of_process = |text| of_process(&Folder::with(&[("comm", text)]).0, &Pods::default());
    for named in [b"host\n".as_slice(), b" host\n", b"\thost \n"] {
        assert_ne!(of_process(named).unwrap().text, "host", "{}", named.escape_ascii());
    }
    let of_file = best(Some(&(NameKind::IpNetns, "host".to_owned())), None);
    assert_eq!(of_file, Some(name(NameKind::IpNetns, "host?")));
    let container = named_by(b"0::/lxc.payload.host\n", &Pods::default());
    assert_eq!(container, Some(name(NameKind::Container, "host?")));
    assert_eq!(super::host(), name(NameKind::Host, "host"));
}

#[test]
fn a_name_is_fit_for_a_terminal() {
    let longest = "\u{e4}".repeat(LONGEST);
    let too_long = "\u{e4}".repeat(LONGEST + 1);
    let cut = format!("{}...", "\u{e4}".repeat(LONGEST - 3));
    let table = [
        ("web", "web"),
        (" web ", "web"),
        ("gr\u{fc}n", "gr\u{fc}n"),
        ("a\tb\r\nc\0d\u{7f}e", "a?b??c?d?e"),
        // CSI as one character; what turns text round; what takes no place; a separator of lines.
        ("\u{9b}31m", "?31m"),
        ("a\u{202e}b\u{2066}c", "a?b?c"),
        ("a\u{200b}b\u{feff}c\u{ad}d", "a?b?c?d"),
        ("a\u{2028}b", "a?b"),
        (&longest, &longest),
        (&too_long, &cut),
    ];
    for (text, expected) in table {
        assert_eq!(Name::new(NameKind::IpNetns, text).unwrap().text, expected, "{text:?}");
    }
}

#[test]
fn kinds_are_ordered_and_written_as_documented() {
    let kinds = [
        (NameKind::Host, "\"host\""),
        (NameKind::IpNetns, "\"ip_netns\""),
        (NameKind::Pod, "\"pod\""),
        (NameKind::Container, "\"container\""),
        (NameKind::Service, "\"service\""),
        (NameKind::Mounted, "\"mounted\""),
        (NameKind::Generated, "\"generated\""),
        (NameKind::Process, "\"process\""),
    ];
    assert!(kinds.is_sorted_by_key(|(kind, _)| *kind));
    for (kind, json) in kinds {
        assert_eq!(serde_json::to_string(&kind).unwrap(), json);
    }
}

#[test]
fn containers_go_by_their_names_where_an_engine_tells() {
    let root = Folder::new();
    let folder = root.0.join(format!("var/lib/docker/containers/{ID}"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.v2.json"), r#"{"Name":"/web"}"#).unwrap();
    for (text, expected) in [
        ("34dc0b5e626f", "web"),
        ("0123456789ab", "0123456789ab"),
        ("lxc-one/34dc0b5e626f", "lxc-one/web"),
        ("34dc", "34dc"),
    ] {
        assert_eq!(containers(&root.0, text), expected);
    }
}
