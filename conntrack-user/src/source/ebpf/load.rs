//! Puts the programs into the kernel: aya creates the maps and fills the frozen configuration; the
//! programs are loaded here, because aya attaches to functions of vmlinux only.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData},
};
use aya_obj::{Object, generated::bpf_attach_type};
use conntrack_ebpf::{Config, MAX_NETNS, SLOTS};
use zerocopy::IntoBytes as _;

use super::{
    bpf::{self, Load},
    plan::{At, Image, Program, Way},
};

/// The object file, built by build.rs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ctmon-ebpf"));

/// Creates the maps and freezes `config`. The programs in the result are not used.
pub(super) fn create_maps(config: &Config, ring_bytes: u32) -> Result<Ebpf> {
    let mut maps = EbpfLoader::new()
        .override_global("CONFIG", config.as_bytes(), true)
        .map_max_entries("COUNTERS", SLOTS * config.cpus)
        .map_max_entries("CPUS", config.cpus)
        .map_max_entries("EVENTS", ring_bytes)
        .load(OBJECT)
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
    let free = maps.map_mut("FREE_SLOTS").context("the object has no map FREE_SLOTS")?;
    let mut free = aya::maps::Queue::<_, u32>::try_from(free)?;
    for slot in 1..=MAX_NETNS {
        free.push(slot, 0).context("cannot fill the map FREE_SLOTS")?;
    }
    Ok(maps)
}

/// The programs, relocated against the maps and ready to be loaded one by one.
pub(super) struct Programs {
    object: Object,
    btf: OwnedFd,
    module_btf: Option<OwnedFd>,
}

/// An attached program. It is detached when this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) program: OwnedFd,
    pub(super) is_last: bool,
    _link: OwnedFd,
}

impl Programs {
    /// Reads the object against the maps of `maps`. `module`: a module whose functions will be
    /// attached to.
    pub(super) fn prepare(maps: &Ebpf, module: Option<&str>) -> Result<Self> {
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
        Ok(Self { object, btf, module_btf })
    }

    /// Loads `programs` for the function of `way` and attaches them; all or none.
    pub(super) fn attach(&self, programs: &[Program], way: &Way) -> Result<Vec<Attached>> {
        programs.iter().map(|program| self.attach_one(program, way)).collect()
    }

    fn attach_one(&self, program: &Program, way: &Way) -> Result<Attached> {
        let missing = || anyhow!("the object file has no program {}", program.name);
        let parsed = self.object.programs.get(program.name).ok_or_else(missing)?;
        let function = self.object.functions.get(&parsed.function_key()).ok_or_else(missing)?;
        let attach_btf = match way.image {
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
            instructions: &function.instructions,
            license: &parsed.license,
            btf: self.btf.as_fd(),
            func_info: (&function.func_info.func_info_bytes(), function.func_info_rec_size),
            line_info: (&function.line_info.line_info_bytes(), function.line_info_rec_size),
            attach_btf,
            attach_btf_id: way.function.id,
        })?;
        let link = bpf::attach(loaded.as_fd())
            .with_context(|| format!("the kernel does not attach the program {}", program.name))?;
        Ok(Attached { is_last: program.is_last, program: loaded, _link: link })
    }
}

/// The data of a map, whatever its type.
pub(super) fn map_data(map: &Map) -> Result<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::Queue(data)
        | Map::RingBuf(data) => Ok(data),
        other => Err(anyhow!("a map of an unexpected type: {other:?}")),
    }
}
