//! Reading the kernel's structures through pointers whose type the verifier knows: arguments of
//! fentry and fexit programs, and what they point to. One load instruction a member; the kernel turns
//! a load that faults into zero (`ex_handler_bpf`, arch/x86/net/bpf_jit_comp.c).

use core::ffi::c_void;

use conntrack_ebpf::{ABSENT, Tuple};

use crate::config;

/// A pointer into kernel memory.
pub(crate) type Ptr = *const c_void;

/// The `T` that lies `offset` bytes behind `base`.
#[inline(always)]
pub(crate) fn value<T: Copy>(base: Ptr, offset: u32) -> T {
    // SAFETY: the verifier checks against BTF that the member is there and as large as `T`. Volatile,
    // so that it stays one load of that size.
    unsafe { core::ptr::read_volatile(base.byte_add(offset as usize).cast()) }
}

/// Copies the tuple that lies `offset` bytes behind `base`. Writes every byte of `to`.
///
/// # Safety
/// `to` is writable.
#[inline(always)]
pub(crate) unsafe fn tuple(base: Ptr, offset: u32, to: *mut Tuple) {
    // The verifier allows a load within one member only, so the 40 bytes are taken member by member:
    // an address as its array of words, then port, family, protocol, direction.
    // SAFETY: `to` is writable by contract and `Tuple` has the layout that is read.
    unsafe {
        let source = (&raw mut (*to).source).cast::<u64>();
        source.write(value(base, offset));
        source.add(1).write(value(base, offset + 8));
        (&raw mut (*to).source_port).cast::<u16>().write(value(base, offset + 16));
        (&raw mut (*to).family).write(value(base, offset + 18));
        let destination = (&raw mut (*to).destination).cast::<u32>();
        destination.write(value(base, offset + 20));
        destination.add(1).write(value(base, offset + 24));
        destination.add(2).write(value(base, offset + 28));
        destination.add(3).write(value(base, offset + 32));
        (&raw mut (*to).destination_port).cast::<u16>().write(value(base, offset + 36));
        (&raw mut (*to).protocol).write(value(base, offset + 38));
        (&raw mut (*to).direction).write(value(base, offset + 39));
    }
}

/// `ct->status`
#[inline(always)]
pub(crate) fn status(ct: Ptr) -> u32 {
    value::<u64>(ct, config::nf_conn_status()) as u32
}

/// `nf_ct_net(ct)`
#[inline(always)]
pub(crate) fn net(ct: Ptr) -> Ptr {
    value::<u64>(ct, config::nf_conn_net()) as Ptr
}

/// `nf_ct_zone(ct)->id`
#[inline(always)]
pub(crate) fn zone(ct: Ptr) -> u16 {
    match config::nf_conn_zone() {
        ABSENT => 0,
        offset => value(ct, offset),
    }
}
