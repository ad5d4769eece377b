//! A QEMU that emulates a kernel patching itself: from 8.1 on.
//!
//! Attaching a program patches the kernel's code while other processors run it. An older QEMU then runs
//! breakpoints that are gone, and the kernel dies of them ("accel/tcg: Always lock pages before
//! translation" mended it). Debian 12 has 7.2; its backports have a newer one.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    arch::Arch,
    process::{find, output, text},
    progress::{note, step},
    vm::mirror,
    workspace,
};

/// The first version whose emulation is sound.
const SOUND: (u32, u32) = (8, 1);

/// After which a newer version is looked for again.
const ASK_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// Installs QEMU where there is none or one that is too old, if the machine's distribution has a newer one. A
/// failure is no obstacle: an old one will do, since a VM that it breaks is started again.
pub(crate) fn ensure(arch: &Arch, prefix: Option<&[&str]>) -> Result<()> {
    if find(arch.qemu).is_some() {
        let said = text(Command::new(arch.qemu).arg("--version"), "to know its version")?;
        if version(&said).is_none_or(|version| version >= SOUND) {
            return Ok(());
        }
    }
    // A machine without a newer one is not asked again at every turn.
    let failed = workspace::cache()?.join(format!("no-newer-{}", arch.qemu));
    let age = fs::metadata(&failed).and_then(|file| file.modified()).ok();
    if age.and_then(|time| time.elapsed().ok()).is_some_and(|age| age < ASK_AGAIN) {
        return Ok(());
    }
    let done = prefix
        .filter(|_| find("apt-get").is_some())
        .context("this user cannot install packages")
        .and_then(|prefix| {
            step("QEMU from backports (before 8.1 it breaks kernels that patch themselves)", || {
                backport(arch, prefix)
            })
        });
    if let Err(error) = done {
        let _ = fs::write(&failed, "");
        let (major, minor) = SOUND;
        note(&format!(
            "no QEMU {major}.{minor} or later from backports; a VM that an older one breaks is started again: {error:#}"
        ));
    }
    Ok(())
}

/// Installs QEMU from the backports of the machine's own release, through lists of our own: the
/// machine's sources stay as they are.
fn backport(arch: &Arch, prefix: &[&str]) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let codename = codename(&release).context("/etc/os-release names no Debian release")?;
    let (main, _) = mirror::addresses()?;
    let folder = workspace::cache()?.join("apt-backports");
    workspace::create(&folder.join("lists/partial"))?;
    let sources = folder.join("sources.list");
    let signed = format!("[signed-by={}]", mirror::KEYRING);
    let lines = format!(
        "deb {signed} {main} {codename} main\ndeb {signed} {main} {codename}-backports main\n"
    );
    fs::write(&sources, lines).with_context(|| format!("cannot write {}", sources.display()))?;
    let apt = |arguments: &[&str]| {
        let mut words = prefix.iter().chain(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        let mut apt = Command::new(words.next().unwrap_or(&"env"));
        apt.args(words).args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
        apt.args(["-o", &format!("Dir::Etc::SourceList={}", sources.display())]);
        apt.args(["-o", "Dir::Etc::SourceParts=-"]);
        apt.args(["-o", &format!("Dir::State::Lists={}/lists", folder.display())]);
        apt.args(arguments).stdin(Stdio::null());
        output(&mut apt, "for an emulator that does not break kernels").map(drop)
    };
    let [package, ..] = arch.qemu_packages;
    let suite = format!("{codename}-backports");
    apt(&["update"])?;
    apt(&["install", "-y", "--no-install-recommends", "-t", &suite, package])
}

/// Major and minor number, from what QEMU says with --version.
fn version(said: &str) -> Option<(u32, u32)> {
    let number = said.split("version ").nth(1)?.split_whitespace().next()?;
    let mut parts = number.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// The release's name, on Debian itself.
fn codename(release: &str) -> Option<&str> {
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_matches('"'))
    };
    (value("ID=") == Some("debian")).then(|| value("VERSION_CODENAME="))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare() {
        let old = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\n";
        assert_eq!(version(old), Some((7, 2)));
        assert!(version(old) < Some(SOUND));
        assert!(version("QEMU emulator version 10.0.2 (Debian)") > Some(SOUND));
        assert_eq!(version("qemu"), None);
    }

    #[test]
    fn only_debian_has_debian_backports() {
        let debian = "ID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(codename(debian), Some("bookworm"));
        assert_eq!(codename("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(codename("ID=debian\n"), None);
    }
}
