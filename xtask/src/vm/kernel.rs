//! What `--kernel` names: a series of the mirror, kept unpacked in the cache, or a directory with a kernel.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{
    built, mirror,
    version::{Release, Wanted, pick, series_of},
};
use crate::{
    arch::Arch,
    process::{command, output},
    progress::{note, step},
    workspace,
};

/// What `all` stands for.
pub(crate) const SERIES: [&str; 8] =
    ["5.10", "6.1", "6.1-rt", "6.12", "6.12-rt", "6.18", "newest", "newest-rt"];

/// Holds the Debian version in an unpacked kernel; written last, so a kernel without it is not one.
const VERSION_FILE: &str = "ctmon-version";

/// A kernel that can be started.
pub(crate) struct Kernel {
    pub(crate) arch: &'static Arch,
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// None where everything is built in.
    pub(crate) modules: Option<PathBuf>,
}

/// Replaces `all` by its members.
pub(crate) fn expand(names: &[String]) -> Vec<String> {
    let each = |name: &String| match name.as_str() {
        "all" => SERIES
            .iter()
            .copied()
            .chain(built::ALL.iter().map(|build| build.name))
            .map(str::to_owned)
            .collect(),
        _ => vec![name.clone()],
    };
    names.iter().flat_map(each).collect()
}

/// Finds a kernel, downloading it where it is a series that the cache does not have.
pub(crate) fn get(arch: &'static Arch, name: &str) -> Result<Kernel> {
    let directory = Path::new(name);
    if directory.is_dir() {
        return open(arch, directory);
    }
    if let Some(build) = built::find(name) {
        let folder = built::cached(build)?.with_context(|| {
            format!("the kernel {name} is not built yet: `cargo xtask vm kernel build {name}`")
        })?;
        return Ok(Kernel { release: build.name.to_owned(), ..open(arch, &folder)? });
    }
    let wanted: Wanted = name.parse()?;
    let flavour = flavour(arch, wanted);
    let _lock = workspace::lock()?;
    match fetch(arch, wanted, name, false) {
        Ok(kernel) => Ok(kernel),
        Err(error) => {
            let cached = cached(flavour)?;
            let Some(old) = pick(wanted.series, &cached) else {
                return Err(error);
            };
            note(&format!("using {} from the cache: {error}", old.name));
            open(arch, &directory_of(old)?)
        }
    }
}

/// The newest kernel of a series, and whether it is in the cache.
pub(crate) fn look_up(arch: &Arch, name: &str) -> Result<Option<(Release, bool)>> {
    let _lock = workspace::lock()?;
    if let Some(build) = built::find(name) {
        let is_built = built::cached(build)?.is_some();
        let (name, version) = (build.name.to_owned(), build.what.to_owned());
        return Ok(Some((Release { name, version, packages: vec![] }, is_built)));
    }
    let wanted: Wanted = name.parse()?;
    let releases = mirror::releases(arch, flavour(arch, wanted), false)?;
    let Some(release) = pick(wanted.series, &releases) else {
        return Ok(None);
    };
    Ok(Some((release.clone(), directory_of(release)?.join(VERSION_FILE).exists())))
}

/// How the packages of such a kernel end.
const fn flavour(arch: &Arch, wanted: Wanted) -> &'static str {
    if wanted.is_real_time { arch.real_time } else { arch.flavour }
}

fn fetch(arch: &'static Arch, wanted: Wanted, name: &str, refresh: bool) -> Result<Kernel> {
    let releases = mirror::releases(arch, flavour(arch, wanted), refresh)?;
    let release = pick(wanted.series, &releases).with_context(|| {
        format!(
            "the mirror has no {name} kernel for {}; looked in {}, which have {}",
            arch.name,
            mirror::suites(),
            series_of(&releases)
        )
    })?;
    let directory = directory_of(release)?;
    if !directory.join(VERSION_FILE).exists() {
        let unpacked = step(&format!("fetch kernel {}", release.name), || {
            let download = |scratch: &Path| mirror::download(arch, release, scratch);
            mirror::unpack(&directory, download, |tree| complete(release, tree))
        });
        match unpacked {
            // The mirror drops a version as soon as it has a newer one.
            Err(error) if !refresh => {
                note(&format!("looking again, the list may be old: {error}"));
                return fetch(arch, wanted, name, true);
            }
            other => other?,
        }
    }
    open(arch, &directory)
}

