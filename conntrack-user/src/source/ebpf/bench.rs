//! Runs the timed programs: the bodies of the kernel programs in loops.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _},
};
use conntrack_ebpf::{
    COPIES, Config, EVERY_FLOW, MAX_NETNS,
    bench::{ROUNDS, layout},
};

use super::{
    DEFAULT_RING_BYTES, Drained, kernel::possible_cpus, load, mapped::Mapped, maps::Maps,
    rings::Rings, windows,
};
use crate::{model::flow::FlowEvent, source::limits};

/// The object file, built by build.rs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ctmon-bench-ebpf"));

/// The timed programs, with maps as large as the monitor's.
pub struct Bench {
    object: Ebpf,
    rings: Rings,
    _windows: windows::Reader,
    loaded: BTreeSet<String>,
}

impl Bench {
    /// Creates the maps. `events`: whether inserts and deletes are sent as events, as well as counted.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(events: bool) -> Result<Self> {
        load::require(OBJECT)?;
        limits::raise(libc::RLIMIT_MEMLOCK);
        let jiffy = windows::jiffy().context("this kernel does not tell how long a jiffy is")?;
        let config = Config {
            cpus: possible_cpus(Path::new("/sys"))?,
            copies: COPIES as u32,
            window_copies: 1,
            victims: 1,
            events: events.into(),
            rings: 1,
            window_jiffies: windows::jiffies(jiffy),
            ring_wakeup: DEFAULT_RING_BYTES / 2,
            ..layout()
        };
        let object = load::create_maps(OBJECT, &config, DEFAULT_RING_BYTES, MAX_NETNS)?;
        let maps = Maps::of(&object, 1)?;
        Mapped::new(&maps, "THRESHOLD", 1)?.write(0, EVERY_FLOW);
        windows::begin(&maps, config.cpus)?;
        let windows = windows::Reader::new(&maps, config.cpus, config.window_copies, jiffy)?;
        let rings = Rings::new(&maps, 1)?;
        let mut bench = Self { object, rings, _windows: windows, loaded: BTreeSet::new() };
        bench.run("bench_set_up", [0, 0])?;
        Ok(bench)
    }

    /// Runs the program `name` once with two arguments, and returns what it returned.
    fn run(&mut self, name: &str, [first, second]: [u64; 2]) -> Result<u32> {
        let program = self.object.program_mut(name);
        let program = program.with_context(|| format!("the object file has no program {name}"))?;
        let program: &mut RawTracePoint = program.try_into()?;
        if self.loaded.insert(name.to_owned()) {
            program.load().with_context(|| format!("the kernel refuses the program {name}"))?;
        }
        let mut options = RawTracePointRunOptions::new();
        options.args[..2].copy_from_slice(&[first, second]);
        let result = program.test_run(options);
        Ok(result
            .with_context(|| format!("the kernel does not run the program {name}"))?
            .return_value)
    }

    /// Nanoseconds that one round of the program's body and the loop around it take.
    ///
    /// # Errors
    /// The kernel's.
    pub fn time(&mut self, program: &str) -> Result<f64> {
        let time = self.run(program, [0, 0])?;
        ensure!(time.cast_signed() >= 0, "the program {program} finds no map value");
        Ok(f64::from(time) / f64::from(ROUNDS))
    }

    /// Sends the inserts, or where `ends` the destroys, of [`ROUNDS`] flows from number `first` on. Returns how
    /// many found room in the ring.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&mut self, first: u64, ends: bool) -> Result<u32> {
        self.run("bench_send", [first, ends.into()])
    }

    /// As `EbpfSource::drain`.
    pub fn drain(&mut self, limit: u64, take: impl FnMut(FlowEvent)) -> Drained {
        self.rings.drain(limit, u64::MAX, take)
    }
}
