//! The kernel's type information (BTF): which functions there are, and where a structure has its
//! members. Pure: bytes in, answers out.
//!
//! Format: Documentation/bpf/btf.rst in the kernel. A module's BTF ("split") continues the ids and
//! the strings of vmlinux, its base.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What is wrong with BTF, or what it does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BtfError {
    /// The data ends inside what it announces.
    #[error("BTF is cut off: {what} needs bytes {start}..{end}, but there are {have}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// First byte of it.
        start: usize,
        /// One past its last byte.
        end: usize,
        /// Bytes there are.
        have: usize,
    },
    /// The data is not BTF of this machine.
    #[error("not BTF: {0}")]
    Malformed(String),
    /// No structure of that name.
    #[error("BTF has no structure `{0}`")]
    NoStruct(String),
    /// The structure has no such member.
    #[error("structure `{structure}` has no member `{member}`")]
    NoMember {
        /// The structure's name.
        structure: String,
        /// The member path asked for.
        member: String,
    },
    /// Types of one name differ in what was asked.
    #[error("BTF holds several `{name}` that disagree on `{member}`: {answers}")]
    Ambiguous {
        /// The name they share.
        name: String,
        /// What was asked.
        member: String,
        /// The different answers.
        answers: String,
    },
}

type Result<T, E = BtfError> = std::result::Result<T, E>;

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;

/// Kinds of types (`BTF_KIND_*`, include/uapi/linux/btf.h) that are looked into.
pub(super) mod kind {
    pub(in super::super) const INT: u32 = 1;
    pub(in super::super) const PTR: u32 = 2;
    pub(in super::super) const ARRAY: u32 = 3;
    pub(in super::super) const STRUCT: u32 = 4;
    pub(in super::super) const UNION: u32 = 5;
    pub(in super::super) const ENUM: u32 = 6;
    pub(in super::super) const TYPEDEF: u32 = 8;
    pub(in super::super) const VOLATILE: u32 = 9;
    pub(in super::super) const CONST: u32 = 10;
    pub(in super::super) const RESTRICT: u32 = 11;
    pub(in super::super) const FUNC: u32 = 12;
    pub(in super::super) const FUNC_PROTO: u32 = 13;
    pub(in super::super) const FLOAT: u32 = 16;
    pub(in super::super) const TYPE_TAG: u32 = 18;
    pub(in super::super) const ENUM64: u32 = 19;
}

/// Bytes that follow the 12 bytes of a type: so many, plus so many for each of its `vlen` parts.
fn extra_bytes(kind: u32) -> Option<(usize, usize)> {
    Some(match kind {
        1 | 14 | 17 => (4, 0),
        3 => (12, 0),
        4 | 5 | 15 | 19 => (0, 12),
        6 | 13 => (0, 8),
        2 | 7..=12 | 16 | 18 => (0, 0),
        _ => return None,
    })
}

/// The types of vmlinux, or those of a module on top of vmlinux'.
#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    /// Offset of each type in `data`; the first one has the id `first_id`.
    types: Vec<u32>,
    strings: std::ops::Range<usize>,
    first_id: u32,
    /// Length of the base's strings, which this one's offsets continue.
    first_string: usize,
    base: Option<Arc<Btf>>,
}

/// Where a member lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the structure.
    pub offset: u32,
    /// Bytes it takes.
    pub size: u32,
}

/// A function's id and number of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// The id that `attach_btf_id` takes.
    pub id: u32,
    /// Number of parameters.
    pub parameters: u32,
}

/// A type as it lies in the data.
#[derive(Clone, Copy)]
struct Type<'a> {
    owner: &'a Btf,
    offset: usize,
}

impl<'a> Type<'a> {
    fn word(self, index: usize) -> u32 {
        self.owner.word(self.offset + 4 * index)
    }

    fn name(self) -> &'a [u8] {
        self.owner.string(self.word(0))
    }

    fn kind(self) -> u32 {
        self.word(1) >> 24 & 0x1f
    }

    fn vlen(self) -> usize {
        (self.word(1) & 0xffff) as usize
    }

    /// The offsets of members hold a bit field's width in their upper byte.
    fn kind_flag(self) -> bool {
        self.word(1) >> 31 == 1
    }

    fn size_or_type(self) -> u32 {
        self.word(2)
    }

    fn is_composite(self) -> bool {
        matches!(self.kind(), kind::STRUCT | kind::UNION)
    }

    /// Name, type and offset in bytes of each member. Bit fields are left out: nothing here needs
    /// one, and they have no offset in bytes.
    fn members(self) -> impl Iterator<Item = (&'a [u8], u32, u32)> {
        (0..self.vlen()).filter_map(move |i| {
            let at = 3 + 3 * i;
            let (name, of, bits) = (self.word(at), self.word(at + 1), self.word(at + 2));
            let width = if self.kind_flag() { bits >> 24 } else { 0 };
            let bits = if self.kind_flag() { bits & 0xff_ffff } else { bits };
            (width == 0 && bits % 8 == 0).then(|| (self.owner.string(name), of, bits / 8))
        })
    }
}