/// Makes the tree of a kernel's packages one that VMs start from.
fn complete(release: &Release, tree: &Path) -> Result<()> {
    // Newer packages have everything under usr; depmod looks only here.
    if !tree.join("lib").exists() {
        symlink("usr/lib", tree.join("lib")).context("cannot link lib to usr/lib")?;
    }
    let mut depmod = command("depmod");
    output(
        depmod.arg("-b").arg(tree).arg(&release.name),
        "to learn which modules depend on which",
    )?;
    fs::write(tree.join(VERSION_FILE), &release.version)
        .context("cannot note the version of the kernel")
}

fn directory_of(release: &Release) -> Result<PathBuf> {
    Ok(workspace::cache()?.join("kernels").join(&release.name))
}

/// The kernels of a flavour that the cache holds.
fn cached(flavour: &str) -> Result<Vec<Release>> {
    let directory = workspace::cache()?.join("kernels");
    let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
    let release = |entry: fs::DirEntry| {
        Some(Release {
            name: entry.file_name().into_string().ok().filter(|name| name.ends_with(flavour))?,
            version: fs::read_to_string(entry.path().join(VERSION_FILE)).ok()?,
            packages: Vec::new(),
        })
    };
    Ok(entries.filter_map(release).collect())
}

/// A kernel in a directory: of the cache, an unpacked package, or somebody's own build.
fn open(arch: &'static Arch, directory: &Path) -> Result<Kernel> {
    let modules = ["lib/modules", "usr/lib/modules"]
        .iter()
        .flat_map(|place| fs::read_dir(directory.join(place)).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .find(|path| path.join("kernel").is_dir());
    let release = modules
        .as_ref()
        .and_then(|path| path.file_name())
        .map_or_else(|| "local".to_owned(), |name| name.to_string_lossy().into_owned());
    let places = [
        format!("boot/vmlinuz-{release}"),
        format!("lib/modules/{release}/vmlinuz"),
        format!("usr/lib/modules/{release}/vmlinuz"),
        "vmlinuz".to_owned(),
        "bzImage".to_owned(),
        "Image".to_owned(),
        arch.built_image.to_owned(),
    ];
    let image = places.iter().map(|place| directory.join(place)).find(|path| path.is_file());
    let Some(image) = image else {
        bail!("no kernel image in {}: looked for {}", directory.display(), places.join(", "));
    };
    Ok(Kernel { arch, release, image, modules })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{ARM64, X86_64};

    #[test]
    fn all_contains_the_usual_set() {
        let all = expand(&["all".to_owned()]);
        assert_eq!(all.len(), SERIES.len() + built::ALL.len());
        for arch in [&X86_64, &ARM64] {
            assert!(arch.usual.iter().all(|name| SERIES.contains(name)));
            assert!(arch.usual.contains(&arch.kernel));
        }
        assert_eq!(expand(&["6.1".to_owned(), "/some/where".to_owned()]), ["6.1", "/some/where"]);
    }

    #[test]
    fn a_directory_may_be_laid_out_in_several_ways() {
        for (image, modules) in [
            ("boot/vmlinuz-6.1.0", Some("lib/modules/6.1.0/kernel")),
            ("usr/lib/modules/6.1.0/vmlinuz", Some("usr/lib/modules/6.1.0/kernel")),
            ("bzImage", None),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join(image);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            if let Some(modules) = modules {
                fs::create_dir_all(directory.path().join(modules)).unwrap();
            }
            let kernel = open(&X86_64, directory.path()).unwrap();
            assert_eq!(kernel.image, file);
            assert_eq!(kernel.modules.is_some(), modules.is_some());
            assert_eq!(kernel.release, if modules.is_some() { "6.1.0" } else { "local" });
        }
        assert!(open(&X86_64, tempfile::tempdir().unwrap().path()).is_err());
    }
}
