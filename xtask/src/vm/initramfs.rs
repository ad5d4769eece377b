//! The file system that a VM starts from: busybox, nft, conntrack, modules and the command to run.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, IsTerminal as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use cpio::newc::{Builder, ModeFileType, trailer};

use super::{
    kernel::Kernel,
    modules,
    userland::{self, Files},
};
use crate::workspace;

/// Directories that hold mounts or links, and so get no file that would create them.
const DIRECTORIES: [&str; 10] =
    ["dev", "proc", "sys", "run", "tmp", "root", "etc", "var", "usr/share", "lib/modules"];

/// What a VM is to do.
pub(crate) struct Guest<'a> {
    /// A shell script: no limit of the kernel's command line applies to it.
    pub(crate) script: &'a str,
    /// Whether the script talks with a terminal.
    pub(crate) interactive: bool,
    /// Whether it does no harm to run the script again from the start.
    pub(crate) repeatable: bool,
    /// Programs to put into `/bin`.
    pub(crate) binaries: &'a [PathBuf],
    /// More files, by their place in the VM.
    pub(crate) files: Files,
    /// How it is reached from here; a VM has no network card otherwise.
    pub(crate) forward: Option<Forward>,
}

/// A port of 127.0.0.1 that leads into a VM. Its card `eth0` leads nowhere else; it is to have the address [`ADDRESS`].
#[derive(Clone, Copy)]
pub(crate) struct Forward {
    /// The port on this host.
    pub(crate) here: u16,
    /// The port in the VM.
    pub(crate) there: u16,
}

/// The address that QEMU's user network takes the first machine in it to have, of 24 bits.
pub(crate) const ADDRESS: &str = "10.0.2.15";

impl<'a> Guest<'a> {
    /// A script that runs once, with nobody at the terminal.
    pub(crate) fn command(script: &'a str, binaries: &'a [PathBuf]) -> Self {
        let (interactive, repeatable, forward) = (false, false, None);
        Self { script, interactive, repeatable, binaries, files: Files::new(), forward }
    }
}

/// Writes the archive to a file that has no name: nothing is left behind, however this program ends.
/// It stays uncompressed: an emulated processor decompresses slowly.
pub(crate) fn write(kernel: &Kernel, guest: &Guest<'_>) -> Result<File> {
    let mut archive = Archive::new()?;
    fill(&mut archive, kernel, guest).context("cannot write the initramfs")?;
    archive.finish()
}

fn fill(archive: &mut Archive, kernel: &Kernel, guest: &Guest<'_>) -> Result<()> {
    for directory in DIRECTORIES {
        archive.directory(directory)?;
    }
    // One directory of programs: the kernel's own `/sbin/modprobe` is found as well.
    for (link, to) in
        [("sbin", "bin"), ("usr/bin", "/bin"), ("usr/sbin", "/bin"), ("var/run", "/run")]
    {
        archive.link(link, to)?;
    }
    archive.file("init", 0o755, include_bytes!("init.sh"))?;
    // The programs in the VM see a terminal; what they write may well go to a file here.
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let plain = if colours { "" } else { "export NO_COLOR=1\n" };
    archive.file("etc/command", 0o644, format!("{plain}{}", guest.script).as_bytes())?;
    let [_, output] = kernel.arch.serial;
    archive.file("etc/output", 0o644, format!("/dev/{output}\n").as_bytes())?;
    if guest.interactive {
        archive.file("etc/interactive", 0o644, b"")?;
    }
    archive.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n",
    )?;
    archive.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n::1 localhost\n")?;

    // Its other names are made in the VM: one of another architecture does not say here which it has.
    archive.link("bin/sh", "busybox")?;
    let userland = userland::files(kernel.arch)?;
    for (name, path) in userland.iter().chain(&guest.files) {
        archive.file(name, 0o755, &read(path)?)?;
    }
    for binary in guest.binaries {
        archive.copy(binary)?;
    }
    let staged = tempfile::tempdir().context("no scratch directory for kernel modules")?;
    modules::stage(&kernel.release, kernel.modules.as_deref(), staged.path())?;
    archive.tree(staged.path(), staged.path())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A newc archive in a file that has no name.
pub(super) struct Archive {
    file: BufWriter<File>,
    inode: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// An empty one.
    pub(super) fn new() -> Result<Self> {
        let directory = workspace::target()?.join("vm");
        workspace::create(&directory)?;
        let file = tempfile::tempfile_in(&directory)
            .with_context(|| format!("no scratch file in {}", directory.display()))?;
        Ok(Self { file: BufWriter::new(file), inode: 1, directories: BTreeSet::new() })
    }

    /// Ends it; the file is to be read from its begin.
    pub(super) fn finish(self) -> Result<File> {
        let mut file = trailer(self.file)?.into_inner().map_err(|error| error.into_error())?;
        file.rewind()?;
        Ok(file)
    }

    fn entry(
        &mut self,
        name: &str,
        kind: ModeFileType,
        permissions: u32,
        data: &[u8],
    ) -> Result<()> {
        let size = u32::try_from(data.len())
            .with_context(|| format!("{name} is too large for a newc archive"))?;
        let entry =
            Builder::new(name).ino(self.inode).mode(permissions).set_mode_file_type(kind).nlink(1);
        let mut writer = entry.write(&mut self.file, size);
        writer.write_all(data)?;
        writer.finish()?;
        self.inode += 1;
        Ok(())
    }

    /// A directory, after its parents.
    pub(super) fn directory(&mut self, name: &str) -> Result<()> {
        for (end, _) in name.match_indices('/').chain([(name.len(), "")]) {
            let directory = &name[..end];
            if !directory.is_empty() && self.directories.insert(directory.to_owned()) {
                self.entry(directory, ModeFileType::Directory, 0o755, b"")?;
            }
        }
        Ok(())
    }

    /// A file, after the directories that it is in.
    pub(super) fn file(&mut self, name: &str, permissions: u32, data: &[u8]) -> Result<()> {
        self.directory(name.rsplit_once('/').map_or("", |(parent, _)| parent))?;
        self.entry(name, ModeFileType::Regular, permissions, data)
    }

    /// A symbolic link, after the directories that it is in.
    pub(super) fn link(&mut self, name: &str, to: &str) -> Result<()> {
        self.directory(name.rsplit_once('/').map_or("", |(parent, _)| parent))?;
        self.entry(name, ModeFileType::Symlink, 0o777, to.as_bytes())
    }

    /// A program of the host, into `/bin`.
    fn copy(&mut self, program: &Path) -> Result<()> {
        let name =
            program.file_name().with_context(|| format!("{} has no name", program.display()))?;
        self.file(&format!("bin/{}", name.to_string_lossy()), 0o755, &read(program)?)
    }

    fn tree(&mut self, root: &Path, directory: &Path) -> Result<()> {
        for entry in fs::read_dir(directory)
            .with_context(|| format!("cannot list {}", directory.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                self.tree(root, &path)?;
            } else {
                self.file(&path.strip_prefix(root)?.to_string_lossy(), 0o644, &read(&path)?)?;
            }
        }
        Ok(())
    }
}