impl Btf {
    /// Parses the BTF of vmlinux (`/sys/kernel/btf/vmlinux`).
    ///
    /// # Errors
    /// [`BtfError::Truncated`] and [`BtfError::Malformed`].
    pub fn parse(data: Vec<u8>) -> Result<Self> {
        Self::parse_onto(data, None)
    }

    /// Parses a module's BTF (`/sys/kernel/btf/MODULE`), which continues `base`.
    ///
    /// # Errors
    /// [`BtfError::Truncated`] and [`BtfError::Malformed`].
    pub fn parse_split(data: Vec<u8>, base: Arc<Self>) -> Result<Self> {
        Self::parse_onto(data, Some(base))
    }

    fn parse_onto(data: Vec<u8>, base: Option<Arc<Self>>) -> Result<Self> {
        need(&data, "header", 0, HEADER_LEN)?;
        let word = |at: usize| read_u32(&data, at) as usize;
        let magic = u16::from_ne_bytes([data[0], data[1]]);
        if magic == MAGIC.swap_bytes() {
            return Err(BtfError::Malformed("it has the other byte order".into()));
        }
        if magic != MAGIC {
            return Err(BtfError::Malformed(format!(
                "it begins with {magic:#06x}, not {MAGIC:#06x}"
            )));
        }
        let header_len = word(4);
        let section = |what, offset: usize, len: usize| {
            let start = header_len.saturating_add(offset);
            need(&data, what, start, len).map(|end| start..end)
        };
        let type_data = section("types", word(8), word(12))?;
        let strings = section("strings", word(16), word(20))?;

        // Id 0 is `void` and has no record.
        let first_id = base.as_ref().map_or(1, |base| base.end_id());
        let first_string = base.as_ref().map_or(0, |base| base.first_string + base.strings.len());
        let mut types = Vec::new();
        let mut at = type_data.start;
        while at < type_data.end {
            let info_end = need(&data[..type_data.end], "type", at, 12)?;
            let info = read_u32(&data, at + 4);
            let kind = info >> 24 & 0x1f;
            let (fixed, each) = extra_bytes(kind).ok_or_else(|| {
                BtfError::Malformed(format!("type at byte {at} is of the unknown kind {kind}"))
            })?;
            let extra = fixed + each * (info & 0xffff) as usize;
            let next = need(&data[..type_data.end], "type", info_end, extra)?;
            types.push(at as u32);
            at = next;
        }
        Ok(Self { data, types, strings, first_id, first_string, base })
    }

    /// One more than the highest id.
    fn end_id(&self) -> u32 {
        self.first_id + self.types.len() as u32
    }

    /// The word at `at`, which parsing has found to be inside the data.
    fn word(&self, at: usize) -> u32 {
        read_u32(&self.data, at)
    }

    /// The string at `offset`, without its end; empty when there is none.
    fn string(&self, offset: u32) -> &[u8] {
        let offset = offset as usize;
        match &self.base {
            Some(base) if offset < self.first_string => base.string(offset as u32),
            _ => {
                let all = &self.data[self.strings.clone()];
                let rest = all.get(offset - self.first_string..).unwrap_or_default();
                rest.split(|byte| *byte == 0).next().unwrap_or_default()
            }
        }
    }

