//! Files that set the size of the table at boot.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{Roots, file};
use crate::doctor::facts::Setting;

/// Where sysctl(8) and systemd-sysctl(8) look.
const SYSCTL: [&str; 5] = [
    "/etc/sysctl.d",
    "/run/sysctl.d",
    "/usr/local/lib/sysctl.d",
    "/usr/lib/sysctl.d",
    "/lib/sysctl.d",
];
/// Where modprobe(8) looks.
const MODPROBE: [&str; 4] =
    ["/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"];

/// All of them that can be read, in the order in which they are applied; those of masked files come first, without effect.
pub(super) fn read(roots: &Roots) -> Vec<Setting> {
    let mut sysctl = files(roots, &SYSCTL);
    // sysctl(8) reads this one last; systemd-sysctl(8) only through a link among the others.
    let plain = "/etc/sysctl.conf";
    let real = |path: &str| roots.file(path).canonicalize().ok();
    if !sysctl.in_order.iter().any(|path| real(path).is_some() && real(path) == real(plain)) {
        sysctl.in_order.push(plain.to_owned());
    }
    let mut settings = sysctl.read(roots, sysctls);
    settings.extend(files(roots, &MODPROBE).read(roots, options));
    settings
}

/// Configuration files of a program.
struct Files {
    /// Files masked by one of the same name in an earlier folder.
    masked: Vec<String>,
    /// The others, in the order in which they are read.
    in_order: Vec<String>,
}

/// Files in `folders`, as systemd-sysctl(8), sysctl(8) and modprobe.d(5) choose them: a file masks those of its name in
/// later folders (also an empty one, or a link to /dev/null), then they are sorted by name, whatever their folder. A folder
/// that is a link to another one is read once.
fn files(roots: &Roots, folders: &[&str]) -> Files {
    let mut by_name: BTreeMap<String, String> = BTreeMap::new();
    let (mut masked, mut seen) = (Vec::new(), Vec::new());
    for folder in folders {
        let Ok(real) = roots.file(folder).canonicalize() else { continue };
        if seen.contains(&real) {
            continue;
        }
        for name in file::names(&real).into_iter().filter(|name| name.ends_with(".conf")) {
            let path = format!("{folder}/{name}");
            match by_name.entry(name) {
                Entry::Vacant(free) => {
                    free.insert(path);
                }
                Entry::Occupied(_) => masked.push(path),
            }
        }
        seen.push(real);
    }
    Files { masked, in_order: by_name.into_values().collect() }
}

impl Files {
    /// Their settings; one of each key is effective: the last one, but for patterns, which set what no line names.
    fn read(self, roots: &Roots, parse: fn(&str) -> Vec<Line>) -> Vec<Setting> {
        let mut all: Vec<(Line, Setting)> = Vec::new();
        let files = self.masked.iter().map(|path| (path, true));
        for (path, is_masked) in files.chain(self.in_order.iter().map(|path| (path, false))) {
            let text = file::text(&roots.file(path));
            for line in text.known().map(|text| parse(text)).unwrap_or_default() {
                if !is_masked && !line.is_pattern {
                    let before = all
                        .iter_mut()
                        .filter(|(other, _)| !other.is_pattern && other.path == line.path);
                    before.for_each(|(_, setting)| setting.effective = false);
                }
                let value = line.value.clone().unwrap_or_default();
                let effective = !is_masked && line.value.is_some();
                let setting =
                    Setting { file: path.clone(), key: line.key.to_owned(), value, effective };
                all.push((line, setting));
            }
        }
        let masked = self.masked;
        let named: Vec<String> = all
            .iter()
            .filter(|(line, setting)| !line.is_pattern && !masked.contains(&setting.file))
            .map(|(line, _)| line.path.clone())
            .collect();
        let mut last: Vec<String> = Vec::new();
        for (line, setting) in all.iter_mut().rev() {
            let is_named = line.is_pattern && named.contains(&line.path);
            setting.effective &= !is_named && !last.contains(&setting.key);
            if setting.effective {
                last.push(setting.key.clone());
            }
        }
        let sets = all.into_iter().filter(|(line, _)| line.value.is_some());
        sets.map(|(_, setting)| setting).collect()
    }
}

/// A line that sets the size of the table, or keeps it from being set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Key of the setting, as [`Setting::key`].
    key: &'static str,
    /// Path or pattern on the left of the line.
    path: String,
    /// None: it takes back an earlier line, and keeps patterns away (`-net.netfilter.nf_conntrack_max`).
    value: Option<String>,
    is_pattern: bool,
}

/// Files below /proc/sys, and their keys.
const SYSCTLS: [(&str, &str); 3] = [
    ("net/netfilter/nf_conntrack_buckets", "nf_conntrack_buckets"),
    ("net/netfilter/nf_conntrack_max", "nf_conntrack_max"),
    ("net/nf_conntrack_max", "nf_conntrack_max"),
];

