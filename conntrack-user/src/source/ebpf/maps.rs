//! The maps that are read and written here, by their descriptors. Whoever holds those needs no capability for it
//! from 5.19 on.

use std::{
    collections::HashMap as Named,
    ops::RangeInclusive,
    os::fd::{AsFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, Queue, RingBuf},
};
use conntrack_ebpf::FACTS_BYTES;

use super::rings;

/// Those that are handed on, besides the rings of events.
const NAMES: [&str; 18] = [
    "BLOCKS",
    "BLOCK_OF",
    "CLOCK",
    "CPUS",
    "FACTS",
    "FREE_BLOCKS",
    "FREE_SLOTS",
    "FREE_WINDOWS",
    "NETNS",
    "NETNS_LIST",
    "OWNERS",
    "RECEIVED",
    "REREAD",
    "SLOT_OF",
    "THRESHOLD",
    "VICTIMS",
    "WINDOWS_OF",
    "WINDOW_SLOT",
];

/// Maps by their names in the object file.
#[derive(Debug)]
pub(super) struct Maps(Named<String, OwnedFd>);

impl Maps {
    /// Those of `object` that are read and written here, with so many rings of events. An object without one of
    /// them has no use for it.
    pub(super) fn of(object: &Ebpf, rings: u32) -> Result<Self> {
        let events = rings::EVENTS.iter().take(rings as usize);
        let names = NAMES.iter().chain(events);
        let found = names.filter_map(|name| Some((*name, object.map(name)?)));
        let maps = found.map(|(name, map)| {
            let descriptor = map_data(map)?.fd().as_fd().try_clone_to_owned();
            Ok((name.to_owned(), descriptor.context("cannot duplicate a descriptor")?))
        });
        Ok(Self(maps.collect::<Result<_>>()?))
    }

    pub(super) fn new(maps: impl Iterator<Item = (String, OwnedFd)>) -> Self {
        Self(maps.collect())
    }

    /// All of them.
    pub(super) fn into_all(self) -> impl Iterator<Item = (String, OwnedFd)> {
        self.0.into_iter()
    }

    /// The map `name`, by a descriptor of its own.
    pub(super) fn data(&self, name: &str) -> Result<MapData> {
        let descriptor = self.0.get(name).with_context(|| format!("there is no map {name}"))?;
        let descriptor = descriptor.try_clone().context("cannot duplicate a descriptor")?;
        MapData::from_fd(descriptor).with_context(|| format!("cannot open the map {name}"))
    }

    /// The ring buffer `name`.
    pub(super) fn ring(&self, name: &str) -> Result<RingBuf<MapData>> {
        RingBuf::try_from(Map::RingBuf(self.data(name)?))
            .with_context(|| format!("cannot map the ring buffer {name}"))
    }

    /// The queue of numbers `name`.
    pub(super) fn queue(&self, name: &str) -> Result<Queue<MapData, u32>> {
        Ok(Queue::try_from(Map::Queue(self.data(name)?))?)
    }

    /// The hash `name`.
    pub(super) fn hash(&self, name: &str) -> Result<HashMap<MapData, u64, u32>> {
        Ok(HashMap::try_from(Map::HashMap(self.data(name)?))?)
    }

    /// Puts `numbers` into the queue `name`.
    pub(super) fn fill(&self, name: &str, numbers: RangeInclusive<u32>) -> Result<()> {
        let mut queue = self.queue(name)?;
        for number in numbers {
            queue.push(number, 0).with_context(|| format!("cannot fill the map {name}"))?;
        }
        Ok(())
    }
}

/// The array `FACTS`, by its descriptor.
pub(super) fn facts(descriptor: OwnedFd) -> Result<Array<MapData, [u8; FACTS_BYTES]>> {
    Ok(Array::try_from(Map::Array(MapData::from_fd(descriptor)?))?)
}

/// The data of a map, whatever its type.
pub(super) fn map_data(map: &Map) -> Result<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::Queue(data)
        | Map::RingBuf(data) => Ok(data),
        other => Err(anyhow!("a map of an unexpected type: {other:?}")),
    }
}
