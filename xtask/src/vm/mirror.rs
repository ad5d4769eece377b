//! Kernels from the Debian mirror that this machine is set up for, through an apt of our own: other suites are looked
//! at, and nothing of the machine's package state changes.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::version::Release;
use crate::{
    arch::Arch,
    process::{command, find, output, text},
    progress::{note, step},
    workspace,
};

/// Where kernels are looked for, oldest suite first.
const SUITES: [&str; 5] =
    ["bullseye", "bookworm", "trixie", "bookworm-backports", "trixie-backports"];
const SECURITY_SUITES: [&str; 3] = ["bullseye-security", "bookworm-security", "trixie-security"];

/// Names the mirror on a machine whose own packages are not Debian's.
const MIRROR: &str = "CTMON_DEBIAN_MIRROR";

/// Package names and versions change a few times a month.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// The suites, for a message.
pub(crate) fn suites() -> String {
    [SUITES.as_slice(), &SECURITY_SUITES].concat().join(", ")
}

/// The mirror's kernels as [`version::releases`](super::version::releases) takes them, at most a day old unless the
/// mirror does not answer.
pub(crate) fn releases(arch: &Arch, flavour: &str, refresh: bool) -> Result<Vec<Release>> {
    let index = apt_root(arch)?.join("kernels-of-both-flavours");
    let age = fs::metadata(&index)
        .and_then(|file| file.modified())
        .ok()
        .and_then(|time| time.elapsed().ok());
    let known = fs::read_to_string(&index).ok();
    let lines = match known {
        Some(known) if !refresh && age.is_some_and(|age| age < FRESH) => known,
        known => match (step("kernel packages of the mirror", || update(arch)), known) {
            (Ok(lines), _) => {
                fs::write(&index, &lines)
                    .with_context(|| format!("cannot write {}", index.display()))?;
                lines
            }
            (Err(error), Some(known)) => {
                note(&format!("using the list of an earlier day: {error}"));
                known
            }
            (Err(error), None) => return Err(error),
        },
    };
    Ok(super::version::releases(&lines, flavour))
}

/// Downloads the packages of a kernel into a directory. apt checks what it downloads.
pub(crate) fn download(arch: &Arch, release: &Release, into: &Path) -> Result<()> {
    let mut apt = private(arch, "apt-get")?;
    apt.arg("download").current_dir(into);
    apt.args(release.packages.iter().map(|package| format!("{package}={}", release.version)));
    output(&mut apt, "for a kernel to start a VM with").map(drop)
}

/// Downloads packages and all that they depend on into a directory: of a release of Debian, or of the newest that has them.
pub(crate) fn download_all(
    arch: &Arch,
    release: Option<&str>,
    packages: &[&str],
    into: &Path,
) -> Result<()> {
    // The list of kernels has been asked for with the same index.
    releases(arch, arch.flavour, false)?;
    workspace::create(&into.join("partial"))?;
    let mut apt = private(arch, "apt-get")?;
    apt.args(["install", "--download-only", "--no-install-recommends", "-y"]);
    apt.args(release.into_iter().flat_map(|release| ["-t", release]));
    apt.arg("-o").arg(format!("Dir::Cache::archives={}", into.display())).args(packages);
    output(&mut apt, "for the programs of a VM").map(drop)
}

/// Downloads packages, and nothing that they depend on, into a directory.
pub(crate) fn download_only(arch: &Arch, packages: &[&str], into: &Path) -> Result<()> {
    // The list of kernels has been asked for with the same index.
    releases(arch, arch.flavour, false)?;
    let mut apt = private(arch, "apt-get")?;
    apt.arg("download").args(packages).current_dir(into);
    output(&mut apt, "for programs of the tests").map(drop)
}