/// `net.netfilter.nf_conntrack_max = N` in each of its spellings, and patterns that match it (sysctl.d(5)).
pub(super) fn sysctls(text: &str) -> Vec<Line> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let lines = lines.filter_map(|line| match line.split_once('=') {
        // An error is none where it begins with this.
        Some((key, value)) => Some((key.trim_start_matches('-').trim(), Some(value.trim()))),
        None => Some((line.strip_prefix('-')?.trim(), None)),
    });
    let of = |(key, value): (&str, Option<&str>)| {
        // The first separator says which one is meant.
        let is_path = key.find(['/', '.']).is_some_and(|at| key.as_bytes().get(at) == Some(&b'/'));
        let pattern = if is_path { key.to_owned() } else { key.replace('.', "/") };
        let value = value.map(str::to_owned);
        let is_pattern = pattern.contains(['*', '?']);
        SYSCTLS.into_iter().filter_map(move |(path, key)| {
            let value = value.clone();
            matches(path.as_bytes(), pattern.as_bytes()).then(|| Line {
                key,
                path: path.to_owned(),
                value,
                is_pattern,
            })
        })
    };
    lines.flat_map(of).collect()
}

/// Reports whether `path` is one of `pattern`, in which `*` and `?` stand for any characters but `/` (glob(7)). Takes at most as many
/// steps as `path` has bytes for each of `pattern`.
fn matches(mut path: &[u8], mut pattern: &[u8]) -> bool {
    // The pattern after the last `*`, and the path after the characters that this one stands for.
    let mut last: Option<(&[u8], &[u8])> = None;
    loop {
        match (path.split_first(), pattern.split_first()) {
            (_, Some((b'*', after))) => {
                pattern = after;
                last = Some((after, path));
            }
            (Some((byte, rest)), Some((wanted, after)))
                if byte == wanted || (*wanted == b'?' && *byte != b'/') =>
            {
                (path, pattern) = (rest, after);
            }
            (None, None) => return true,
            // The last `*` stands for one character more. No earlier one needs to: each stands for as few as are enough.
            _ => {
                let Some((after, from)) = last else { return false };
                let Some((_, rest)) = from.split_first().filter(|(byte, _)| **byte != b'/') else {
                    return false;
                };
                last = Some((after, rest));
                (path, pattern) = (rest, after);
            }
        }
    }
}

