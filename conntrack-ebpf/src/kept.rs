//! What user space keeps beside the programs, for whoever goes on reading them after it. No program reads it.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use conntrack_ebpf::FACTS_BYTES;

/// What is known of the programs and their maps.
#[map]
static FACTS: Array<[u8; FACTS_BYTES]> = Array::with_max_entries(1, 0);

/// How many events were taken out of the rings.
#[map]
static RECEIVED: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