/// Downloads packages and unpacks them next to the final place, so that an interrupted run leaves nothing half done.
pub(crate) fn unpack(
    directory: &Path,
    download: impl FnOnce(&Path) -> Result<()>,
    complete: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let parent = directory.parent().context("the cache has no parent directory")?;
    workspace::create(parent)?;
    let scratch = tempfile::tempdir_in(parent)
        .with_context(|| format!("no scratch directory in {}", parent.display()))?;
    download(scratch.path())?;
    let tree = scratch.path().join("tree");
    for package in fs::read_dir(scratch.path())?.flatten().map(|entry| entry.path()) {
        if package.extension().is_some_and(|extension| extension == "deb") {
            let mut unpack = command("dpkg-deb");
            output(unpack.arg("-x").arg(&package).arg(&tree), "to get at what is in a package")?;
        }
    }
    complete(&tree)?;
    fs::rename(&tree, directory)
        .with_context(|| format!("cannot move what was unpacked to {}", directory.display()))
}

/// Asks the mirror for its packages; returns `package version` lines of kernels.
fn update(arch: &Arch) -> Result<String> {
    configure(arch)?;
    let why = "to know the kernels of the mirror";
    match text(private(arch, "apt-get")?.arg("update"), why) {
        // A mirror that does not answer is a mere warning to apt, which goes on with what it had.
        Ok(said) => {
            if let Some(obstacle) = obstacle(&said) {
                bail!("the mirror does not answer: {obstacle}");
            }
        }
        // One suite that the mirror does not have is no reason to do without the others.
        Err(error) => {
            for line in error.to_string().lines().filter(|line| line.starts_with("E: ")) {
                note(line);
            }
        }
    }
    let lines = kernel_lines(&text(private(arch, "apt-cache")?.arg("dumpavail"), why)?, arch);
    if lines.is_empty() {
        bail!("the mirror has no kernels in {}", suites());
    }
    Ok(lines)
}

/// The first thing that apt did not get, and why.
fn obstacle(said: &str) -> Option<String> {
    let mut lines = said.lines().skip_while(|line| !line.starts_with("Err:"));
    let (what, why) = (lines.next()?, lines.next().unwrap_or_default());
    Some(format!("{what}: {}", why.trim()))
}

/// The packages whose name looks like a kernel's, from apt's stanzas.
fn kernel_lines(available: &str, arch: &Arch) -> String {
    let is_wanted = |name: &str| name.ends_with(arch.flavour) || name.ends_with(arch.real_time);
    let mut lines = String::new();
    let mut package = "";
    for line in available.lines() {
        match line.split_once(": ") {
            Some(("Package", name)) => package = name,
            Some(("Version", version)) if package.starts_with("linux-") && is_wanted(package) => {
                lines.push_str(&format!("{package} {version}\n"));
            }
            _ => {}
        }
    }
    lines
}

/// Where the apt of one architecture keeps everything.
fn apt_root(arch: &Arch) -> Result<PathBuf> {
    Ok(workspace::cache()?.join(format!("apt-{}", arch.debian)))
}

/// An apt program that reads our configuration after the machine's, whose proxy settings stay in force.
fn private(arch: &Arch, program: &str) -> Result<std::process::Command> {
    if find(program).is_none() {
        bail!(
            "no {program} on this machine: kernels come from a Debian mirror; give --kernel the directory of a kernel"
        );
    }
    let mut apt = command(program);
    apt.arg("-c").arg(apt_root(arch)?.join("apt.conf")).arg("-q");
    Ok(apt)
}

/// What verifies Debian's packages.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The addresses of Debian's archive and of its security updates on the machine's mirror.
pub(crate) fn addresses() -> Result<(String, Option<String>)> {
    if !Path::new(KEYRING).exists() {
        bail!(
            "{KEYRING} is missing, which verifies Debian's packages: install debian-archive-keyring"
        );
    }
    let named = env::var(MIRROR).ok().map(|main| (main, None));
    named.or_else(|| mirror(&machine_sources())).with_context(|| {
        format!(
            "this machine's apt sources name no Debian mirror (an address that ends in /debian), so there is none to \
             ask for kernels; set {MIRROR} to one, or give --kernel the directory of a kernel"
        )
    })
}

