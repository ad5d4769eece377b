//! What goes into a bug report: a `.tar.gz` of small texts, without what is private unless asked for.

use std::{
    fmt::Display,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result, anyhow, bail};
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

use super::{
    facts::{Fact, Facts, Setting},
    gather::Roots,
};
use crate::source::item::ProbedHook;

/// The folder that all files are in.
const FOLDER: &str = "ctmon-bundle";

/// A file of the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// One line: what is in it.
    pub about: &'static str,
    /// What is in it.
    pub text: String,
}

/// Never read, so never in a bundle.
const NEVER: &str =
    "addresses, entries of the table, firewall rules, command lines and environments of processes";
/// Left out unless asked for.
const PRIVATE: &str = "host name, names of network namespaces, names of the files that set the table's size, \
                       the kernel's command line, folders named on ctmon's command line";

/// The facts without names that people gave, and with the usual names in the place of the folders
/// `roots`. Numbers stay.
///
/// # Errors
/// None that is known: the facts are taken apart and put together again.
pub fn without_private(facts: &Facts, roots: &Roots) -> Result<Facts> {
    let mut facts = facts.clone();
    for netns in &mut facts.namespaces.read {
        netns.name = None;
    }
    for file in &mut facts.namespaces.stale_files {
        *file = "a file".into();
    }
    for Setting { file, .. } in &mut facts.surroundings.settings {
        let folder = Path::new(file).parent().unwrap_or(Path::new("/"));
        *file = format!("a file in {}", folder.display());
    }
    // Folders are in reasons, which can be anywhere; before they are wrapped into lines.
    let mut all = serde_json::to_value(&facts).context("cannot take the facts apart")?;
    hide_in(&mut all, roots);
    serde_json::from_value(all).context("cannot put the facts together again")
}

