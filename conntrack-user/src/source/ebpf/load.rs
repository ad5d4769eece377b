//! Puts the programs into the kernel: aya creates the maps and fills the frozen configuration; the
//! programs are loaded here, because aya attaches to functions of vmlinux only.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{Ebpf, EbpfLoader, programs::KProbe};
use aya_obj::{Object, generated::bpf_attach_type};
use conntrack_ebpf::{Config, MAX_NETNS, SLOTS, blocks, window_slots};
use zerocopy::IntoBytes as _;

use super::{
    attach::Link,
    bpf::{self, Load},
    btf::Function,
    hook::Hook,
    maps::{Maps, map_data},
    plan::Image,
    probes::{Attached, Misses},
    rings,
    rungs::{At, Program, Rung},
};

/// Object file of the programs, built by build.rs; empty where `AYA_BUILD_SKIP` left it out.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ctmon-ebpf"));

/// Error of a ctmon whose object files are empty.
pub const LEFT_OUT: &str = "this ctmon was built without its kernel programs (AYA_BUILD_SKIP); \
                            `cargo xtask build` builds one with them";

/// Requires that the build has put programs into the object file `bytes`.
///
/// # Errors
/// [`LEFT_OUT`]
pub(super) fn require(bytes: &[u8]) -> Result<()> {
    ensure!(!bytes.is_empty(), LEFT_OUT);
    Ok(())
}

/// Creates the maps of the object file `bytes` and freezes `config`. Of the programs in the result, only kprobes are used.
/// `netns`: how many namespaces are told apart, at most [`MAX_NETNS`].
pub(super) fn create_maps(
    bytes: &[u8],
    config: &Config,
    ring_bytes: u32,
    netns: u32,
) -> Result<Ebpf> {
    let places = window_slots(config.cpus);
    let blocks = blocks(config.cpus);
    // Each CPU keeps up to 128 elements of such a map for itself (`LOCAL_FREE_TARGET`,
    // kernel/bpf/bpf_lru_list.c).
    let notes = 1024 + 128 * config.cpus;
    let mut loader = EbpfLoader::new();
    for name in rings::EVENTS.iter().take(config.rings as usize) {
        loader.map_max_entries(name, ring_bytes);
    }
    let object = loader
        .override_global("CONFIG", config.as_bytes(), true)
        .map_max_entries("BLOCKS", blocks)
        .map_max_entries("OWNERS", blocks)
        .map_max_entries("BLOCK_OF", SLOTS * config.cpus)
        .map_max_entries("FREE_BLOCKS", blocks)
        .map_max_entries("EVICTING", notes)
        .map_max_entries("ANNOUNCED", notes)
        .map_max_entries("MERGED", notes)
        .map_max_entries("CPUS", config.cpus)
        .map_max_entries("FREE_WINDOWS", places)
        .map_max_entries("WINDOWS_OF", places * config.window_copies * config.cpus)
        .load(bytes)
        .map_err(|error| {
            // aya's words repeat themselves; the kernel's are enough where there are any.
            let error = anyhow::Error::new(error);
            let kernels = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
            match kernels.and_then(io::Error::raw_os_error) {
                Some(code) => io::Error::from_raw_os_error(code).into(),
                None => error,
            }
        })
        .context("cannot create the maps of the kernel programs")?;
    let free = Maps::of(&object, config.rings)?;
    free.fill("FREE_SLOTS", 1..=netns.min(MAX_NETNS))?;
    free.fill("FREE_BLOCKS", config.cpus..=blocks - 1)?;
    Ok(object)
}

/// The programs, relocated against the maps and ready to be loaded one by one.
pub(super) struct Programs {
    object: Object,
    btf: OwnedFd,
    module_btf: Option<OwnedFd>,
    copies: u32,
}

/// Attaches the kprobe `name` to each of `functions`; all or none.
pub(super) fn attach_kprobe(
    maps: &mut Ebpf,
    hook: Hook,
    name: &str,
    functions: &[String],
) -> Result<Vec<(Attached, Link)>> {
    let program =
        maps.program_mut(name).with_context(|| format!("the object file has no program {name}"))?;
    let program: &mut KProbe = program.try_into()?;
    program.load().with_context(|| format!("the kernel refuses the program {name}"))?;
    functions
        .iter()
        .map(|function| {
            let attached = program.attach(function, 0);
            let id =
                attached.with_context(|| format!("the kernel puts no kprobe on {function}"))?;
            let fd = program.fd()?.as_fd().try_clone_to_owned()?;
            let misses = match bpf::link_of(fd.as_fd()) {
                Ok(Some(link)) => Misses::Link(link),
                Ok(None) | Err(_) => Misses::Nowhere,
            };
            let link = Link::Kprobe { _link: program.take_link(id)? };
            Ok((Attached { hook, is_last: true, program: fd, misses }, link))
        })
        .collect()
}

