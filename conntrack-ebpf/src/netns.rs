//! Which namespace has which slot, and which blocks.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    macros::map,
    maps::{Array, HashMap, Queue},
};
use conntrack_ebpf::{GROUP, GROUPS, MAX_NETNS, Netns, OVERFLOW_SLOT, SLOTS};

use crate::{
    config,
    kernel::{Ptr, Read},
    percpu::{self, Cpu, Last},
    windows,
};

/// Which namespace each slot belongs to; mapped by user space.
#[map]
static NETNS: Array<Netns> = Array::with_max_entries(SLOTS, BPF_F_MMAPABLE);

/// Namespace cookie to slot.
#[map]
static SLOT_OF: HashMap<u64, u32> = HashMap::with_max_entries(MAX_NETNS, 0);

/// Slots that no namespace has; filled by the loader.
#[map]
static FREE_SLOTS: Queue<u32> = Queue::with_max_entries(MAX_NETNS, 0);

/// The block of each slot on each CPU, slot after slot; 0: none yet. Mapped by user space, which
/// takes blocks back. The loader sets the size.
#[map]
static BLOCK_OF: Array<u32> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The slot that each block was taken for. Mapped by user space, which finds all blocks of a slot by
/// it: also one that was taken twice, by a program and by another one that interrupted it. The loader
/// sets the size, as that of the next.
#[map]
static OWNERS: Array<u32> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Blocks that no slot has; filled by the loader.
#[map]
static FREE_BLOCKS: Queue<u32> = Queue::with_max_entries(1, 0);

/// How many namespaces have ended: addresses seen before may be those of others by now.
#[map]
static ENDED: Array<u32> = Array::with_max_entries(1, 0);

/// What tells the namespace `net` from all others.
#[inline(always)]
pub(crate) fn cookie<R: Read>(net: Ptr) -> u64 {
    if config::cookie_is_address() == 1 { net as u64 } else { R::value(net, config::net_cookie()) }
}

/// The slot of the namespace `net`, and its block on this CPU, for a program that keeps `cpu.last[program]`.
#[inline(always)]
pub(crate) fn block<R: Read>(
    net: Ptr,
    cookie: u64,
    cpu: *mut Cpu,
    program: usize,
) -> Option<(u32, u32)> {
    // SAFETY: `cpu` is a map value and `program` an index of it.
    let last = unsafe { &raw mut (*cpu).last[program] };
    // SAFETY: as above; only this program writes it.
    let known = unsafe { last.read() };
    let ended = if config::cookie_is_address() == 1 { number_of_ended() } else { 0 };
    if known.cookie == cookie && known.ended == ended && cookie != 0 {
        mark(cpu, known.slot);
        return Some((known.slot, known.block));
    }
    let (slot, number) = (slot::<R>(net, cookie), percpu::number());
    let block = if slot == OVERFLOW_SLOT { number } else { block_of(slot, number, cpu)? };
    // What is counted in the overflow slot might get a slot or a block next time.
    if block >= config::cpus() {
        // SAFETY: as above.
        unsafe { last.write(Last { cookie, slot, block, ended, reserved: 0 }) };
    }
    mark(cpu, slot);
    Some((slot, block))
}

/// The slot from the shared map; a namespace not seen before gets one.
#[inline(always)]
fn slot<R: Read>(net: Ptr, cookie: u64) -> u32 {
    // SAFETY: a slot number is written once, before its key can be found, and never changed.
    match unsafe { SLOT_OF.get(cookie) } {
        Some(slot) => *slot,
        None => add(cookie, R::value(net, config::net_inode())),
    }
}

/// Reports whether a namespace has a slot.
#[inline(always)]
pub(crate) fn has_slot(cookie: u64) -> bool {
    // SAFETY: as in `slot`.
    unsafe { SLOT_OF.get(cookie) }.is_some()
}

