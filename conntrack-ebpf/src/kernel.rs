//! Reading the kernel's structures: directly through a pointer whose type the verifier knows, or
//! with `bpf_probe_read_kernel` where the address is only a number.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use conntrack_ebpf::{ABSENT, Tuple};

use crate::config;

/// A pointer into kernel memory.
pub(crate) type Ptr = *const c_void;

/// How a member is read.
pub(crate) trait Read {
    /// The `T` that lies `offset` bytes behind `base`.
    fn value<T: Copy + Default>(base: Ptr, offset: u32) -> T;

    /// Copies the tuple that lies `offset` bytes behind `base`. Writes every byte of `to`.
    ///
    /// # Safety
    /// `to` is writable.
    unsafe fn tuple(base: Ptr, offset: u32, to: *mut Tuple);
}

/// One load instruction a member: for arguments of fentry and fexit programs, and what they point
/// to. The kernel turns a load that faults into zero (`ex_handler_bpf`).
pub(crate) struct Typed;

impl Read for Typed {
    #[inline(always)]
    fn value<T: Copy + Default>(base: Ptr, offset: u32) -> T {
        // SAFETY: the verifier checks against BTF that the member is there and as large as `T`.
        // Volatile, so that it stays one load of that size.
        unsafe { core::ptr::read_volatile(base.byte_add(offset as usize).cast()) }
    }

    #[inline(always)]
    unsafe fn tuple(base: Ptr, offset: u32, to: *mut Tuple) {
        // The verifier allows a load within one member only, so the 40 bytes are taken member by
        // member: an address as its array of words, then port, family, protocol, direction.
        // SAFETY: `to` is writable by contract and `Tuple` has the layout that is read.
        unsafe {
            let source = (&raw mut (*to).source).cast::<u64>();
            source.write(Self::value(base, offset));
            source.add(1).write(Self::value(base, offset + 8));
            (&raw mut (*to).source_port).cast::<u16>().write(Self::value(base, offset + 16));
            (&raw mut (*to).family).write(Self::value(base, offset + 18));
            let destination = (&raw mut (*to).destination).cast::<u32>();
            destination.write(Self::value(base, offset + 20));
            destination.add(1).write(Self::value(base, offset + 24));
            destination.add(2).write(Self::value(base, offset + 28));
            destination.add(3).write(Self::value(base, offset + 32));
            (&raw mut (*to).destination_port).cast::<u16>().write(Self::value(base, offset + 36));
            (&raw mut (*to).protocol).write(Self::value(base, offset + 38));
            (&raw mut (*to).direction).write(Self::value(base, offset + 39));
        }
    }
}

/// One helper call a member (21 to 24 ns): for addresses that the verifier sees as numbers.
pub(crate) struct Probed;

impl Read for Probed {
    #[inline(always)]
    fn value<T: Copy + Default>(base: Ptr, offset: u32) -> T {
        let mut value = T::default();
        // SAFETY: the destination is a local of the size given; the helper checks the source and
        // zeroes the destination when it cannot be read.
        unsafe {
            bpf_probe_read_kernel(
                (&raw mut value).cast(),
                size_of::<T>() as u32,
                base.byte_add(offset as usize),
            );
        }
        value
    }

    #[inline(always)]
    unsafe fn tuple(base: Ptr, offset: u32, to: *mut Tuple) {
        // SAFETY: `to` is writable by contract; the helper writes all of it, zeros on a fault.
        unsafe {
            bpf_probe_read_kernel(
                to.cast(),
                size_of::<Tuple>() as u32,
                base.byte_add(offset as usize),
            );
        }
    }
}

/// `ct->status`
#[inline(always)]
pub(crate) fn status<R: Read>(ct: Ptr) -> u32 {
    R::value::<u64>(ct, config::nf_conn_status()) as u32
}

/// `nf_ct_net(ct)`
#[inline(always)]
pub(crate) fn net<R: Read>(ct: Ptr) -> Ptr {
    R::value::<u64>(ct, config::nf_conn_net()) as Ptr
}

/// `nf_ct_zone(ct)->id`
#[inline(always)]
pub(crate) fn zone<R: Read>(ct: Ptr) -> u16 {
    match config::nf_conn_zone() {
        ABSENT => 0,
        offset => R::value(ct, offset),
    }
}
