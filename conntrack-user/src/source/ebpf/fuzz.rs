//! Fuzz targets of the ring buffer's records and of files that describe the kernel.

use super::{
    bears::is_before,
    btf::Btf,
    flow::decode,
    kernel::cpus,
    layout,
    memory::charged,
    preemption::{is_preemptible, is_real_time},
    symbols::Symbols,
};

/// Records of the ring buffer: only whole ones become events.
pub fn flow_record(record: &[u8]) -> bool {
    let Ok(event) = decode(record) else { return false };
    assert_eq!(record.len(), 120);
    let ratio = event.sample.ratio();
    assert!((0.0..=1.0).contains(&ratio));
    true
}

/// Files that describe the kernel: any bytes become BTF or none, in which members are looked for, any lines symbols, any text a version,
/// a mode, a list of CPUs or none.
pub fn kernel_files(bytes: &[u8]) -> bool {
    let mut is_known = false;
    if let Ok(symbols) = Symbols::read(bytes, "nf_conntrack", |_| true, &["init_net"]) {
        is_known |= symbols.get("early_drop").is_some() || symbols.data("init_net").is_some();
        let _ = (symbols.is_empty(), symbols.address_of_data("init_net"));
        let _ = symbols.parts("early_drop").count();
    }
    if let Ok(text) = str::from_utf8(bytes) {
        is_known |= cpus(text).is_some() || charged(text, true).is_some();
        let _ = (is_preemptible(Some(text), text), is_real_time(text), is_before(text, (6, 9)));
    }
    let mut all = vec![Btf::parse(bytes.to_vec())];
    // Behind two bytes for its length there may be the BTF that another one continues, as that of a module does.
    if let Some((length, rest)) = bytes.split_first_chunk()
        && let Some((base, module)) = rest.split_at_checked(u16::from_le_bytes(*length).into())
        && let Ok(base) = Btf::parse(base.to_vec())
    {
        all.push(Btf::parse_split(module.to_vec(), base.into()));
    }
    for btf in all.into_iter().flatten() {
        is_known = true;
        let _ = layout::resolve(&btf);
        for (structure, path) in
            [("nf_conn", "tuplehash[1].tuple"), ("net", "ns.inum"), ("nf_conn", "proto"), ("", "")]
        {
            let _ = btf.member(structure, path);
        }
        let _ = btf.function("early_drop");
    }
    is_known
}
