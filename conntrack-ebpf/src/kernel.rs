//! Reading the kernel's structures.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use conntrack_ebpf::{
    ABSENT, ASSURED, FlowHash, ICMP, IPS_ASSURED, IPS_HW_OFFLOAD, IPS_OFFLOAD, IPS_SEEN_REPLY,
    OFFLOADED, OTHER, REPLIED, TCP, Tuple, UDP, UNREPLIED,
};

use crate::config;

/// A pointer into kernel memory.
pub(crate) type Ptr = *const c_void;

/// A way to read through a [`Ptr`]. What cannot be read is zero.
pub(crate) trait Read {
    /// The `T` that lies `offset` bytes behind `base`.
    fn value<T: Copy>(base: Ptr, offset: u32) -> T;

    /// Copies the tuple that lies `offset` bytes behind `base`. Writes every byte of `to`.
    ///
    /// # Safety
    /// `to` is writable.
    unsafe fn tuple(base: Ptr, offset: u32, to: *mut Tuple);

    /// [`Tuple::words`] of the tuple that lies `offset` bytes behind `base`.
    fn tuple_words(base: Ptr, offset: u32) -> [u64; 5];
}

/// Through pointers whose type the verifier knows: arguments of fentry and fexit programs, and what
/// they point to. One load instruction a member; the kernel turns a load that faults into zero
/// (`ex_handler_bpf`, arch/x86/net/bpf_jit_comp.c).
pub(crate) struct Typed;

impl Read for Typed {
    #[inline(always)]
    fn value<T: Copy>(base: Ptr, offset: u32) -> T {
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

    #[inline(always)]
    fn tuple_words(base: Ptr, offset: u32) -> [u64; 5] {
        let two = |offset| {
            let half = |offset| u64::from(Self::value::<u32>(base, offset));
            half(offset) | half(offset + 4) << 32
        };
        [
            Self::value(base, offset),
            Self::value(base, offset + 8),
            two(offset + 20),
            two(offset + 28),
            Tuple::ports(
                Self::value(base, offset + 16),
                Self::value(base, offset + 36),
                Self::value(base, offset + 38),
            ),
        ]
    }
}

/// Through any pointer, by a helper: what kprobes have, and pointers that were numbers.
pub(crate) struct Probed;

impl Read for Probed {
    #[inline(always)]
    fn value<T: Copy>(base: Ptr, offset: u32) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes all bytes, zeros where it cannot read; only integers are read.
        unsafe {
            let from = base.wrapping_byte_add(offset as usize);
            bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from);
            value.assume_init()
        }
    }

    #[inline(always)]
    unsafe fn tuple(base: Ptr, offset: u32, to: *mut Tuple) {
        // SAFETY: `to` is writable by contract; the helper writes all bytes.
        unsafe {
            let from = base.wrapping_byte_add(offset as usize);
            bpf_probe_read_kernel(to.cast(), size_of::<Tuple>() as u32, from);
        }
    }

    #[inline(always)]
    fn tuple_words(base: Ptr, offset: u32) -> [u64; 5] {
        let mut tuple = MaybeUninit::<Tuple>::uninit();
        // SAFETY: `tuple` writes every byte of it, and any bytes are a tuple.
        unsafe {
            Self::tuple(base, offset, tuple.as_mut_ptr());
            tuple.assume_init_ref().words()
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

/// Reports whether the entry `ct` was ever in the hash. `pprev` of the reply's node is a 32-bit hash until then
/// (`__nf_conntrack_alloc`), and afterwards an address or `LIST_POISON2` (`hlist_nulls_del_rcu`). The confirmed bit does not
/// tell: ctnetlink sets it before hashing. Nor does the original's node: before 5.19 the list of unconfirmed entries uses it.
#[inline(always)]
pub(crate) fn was_hashed<R: Read>(ct: Ptr) -> bool {
    R::value::<u64>(ct, config::nf_conn_reply_pprev()) > u64::from(u32::MAX)
}

/// `nf_ct_zone(ct)->id`
#[inline(always)]
pub(crate) fn zone<R: Read>(ct: Ptr) -> u16 {
    match config::nf_conn_zone() {
        ABSENT => 0,
        offset => R::value(ct, offset),
    }
}

/// `nf_ct_get(skb)`, and what of a packet that has none is 0.
#[inline(always)]
pub(crate) fn entry<R: Read>(skb: Ptr) -> Ptr {
    entry_and_info::<R>(skb).0
}

/// `nf_ct_get(skb, &ctinfo)`: the entry, and how the packet relates to it.
#[inline(always)]
pub(crate) fn entry_and_info<R: Read>(skb: Ptr) -> (Ptr, u64) {
    /// `NFCT_INFOMASK`
    const INFO: u64 = 7;
    let both = R::value::<u64>(skb, config::skb_nfct());
    ((both & !INFO) as Ptr, both & INFO)
}

/// `nf_ct_protonum(ct)` as the index of its counters.
#[inline(always)]
pub(crate) fn protocol<R: Read>(ct: Ptr) -> usize {
    const PROTONUM: u32 = core::mem::offset_of!(Tuple, protocol) as u32;
    match R::value::<u8>(ct, config::nf_conn_original() + PROTONUM) {
        6 => TCP,
        17 => UDP,
        1 | 58 => ICMP,
        _ => OTHER,
    }
}

/// What puts the entry `ct` into the sample or not: the same at its insert and at its destroy, and another
/// one when its memory is an entry's again, unless that has the same tuple.
#[inline(always)]
pub(crate) fn hash<R: Read>(ct: Ptr, entry: u64, netns_cookie: u64) -> u32 {
    hash_of(R::tuple_words(ct, config::nf_conn_original()), entry, netns_cookie)
}

/// Hash of an entry by the words of its original tuple.
#[inline(always)]
pub(crate) fn hash_of(words: [u64; 5], entry: u64, netns_cookie: u64) -> u32 {
    FlowHash::new(config::sample_seed()).with(entry ^ netns_cookie).with_tuple(words).finish()
}

/// The tuple that lies `offset` bytes behind `ct`.
#[inline(always)]
pub(crate) fn tuple(ct: Ptr, offset: u32) -> Tuple {
    let mut tuple = MaybeUninit::<Tuple>::uninit();
    // SAFETY: `tuple` writes every byte of it, and any bytes are a tuple.
    unsafe {
        Probed::tuple(ct, offset, tuple.as_mut_ptr());
        tuple.assume_init()
    }
}

/// `ct->status` as the index of its counters.
#[inline(always)]
pub(crate) const fn kind_of(status: u32) -> usize {
    if status & (IPS_OFFLOAD | IPS_HW_OFFLOAD) != 0 {
        OFFLOADED
    } else if status & IPS_ASSURED != 0 {
        ASSURED
    } else if status & IPS_SEEN_REPLY != 0 {
        REPLIED
    } else {
        UNREPLIED
    }
}
