//! A root file system with systemd: packages of Debian unpacked into the cache, as debootstrap begins, without their scripts.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::super::{initramfs::Archive, kernel::Kernel, mirror, modules};
use crate::{arch::Arch, progress::step, workspace};

/// Packages that the VM needs; what they depend on comes with them.
const PACKAGES: [&str; 12] = [
    "base-files",
    "base-passwd",
    "busybox-static",
    "conntrack",
    "coreutils",
    "dash",
    "grep",
    "kmod",
    "mount",
    "nftables",
    "sed",
    "systemd",
];

/// The assertions, run as a unit. Its output has the markers of a VM.
pub(super) const SCRIPT: &str = include_str!("test.sh");

/// Texts of the root file system, by their place.
const TEXTS: [(&str, &str); 9] = [
    ("etc/ctmon-test.sh", SCRIPT),
    ("etc/systemd/system/ctmon.service", include_str!("../../../../contrib/systemd/ctmon.service")),
    (
        "usr/lib/sysusers.d/ctmon.conf",
        include_str!("../../../../contrib/systemd/ctmon.sysusers.conf"),
    ),
    ("etc/systemd/system/ctmon.service.d/test.conf", "[Service]\nWatchdogSec=2\nRestartSec=1\n"),
    ("etc/default/ctmon", "CTMON_FLIGHT_DIR=/var/lib/ctmon\nCTMON_LISTEN=unix:/run/ctmon/http\n"),
    (
        "etc/systemd/system/ctmon-test.service",
        "[Service]\nStandardInput=null\nExecStart=/bin/sh /etc/ctmon-test.sh\n",
    ),
    // As of any machine: without one, systemd takes the boot for the first and enables units by itself.
    ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("etc/hostname", "ctmon-vm\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
];

/// Links of the root file system and what they lead to.
const LINKS: [(&str, &str); 12] = [
    // One directory of each kind, as in Debian since 12: packages of it still ship files in both.
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("var/run", "/run"),
    ("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target"),
    ("etc/systemd/system/multi-user.target.wants/ctmon.service", "../ctmon.service"),
    ("etc/systemd/system/multi-user.target.wants/ctmon-test.service", "../ctmon-test.service"),
    // Nobody logs in, and there is no network.
    ("etc/systemd/system/getty.target", "/dev/null"),
    ("etc/systemd/system/serial-getty@.service", "/dev/null"),
    ("etc/systemd/system/systemd-networkd.service", "/dev/null"),
    ("etc/systemd/system/systemd-timesyncd.service", "/dev/null"),
];

/// Directories that are mounted on, or that programs expect.
const DIRECTORIES: [&str; 8] = ["dev", "proc", "root", "run", "sys", "tmp", "var/lib", "var/log"];

/// Parts of packages that nothing in the VM reads.
const LEFT_OUT: [&str; 10] = [
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/i18n",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/zsh",
    "usr/lib/udev/hwdb.d",
];

/// The unpacked packages, downloaded where they are not in the cache.
pub(super) fn fetched(arch: &Arch, release: &str) -> Result<PathBuf> {
    let directory = workspace::cache()?.join(format!("systemd-{release}-{}", arch.debian));
    let _lock = workspace::lock()?;
    if !directory.exists() {
        step(&format!("fetch systemd of {release} for {}", arch.name), || {
            let download =
                |scratch: &Path| mirror::download_all(arch, Some(release), &PACKAGES, scratch);
            mirror::unpack(&directory, download, is_complete)
        })?;
    }
    Ok(directory)
}

fn is_complete(tree: &Path) -> Result<()> {
    for places in
        [["lib/systemd/systemd", "usr/lib/systemd/systemd"], ["bin/busybox", "usr/bin/busybox"]]
    {
        let is_there = places.iter().any(|place| tree.join(place).is_file());
        ensure!(is_there, "no {} in the packages", places[0]);
    }
    Ok(())
}

/// Writes the archive that the VM starts from.
pub(super) fn write(
    kernel: &Kernel,
    tree: &Path,
    programs: &[PathBuf],
    dropping: u32,
) -> Result<File> {
    let mut archive = Archive::new()?;
    for (link, to) in LINKS {
        archive.link(link, to)?;
    }
    for directory in DIRECTORIES {
        archive.directory(directory)?;
    }
    copy(&mut archive, tree, tree)?;
    for (name, file) in [("passwd", "passwd.master"), ("group", "group.master")] {
        let master = tree.join("usr/share/base-passwd").join(file);
        let text =
            fs::read(&master).with_context(|| format!("cannot read {}", master.display()))?;
        archive.file(&format!("etc/{name}"), 0o644, &text)?;
    }
    for (name, text) in TEXTS {
        archive.file(name, 0o644, text.as_bytes())?;
    }
    archive.file("init", 0o755, include_bytes!("init.sh"))?;
    let [_, output] = kernel.arch.serial;
    archive.file("etc/ctmon-output", 0o644, format!("/dev/{output}\n").as_bytes())?;
    archive.file("etc/ctmon-dropping", 0o644, format!("{dropping}\n").as_bytes())?;
    for program in programs {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let bytes =
            fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
        archive.file(&format!("usr/bin/{name}"), 0o755, &bytes)?;
    }
    let staged = tempfile::tempdir().context("no scratch directory for kernel modules")?;
    modules::stage(&kernel.release, kernel.modules.as_deref(), staged.path())?;
    copy(&mut archive, staged.path(), staged.path())?;
    archive.finish()
}

/// Adds what is in `directory` of the tree `root`.
fn copy(archive: &mut Archive, root: &Path, directory: &Path) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry?.path());
    }
    paths.sort();
    for path in paths {
        let relative = path.strip_prefix(root)?.to_string_lossy().into_owned();
        let Some(name) = place(&relative) else { continue };
        let kind = fs::symlink_metadata(&path)?;
        if kind.is_dir() {
            copy(archive, root, &path)?;
        } else if kind.is_symlink() {
            let to = fs::read_link(&path)?.to_string_lossy().into_owned();
            // Of the root directory's links there is a list; one from /usr/bin to /bin leads to itself.
            let is_own = to.strip_prefix('/').is_some_and(|to| place(to).as_ref() == Some(&name));
            if relative.contains('/') && !is_own {
                archive.link(&name, &to)?;
            }
        } else if kind.is_file() {
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            archive.file(&name, kind.permissions().mode() & 0o7777, &bytes)?;
        }
    }
    Ok(())
}

