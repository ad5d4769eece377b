//! The programs of a VM that are not this workspace's, with their libraries: this host's own, or for another
//! architecture Debian's, unpacked into the cache.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::mirror;
use crate::{
    arch::Arch,
    process::{command, find, output, text},
    progress::step,
    workspace,
};

/// The programs, and the packages of Debian that have them.
const PROGRAMS: [(&str, &str); 4] = [
    ("busybox", "busybox-static"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("strace", "strace"),
];

/// Where packages put programs.
const PROGRAM_PLACES: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];

/// The place in a VM of each file, and what to copy there.
pub(crate) type Files = BTreeMap<String, PathBuf>;

/// All files that the programs need.
pub(crate) fn files(arch: &Arch) -> Result<Files> {
    if arch.is_host() {
        of_host()
    } else {
        of_tree(&fetched(arch, "programs", &PROGRAMS)?, &PROGRAMS)
    }
}

fn of_host() -> Result<Files> {
    let mut files = Files::new();
    for (name, _) in PROGRAMS {
        let path =
            find(name).with_context(|| format!("no {name}: `cargo xtask setup` installs it"))?;
        for library in shared_libraries(&path) {
            files.insert(library.trim_start_matches('/').to_owned(), library.into());
        }
        files.insert(format!("bin/{name}"), path);
    }
    Ok(files)
}

/// What `ldd` names, the loader included; nothing for a static program.
fn shared_libraries(program: &Path) -> Vec<String> {
    let listed =
        output(command("ldd").arg(program), "to find its shared libraries").unwrap_or_default();
    library_paths(&String::from_utf8_lossy(&listed))
}

fn library_paths(ldd: &str) -> Vec<String> {
    ldd.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

/// Where a VM has a program whose C library is newer than that of the others.
const APART: &str = "opt";

/// A program of the Debian package of its name, with the loader and the libraries of the same release, in a folder
/// of its own. Second, the command that starts it.
pub(crate) fn apart(arch: &Arch, program: &'static str) -> Result<(Files, String)> {
    let programs = [(program, program)];
    let tree = fetched(arch, program, &programs)?;
    let folder = format!("{APART}/{program}");
    let files: Files = of_tree(&tree, &programs)?
        .into_iter()
        .map(|(place, path)| {
            (format!("{folder}/{}", place.rsplit('/').next().unwrap_or_default()), path)
        })
        .collect();
    let loader = files.keys().find(|place| place.contains("/ld-linux"));
    let loader = loader.with_context(|| format!("{program} names no loader"))?;
    let command = format!("/{loader} --library-path /{folder} /{folder}/{program}");
    Ok((files, command))
}

/// The unpacked packages of `programs` and all that they depend on.
fn fetched(arch: &Arch, name: &str, programs: &[(&str, &str)]) -> Result<PathBuf> {
    let directory = workspace::cache()?.join(format!("{name}-{}", arch.debian));
    let _lock = workspace::lock()?;
    if !directory.exists() {
        let packages: Vec<&str> = programs.iter().map(|(_, package)| *package).collect();
        step(&format!("fetch {} for {}", packages.join(", "), arch.name), || {
            let download = |scratch: &Path| mirror::download_all(arch, None, &packages, scratch);
            mirror::unpack(&directory, download, |_| Ok(()))
        })?;
    }
    Ok(directory)
}

/// Like [`of_host`], for programs that do not run here, so that `ldd` is of no use.
fn of_tree(tree: &Path, programs: &[(&str, &str)]) -> Result<Files> {
    let libraries = libraries_in(tree);
    let mut files = Files::new();
    for (name, _) in programs {
        let mut places = PROGRAM_PLACES.iter().map(|place| tree.join(place).join(name));
        let path = places.find(|path| path.is_file());
        let path = path.with_context(|| format!("no {name} in {}", tree.display()))?;
        files.insert(format!("bin/{name}"), path);
    }
    let mut read = BTreeSet::new();
    while let Some(path) = files.values().find(|path| !read.contains(*path)).cloned() {
        let mut readelf = command("readelf");
        readelf.args(["--wide", "--program-headers", "--dynamic"]).arg(&path);
        for library in needed(&text(&mut readelf, "to find the libraries of a VM's programs")?) {
            let found = libraries.get(&library);
            let found = found
                .with_context(|| format!("no {library} for {} in the cache", path.display()))?;
            // The loader of every architecture looks there.
            files.insert(format!("lib/{library}"), found.clone());
        }
        read.insert(path);
    }
    Ok(files)
}

/// The shared libraries below a directory, by name.
fn libraries_in(tree: &Path) -> BTreeMap<String, PathBuf> {
    let mut libraries = BTreeMap::new();
    let mut open = vec![tree.join("usr/lib"), tree.join("lib")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            } else if let Ok(name) = entry.file_name().into_string()
                && name.contains(".so")
                && entry.path().is_file()
            {
                libraries.insert(name, entry.path());
            }
        }
    }
    libraries
}

/// The loader and the libraries that readelf names.
fn needed(readelf: &str) -> Vec<String> {
    let bracketed = |line: &str, before: &str| {
        let (_, rest) = line.split_once(before)?;
        let (name, _) = rest.split_once(']')?;
        Some(name.rsplit('/').next().unwrap_or(name).to_owned())
    };
    readelf
        .lines()
        .filter_map(|line| {
            bracketed(line, "program interpreter: ").or_else(|| {
                line.contains("(NEEDED)").then(|| bracketed(line, "Shared library: ["))?
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_names_libraries_and_the_loader() {
        let ldd = "\tlinux-vdso.so.1 (0x00007fff)\n\tlibmnl.so.0 => /lib/x86_64-linux-gnu/libmnl.so.0 (0x00007f)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            library_paths(ldd),
            ["/lib/x86_64-linux-gnu/libmnl.so.0", "/lib64/ld-linux-x86-64.so.2"]
        );
        assert!(library_paths("\tnot a dynamic executable\n").is_empty());
    }

    #[test]
    fn readelf_names_libraries_and_the_loader() {
        let said = "      [Requesting program interpreter: /lib/ld-linux-aarch64.so.1]\n\
             \x20 LOAD           0x000000 0x0000000000000000\n\
             \x200x0000000000000001 (NEEDED)             Shared library: [libmnl.so.0]\n\
             \x200x000000000000000e (SONAME)             Library soname: [libx.so.1]\n";
        assert_eq!(needed(said), ["ld-linux-aarch64.so.1", "libmnl.so.0"]);
        assert!(needed("There is no dynamic section in this file.\n").is_empty());
    }
}
