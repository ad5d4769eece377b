//! Entries and namespaces that look like the kernel's to the bodies.

use core::{arch::asm, cell::UnsafeCell};

use aya_ebpf::{macros::map, maps::Array};
use conntrack_ebpf::{
    Tuple,
    bench::{ENTRIES, FakeEntry, FakeNetns, NETNS, NETNS_END},
};

use crate::kernel::{Ptr, Read, Typed};

/// The entries. An element of it is where an entry is for its event, so each flow has its own address.
#[map]
static FLOWS: Array<FakeEntry> = Array::with_max_entries(ENTRIES, 0);

#[repr(transparent)]
struct Namespaces(UnsafeCell<[FakeNetns; NETNS]>);
// SAFETY: test runs are made one after the other.
unsafe impl Sync for Namespaces {}

/// In `.bss`, so that its address is a constant, as that of what a typed pointer points to is at hand.
#[unsafe(no_mangle)]
static NAMESPACES: Namespaces = Namespaces(UnsafeCell::new(
    [FakeNetns { cookie: 0, inode: 0, references: 0, unused: [0; 6] }; NETNS],
));

/// The entry number `index`.
#[inline(always)]
pub(crate) fn entry(index: u32) -> Option<*mut FakeEntry> {
    FLOWS.get_ptr_mut(index)
}

/// What the member for the namespace number `index` holds in an entry.
#[inline(always)]
pub(crate) const fn reference(index: u64) -> u64 {
    index * size_of::<FakeNetns>() as u64
}

/// The namespace that an entry refers to so.
#[inline(always)]
pub(crate) fn netns(mut reference: u64) -> *mut FakeNetns {
    const MASK: u64 = ((NETNS - 1) * size_of::<FakeNetns>()) as u64;
    const _: () = assert!(NETNS.is_power_of_two());
    // SAFETY: one instruction; the masked number is that of an element. Written so that it stays in its branch:
    // elsewhere `reference` may be a pointer, with which the verifier forbids it.
    unsafe {
        asm!("{0} &= {1}", inout(reg) reference, const MASK);
        NAMESPACES.0.get().byte_add(reference as usize).cast()
    }
}

/// Reads as [`Typed`] does, a load a member. To the verifier a pointer that was read from a map is a
/// number, so that to a namespace is made of it: two instructions more.
pub(crate) struct Mapped;

impl Read for Mapped {
    #[inline(always)]
    fn value<T: Copy>(base: Ptr, offset: u32) -> T {
        if offset < NETNS_END {
            Typed::value(netns(base as u64).cast(), offset)
        } else {
            Typed::value(base, offset)
        }
    }

    #[inline(always)]
    unsafe fn tuple(base: Ptr, offset: u32, to: *mut Tuple) {
        // SAFETY: by contract.
        unsafe { Typed::tuple(base, offset, to) };
    }

    #[inline(always)]
    fn tuple_words(base: Ptr, offset: u32) -> [u64; 5] {
        Typed::tuple_words(base, offset)
    }
}