/// Path in the VM of a file of a package; none if it is left out.
fn place(name: &str) -> Option<String> {
    let first = name.split('/').next().unwrap_or(name);
    let is_merged = ["bin", "sbin", "lib", "lib64"].contains(&first);
    let place = if is_merged { format!("usr/{name}") } else { name.to_owned() };
    let is_below = |folder: &str| {
        let rest = place.strip_prefix(folder);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    (!LEFT_OUT.into_iter().any(is_below)).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_packages_are_in_one_directory_of_each_kind() {
        for (name, expected) in [
            ("bin/dash", Some("usr/bin/dash")),
            ("usr/bin/dash", Some("usr/bin/dash")),
            ("lib/systemd/systemd", Some("usr/lib/systemd/systemd")),
            ("lib/modules/6.12/modules.dep", Some("usr/lib/modules/6.12/modules.dep")),
            ("lib", Some("usr/lib")),
            ("etc/nftables.conf", Some("etc/nftables.conf")),
            ("usr/share/doc/dash/copyright", None),
            ("lib/udev/hwdb.d/20-x.hwdb", None),
            ("usr/share/dockerfiles", Some("usr/share/dockerfiles")),
        ] {
            assert_eq!(place(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn the_unit_under_test_is_the_one_that_is_shipped() {
        let text = |name| TEXTS.iter().find(|(place, _)| *place == name).unwrap().1;
        let unit = text("etc/systemd/system/ctmon.service");
        assert!(
            unit.contains("\nType=notify\n") && unit.contains("\nExecStart=/usr/bin/ctmon serve\n")
        );
        let test = text("etc/systemd/system/ctmon.service.d/test.conf");
        assert!(test.contains("\nWatchdogSec=2\n"));
        for word in ["start\"", "exit $failed\"", "poweroff"] {
            assert!(SCRIPT.contains(word), "{word}");
        }
    }
}
