//! probe
use conntrack_user::source::ebpf::{*, plan::Hook};
fn main() -> anyhow::Result<()> {
    let t = std::time::Instant::now();
    let mut s = EbpfSource::attach(&Options::default())?;
    println!("attached in {:?}", t.elapsed());
    for h in s.hooks() { println!("{:?}", h); }
    for _ in 0..14 {
        std::thread::sleep(std::time::Duration::from_secs(1));
        let mut first = None;
        let d = s.drain(1 << 20, |e| { first.get_or_insert(e); });
        println!("{d:?} {first:?}");
        for h in Hook::ALL { print!("{h} misses {:?}; ", s.misses(h)); } println!();
        for (slot, n) in s.netns().collect::<Vec<_>>() { println!("{slot} {n:?} {:?}", s.counters(slot)); }
    }
    Ok(())
}
