//! Files of the kernel: any bytes become BTF or none, in which members are looked for, and any lines symbols.

#![no_main]

use conntrack_user::source::ebpf::{btf::Btf, layout, symbols::Symbols};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(symbols) = Symbols::read(bytes, "nf_conntrack", |_| true, &["init_net"]) {
        let _ = (symbols.is_empty(), symbols.get("early_drop"), symbols.data("init_net"));
    }
    if let Ok(btf) = Btf::parse(bytes.to_vec()) {
        let _ = layout::resolve(&btf);
        for (structure, path) in [("nf_conn", "tuplehash[1].tuple"), ("net", "ns.inum"), ("", "")] {
            let _ = btf.member(structure, path);
        }
        let _ = btf.function("early_drop");
    }
});