fn configure(arch: &Arch) -> Result<()> {
    let root = apt_root(arch)?;
    for directory in
        ["etc/apt/preferences.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial"]
    {
        workspace::create(&root.join(directory))?;
    }
    let (main, security) = addresses()?;
    let keyring = KEYRING;
    let mut sources = String::new();
    for suite in SUITES {
        sources.push_str(&format!("deb [signed-by={keyring}] {main} {suite} main\n"));
    }
    for (suite, security) in SECURITY_SUITES.iter().zip(security.iter().cycle()) {
        sources.push_str(&format!("deb [signed-by={keyring}] {security} {suite} main\n"));
    }
    let configuration = format!(
        r##"Dir "{root}/";
Dir::State::status "{root}/status";
APT::Architecture "{arch}";
#clear APT::Architectures;
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "";
// Hooks of the machine are not meant for this.
#clear APT::Update;
#clear DPkg;
// An archived suite's signature date has passed.
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "2";
"##,
        root = root.display(),
        arch = arch.debian,
    );
    for (name, content) in
        [("etc/apt/sources.list", sources), ("apt.conf", configuration), ("status", String::new())]
    {
        let path = root.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The texts of the machine's apt sources.
fn machine_sources() -> Vec<String> {
    let parts = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let used = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "list" || extension == "sources")
    };
    let mut paths: Vec<PathBuf> = parts.filter(used).collect();
    paths.sort();
    paths.insert(0, "/etc/apt/sources.list".into());
    paths.iter().filter_map(|path| fs::read_to_string(path).ok()).collect()
}

/// The addresses of the archive and of its security updates, where the sources have one. Reads both forms of
/// sources.list(5), one line an entry and stanzas.
fn mirror(sources: &[String]) -> Option<(String, Option<String>)> {
    let words = sources
        .iter()
        .flat_map(|text| text.split("\n\n"))
        .filter(|stanza| {
            !stanza.lines().any(|line| line.trim().eq_ignore_ascii_case("enabled: no"))
        })
        .flat_map(str::lines)
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches('/'));
    let addresses: Vec<&str> = words.filter(|word| word.contains(":/")).collect();
    let ending = |end: &str| {
        addresses.iter().find(|address| address.ends_with(end)).map(ToString::to_string)
    };
    Some((ending("/debian")?, ending("/debian-security")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::X86_64;

    fn found(text: &str) -> Option<(String, Option<String>)> {
        mirror(&[text.to_owned()])
    }

    #[test]
    fn both_forms_of_sources_are_read() {
        let expected = Some((
            "http://a.example/debian".to_owned(),
            Some("https://b.example/debian-security".to_owned()),
        ));
        let lines = "# deb http://no.example/debian x main\ndeb [arch=amd64] http://a.example/debian bookworm main\n\
                     deb https://b.example/debian-security/ bookworm-security main\n";
        assert_eq!(found(lines), expected);
        let stanzas = "Types: deb\nURIs: http://no.example/debian\nEnabled: no\n\nTypes: deb\nURIs:\n \
                       http://a.example/debian/\nSuites: bookworm\n\nURIs: https://b.example/debian-security\n";
        assert_eq!(found(stanzas), expected);
    }

    #[test]
    fn a_machine_may_have_no_debian_mirror() {
        assert_eq!(found("deb http://a.example/ubuntu noble main\n"), None);
        assert_eq!(
            found("deb http://a.example/debian x main"),
            Some(("http://a.example/debian".to_owned(), None))
        );
    }

    #[test]
    fn what_apt_did_not_get_is_noticed() {
        let said =
            "Hit:1 a\nErr:2 http://a.example/debian x InRelease\n  No such host\nErr:3 b\n  c\n";
        let expected = "Err:2 http://a.example/debian x InRelease: No such host";
        assert_eq!(obstacle(said).as_deref(), Some(expected));
        assert_eq!(obstacle("Hit:1 a\nReading package lists...\n"), None);
    }

    #[test]
    fn kernels_are_found_among_all_packages() {
        let flavour = crate::arch::X86_64.flavour;
        let available = format!(
            "Package: zsh\nVersion: 5.9\n\nPackage: linux-image-6.1.0-56{flavour}\nSource: linux\nVersion: 6.1.192-2\n\
             Description: a kernel\n\nPackage: linux-image-6.1.0-56{flavour}-dbg\nVersion: 6.1.192-2\n"
        );
        assert_eq!(
            kernel_lines(&available, &X86_64),
            format!("linux-image-6.1.0-56{flavour} 6.1.192-2\n")
        );
    }
}
