//! The calls of bpf(2) that aya does not offer: attaching to functions of a module needs the file
//! descriptor of the module's BTF at load time. All unsafe code of loading is here.

use std::{
    ffi::{CStr, CString},
    io, mem,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya_obj::generated::{
    bpf_attach_type, bpf_attr, bpf_btf_info, bpf_cmd, bpf_insn, bpf_link_info, bpf_prog_info,
    bpf_prog_type,
};

/// Makes the call. `attr` must be right for `cmd`: each address in it valid for the length beside it.
///
/// # Safety
/// As said of `attr`.
unsafe fn bpf(cmd: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: the kernel reads (and for some commands writes) as many bytes of `attr` as it is told.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, cmd as libc::c_int, attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// As [`bpf`], for commands that return a new file descriptor.
///
/// # Safety
/// As for [`bpf`], and `cmd` returns a file descriptor.
unsafe fn bpf_fd(cmd: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: by contract.
    let fd = unsafe { bpf(cmd, attr) }?;
    // SAFETY: the kernel has just made it and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of C structures of integers; all zeros is what the kernel asks of unused bytes.
    unsafe { mem::zeroed() }
}

/// `BPF_BTF_LOAD`: gives the kernel the type information of the programs.
///
/// # Errors
/// The kernel's.
pub fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: a field of plain integers in a zeroed union.
    let u = unsafe { &mut attr.__bindgen_anon_7 };
    u.btf = btf.as_ptr() as u64;
    u.btf_size = btf.len() as u32;
    // SAFETY: `btf` outlives the call; the command returns a file descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_BTF_LOAD, &mut attr) }
}

/// A program ready to be given to the kernel.
pub struct Load<'a> {
    /// What `bpftool prog` will show; at most 15 bytes are kept.
    pub name: &'a str,
    /// `BPF_TRACE_FENTRY` or `BPF_TRACE_FEXIT`.
    pub attach_type: bpf_attach_type,
    /// The instructions, relocated.
    pub instructions: &'a [bpf_insn],
    /// The licence.
    pub license: &'a CStr,
    /// The programs' BTF.
    pub btf: BorrowedFd<'a>,
    /// Function records, and the size of one.
    pub func_info: (&'a [u8], usize),
    /// Line records, and the size of one.
    pub line_info: (&'a [u8], usize),
    /// The BTF that the function is in; none: vmlinux'.
    pub attach_btf: Option<BorrowedFd<'a>>,
    /// The function's id in it.
    pub attach_btf_id: u32,
}

/// `BPF_PROG_LOAD` of a tracing program.
///
/// # Errors
/// The kernel's, with the last lines of the verifier's log when it wrote one.
pub fn load_program(load: &Load<'_>) -> anyhow::Result<OwnedFd> {
    let refused = match try_load(load, &mut []) {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    // Once more for the log; it costs the good case nothing.
    let mut log = vec![0; 1 << 20];
    let _ = try_load(load, &mut log);
    let log = CStr::from_bytes_until_nul(&log).map(CStr::to_string_lossy).unwrap_or_default();
    let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with("processed ")).collect();
    let last = lines[lines.len().saturating_sub(3)..].join(" | ");
    let error = anyhow::Error::new(refused);
    Err(if last.is_empty() {
        error.context(format!("the kernel refuses the program {}", load.name))
    } else {
        error.context(format!("the kernel refuses the program {}: {last}", load.name))
    })
}

fn try_load(load: &Load<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: a field of plain integers in a zeroed union.
    let u = unsafe { &mut attr.__bindgen_anon_3 };
    // The last byte stays 0: names end with one.
    let name_len = u.prog_name.len() - 1;
    for (to, from) in u.prog_name[..name_len].iter_mut().zip(load.name.bytes()) {
        *to = from as libc::c_char;
    }
    u.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
    u.expected_attach_type = load.attach_type as u32;
    u.insns = load.instructions.as_ptr() as u64;
    u.insn_cnt = load.instructions.len() as u32;
    u.license = load.license.as_ptr() as u64;
    u.prog_btf_fd = load.btf.as_raw_fd() as u32;
    let (func_info, size) = load.func_info;
    u.func_info = func_info.as_ptr() as u64;
    u.func_info_rec_size = size as u32;
    u.func_info_cnt = func_info.len().checked_div(size).unwrap_or(0) as u32;
    let (line_info, size) = load.line_info;
    u.line_info = line_info.as_ptr() as u64;
    u.line_info_rec_size = size as u32;
    u.line_info_cnt = line_info.len().checked_div(size).unwrap_or(0) as u32;
    u.attach_btf_id = load.attach_btf_id;
    if let Some(fd) = load.attach_btf {
        u.__bindgen_anon_1.attach_btf_obj_fd = fd.as_raw_fd() as u32;
    }
    if !log.is_empty() {
        u.log_level = 1;
        u.log_buf = log.as_mut_ptr() as u64;
        u.log_size = log.len() as u32;
    }
    // SAFETY: all addresses are those of slices that outlive the call, with their own lengths; the
    // command returns a file descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr) }
}

/// `BPF_RAW_TRACEPOINT_OPEN`: attaches a tracing program to the function it was loaded for. It stays
/// attached until the descriptor returned is closed, however that comes about.
///
/// # Errors
/// The kernel's.
pub fn attach(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: a field of plain integers in a zeroed union.
    let u = unsafe { &mut attr.raw_tracepoint };
    u.prog_fd = program.as_raw_fd() as u32;
    // SAFETY: no address is passed; the command returns a file descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr) }
}

/// `BPF_OBJ_PIN`: the object stays as long as the file at `path`, which must be in a BPF file system.
///
/// # Errors
/// The kernel's, and that the path holds a zero byte.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    // SAFETY: a field of plain integers in a zeroed union.
    let u = unsafe { &mut attr.__bindgen_anon_4 };
    u.pathname = path.as_ptr() as u64;
    u.bpf_fd = object.as_raw_fd() as u32;
    // SAFETY: `path` ends with a zero byte and outlives the call.
    unsafe { bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr) }.map(drop)
}