/// `options nf_conntrack hashsize=N`
pub(super) fn options(text: &str) -> Vec<Line> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("options") && words.next() == Some(super::super::MODULE))
            .then_some(words)
    });
    let sizes = lines.flatten().filter_map(|word| word.strip_prefix("hashsize="));
    let line = |value: &str| Line {
        key: "hashsize",
        path: "hashsize".to_owned(),
        value: Some(value.to_owned()),
        is_pattern: false,
    };
    sizes.map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn spellings_of_settings() {
        for (line, expected) in [
            ("net.netfilter.nf_conntrack_max = 1000", Some(("nf_conntrack_max", "1000"))),
            ("-net/netfilter/nf_conntrack_max=1000", Some(("nf_conntrack_max", "1000"))),
            ("  net.nf_conntrack_max=5 ", Some(("nf_conntrack_max", "5"))),
            ("net.netfilter.nf_conntrack_buckets=7", Some(("nf_conntrack_buckets", "7"))),
            ("- net.netfilter.nf_conntrack_max = 3", Some(("nf_conntrack_max", "3"))),
            ("net.*.nf_conntrack_max = 4", Some(("nf_conntrack_max", "4"))),
            ("net/netfilter/nf_conntrack_m?x = 6", Some(("nf_conntrack_max", "6"))),
            ("-net.netfilter.nf_conntrack_max", Some(("nf_conntrack_max", "-"))),
            ("net.netfilter.nf_conntrack_max", None),
            ("net*nf_conntrack_max = 4", None),
            ("net.ipv4.*.nf_conntrack_max = 4", None),
            ("; net.netfilter.nf_conntrack_max = 1000", None),
            ("# net.netfilter.nf_conntrack_max = 1000", None),
            ("net.netfilter.nf_conntrack_acct = 1", None),
            ("net.ipv4.ip_forward = 1", None),
        ] {
            let found = sysctls(line);
            let found = found.first().map(|line| (line.key, line.value.as_deref().unwrap_or("-")));
            assert_eq!(found, expected, "{line:?}");
        }
        // A pattern of any length takes no time to speak of, and crosses no slash.
        for (key, expected) in [
            (format!("net/netfilter/{}z", "*".repeat(1000)), None),
            (format!("net/netfilter/{}*x", "*n".repeat(100)), None),
            (format!("net/netfilter/{}x", "nf*".repeat(6)), None),
            ("net/n*f*r/*_conn*_m*x".to_owned(), Some("nf_conntrack_max")),
            ("net/netfilter/*?x*".to_owned(), Some("nf_conntrack_max")),
            ("*/*/*/*".to_owned(), None),
        ] {
            let found = sysctls(&format!("{key} = 1"));
            assert_eq!(found.first().map(|line| line.key), expected, "{key}");
        }
        let text = "options nf_conntrack acct=1 hashsize=65536\noptions other hashsize=1\n";
        let sizes = options(text);
        assert_eq!((sizes.len(), sizes[0].value.as_deref()), (1, Some("65536")));
    }

    fn roots(rootfs: &Path) -> Roots {
        Roots {
            procfs: "/proc".into(),
            sysfs: "/sys".into(),
            btf: None,
            pods: "/var/log/pods".into(),
            rootfs: rootfs.into(),
        }
    }

    #[test]
    fn a_file_is_read_once() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/lib/sysctl.d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("50-x.conf"), "net.netfilter.nf_conntrack_max=9\n").unwrap();
        std::fs::write(folder.join("README"), "net.netfilter.nf_conntrack_max=8\n").unwrap();
        std::os::unix::fs::symlink("usr/lib", root.path().join("lib")).unwrap();
        let roots = roots(root.path());
        let setting = Setting {
            file: "/usr/lib/sysctl.d/50-x.conf".into(),
            key: "nf_conntrack_max".into(),
            value: "9".into(),
            effective: true,
        };
        assert_eq!(read(&roots), [setting]);
    }

    /// Makes files below a root; returns the values in the order in which they are applied.
    fn applied(files: &[(&str, &str)], links: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        for (name, value) in files {
            let text = format!("net.netfilter.nf_conntrack_max = {value}\n");
            std::fs::write(path(name), if value.is_empty() { "" } else { &text }).unwrap();
        }
        for (name, target) in links {
            std::os::unix::fs::symlink(target, path(name)).unwrap();
        }
        let roots = roots(root.path());
        let mark = |setting: &Setting| if setting.effective { "!" } else { "" };
        read(&roots).iter().map(|one| format!("{}{}", one.value, mark(one))).collect()
    }

    #[test]
    fn the_value_that_is_set_is_that_of_sysctl() {
        // By name, whatever the folder.
        let later = [("etc/sysctl.d/10-a.conf", "1"), ("usr/lib/sysctl.d/90-b.conf", "2")];
        assert_eq!(applied(&later, &[]), ["1", "2!"]);
        let same = [
            ("usr/lib/sysctl.d/50-x.conf", "1"),
            ("run/sysctl.d/50-x.conf", "2"),
            ("etc/sysctl.d/50-x.conf", "3"),
        ];
        assert_eq!(applied(&same, &[]), ["2", "1", "3!"], "/etc masks /run, and that /usr/lib");
        let last = [("etc/sysctl.d/99-z.conf", "1"), ("etc/sysctl.conf", "2")];
        assert_eq!(applied(&last, &[]), ["1", "2!"]);
        // Debian's link: its target is read by that name, and not once more.
        let link = [("etc/sysctl.d/99-sysctl.conf", "../sysctl.conf")];
        let linked = [("etc/sysctl.conf", "2"), ("etc/sysctl.d/99-z.conf", "1")];
        assert_eq!(applied(&linked, &link), ["2", "1!"]);
        // Masked by nothing.
        let distribution = [("usr/lib/sysctl.d/50-x.conf", "1")];
        assert_eq!(applied(&distribution, &[("etc/sysctl.d/50-x.conf", "/dev/null")]), ["1"]);
    }

    /// Values of two files, one after the other.
    fn of_texts(first: &str, second: &str) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/sysctl.d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("10-a.conf"), first).unwrap();
        std::fs::write(folder.join("20-b.conf"), second).unwrap();
        let mark = |setting: &Setting| if setting.effective { "!" } else { "" };
        let all = read(&roots(root.path()));
        all.iter().map(|one| format!("{}{}", one.value, mark(one))).collect()
    }

    #[test]
    fn patterns_set_what_no_line_names() {
        let (max, slashes) = ("net.netfilter.nf_conntrack_max", "net/netfilter/nf_conntrack_max");
        assert_eq!(of_texts(&format!("{max}=1\n"), &format!("{slashes}=2\n")), ["1", "2!"]);
        assert_eq!(of_texts(&format!("{max}=1\nnet.nf_conntrack_max=2\n"), ""), ["1", "2!"]);
        // A later pattern does not override it; without it, the last pattern counts.
        assert_eq!(of_texts(&format!("{max}=1\n"), "net.net*.nf_conntrack_max=2\n"), ["1!", "2"]);
        assert_eq!(
            of_texts("net.net*.nf_conntrack_max=1\n", "net.netfilter.*_max=2\n"),
            ["1", "2!"]
        );
        // A later file takes it back, and keeps patterns away.
        assert_eq!(of_texts(&format!("{max}=1\n"), &format!("-{max}\n")), ["1"]);
        assert_eq!(of_texts("net.net*.nf_conntrack_max=1\n", &format!("-{max}\n")), ["1"]);
        assert_eq!(of_texts(&format!("-{max}\n"), &format!("-{max}=7\n")), ["7!"]);
    }
}
