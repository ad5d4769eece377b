//! Concepts: what the glossary explains.

use super::Concept;

/// The concepts, in the order of the glossary.
pub const CONCEPTS: &[Concept] = &[
    Concept {
        names: &["entries"],
        word: "entries",
        meaning: "Connections, or other flows, that the kernel has in a connection tracking table.",
    },
    Concept {
        names: &["entries_limit"],
        word: "max",
        meaning: "Entries that a table may have: `nf_conntrack_max`.",
    },
    Concept {
        names: &["entries_limit_changes"],
        word: "",
        meaning: "Changes of `nf_conntrack_max` since the source was opened.",
    },
    Concept { names: &["fill_ratio"], word: "fill", meaning: "Entries as a share of the limit." },
    Concept {
        names: &["allocs", "alloc"],
        word: "",
        meaning: "Entries that the kernel made. A packet that a rule drops makes one that is never inserted.",
    },
    Concept {
        names: &["frees", "free"],
        word: "",
        meaning: "Entries whose memory was given back. Entries in the table are allocs less frees.",
    },
    Concept {
        names: &[
            "inserts",
            "insert",
            "insert_rate",
            "inserts_by_protocol",
            "inserts_ctnetlink",
            "inserts_packet",
            "inserts_peak",
        ],
        word: "inserts",
        meaning: "Entries put into the hash of the table, where packets find them.",
    },
    Concept {
        names: &["entries_high_water", "insert_rate_high_water"],
        word: "",
        meaning: "The most entries and the highest insert rate of the last 75 s, so that no scrape misses a peak.",
    },
    Concept {
        names: &["insert_rate_peak", "delete_rate_peak"],
        word: "peak",
        meaning: "The highest rate within some 10 ms.",
    },
    Concept {
        names: &[
            "deletes",
            "delete",
            "delete_rate",
            "deletes_by_cause",
            "deletes_by_status",
            "deletes_peak",
        ],
        word: "deletes",
        meaning: "Entries taken out of the hash, for whatever cause.",
    },
    Concept {
        names: &["destroy", "destroys"],
        word: "destroy",
        meaning: "The event of a delete, with the final state of the flow; the same word as in `conntrack -E`.",
    },
    Concept { names: &["net_rate"], word: "net", meaning: "Inserts less deletes a second." },
    Concept {
        names: &[
            "table_full_drops",
            "table_full_drop",
            "table_full_drop_rate",
            "table_full_drops_since",
        ],
        word: "drops",
        meaning: "Packets that the kernel dropped because the table was full and no entry could be evicted.",
    },
    Concept {
        names: &["early_drops", "early_drop", "early_drop_rate"],
        word: "evictions",
        meaning: "Entries that the kernel deleted to make room for new ones in a full table; the kernel says early drop.",
    },
    Concept {
        names: &["evictable_entries", "evictable_entries_low", "evictable_entries_high"],
        word: "can be evicted",
        meaning: "Entries that the kernel may evict: those that are not assured. Estimated from entries that were read again.",
    },
    Concept {
        names: &["evictable_unknown_entries"],
        word: "unknown for",
        meaning: "Entries of which it is unknown whether they can be evicted: those from before ctmon, and all where too few were read again.",
    },
    Concept {
        names: &["insert_failed"],
        word: "",
        meaning: "Packets dropped because their entry could not be inserted: a clash, a chain that is too long, or an entry that is dying.",
    },
    Concept {
        names: &["clashes", "clash", "clashes_resolved", "clash_resolve"],
        word: "clash",
        meaning: "Two packets of one flow at the same moment, each with an entry of its own; the kernel resolves most.",
    },
    Concept {
        names: &["count_drift"],
        word: "drift",
        meaning: "The kernel's count of entries less that of ctmon: 0 unless something was missed.",
    },
    Concept {
        names: &["unhashed_entries"],
        word: "allocated and not in the table",
        meaning: "Entries that are allocated and not in the table: of packets on their way, of packets in a queue (NFQUEUE), or of inserts that were missed.",
    },
    Concept {
        names: &["queued_packets"],
        word: "packets in queues",
        meaning: "Packets that wait for a program's verdict (NFQUEUE), each with an entry that may not be in the table yet.",
    },
    Concept {
        names: &["dying_entries"],
        word: "deleted and not freed",
        meaning: "Entries that are out of the table and not freed: packets hold them, or a reliable ctnetlink listener that does not read. Below 0, deletes were missed.",
    },
    Concept {
        names: &["inserts_missed", "deletes_missed"],
        word: "not counted",
        meaning: "Inserts and deletes that ctmon missed for good, by the lowest number of unhashed and of dying entries over 10 min, twice in a row.",
    },
    Concept {
        names: &["baseline"],
        word: "",
        meaning: "Entries that were there before ctmon counted.",
    },
    Concept {
        names: &["missed_calls_max"],
        word: "",
        meaning: "Calls in the kernel that no program may have seen, at most; 0: every count is exact.",
    },
    Concept {
        names: &["seconds_to_full"],
        word: "full in",
        meaning: "Forecast of the time until the table is full.",
    },
    Concept {
        names: &["seconds_to_first_drop"],
        word: "first packets dropped in",
        meaning: "Forecast of the time until the first packet is dropped: evictions come before.",
    },
    Concept {
        names: &["full_probability"],
        word: "likely to be full within",
        meaning: "Probability that the table is full within some time.",
    },
    Concept {
        names: &["steady_state"],
        word: "settles at",
        meaning: "Entries at which the table comes to rest if arrivals and lifetimes stay as they are, whatever the limit.",
    },
    Concept {
        names: &["entries_in_60s"],
        word: "60 s later",
        meaning: "Forecast of the entries in a minute.",
    },
    Concept {
        names: &["state"],
        word: "state",
        meaning: "What a table does by its forecast: steady, filling, draining, full, or not enough data. Of a hook: whether it is attached.",
    },
    Concept {
        names: &["forecast"],
        word: "forecast",
        meaning: "What becomes of a table, from arrivals and lifetimes, as quantiles and probabilities.",
    },
    Concept { names: &["steady"], word: "steady", meaning: "The table stays about as it is." },
    Concept { names: &["filling"], word: "filling", meaning: "The table grows." },
    Concept { names: &["draining"], word: "draining", meaning: "The table shrinks." },
    Concept {
        names: &["full"],
        word: "full",
        meaning: "The table has as many entries as it may have, or evicts or drops to stay there. Over after 5 s without either, below the limit.",
    },
    Concept {
        names: &["full_since", "full_at_start"],
        word: "full since",
        meaning: "Time since which the table is full; or before, if it was full when ctmon first read it.",
    },
    Concept {
        names: &["not_enough_data"],
        word: "not enough data",
        meaning: "Too little was seen for a forecast.",
    },
    Concept {
        names: &["severity"],
        word: "severity",
        meaning: "How bad something is: ok, info, unknown, warning or critical.",
    },
    Concept {
        names: &[
            "conditions",
            "almost_full",
            "full_soon",
            "high",
            "full_later",
            "high_and_filling",
        ],
        word: "",
        meaning: "Reasons for which a table is a warning or critical.",
    },
    Concept {
        names: &["unavailable"],
        word: "not available",
        meaning: "A number that cannot be had here, with the reason; never shown as 0.",
    },
    Concept {
        names: &["netns", "netns_inode", "inode"],
        word: "netns",
        meaning: "A network namespace: it has a conntrack table of its own. Its inode is the number that the kernel log prints.",
    },
    Concept {
        names: &["cookie", "netns_cookie"],
        word: "",
        meaning: "A number of a network namespace that the kernel never gives again, unlike the inode.",
    },
    Concept {
        names: &["netns_idle"],
        word: "",
        meaning: "Network namespaces in which nothing was counted for 10 s.",
    },
    Concept {
        names: &["coverage", "netns_coverage"],
        word: "",
        meaning: "How many tables are read, which known ones are not, and what may hide others.",
    },
    Concept {
        names: &["netns_overflow"],
        word: "",
        meaning: "Counts of network namespaces beyond the 4,096 that are counted apart.",
    },
    Concept {
        names: &["netns_aggregated"],
        word: "",
        meaning: "Network namespaces that share the series netns=\"others\".",
    },
    Concept {
        names: &["original"],
        word: "original",
        meaning: "The tuple of the first packet of a flow.",
    },
    Concept {
        names: &["reply"],
        word: "reply",
        meaning: "The tuple of the answers, after address translation.",
    },
    Concept {
        names: &["zone"],
        word: "zone",
        meaning: "A number that keeps flows with equal tuples apart within one table.",
    },
    Concept { names: &["unreplied"], word: "unreplied", meaning: "No answer was seen yet." },
    Concept {
        names: &["replied"],
        word: "replied",
        meaning: "Packets were seen in both directions.",
    },
    Concept {
        names: &["assured"],
        word: "assured",
        meaning: "A flow worth keeping: never evicted. TCP that is established, UDP that goes on in both directions.",
    },
    Concept {
        names: &["offloaded"],
        word: "offloaded",
        meaning: "A flow whose packets pass by connection tracking, in a flow table.",
    },
    Concept {
        names: &["victims"],
        word: "",
        meaning: "Tuples of which a packet was dropped, or that were evicted, because the table was full.",
    },
    Concept {
        names: &["flows", "flow"],
        word: "flows",
        meaning: "Connections as events tell them, from insert to destroy.",
    },
    Concept {
        names: &["events", "event"],
        word: "events",
        meaning: "Inserts and destroys of single flows, sent through ring buffers.",
    },
    Concept {
        names: &["sample_ratio"],
        word: "",
        meaning: "Share of the flows whose events are sent. Counts are never sampled.",
    },
    Concept {
        names: &["hook", "hooks", "function"],
        word: "hook",
        meaning: "A function of the kernel at which programs of ctmon count.",
    },
    Concept {
        names: &["probes"],
        word: "",
        meaning: "How the programs of each hook do: calls counted and missed.",
    },
    Concept {
        names: &["windows"],
        word: "",
        meaning: "Counts by spans of some 10 ms, from which peaks come.",
    },
    Concept {
        names: &["tick", "ticks"],
        word: "tick",
        meaning: "One reading of all tables, and what is made of it.",
    },
    Concept {
        names: &["cause"],
        word: "cause",
        meaning: "Who deleted an entry: a user, the end of the namespace, an eviction, or the kernel by itself.",
    },
    Concept {
        names: &["source"],
        word: "source",
        meaning: "Where numbers come from: kernel programs (ebpf), procfs, or ctnetlink events (netlink).",
    },
    Concept {
        names: &["lifetimes"],
        word: "lifetimes",
        meaning: "How long flows live, by protocol and final status.",
    },
    Concept {
        names: &["live_state"],
        word: "alive",
        meaning: "What live entries are doing: status and TCP state, from a few that are read again.",
    },
];