impl Programs {
    /// Reads the object against the maps of `maps`. `module`: a module whose functions will be
    /// attached to. `copies`: of each program that has some.
    pub(super) fn prepare(maps: &Ebpf, module: Option<&str>, copies: u32) -> Result<Self> {
        let mut object = Object::parse(OBJECT).context("cannot read the object file")?;
        let features = aya::features();
        let features_btf = features.btf().context("this kernel takes no BTF for programs")?;
        let btf = object
            .fixup_and_sanitize_btf(features_btf)?
            .context("the object file has no BTF")?
            .to_bytes();
        let btf = bpf::load_btf(&btf).context("the kernel refuses the programs' BTF")?;

        let descriptors: HashMap<&str, i32> = maps
            .maps()
            .map(|(name, map)| Ok((name, map_data(map)?.fd().as_fd().as_raw_fd())))
            .collect::<Result<_>>()?;
        let in_object: Vec<_> = object.maps.drain().collect();
        let with_descriptors = in_object
            .iter()
            .map(|(name, map)| match descriptors.get(name.as_str()) {
                Some(fd) => Ok((name.as_str(), *fd, map)),
                None => Err(anyhow!("the map {name} was not created")),
            })
            .collect::<Result<Vec<_>>>()?;
        let sections: HashSet<usize> =
            object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_maps(with_descriptors.into_iter(), &sections)?;
        object.relocate_calls(&sections)?;
        object.sanitize_functions(features);

        let module_btf = match module.map(bpf::module_btf).transpose() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => other.context("cannot walk the kernel's BTF (needs CAP_SYS_ADMIN)")?,
        };
        Ok(Self { object, btf, module_btf, copies })
    }

    /// Loads the programs of a rung of `hook` for its functions and attaches them; all or none.
    pub(super) fn attach(
        &self,
        hook: Hook,
        image: Image,
        rung: &Rung,
        functions: &[Function],
    ) -> Result<Vec<(Attached, Link)>> {
        let copies = self.copies;
        let parts = rung.parts.iter().zip(functions);
        let programs = parts.flat_map(|(part, function)| {
            part.programs(copies).map(move |program| (program, *function))
        });
        let one = |(program, function): (&Program, Function)| {
            let is_last = program.is_last(copies);
            let (program, link) = self.attach_one(program, image, function)?;
            Ok((Attached { hook, is_last, program, misses: Misses::Program }, link))
        };
        programs.map(one).collect()
    }

    fn attach_one(
        &self,
        program: &Program,
        image: Image,
        function: Function,
    ) -> Result<(OwnedFd, Link)> {
        let missing = || anyhow!("the object file has no program {}", program.name);
        let parsed = self.object.programs.get(program.name).ok_or_else(missing)?;
        let code = self.object.functions.get(&parsed.function_key()).ok_or_else(missing)?;
        let attach_btf = match image {
            Image::Vmlinux => None,
            Image::Module => {
                let fd =
                    self.module_btf.as_ref().context("the kernel lists no BTF of the module")?;
                Some(fd.as_fd())
            }
        };
        let loaded = bpf::load_program(&Load {
            name: program.name,
            attach_type: match program.at {
                At::Entry => bpf_attach_type::BPF_TRACE_FENTRY,
                At::Exit => bpf_attach_type::BPF_TRACE_FEXIT,
            },
            instructions: &code.instructions,
            license: &parsed.license,
            btf: self.btf.as_fd(),
            func_info: (&code.func_info.func_info_bytes(), code.func_info_rec_size),
            line_info: (&code.line_info.line_info_bytes(), code.line_info_rec_size),
            attach_btf,
            attach_btf_id: function.id,
        })?;
        let link = bpf::attach(loaded.as_fd())
            .with_context(|| format!("the kernel does not attach the program {}", program.name))?;
        Ok((loaded, Link::Tracing(link)))
    }
}
