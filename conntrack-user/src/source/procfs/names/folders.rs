//! Names of the files on which tools mount network namespaces.
//!
//! [`FOLDERS`] is all that is known of tools: a new one is a line in it.

use super::hex_digits;
use crate::{
    model::name::{LONGEST, NameKind},
    text::printable,
};

/// Folder in which a tool mounts network namespaces.
struct Folder {
    /// Path, without the link /var/run; `*` stands for one part of any name.
    path: &'static str,
    /// The part of the file's path that is the name.
    part: Part,
    /// The kind of a name that somebody chose.
    kind: NameKind,
    /// Forms of names that the tool makes up.
    generated: &'static [Form],
}

/// The part of a path that names a namespace.
#[derive(Clone, Copy)]
enum Part {
    /// The file.
    File,
    /// The folder that the file is in.
    Folder,
}

/// Form of a name that a program makes up.
enum Form {
    /// A UUID after this prefix.
    Uuid(&'static str),
    /// So many hexadecimal digits.
    Hex(usize),
}

/// Mark of names of other mount namespaces. It comes first, because the end of a long name is cut off.
const ELSEWHERE: &str = "mnt:";

const FOLDERS: &[Folder] = &[
    // `ip netns`; `cni-UUID` of containerd (pkg/netns, `newNS`), `netns-UUID` of Podman (containers/common, pkg/netns,
    // `NewNS`), the bare UUID of CRI-O.
    Folder {
        path: "/run/netns",
        part: Part::File,
        kind: NameKind::IpNetns,
        generated: &[Form::Uuid("cni-"), Form::Uuid("netns-"), Form::Uuid("")],
    },
    // Docker (libnetwork, osl/namespace_linux.go, `GenerateKey`): 12 digits of a sandbox, or what an overlay network is
    // called, such as `ingress_sbox` and `lb_...`.
    Folder {
        path: "/run/docker/netns",
        part: Part::File,
        kind: NameKind::Mounted,
        generated: &[Form::Hex(12)],
    },
    // Docker and Podman of a user without privileges.
    Folder {
        path: "/run/user/*/docker/netns",
        part: Part::File,
        kind: NameKind::Mounted,
        generated: &[Form::Hex(12)],
    },
    Folder {
        path: "/run/user/*/netns",
        part: Part::File,
        kind: NameKind::IpNetns,
        generated: &[Form::Uuid("netns-"), Form::Uuid("cni-")],
    },
    // CRI-O before 1.18.
    Folder {
        path: "/run/crio/ns/*",
        part: Part::Folder,
        kind: NameKind::Mounted,
        generated: &[Form::Uuid("")],
    },
];

/// Folders of the table that may be listed: those of one path.
pub(in crate::source) fn listed() -> impl Iterator<Item = &'static str> {
    FOLDERS.iter().map(|folder| folder.path).filter(|path| !path.contains('*'))
}

/// The name that the file at `path` gives to the namespace mounted on it, and its kind; [`printable`], [`LONGEST`] characters at
/// most: a file system of anybody's own (FUSE) has names of 1,024 bytes of any kind. None: the path has no name.
pub(in crate::source) fn of_file(path: &str) -> Option<(NameKind, String)> {
    let path = path.strip_prefix("/var").filter(|rest| rest.starts_with("/run/")).unwrap_or(path);
    let (parent, file) = path.rsplit_once('/')?;
    let folder = FOLDERS.iter().find(|folder| matches(parent, folder.path));
    let name = match folder.map(|folder| folder.part) {
        Some(Part::Folder) => parent.rsplit_once('/')?.1,
        Some(Part::File) | None => file,
    };
    let generated = folder.map_or(&[][..], |folder| folder.generated);
    let kind = if generated.iter().any(|form| form.is_of(name)) {
        NameKind::Generated
    } else {
        folder.map_or(NameKind::Mounted, |folder| folder.kind)
    };
    (!name.is_empty()).then(|| (kind, printable(name, LONGEST).into_owned()))
}

