//! Maps that are shared with the kernel programs as memory: reading them costs no system call.

use std::{
    marker::PhantomData,
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::{Context as _, Result, ensure};
use conntrack_ebpf::{Activity, Clock, Counters, ListedNetns, Netns, NetnsWindows, Reread};
use memmap2::{MmapOptions, MmapRaw};

use super::maps::Maps;

/// A map value, or the beginning of one, that is integers only.
pub(super) trait Plain: Copy {}
impl Plain for Counters {}
impl Plain for Netns {}
impl Plain for Activity {}
impl Plain for NetnsWindows {}
impl Plain for Clock {}
impl Plain for Reread {}
impl Plain for ListedNetns {}
impl Plain for u32 {}
impl Plain for u64 {}

/// An array map in memory.
#[derive(Debug)]
pub(super) struct Mapped<T> {
    memory: MmapRaw,
    /// Bytes from one value to the next.
    stride: usize,
    values: PhantomData<T>,
}

impl<T: Plain> Mapped<T> {
    /// Maps the map `name`, which has `len` values.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub(super) fn new(maps: &Maps, name: &str, len: usize) -> Result<Self> {
        let found = maps.data(name)?;
        // `array_map_alloc`, kernel/bpf/arraymap.c
        let stride = found.info()?.value_size().next_multiple_of(8) as usize;
        ensure!(
            size_of::<T>() <= stride && stride.is_multiple_of(align_of::<T>()),
            "the map {name} has values of another type"
        );
        let memory = MmapOptions::new()
            .len(len * stride)
            .map_raw(found.fd().as_fd().as_raw_fd())
            .with_context(|| format!("cannot map {name}"))?;
        Ok(Self { memory, stride, values: PhantomData })
    }

    fn at(&self, index: usize) -> *mut T {
        assert!((index + 1) * self.stride <= self.memory.len(), "{index} is outside the map");
        // SAFETY: inside the mapping, which starts at a page.
        unsafe { self.memory.as_mut_ptr().add(index * self.stride).cast::<T>() }
    }

    /// The value at `index`.
    pub(super) fn read(&self, index: usize) -> T {
        // SAFETY: inside the mapping and aligned, because the mapping starts at a page and the stride
        // is a multiple of the alignment of `T`. `T` is integers only, so any bytes are a value. The programs
        // write meanwhile, each field by one aligned store; volatile, so that every call reads anew.
        unsafe { self.at(index).read_volatile() }
    }

    /// Sets the value at `index`.
    pub(super) fn write(&self, index: usize, value: T) {
        // SAFETY: as for `read`; the mapping is writable.
        unsafe { self.at(index).write_volatile(value) }
    }

    /// Sets the integer of type `F` that lies `offset` bytes into the value at `index`.
    pub(super) fn set_field<F: Field>(&self, index: usize, offset: usize, field: F) {
        // SAFETY: as for `field`; the mapping is writable.
        unsafe { self.part::<F>(index, offset).write_volatile(field) }
    }

    /// The integer of type `F` that lies `offset` bytes into the value at `index`.
    pub(super) fn field<F: Field>(&self, index: usize, offset: usize) -> F {
        // SAFETY: as for `read`.
        unsafe { self.part::<F>(index, offset).read_volatile() }
    }

    fn part<F: Field>(&self, index: usize, offset: usize) -> *mut F {
        assert!(offset + size_of::<F>() <= size_of::<T>() && offset.is_multiple_of(size_of::<F>()));
        // SAFETY: inside the value.
        unsafe { self.at(index).byte_add(offset).cast::<F>() }
    }
}

/// An integer that is read by one load.
pub(super) trait Field: Copy {}
impl Field for u32 {}
impl Field for u64 {}