/// `BPF_OBJ_GET`: the object that was pinned at `path`.
///
/// # Errors
/// As [`pin`].
pub fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    // SAFETY: `path` ends with a zero byte and outlives the call; the command returns a file descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_OBJ_GET, &mut attr) }
}

/// `BPF_PROG_TEST_RUN`: runs a raw tracepoint program once, without arguments. From 5.10 on.
///
/// # Errors
/// The kernel's.
pub fn test_run(program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    // SAFETY: a field of plain integers in a zeroed union.
    let u = unsafe { &mut attr.test };
    u.prog_fd = program.as_raw_fd() as u32;
    // SAFETY: no address is passed.
    unsafe { bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr) }.map(drop)
}

/// The BTF of the module `name`, found by walking all BTF that the kernel holds.
///
/// # Errors
/// The kernel's: the walk takes `CAP_SYS_ADMIN`. `NotFound`: no loaded module of that name has BTF.
pub fn module_btf(name: &str) -> io::Result<OwnedFd> {
    let mut id = 0;
    loop {
        id = next_btf_id(id)?;
        let fd = match btf_by_id(id) {
            // Unloaded between the two calls.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        if btf_name(&fd)? == name.as_bytes() {
            return Ok(fd);
        }
    }
}

/// `BPF_BTF_GET_NEXT_ID`
fn next_btf_id(id: u32) -> io::Result<u32> {
    let mut attr = zeroed();
    // SAFETY: fields of plain integers in a zeroed union.
    unsafe {
        attr.__bindgen_anon_6.__bindgen_anon_1.start_id = id;
        bpf(bpf_cmd::BPF_BTF_GET_NEXT_ID, &mut attr)?;
        Ok(attr.__bindgen_anon_6.next_id)
    }
}

/// `BPF_BTF_GET_FD_BY_ID`
fn btf_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.__bindgen_anon_6.__bindgen_anon_1.btf_id = id;
    // SAFETY: no address is passed; the command returns a file descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_BTF_GET_FD_BY_ID, &mut attr) }
}

/// The name the kernel has for this BTF: `vmlinux`, a module's, or none.
fn btf_name(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut name = [0u8; 64];
    // SAFETY: all zeros is a valid `bpf_btf_info`.
    let mut info: bpf_btf_info = unsafe { mem::zeroed() };
    info.name = name.as_mut_ptr() as u64;
    info.name_len = name.len() as u32;
    // SAFETY: `info` is what the kernel fills in for BTF, and `name` outlives the call.
    unsafe { object_info(fd.as_fd(), &mut info) }?;
    Ok(name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
}

/// What the kernel counts of a program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Runs {
    /// How often it did not run because it, or with kprobes another one, was running already on the
    /// same CPU. Trampolines from 5.12 on, kprobes from 6.7 on; 0 before.
    pub recursion_misses: u64,
    /// How often it ran, while [`enable_statistics`] was in force.
    pub count: u64,
    /// How long in all, in nanoseconds, without the trampoline or breakpoint.
    pub time_ns: u64,
}