/// The name of a file as [`of_file`], where it is seen only in a mount namespace other than those of this process and of
/// process 1. Anybody makes such a one, and mounts there what he likes on any path: the name is marked, and none stands before
/// that of a pod, a container or a service.
pub(in crate::source) fn of_file_elsewhere(path: &str) -> Option<(NameKind, String)> {
    let (kind, name) = of_file(path)?;
    let name = format!("{ELSEWHERE}{name}");
    Some((kind.max(NameKind::Mounted), printable(&name, LONGEST).into_owned()))
}

/// Reports whether `path` is one of `pattern`.
fn matches(path: &str, pattern: &str) -> bool {
    let (mut path, mut pattern) = (path.split('/'), pattern.split('/'));
    loop {
        match (path.next(), pattern.next()) {
            (None, None) => return true,
            (Some(part), Some(wanted)) if part == wanted || wanted == "*" => {}
            _ => return false,
        }
    }
}

impl Form {
    fn is_of(&self, name: &str) -> bool {
        match self {
            Self::Uuid(prefix) => name
                .strip_prefix(prefix)
                .is_some_and(|uuid| uuid.split('-').map(hex_digits).eq([8, 4, 4, 4, 12].map(Some))),
            Self::Hex(digits) => hex_digits(name) == Some(*digits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_their_names() {
        use NameKind::{Generated, IpNetns, Mounted};
        const UUID: &str = "0b7f54a1-1c9d-4a9e-8f3e-0123456789ab";
        let table = [
            ("/run/netns/blue".to_owned(), IpNetns, "blue"),
            ("/var/run/netns/blue".into(), IpNetns, "blue"),
            (format!("/run/netns/{UUID}"), Generated, UUID),
            (format!("/run/netns/cni-{UUID}"), Generated, ""),
            (format!("/run/netns/netns-{UUID}"), Generated, ""),
            // OpenStack's say what they are for.
            (format!("/run/netns/qrouter-{UUID}"), IpNetns, ""),
            (format!("/run/netns/cni-cni-{UUID}"), IpNetns, ""),
            ("/run/netns/cni-0b7f54a1-1c9d-4a9e-8f3e".into(), IpNetns, ""),
            ("/run/docker/netns/ingress_sbox".into(), Mounted, "ingress_sbox"),
            ("/var/run/docker/netns/0123456789ab".into(), Generated, "0123456789ab"),
            (format!("/run/user/1000/netns/netns-{UUID}"), Generated, ""),
            ("/run/user/1000/netns/blue".into(), IpNetns, "blue"),
            (format!("/run/crio/ns/{UUID}/net"), Generated, UUID),
            ("/var/lib/vm/web/net".into(), Mounted, "net"),
            ("/tmp/some netns".into(), Mounted, "some netns"),
        ];
        for (path, kind, name) in table {
            let (found, text) = of_file(&path).unwrap();
            assert_eq!(found, kind, "{path}");
            assert!(name.is_empty() || text == name, "{path}: {text}");
        }
        for path in ["", "/", "blue", "/run/netns/"] {
            assert_eq!(of_file(path), None, "{path}");
        }
    }

    #[test]
    fn names_are_cut_and_cleaned_where_they_are_read() {
        // FUSE_NAME_MAX.
        let path = format!("/run/netns/{}", "\u{1}".repeat(1024));
        let (_, name) = of_file(&path).unwrap();
        assert_eq!(name, format!("{}...", "?".repeat(LONGEST - 3)));
        let (_, name) = of_file_elsewhere(&path).unwrap();
        assert_eq!(name, format!("{ELSEWHERE}{}...", "?".repeat(LONGEST - 7)));
    }

    #[test]
    fn folders_of_one_path_are_listed() {
        assert_eq!(listed().collect::<Vec<_>>(), ["/run/netns", "/run/docker/netns"]);
    }
}
