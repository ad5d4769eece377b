//! The frozen configuration.

use conntrack_ebpf::Config;

/// Lies in `.rodata`; the loader writes it and freezes the map before the programs are verified.
#[unsafe(no_mangle)]
static CONFIG: Config = Config {
    early_drop: 0,
    early_drop_len: 0,
    hash_check_insert: 0,
    hash_check_insert_len: 0,
    sample_seed: 0,
    nf_conntrack_net_id: 0,
    nf_conn_original: 0,
    nf_conn_reply: 0,
    nf_conn_reply_pprev: 0,
    nf_conn_status: 0,
    nf_conn_timeout: 0,
    nf_conn_net: 0,
    nf_conn_zone: 0,
    zone_id: 0,
    nf_conn_tcp_state: 0,
    skb_nfct: 0,
    net_cookie: 0,
    net_inode: 0,
    net_references: 0,
    net_list: 0,
    net_ns_ops: 0,
    net_gen: 0,
    net_ct_count: 0,
    nf_conntrack_net_count: 0,
    task_nsproxy: 0,
    nsproxy_net: 0,
    cookie_is_address: 0,
    cpus: 0,
    copies: 0,
    is_shared: 0,
    window_copies: 0,
    victims: 0,
    events: 0,
    rings: 0,
    ring_wakeup: 0,
    window_jiffies: 0,
    debug_log: 0,
    padding: 0,
    #[cfg(feature = "fault-injection")]
    fault_skip_frees: 0,
    #[cfg(feature = "fault-injection")]
    fault_skip_inserts: 0,
    #[cfg(feature = "fault-injection")]
    fault_skip_deletes: 0,
    reserved: [0; if cfg!(feature = "fault-injection") { 1 } else { 0 }],
};

macro_rules! fields {
    ($type:ident: $($name:ident)*) => {$(
        #[inline(always)]
        pub(crate) fn $name() -> $type {
            // SAFETY: a valid, aligned static. Volatile, because the loader changes it after the
            // compiler has seen its zeros.
            unsafe { core::ptr::read_volatile(&raw const CONFIG.$name) }
        }
    )*};
}

fields! {
    u64: early_drop early_drop_len hash_check_insert hash_check_insert_len sample_seed
    nf_conntrack_net_id
}

fields! {
    u32: nf_conn_original nf_conn_reply nf_conn_reply_pprev nf_conn_status nf_conn_timeout nf_conn_net
    nf_conn_zone zone_id nf_conn_tcp_state skb_nfct net_cookie net_inode net_references cookie_is_address
    net_list net_ns_ops net_gen net_ct_count nf_conntrack_net_count task_nsproxy nsproxy_net
    cpus copies is_shared window_copies victims events rings ring_wakeup window_jiffies debug_log
}

#[cfg(feature = "fault-injection")]
fields! {
    u32: fault_skip_frees fault_skip_inserts fault_skip_deletes
}
