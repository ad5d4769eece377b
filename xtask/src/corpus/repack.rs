//! Makes a recording smaller: chunks of a second become chunks of a minute, compressed as well as zstd can. The records in
//! them stay as they are, and so does all that ctmon reads from them (<https://mcap.dev/spec>).

use anyhow::{Context as _, Result, bail, ensure};

/// Begin and end of a file.
const MAGIC: &[u8] = b"\x89MCAP0\r\n";
/// Opcode of a chunk.
const CHUNK: u8 = 6;
/// Bytes of a record before its content: opcode and length.
const HEAD: usize = 9;
/// Longest time that a chunk covers, in nanoseconds.
const SPAN: u64 = 60_000_000_000;
/// Bytes of a chunk before compression: as many as ctmon itself puts into one.
const BYTES: usize = 4 << 20;
const LEVEL: i32 = 19;

/// The same recording in larger chunks.
pub(super) fn repack(file: &[u8]) -> Result<Vec<u8>> {
    let body = file.strip_prefix(MAGIC).and_then(|rest| rest.strip_suffix(MAGIC));
    let mut body = body.context("the recording is no whole MCAP file")?;
    let mut out = MAGIC.to_vec();
    let mut chunk: Option<Chunk> = None;
    while !body.is_empty() {
        let (opcode, content, rest) = record(body)?;
        body = rest;
        if opcode != CHUNK {
            finish(&mut chunk, &mut out)?;
            push(&mut out, opcode, content);
            continue;
        }
        let next = Chunk::read(content)?;
        if chunk.as_ref().is_some_and(|chunk| !chunk.has_room(&next)) {
            finish(&mut chunk, &mut out)?;
        }
        match &mut chunk {
            Some(chunk) => chunk.append(next),
            None => chunk = Some(next),
        }
    }
    finish(&mut chunk, &mut out)?;
    out.extend(MAGIC);
    Ok(out)
}

fn finish(chunk: &mut Option<Chunk>, out: &mut Vec<u8>) -> Result<()> {
    if let Some(chunk) = chunk.take() {
        push(out, CHUNK, &chunk.write()?);
    }
    Ok(())
}

/// Opcode and content of the first record, and what follows.
fn record(bytes: &[u8]) -> Result<(u8, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD).context("a record has no head")?;
    let mut head = Fields(head);
    let [opcode] = head.take()?;
    let length = usize::try_from(u64::from_le_bytes(head.take()?))?;
    let (content, rest) = rest.split_at_checked(length).context("a record is cut")?;
    Ok((opcode, content, rest))
}

fn push(out: &mut Vec<u8>, opcode: u8, content: &[u8]) {
    out.push(opcode);
    out.extend((content.len() as u64).to_le_bytes());
    out.extend(content);
}

/// Fields of a record, from the first on.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk().context("a field is cut")?;
        self.0 = rest;
        Ok(*field)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(length).context("a field is cut")?;
        self.0 = rest;
        Ok(field)
    }
}

/// A chunk with its records uncompressed.
struct Chunk {
    /// Times of its first and last message, in nanoseconds.
    start: u64,
    end: u64,
    records: Vec<u8>,
}

impl Chunk {
    fn read(content: &[u8]) -> Result<Self> {
        let mut fields = Fields(content);
        let (start, end) = (u64::from_le_bytes(fields.take()?), u64::from_le_bytes(fields.take()?));
        let size = usize::try_from(u64::from_le_bytes(fields.take()?))?;
        let crc = u32::from_le_bytes(fields.take()?);
        let length = u32::from_le_bytes(fields.take()?) as usize;
        let compression = fields.bytes(length)?;
        let length = usize::try_from(u64::from_le_bytes(fields.take()?))?;
        let packed = fields.bytes(length)?;
        let records = match compression {
            b"" => packed.to_vec(),
            b"zstd" => zstd::bulk::decompress(packed, size).context("a chunk is damaged")?,
            other => bail!("a chunk is compressed by {}", String::from_utf8_lossy(other)),
        };
        ensure!(records.len() == size && crc32fast::hash(&records) == crc, "a chunk is damaged");
        Ok(Self { start, end, records })
    }

    fn has_room(&self, next: &Self) -> bool {
        next.end.saturating_sub(self.start) <= SPAN
            && self.records.len() + next.records.len() <= BYTES
    }

    fn append(&mut self, next: Self) {
        self.start = self.start.min(next.start);
        self.end = self.end.max(next.end);
        self.records.extend(next.records);
    }

    fn write(&self) -> Result<Vec<u8>> {
        let packed = zstd::bulk::compress(&self.records, LEVEL)?;
        let mut out = Vec::with_capacity(packed.len() + 64);
        out.extend(self.start.to_le_bytes());
        out.extend(self.end.to_le_bytes());
        out.extend((self.records.len() as u64).to_le_bytes());
        out.extend(crc32fast::hash(&self.records).to_le_bytes());
        let compression = b"zstd";
        out.extend((compression.len() as u32).to_le_bytes());
        out.extend(compression);
        out.extend((packed.len() as u64).to_le_bytes());
        out.extend(packed);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::workspace;

    fn chunks(file: &[u8]) -> Vec<Chunk> {
        let mut body = &file[MAGIC.len()..file.len() - MAGIC.len()];
        let mut chunks = Vec::new();
        while !body.is_empty() {
            let (opcode, content, rest) = record(body).unwrap();
            body = rest;
            if opcode == CHUNK {
                chunks.push(Chunk::read(content).unwrap());
            }
        }
        chunks
    }

    #[test]
    fn the_records_stay_and_the_file_shrinks() {
        let path = workspace::root().join("tests/fixtures/forecast/plateau.mcap");
        let file = fs::read(path).unwrap();
        let packed = repack(&file).unwrap();
        let (before, after) = (chunks(&file), chunks(&packed));
        let records = |chunks: &[Chunk]| {
            chunks.iter().flat_map(|chunk| chunk.records.clone()).collect::<Vec<_>>()
        };
        assert!(records(&before) == records(&after));
        assert!(packed.len() * 2 < file.len(), "{} of {}", packed.len(), file.len());
        assert!(after.len() < before.len() && after.iter().all(|one| one.end - one.start <= SPAN));
        assert_eq!(
            (before[0].start, before.last().unwrap().end),
            (after[0].start, after.last().unwrap().end)
        );
    }

    #[test]
    fn a_damaged_recording_is_refused() {
        let path = workspace::root().join("tests/fixtures/forecast/flood.mcap");
        let mut file = fs::read(path).unwrap();
        assert!(repack(&file[..file.len() - 1]).is_err());
        let middle = file.len() / 2;
        file[middle] ^= 1;
        assert!(repack(&file).is_err());
    }
}