/// What the kernel counts of `program`.
///
/// # Errors
/// The kernel's.
pub fn runs(program: &OwnedFd) -> io::Result<Runs> {
    // SAFETY: all zeros is a valid `bpf_prog_info`.
    let mut info: bpf_prog_info = unsafe { mem::zeroed() };
    // SAFETY: `info` is what the kernel fills in for a program; no array is asked for.
    unsafe { object_info(program.as_fd(), &mut info) }?;
    Ok(Runs {
        recursion_misses: info.recursion_misses,
        count: info.run_cnt,
        time_ns: info.run_time_ns,
    })
}

/// The link that was made last for `program`, by walking all links. None where the kernel has no links of
/// its kind.
///
/// # Errors
/// The kernel's: the walk takes `CAP_SYS_ADMIN`.
pub fn link_of(program: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    // SAFETY: all zeros is a valid `bpf_prog_info`.
    let mut info: bpf_prog_info = unsafe { mem::zeroed() };
    // SAFETY: `info` is what the kernel fills in for a program; no array is asked for.
    unsafe { object_info(program, &mut info) }?;
    let links = aya::programs::loaded_links().filter_map(Result::ok);
    let Some(link) = links.filter(|link| link.program_id() == info.id).last() else {
        return Ok(None);
    };
    let mut attr = zeroed();
    attr.__bindgen_anon_6.__bindgen_anon_1.link_id = link.id();
    // SAFETY: no address is passed; the command returns a file descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_GET_FD_BY_ID, &mut attr) }.map(Some)
}

/// How often a kprobe was hit while another one was being handled on the same CPU, so that its program
/// did not run. None before 6.7.
///
/// # Errors
/// The kernel's.
pub fn kprobe_misses(link: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    // SAFETY: all zeros is a valid `bpf_link_info`.
    let mut info: bpf_link_info = unsafe { mem::zeroed() };
    // SAFETY: `info` is what the kernel fills in for a link; no array is asked for.
    let filled = unsafe { object_info(link, &mut info) }?;
    const END: usize =
        mem::offset_of!(bpf_link_info, __bindgen_anon_1.perf_event.__bindgen_anon_1.kprobe.missed)
            + size_of::<u64>();
    // SAFETY: integers, which any bytes are.
    let missed = unsafe { info.__bindgen_anon_1.perf_event.__bindgen_anon_1.kprobe.missed };
    Ok((filled >= END).then_some(missed))
}

/// `BPF_ENABLE_STATS`: programs are timed until the descriptor returned is closed. Takes
/// `CAP_SYS_ADMIN`, and costs each run two readings of the clock.
///
/// # Errors
/// The kernel's.
pub fn enable_statistics() -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // BPF_STATS_RUN_TIME is 0.
    attr.enable_stats.type_ = 0;
    // SAFETY: no address is passed; the command returns a file descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_ENABLE_STATS, &mut attr) }
}

/// Whether the kernel refuses every call: asked with a descriptor that there is not.
#[must_use]
pub fn is_refused() -> bool {
    let mut attr = zeroed();
    attr.info.bpf_fd = u32::MAX;
    // SAFETY: no address is passed; there is no such descriptor.
    let outcome = unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) };
    outcome.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// `BPF_OBJ_GET_INFO_BY_FD`: how many bytes the kernel knows.
///
/// # Safety
/// `T` is the structure that the kernel fills in for this kind of object, and each address in it is
/// valid for the length beside it.
unsafe fn object_info<T>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<usize> {
    let mut attr = zeroed();
    attr.info.bpf_fd = fd.as_raw_fd() as u32;
    attr.info.info_len = size_of::<T>() as u32;
    attr.info.info = std::ptr::from_mut(info) as u64;
    // SAFETY: by contract; `info` is as long as is said.
    unsafe {
        bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
        Ok(attr.info.info_len as usize)
    }
}
