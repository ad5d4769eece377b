//! Bounds on the lists, numbers and times of a reading that comes from a file: docs/recording.md has their table. A writer
//! refuses what a reader would.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};

use super::{
    monitor::Standing,
    reading::{Reading, Time},
};

/// Network namespaces of one reading, and namespaces followed at once.
pub const NETNS: usize = 8192;
/// Network namespaces that a reading says are gone.
pub const GONE: usize = 65_536;
/// Reads of the kernel's count of one namespace in a reading.
pub const COUNT_READS: usize = 32;
/// Windows of one namespace in a reading, and of all of them.
pub const WINDOWS: usize = 8192;
/// See [`WINDOWS`].
pub const WINDOWS_OF_ALL: usize = 1 << 21;
/// Hooks, and reasons why something is not available.
pub const HOOKS: usize = 64;
/// Flows that were refused or evicted, and entries that were read again, in a reading.
pub const SAMPLES: usize = 4096;
/// Values of a number that are remembered of one namespace, and elements of each list of what is not covered.
pub const REMEMBERED: usize = 64;
/// Events of one batch.
pub const EVENTS: usize = 65_536;
/// CPUs of a machine: `NR_CPUS` is 8,192 at the most (arch/x86/Kconfig).
pub const CPUS: u32 = 8192;
/// Nanoseconds of a time: the year 2262, since 1970.
pub const TIME_NS: u64 = i64::MAX as u64;

/// List of at most `N` elements: a further one is an error, before memory is allocated for it.
///
/// # Errors
/// The errors of the elements, and one for more than `N` elements.
pub fn at_most<'de, D, C, const N: usize>(deserializer: D) -> Result<C, D::Error>
where
    D: Deserializer<'de>,
    C: Default + IntoIterator + Extend<C::Item>,
    C::Item: Deserialize<'de>,
{
    struct List<C, const N: usize>(PhantomData<C>);

    impl<'de, C, const N: usize> Visitor<'de> for List<C, N>
    where
        C: Default + IntoIterator + Extend<C::Item>,
        C::Item: Deserialize<'de>,
    {
        type Value = C;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {N}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<C, A::Error> {
            let mut list = C::default();
            let mut len = 0;
            while let Some(element) = elements.next_element()? {
                len += 1;
                if len > N {
                    return Err(A::Error::custom(format_args!("a list of more than {N}")));
                }
                list.extend([element]);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(List::<C, N>(PhantomData))
}

/// Checks what no list alone tells.
///
/// # Errors
/// The bound that is not kept.
pub fn time(time: Time) -> Result<(), String> {
    let is_within = time.monotonic_ns <= TIME_NS && time.unix_ns <= TIME_NS;
    is_within.then_some(()).ok_or_else(|| "a time after the year 2262".into())
}

fn number(what: &str, number: usize, most: usize) -> Result<(), String> {
    if number > most { Err(format!("{number} {what}, more than {most}")) } else { Ok(()) }
}

/// Checks a reading.
///
/// # Errors
/// The bound that is not kept.
pub fn reading(reading: &Reading) -> Result<(), String> {
    time(reading.time)?;
    number("network namespaces", reading.netns.len(), NETNS)?;
    number("network namespaces that are gone", reading.gone.len(), GONE)?;
    number("hooks", reading.probes.len(), HOOKS)?;
    number("victims", reading.victims.len(), SAMPLES)?;
    let rereads = reading.rereads.as_ref().map_or(0, |batch| batch.rereads.len());
    number("entries read again", rereads, SAMPLES)?;
    let mut windows = 0;
    for netns in &reading.netns {
        number("reads of a count", netns.counts.len(), COUNT_READS)?;
        if let Some(counts) = &netns.windows {
            number("windows", counts.inserts.len().max(counts.deletes.len()), WINDOWS)?;
            if counts.inserts.len() != counts.deletes.len() {
                return Err("windows of inserts and of deletes that are not as many".into());
            }
            windows += counts.inserts.len();
        }
    }
    number("windows of all namespaces", windows, WINDOWS_OF_ALL)
}

/// Checks what a model has learnt.
///
/// # Errors
/// The bound that is not kept.
pub fn standing(standing: &Standing) -> Result<(), String> {
    standing.time().map_or(Ok(()), time)
}
