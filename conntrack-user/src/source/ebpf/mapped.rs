//! Maps that are shared with the kernel programs as memory: reading them costs no system call.

use std::{
    marker::PhantomData,
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use conntrack_ebpf::{Activity, Clock, Counters, Netns, NetnsWindows, Reread};
use memmap2::{MmapOptions, MmapRaw};

use super::load;

/// A map value that is integers only, and whose size is a multiple of eight: the kernel rounds up to that.
pub(super) trait Plain: Copy {}
impl Plain for Counters {}
impl Plain for Netns {}
impl Plain for Activity {}
impl Plain for NetnsWindows {}
impl Plain for Clock {}
impl Plain for Reread {}
/// A 32-bit number and what the kernel rounds it up by.
impl Plain for [u32; 2] {}

/// An array map in memory.
#[derive(Debug)]
pub(super) struct Mapped<T> {
    memory: MmapRaw,
    values: PhantomData<T>,
}

impl<T: Plain> Mapped<T> {
    const SIZE_IS_A_MULTIPLE: () = assert!(size_of::<T>().is_multiple_of(8));

    /// Maps the map `name`, which has `len` values.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub(super) fn new(maps: &Ebpf, name: &str, len: usize) -> Result<Self> {
        let () = Self::SIZE_IS_A_MULTIPLE;
        let found = maps.map(name).with_context(|| format!("the object has no map {name}"))?;
        let fd = load::map_data(found)?.fd().as_fd().as_raw_fd();
        let memory = MmapOptions::new()
            .len(len * size_of::<T>())
            .map_raw(fd)
            .with_context(|| format!("cannot map {name}"))?;
        Ok(Self { memory, values: PhantomData })
    }

    fn at(&self, index: usize) -> *mut T {
        assert!((index + 1) * size_of::<T>() <= self.memory.len(), "{index} is outside the map");
        // SAFETY: inside the mapping, which starts at a page.
        unsafe { self.memory.as_mut_ptr().cast::<T>().add(index) }
    }

    /// The value at `index`.
    pub(super) fn read(&self, index: usize) -> T {
        // SAFETY: inside the mapping and aligned, because the mapping starts at a page and the size of `T`
        // is a multiple of its alignment. `T` is integers only, so any bytes are a value. The programs
        // write meanwhile, each field by one aligned store; volatile, so that every call reads anew.
        unsafe { self.at(index).read_volatile() }
    }

    /// Sets the value at `index`.
    pub(super) fn write(&self, index: usize, value: T) {
        // SAFETY: as for `read`; the mapping is writable.
        unsafe { self.at(index).write_volatile(value) }
    }

    /// The integer of type `F` that lies `offset` bytes into the value at `index`.
    pub(super) fn field<F: Field>(&self, index: usize, offset: usize) -> F {
        assert!(offset + size_of::<F>() <= size_of::<T>() && offset.is_multiple_of(size_of::<F>()));
        // SAFETY: as for `read`, and inside the value.
        unsafe { self.at(index).byte_add(offset).cast::<F>().read_volatile() }
    }
}

/// An integer that is read by one load.
pub(super) trait Field: Copy {}
impl Field for u32 {}
impl Field for u64 {}

/// An array map of 32-bit numbers.
#[derive(Debug)]
pub(super) struct Numbers32(Mapped<[u32; 2]>);

impl Numbers32 {
    /// As [`Mapped::new`].
    pub(super) fn new(maps: &Ebpf, name: &str, len: usize) -> Result<Self> {
        Mapped::new(maps, name, len).map(Self)
    }

    /// The number at `index`.
    pub(super) fn read(&self, index: usize) -> u32 {
        self.0.field(index, 0)
    }

    /// Sets the number at `index`.
    pub(super) fn write(&self, index: usize, number: u32) {
        self.0.write(index, [number, 0]);
    }
}
