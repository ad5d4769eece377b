//! Programs that stay attached without a process: pinned in a BPF file system, for whoever comes next.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use conntrack_ebpf::FACTS_BYTES;
use rustix::fs::{FlockOperation, flock};

use super::{
    Options, bpf,
    kernel::{Kernel, MODULE},
    load, maps,
    parts::{Facts, Parts},
    preemption,
};

/// The name of the map in which the facts are.
const FACTS: &str = "facts";
/// What is at the end of a folder's name until all is in it. A BPF file system takes no dots in names.
const UNFINISHED: &str = "-new";

/// A folder in a BPF file system that is this process' alone.
#[derive(Debug)]
pub(super) struct Pins {
    folder: PathBuf,
    /// Of the folder in it: another one for other programs, or another module to attach to.
    layout: String,
    _lock: File,
}

/// What two processes must have in common for the one to go on where the other has ended.
pub(super) fn layout(options: &Options, kernel: &Kernel) -> u64 {
    let mut hasher = DefaultHasher::new();
    load::OBJECT.hash(&mut hasher);
    format!("{options:?}").hash(&mut hasher);
    preemption::copies(options).hash(&mut hasher);
    kernel.has_reasons.hash(&mut hasher);
    // Another one when it was loaded anew: kprobes do not survive that.
    let module = options.sysfs.join("module").join(MODULE);
    fs::metadata(module).ok().map(|module| module.ino()).hash(&mut hasher);
    hasher.finish()
}

impl Pins {
    /// Takes `folder` for this process.
    ///
    /// # Errors
    /// Another process has it, or it is not in a BPF file system.
    pub(super) fn lock(folder: &Path, layout: u64) -> Result<Self> {
        let shown = folder.display();
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make the folder {shown}"));
            }
            _ => {}
        }
        let lock = File::open(folder).with_context(|| format!("cannot open {shown}"))?;
        let kind = rustix::fs::fstatfs(&lock).with_context(|| format!("cannot look at {shown}"))?;
        /// `BPF_FS_MAGIC` (include/uapi/linux/magic.h)
        const BPF_FS: u64 = 0xcafe_4a11;
        ensure!(
            kind.f_type as u64 & u64::from(u32::MAX) == BPF_FS,
            "{shown} is not in a BPF file system, which alone keeps programs attached; \
             `mount -t bpf bpf /sys/fs/bpf` mounts one"
        );
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("another ctmon keeps its programs in {shown}"))?;
        Ok(Self { folder: folder.to_owned(), layout: format!("{layout:016x}"), _lock: lock })
    }

    fn path(&self) -> PathBuf {
        self.folder.join(&self.layout)
    }

    /// The programs that were left here; none where there are none, or only others.
    ///
    /// # Errors
    /// Those of bpf(2), and that what is there is not what was left.
    pub(super) fn take(&self) -> Result<Option<Parts>> {
        let path = self.path();
        if !path.exists() {
            return Ok(None);
        }
        let facts = bpf::pinned(&path.join(FACTS)).context("cannot open the pinned facts")?;
        let facts = maps::facts(facts)?.get(&0, 0)?;
        let length = facts.iter().position(|byte| *byte == 0).unwrap_or(facts.len());
        let facts: Facts =
            serde_json::from_slice(&facts[..length]).context("the pinned facts are damaged")?;
        let descriptors = (0..facts.descriptors()).map(|number| {
            bpf::pinned(&path.join(number.to_string()))
                .with_context(|| format!("cannot open the pinned object {number}"))
        });
        let descriptors = descriptors.collect::<Result<_>>()?;
        Ok(Some(Parts { facts, descriptors }))
    }

    /// Pins `parts` and `links`, all or none.
    ///
    /// # Errors
    /// Those of bpf(2): links of kprobes can be pinned from 5.15 on.
    pub(super) fn keep<'a>(
        &self,
        parts: &Parts,
        links: impl Iterator<Item = BorrowedFd<'a>>,
    ) -> Result<()> {
        ensure!(
            parts.facts.has_links(),
            "this kernel has no links of kprobes, which could be pinned: that takes Linux 5.15"
        );
        let unfinished = self.folder.join(format!("{}{UNFINISHED}", self.layout));
        fs::create_dir(&unfinished).context("cannot make a folder for the pins")?;
        let facts = serde_json::to_vec(&parts.facts)?;
        ensure!(facts.len() <= FACTS_BYTES, "{} bytes of facts are too many", facts.len());
        let mut bytes = [0; FACTS_BYTES];
        bytes[..facts.len()].copy_from_slice(&facts);
        let map = parts.map("FACTS")?;
        maps::facts(map.try_clone_to_owned()?)?.set(0, bytes, 0)?;
        bpf::pin(map, &unfinished.join(FACTS)).context("cannot pin the facts")?;
        let numbered = parts.descriptors.iter().enumerate();
        let objects = numbered.map(|(number, object)| (number.to_string(), object.as_fd()));
        let links = links.enumerate().map(|(number, link)| (format!("link-{number}"), link));
        for (name, object) in objects.chain(links) {
            bpf::pin(object, &unfinished.join(&name))
                .with_context(|| format!("cannot pin {name}"))?;
        }
        fs::rename(&unfinished, self.path()).context("cannot name the folder of the pins")
    }

    /// Removes what ctmon has pinned here: the programs are detached when nobody has them open any more.
    ///
    /// # Errors
    /// Those of unlink(2) and rmdir(2).
    pub(super) fn remove(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let layout = name.strip_suffix(UNFINISHED).unwrap_or(&name);
            let is_ours = layout.len() == 16 && layout.bytes().all(|b| b.is_ascii_hexdigit());
            if is_ours {
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("cannot remove the pins {name}"))?;
            }
        }
        Ok(())
    }
}