    fn by_id(&self, id: u32) -> Option<Type<'_>> {
        if id < self.first_id {
            return self.base.as_ref()?.by_id(id);
        }
        let offset = *self.types.get((id - self.first_id) as usize)? as usize;
        Some(Type { owner: self, offset })
    }

    /// The types of this BTF and of its base, with their ids.
    fn all(&self) -> impl Iterator<Item = (u32, Type<'_>)> {
        (1..self.end_id()).filter_map(|id| Some((id, self.by_id(id)?)))
    }

    /// The function `name` of this BTF; functions of the base are asked of the base.
    ///
    /// # Errors
    /// [`BtfError::Ambiguous`] where two functions of that name take a different number of
    /// parameters.
    pub fn function(&self, name: &str) -> Result<Option<Function>> {
        let mut found: Option<Function> = None;
        for id in self.first_id..self.end_id() {
            let Some(function) = self.by_id(id) else {
                continue;
            };
            if function.kind() != kind::FUNC || function.name() != name.as_bytes() {
                continue;
            }
            let proto =
                self.by_id(function.size_or_type()).filter(|t| t.kind() == kind::FUNC_PROTO);
            let Some(proto) = proto else { continue };
            let parameters = proto.vlen() as u32;
            match found {
                Some(first) if first.parameters != parameters => {
                    return Err(BtfError::Ambiguous {
                        name: name.into(),
                        member: "number of parameters".into(),
                        answers: format!("{} and {parameters}", first.parameters),
                    });
                }
                Some(_) => {}
                None => found = Some(Function { id, parameters }),
            }
        }
        Ok(found)
    }

    /// Where `path` lies in the structure `structure`: member names joined by dots, `[N]` behind the
    /// name of an array. Members of anonymous structures and unions are found as C finds them.
    ///
    /// # Errors
    /// [`BtfError::NoStruct`], [`BtfError::NoMember`], and [`BtfError::Ambiguous`] when structures of
    /// this name (a module can bring its own copy) give different answers.
    pub fn member(&self, structure: &str, path: &str) -> Result<Member> {
        let mut answers: Vec<Option<Member>> = Vec::new();
        for (_, ty) in self.all() {
            if ty.kind() == kind::STRUCT && ty.name() == structure.as_bytes() {
                let answer = self.walk(ty, path);
                if !answers.contains(&answer) {
                    answers.push(answer);
                }
            }
        }
        match answers[..] {
            [] => Err(BtfError::NoStruct(structure.into())),
            [Some(member)] => Ok(member),
            [None] => Err(BtfError::NoMember { structure: structure.into(), member: path.into() }),
            _ => Err(BtfError::Ambiguous {
                name: structure.into(),
                member: path.into(),
                answers: format!("{answers:?}"),
            }),
        }
    }

    fn walk(&self, start: Type<'_>, path: &str) -> Option<Member> {
        let mut ty = start;
        let mut offset = 0;
        let mut size = 0;
        for step in path.split('.') {
            let (name, index) = match step.split_once('[') {
                Some((name, index)) => (name, index.strip_suffix(']')?.parse::<u32>().ok()?),
                None => (step, 0),
            };
            let (of, at) = self.find(ty, name.as_bytes(), 0)?;
            offset += at;
            ty = self.resolve(of)?;
            if ty.kind() == kind::ARRAY && step.contains('[') {
                if index >= ty.word(5) {
                    return None;
                }
                let element = self.resolve(ty.word(3))?;
                offset += index.checked_mul(self.size(element, 0)?)?;
                ty = element;
            }
            size = self.size(ty, 0)?;
        }
        Some(Member { offset, size })
    }

    /// The type and offset of the member `name`, also inside anonymous members.
    fn find(&self, ty: Type<'_>, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        if !ty.is_composite() || depth > MAX_DEPTH {
            return None;
        }
        ty.members().find_map(|(member, of, offset)| {
            if member == name {
                return Some((of, offset));
            }
            if !member.is_empty() {
                return None;
            }
            let (of, inner) = self.find(self.resolve(of)?, name, depth + 1)?;
            Some((of, offset + inner))
        })
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<Type<'_>> {
        for _ in 0..MAX_DEPTH {
            let ty = self.by_id(id)?;
            match ty.kind() {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = ty.size_or_type()
                }
                _ => return Some(ty),
            }
        }
        None
    }

    fn size(&self, ty: Type<'_>, depth: u32) -> Option<u32> {
        match ty.kind() {
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::FLOAT | kind::ENUM64 => {
                Some(ty.size_or_type())
            }
            kind::PTR => Some(size_of::<usize>() as u32),
            kind::ARRAY if depth < MAX_DEPTH => {
                self.size(self.resolve(ty.word(3))?, depth + 1)?.checked_mul(ty.word(5))
            }
            _ => None,
        }
    }
}

/// Types nested deeper than this are a cycle in damaged data.
const MAX_DEPTH: u32 = 32;

/// The end of the `len` bytes from `start` on, if `data` has them.
fn need(data: &[u8], what: &'static str, start: usize, len: usize) -> Result<usize> {
    let end = start.saturating_add(len);
    if end > data.len() {
        return Err(BtfError::Truncated { what, start, end, have: data.len() });
    }
    Ok(end)
}

fn read_u32(data: &[u8], at: usize) -> u32 {
    match data.get(at..).and_then(<[u8]>::first_chunk) {
        Some(bytes) => u32::from_ne_bytes(*bytes),
        None => 0,
    }
}

#[cfg(test)]
#[path = "btf_fixture.rs"]
pub(super) mod fixture;

#[cfg(test)]
#[path = "btf_tests.rs"]
mod tests;