/// Gives the namespace a slot, or the overflow slot when none is left.
#[inline(always)]
fn add(cookie: u64, inode: u32) -> u32 {
    let Ok(Some(slot)) = FREE_SLOTS.pop() else {
        return OVERFLOW_SLOT;
    };
    if SLOT_OF.insert(cookie, slot, BPF_NOEXIST.into()).is_ok() {
        // Named by the winner alone: user space would take for a namespace of its own what another CPU
        // names for the same one and takes back. Until then what is counted in the slot waits for its
        // name, and the caller marks the slot after it.
        let netns = Netns { cookie, inode, ended: 0, spilled: 0, reserved: 0 };
        let _ = NETNS.set(slot, netns, 0);
        windows::begin(slot);
        return slot;
    }
    // Another CPU was first: its slot it is, and this one goes back.
    let _ = FREE_SLOTS.push(slot, 0);
    // SAFETY: as in `slot`.
    match unsafe { SLOT_OF.get(cookie) } {
        Some(slot) => *slot,
        None => OVERFLOW_SLOT,
    }
}

/// The block of `slot` on this CPU, whose number is `number`.
#[inline(always)]
fn block_of(slot: u32, number: u32, cpu: *mut Cpu) -> Option<u32> {
    let place = BLOCK_OF.get_ptr_mut(slot * config::cpus() + number)?;
    // SAFETY: a map value; one aligned load.
    let block = unsafe { place.read_volatile() };
    if block != 0 {
        return Some(block);
    }
    let Ok(Some(block)) = FREE_BLOCKS.pop() else {
        if let Some(netns) = NETNS.get_ptr_mut(slot) {
            // SAFETY: a map value; one aligned store.
            unsafe { (&raw mut (*netns).spilled).write_volatile(1) };
        }
        return Some(number);
    };
    let _ = OWNERS.set(block, slot, 0);
    // SAFETY: a map value; one aligned store. A program that interrupted this one may have written
    // it: then the later one stays, and both are counted.
    unsafe { place.write_volatile(block) };
    // SAFETY: `cpu` is a map value; aligned loads and stores.
    unsafe {
        let activity = &raw mut (*cpu).activity;
        let now = (&raw const (*activity).tick).read_volatile();
        (&raw mut (*activity).blocks).write_volatile(now);
    }
    Some(block)
}

/// Notes that something is counted in `slot` on this CPU.
#[inline(always)]
fn mark(cpu: *mut Cpu, slot: u32) {
    // Or the compiler checks another register than it adds, which 5.10's verifier does not follow.
    let group = percpu::opaque(u64::from(slot / GROUP)) as usize;
    if group >= GROUPS {
        return;
    }
    // SAFETY: `cpu` is a map value and `group` an index in it; aligned loads and stores. Whoever writes it
    // meanwhile writes the same, or a tick more.
    unsafe {
        let activity = &raw mut (*cpu).activity;
        let now = (&raw const (*activity).tick).read_volatile();
        let place = &raw mut (*activity).groups[group];
        if place.read_volatile() != now {
            place.write_volatile(now);
        }
    }
}

#[inline(always)]
fn number_of_ended() -> u32 {
    match ENDED.get_ptr(0) {
        // SAFETY: a map value; one aligned load.
        Some(ended) => unsafe { ended.read_volatile() },
        None => 0,
    }
}

/// The namespace `net` has ended: nothing is counted in it any more, and its address may be another
/// one's at once.
#[inline(always)]
pub(crate) fn end<R: Read>(net: Ptr, cpu: *mut Cpu) {
    let cookie = cookie::<R>(net);
    // SAFETY: as in `slot`.
    let Some(slot) = (unsafe { SLOT_OF.get(cookie) }).copied() else {
        return;
    };
    let _ = SLOT_OF.remove(cookie);
    if let Some(ended) = ENDED.get_ptr_mut(0) {
        // SAFETY: a map value. Namespaces end one after the other (`cleanup_net`,
        // net/core/net_namespace.c), so there is one writer.
        unsafe { ended.write_volatile(ended.read_volatile() + 1) };
    }
    if let Some(netns) = NETNS.get_ptr_mut(slot) {
        // SAFETY: a map value; one aligned store.
        unsafe { (&raw mut (*netns).ended).write_volatile(1) };
    }
    mark(cpu, slot);
}