fn hide_in(value: &mut Value, roots: &Roots) {
    match value {
        Value::String(text) => *text = hide_roots(text, roots),
        Value::Array(values) => values.iter_mut().for_each(|value| hide_in(value, roots)),
        Value::Object(members) => members.values_mut().for_each(|value| hide_in(value, roots)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `text` with the usual names in the place of the folders `roots`, which are absolute.
#[must_use]
pub fn hide_roots(text: &str, roots: &Roots) -> String {
    let named = [
        (&roots.procfs, "/proc"),
        (&roots.sysfs, "/sys"),
        (&roots.pods, "/var/log/pods"),
        (&roots.rootfs, "/"),
    ];
    named.into_iter().fold(text.to_owned(), |text, (root, usual)| {
        let root = root.to_string_lossy();
        let root = root.trim_end_matches('/');
        if root.is_empty() { text } else { text.replace(root, usual.trim_end_matches('/')) }
    })
}

/// The files. `facts` without what is private, `screen` and `json` made of them; `private`: what was
/// asked for besides, by name.
#[must_use]
pub fn files(
    facts: &Facts,
    screen: String,
    json: String,
    statistics: &Fact<String>,
    private: Option<&[(&str, Fact<String>)]>,
) -> Vec<File> {
    let file = |name, about, text| File { name, about, text };
    let pairs = |fact: &Fact<std::collections::BTreeMap<String, String>>, prefix: &str| match fact {
        Fact::Known(pairs) => {
            pairs.iter().map(|(key, value)| format!("{prefix}{key}={value}\n")).collect()
        }
        Fact::Unavailable(why) => format!("# {why}\n"),
    };
    let mut files = vec![
        file("doctor.txt", "what ctmon doctor shows", screen),
        file("doctor.json", "the same, with all facts, for programs", json),
        file("hooks.txt", "how each hook attaches, or the kernel's messages", hooks(facts)),
        file(
            "sysctl.txt",
            "net.netfilter.nf_conntrack_*",
            pairs(&facts.table.sysctls, "net.netfilter.nf_conntrack_"),
        ),
        file(
            "config.txt",
            "options of the kernel's build that matter",
            pairs(&facts.kernel.config, "CONFIG_"),
        ),
        file(
            "statistics.txt",
            "/proc/net/stat/nf_conntrack",
            match statistics {
                Fact::Known(text) => format!("{text}\n"),
                Fact::Unavailable(why) => format!("# {why}\n"),
            },
        ),
    ];
    if let Some(private) = private {
        let lines = private.iter().map(|(name, fact)| match fact {
            Fact::Known(text) => format!("{name}: {text}\n"),
            Fact::Unavailable(why) => format!("{name}: not known: {why}\n"),
        });
        files.push(file("private.txt", "host name and kernel command line", lines.collect()));
    }
    files.insert(0, file("README.txt", "this list", about(&files, private.is_some())));
    files
}

fn about(files: &[File], with_private: bool) -> String {
    let list: String =
        files.iter().map(|file| format!("{:<16} {}\n", file.name, file.about)).collect();
    let private = if with_private { "Asked for and in it" } else { "Left out" };
    format!(
        "Made by `ctmon doctor --bundle` {}, for a bug report. It holds\n\n{list}\n{private}: {PRIVATE}.\n\
         Never read: {NEVER}.\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// What a bundle leaves out, for whoever makes one.
#[must_use]
pub fn left_out(with_private: bool) -> String {
    if with_private { NEVER.into() } else { format!("{PRIVATE}; {NEVER}") }
}

fn hooks(facts: &Facts) -> String {
    match &facts.attach.hooks {
        Fact::Unavailable(why) => format!("none attaches: {why}\n"),
        Fact::Known(hooks) => hooks
            .iter()
            .map(|ProbedHook { hook, .. }| {
                let outcome = match (&hook.attached_via, &hook.reason) {
                    (Some(via), _) => via.as_str(),
                    (None, Some(reason)) => reason,
                    (None, None) => "not attached",
                };
                format!("{} {}: {outcome}\n", hook.name, hook.function)
            })
            .collect(),
    }
}

/// An error where a bundle cannot be written to `path`, before anything is done for it.
///
/// # Errors
/// There is a file already, or no folder for it.
pub fn check(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        bail!("{} is there already and is not overwritten: name another file", path.display());
    }
    let folder = folder(path);
    if path.file_name().is_none() || !folder.is_dir() {
        bail!(
            "cannot write the bundle to {}: there is no folder {}",
            path.display(),
            folder.display()
        );
    }
    Ok(())
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Writes the archive, whole or not at all, for its owner only.
///
/// # Errors
/// As [`check`], and those of the file system.
pub fn write(path: &Path, files: &[File]) -> Result<()> {
    let archive = archive(files).context("cannot pack the bundle")?;
    // Not as a cause: it would be taken for the kernel's answer to the programs.
    let cannot =
        |error: &dyn Display| anyhow!("cannot write the bundle to {}: {error}", path.display());
    let file = tempfile::Builder::new()
        .prefix(".ctmon-bundle-")
        .tempfile_in(folder(path))
        // Its words name a file that nobody knows.
        .map_err(|error| cannot(&error.kind()))?;
    let mut plain = file.as_file();
    plain.write_all(&archive).and_then(|()| plain.sync_all()).map_err(|error| cannot(&error))?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => check(path),
        Err(error) => Err(cannot(&error.error)),
    }
}

fn archive(files: &[File]) -> io::Result<Vec<u8>> {
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs());
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for file in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(file.text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(now);
        archive.append_data(
            &mut header,
            format!("{FOLDER}/{}", file.name),
            file.text.as_bytes(),
        )?;
    }
    archive.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::doctor::verdict::test_facts::all_well;

    fn named() -> Facts {
        let mut facts = all_well();
        facts.namespaces.read[0].name = Some("customer-x".into());
        facts.surroundings.settings.push(Setting {
            file: "/etc/sysctl.d/customer-y.conf".into(),
            key: "nf_conntrack_max".into(),
            value: "1000".into(),
            effective: true,
        });
        facts
    }

    fn all(files: &[File]) -> String {
        files.iter().map(|file| file.text.as_str()).collect()
    }

    #[test]
    fn names_that_people_gave_are_private() {
        let roots = Roots {
            procfs: "/proc".into(),
            sysfs: "/sys".into(),
            btf: None,
            pods: "/var/log/pods".into(),
            rootfs: "/".into(),
        };
        let facts = without_private(&named(), &roots).unwrap();
        let json = serde_json::to_string(&facts).unwrap();
        assert!(!json.contains("customer"), "{json}");
        assert!(json.contains("a file in /etc/sysctl.d") && json.contains("1000"), "{json}");
        assert!(serde_json::to_string(&named()).unwrap().contains("customer-x"));
    }

    #[test]
    fn the_readme_says_what_is_there_and_what_is_not() {
        let facts = all_well();
        let statistics = Fact::Known("entries drop".into());
        let files = files(&facts, "screen".into(), "{}".into(), &statistics, None);
        let readme = &files[0];
        assert_eq!(readme.name, "README.txt");
        for file in &files[1..] {
            assert!(readme.text.contains(file.name), "{}", file.name);
        }
        assert!(readme.text.contains("Left out: host name"), "{}", readme.text);
        let text = all(&files);
        for word in ["nf_conntrack_max=262144", "CONFIG_BPF_JIT=y", "early_drop", "entries drop"] {
            assert!(text.contains(word), "{word}");
        }
        let private = [("host name", Fact::Known("node-7".to_owned()))];
        let files = super::files(&facts, String::new(), String::new(), &statistics, Some(&private));
        assert!(all(&files).contains("host name: node-7"));
        assert!(files[0].text.contains("Asked for"), "{}", files[0].text);
    }

    #[test]
    fn folders_of_the_command_line_are_private() {
        let roots = Roots {
            procfs: "/home/me/proc/".into(),
            sysfs: "/sys".into(),
            btf: None,
            pods: "/var/log/pods".into(),
            rootfs: "/".into(),
        };
        let mut facts = all_well();
        let reason = "cannot read /home/me/proc/modules and /sys/x".to_owned();
        facts.surroundings.modules = Fact::Unavailable(reason);
        let hidden = without_private(&facts, &roots).unwrap();
        let expected = Some("cannot read /proc/modules and /sys/x");
        assert_eq!(hidden.surroundings.modules.unavailable(), expected);
        facts.surroundings.modules = hidden.surroundings.modules.clone();
        facts.namespaces.read[0].name = None;
        assert_eq!(hidden, facts, "nothing else changes");
    }

    #[test]
    fn a_bundle_is_an_archive_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar.gz");
        let file = File { name: "a.txt", about: "", text: "hello\n".into() };
        check(&path).unwrap();
        write(&path, std::slice::from_ref(&file)).unwrap();
        let packed = std::fs::File::open(&path).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed));
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("ctmon-bundle/a.txt"));
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert_eq!(text, file.text);

        let before = std::fs::read(&path).unwrap();
        for error in [check(&path).unwrap_err(), write(&path, &[]).unwrap_err()] {
            assert!(error.to_string().contains("not overwritten"), "{error}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");

        let nowhere = folder.path().join("no/x.tar.gz");
        assert!(check(&nowhere).unwrap_err().to_string().contains("no folder"));
        assert!(write(&nowhere, &[]).is_err());
    }
}
