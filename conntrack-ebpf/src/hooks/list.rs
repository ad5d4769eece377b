//! The kernel's own list of network namespaces (`net_namespace_list`), read by a program that user space runs itself.
//!
//! The list is a ring of the namespaces and of its head. It is walked from the namespace of the caller, some at a time; the
//! place is kept where user space cannot write it, because what lies at an address of its choice is not to be read.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::generated::bpf_get_current_task,
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use conntrack_ebpf::{ABSENT, LISTED_NETNS, ListedNetns, listed};

use crate::{
    config,
    kernel::{Probed, Ptr, Read as _},
    netns,
};

/// Place at which the walk goes on: the address of `net->list` of a namespace.
#[map]
static NETNS_PLACE: Array<u64> = Array::with_max_entries(1, 0);

/// Mapped by user space.
#[map]
static NETNS_LIST: Array<ListedNetns> = Array::with_max_entries(LISTED_NETNS, BPF_F_MMAPABLE);

/// Offset of `list_head.prev`.
const PREV: u32 = 8;

/// Lists namespaces: from the first where the first element asks for that, else from where the call before has ended.
#[raw_tracepoint]
fn ctmon_netns(_ctx: RawTracePointContext) -> i32 {
    let (Some(first), Some(place)) = (NETNS_LIST.get_ptr_mut(0), NETNS_PLACE.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: the helper takes no argument.
    let task = unsafe { bpf_get_current_task() } as Ptr;
    let proxy = Probed::value::<u64>(task, config::task_nsproxy()) as Ptr;
    let own = Probed::value::<u64>(proxy, config::nsproxy_net()) as Ptr;
    // The same in all namespaces of this kind, and not in the head of the list.
    let operations = Probed::value::<u64>(own, config::net_ns_ops());
    let start = own as u64 + u64::from(config::net_list());
    // SAFETY: map values; aligned loads.
    let (is_begin, mut node) = unsafe {
        let is_begin = (&raw const (*first).state).read_volatile() == listed::BEGIN;
        (is_begin, if is_begin { start } else { place.read_volatile() })
    };
    let mut index = 0;
    while index < LISTED_NETNS {
        let Some(element) = NETNS_LIST.get_ptr_mut(index) else {
            break;
        };
        let end = |state| ListedNetns { state, ..ListedNetns::default() };
        let next = Probed::value::<u64>(node as Ptr, 0);
        let found = if node == start && !(is_begin && index == 0) {
            end(listed::END)
        } else if Probed::value::<u64>(next as Ptr, PREV) != node {
            // It has left the list, or another one is coming in behind it.
            end(listed::LOST)
        } else {
            let net = (node - u64::from(config::net_list())) as Ptr;
            if Probed::value::<u64>(net, config::net_ns_ops()) == operations {
                read(net)
            } else {
                end(listed::HEAD)
            }
        };
        // SAFETY: a map value, written once.
        unsafe { element.write_volatile(found) };
        if found.state == listed::END || found.state == listed::LOST {
            return 0;
        }
        node = next;
        index += 1;
    }
    // SAFETY: a map value; one aligned store.
    unsafe { place.write_volatile(node) };
    0
}

#[inline(always)]
fn read(net: Ptr) -> ListedNetns {
    ListedNetns {
        cookie: netns::cookie::<Probed>(net),
        inode: Probed::value(net, config::net_inode()),
        state: listed::NETNS,
        entries: entries(net),
        reserved: 0,
    }
}

/// Entries in the table of `net`; negative where that is not known.
#[inline(always)]
fn entries(net: Ptr) -> i32 {
    if config::net_ct_count() != ABSENT {
        // `net->ct.count`, until 5.12.
        return Probed::value(net, config::net_ct_count());
    }
    let id = config::nf_conntrack_net_id();
    if id == 0 || config::nf_conntrack_net_count() == ABSENT {
        return -1;
    }
    // `net_generic(net, nf_conntrack_net_id)`
    let id: u32 = Probed::value(id as Ptr, 0);
    let generic = Probed::value::<u64>(net, config::net_gen());
    let own = Probed::value::<u64>(generic as Ptr, id.wrapping_mul(8) & 0xffff);
    if own == 0 { -1 } else { Probed::value(own as Ptr, config::nf_conntrack_net_count()) }
}
