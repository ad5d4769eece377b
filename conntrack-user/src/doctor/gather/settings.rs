//! Files that set the size of the table at boot.

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

/// All of them that can be read. A folder that is a link to another one is read once.
pub(super) fn read(roots: &Roots) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut seen = Vec::new();
    let mut folder = |path: &str, parse: fn(&str) -> Vec<(String, String)>| {
        let Ok(real) = roots.file(path).canonicalize() else { return };
        if seen.contains(&real) {
            return;
        }
        for name in file::names(&real).into_iter().filter(|name| name.ends_with(".conf")) {
            add(&mut settings, roots, &format!("{path}/{name}"), parse);
        }
        seen.push(real);
    };
    SYSCTL.iter().for_each(|path| folder(path, sysctls));
    MODPROBE.iter().for_each(|path| folder(path, options));
    if !settings.iter().any(|setting: &Setting| setting.file.ends_with("99-sysctl.conf")) {
        add(&mut settings, roots, "/etc/sysctl.conf", sysctls);
    }
    settings
}

fn add(
    settings: &mut Vec<Setting>,
    roots: &Roots,
    path: &str,
    parse: fn(&str) -> Vec<(String, String)>,
) {
    let text = file::text(&roots.file(path));
    let found = text.known().map(|text| parse(text)).unwrap_or_default();
    settings.extend(found.into_iter().map(|(key, value)| Setting {
        file: path.into(),
        key,
        value,
    }));
}

/// `net.netfilter.nf_conntrack_max = N` in each of its spellings.
fn sysctls(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| {
        let (key, value) = line.trim().trim_start_matches('-').split_once('=')?;
        let key = key.trim().replace('/', ".");
        let name = key.strip_prefix("net.netfilter.").or_else(|| key.strip_prefix("net."))?;
        matches!(name, "nf_conntrack_max" | "nf_conntrack_buckets")
            .then(|| (name.to_owned(), value.trim().to_owned()))
    });
    lines.collect()
}

/// `options nf_conntrack hashsize=N`
fn options(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("options") && words.next() == Some(super::super::MODULE))
            .then_some(words)
    });
    let pairs = lines.flatten().filter_map(|word| word.split_once('='));
    let sizes = pairs.filter(|(key, _)| *key == "hashsize");
    sizes.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_settings() {
        for (line, expected) in [
            ("net.netfilter.nf_conntrack_max = 1000", Some(("nf_conntrack_max", "1000"))),
            ("-net/netfilter/nf_conntrack_max=1000", Some(("nf_conntrack_max", "1000"))),
            ("  net.nf_conntrack_max=5 ", Some(("nf_conntrack_max", "5"))),
            ("net.netfilter.nf_conntrack_buckets=7", Some(("nf_conntrack_buckets", "7"))),
            ("# net.netfilter.nf_conntrack_max = 1000", None),
            ("net.netfilter.nf_conntrack_acct = 1", None),
            ("net.ipv4.ip_forward = 1", None),
        ] {
            let found = sysctls(line);
            let found = found.first().map(|(key, value)| (key.as_str(), value.as_str()));
            assert_eq!(found, expected, "{line:?}");
        }
        let text = "options nf_conntrack acct=1 hashsize=65536\noptions other hashsize=1\n";
        assert_eq!(options(text), [("hashsize".to_owned(), "65536".to_owned())]);
    }

    #[test]
    fn a_file_is_read_once() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/lib/sysctl.d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("50-x.conf"), "net.netfilter.nf_conntrack_max=9\n").unwrap();
        std::fs::write(folder.join("README"), "net.netfilter.nf_conntrack_max=8\n").unwrap();
        std::os::unix::fs::symlink("usr/lib", root.path().join("lib")).unwrap();
        let roots = Roots {
            procfs: "/proc".into(),
            sysfs: "/sys".into(),
            pods: "/var/log/pods".into(),
            rootfs: root.path().into(),
        };
        let setting = Setting {
            file: "/usr/lib/sysctl.d/50-x.conf".into(),
            key: "nf_conntrack_max".into(),
            value: "9".into(),
        };
        assert_eq!(read(&roots), [setting]);
    }
}
