//! The journal's bytes: [`MAGIC`], then records of length, CRC-32 and payload; integers are little-endian.
//!
//! A payload is one or more changes, each a tag byte and its fields. A record that is cut short at the end of the journal
//! was never confirmed to anybody. A record in the middle whose checksum does not fit is damaged: those behind it are read
//! where it is certain that they are records, see [`next_record`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::super::message::{Change, Message, Stored};

/// Opens the file; its last character is the format's version.
pub(super) const MAGIC: &[u8; 8] = b"ADITBRK1";

const ENQUEUED: u8 = 1;
const DELIVERED: u8 = 2;
const DONE: u8 = 3;

/// No record is larger: a length beyond it is no length.
const MAX_RECORD: u32 = 1 << 30;

/// Appends one record.
pub(super) fn encode(changes: &[Change], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    for change in changes {
        match change {
            Change::Enqueued(stored) => encode_stored(stored, out),
            Change::Delivered(id) => put_id(DELIVERED, *id, out),
            Change::Done(id) => put_id(DONE, *id, out),
        }
    }
    let payload = &out[start + 8..];
    let (length, crc) = (len32(payload.len()), crc32fast::hash(payload));
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

fn encode_stored(stored: &Stored, out: &mut Vec<u8>) {
    let Message { headers, body, expires, .. } = &*stored.message;
    put_id(ENQUEUED, stored.id, out);
    out.extend_from_slice(&stored.deliveries.to_le_bytes());
    out.extend_from_slice(&expires.unwrap_or(i64::MAX).to_le_bytes());
    put_bytes(stored.queue.as_bytes(), out);
    out.extend_from_slice(&len32(headers.len()).to_le_bytes());
    for (name, value) in headers {
        put_bytes(name.as_bytes(), out);
        put_bytes(value.as_bytes(), out);
    }
    put_bytes(body, out);
}

fn put_id(tag: u8, id: u64, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&id.to_le_bytes());
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&len32(bytes.len()).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Lengths fit: a frame's limit lies far below 4 GiB. If one did not, the record would read as torn.
fn len32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// What a journal says.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The messages that are not done, by id.
    pub messages: BTreeMap<u64, Stored>,
    /// Bytes of the torn end.
    pub cut: u64,
    /// Bytes that are neither records nor a torn end: what they said is lost.
    pub damaged: u64,
    /// It does not begin as a journal does; nothing was read.
    pub foreign: bool,
}

/// Reads a journal to its end, or to the first place behind which nothing is certain.
pub(super) fn replay(journal: &[u8]) -> Replay {
    let mut replay = Replay::default();
    let Some(mut rest) = journal.strip_prefix(MAGIC) else {
        let start = &journal[..journal.len().min(MAGIC.len())];
        return Replay { foreign: !MAGIC.starts_with(start), cut: start.len() as u64, ..replay };
    };
    while !rest.is_empty() {
        if let Some((changes, behind)) = read_record(rest) {
            replay.apply(changes);
            rest = behind;
            continue;
        }
        match next_record(rest) {
            Next::Record(behind) => {
                replay.damaged += (rest.len() - behind.len()) as u64;
                rest = behind;
            }
            Next::Uncertain => {
                replay.damaged += rest.len() as u64;
                break;
            }
            Next::TornEnd => {
                replay.cut = rest.len() as u64;
                break;
            }
        }
    }
    replay
}

/// Reads the record at the beginning; gives its changes and what follows, `None` if it is not whole or makes no sense.
fn read_record(bytes: &[u8]) -> Option<(Vec<Change>, &[u8])> {
    let (length, crc) = Fields(bytes).head()?;
    let (payload, behind) = bytes.get(8..)?.split_at_checked(length as usize)?;
    // Most of what is no record is known by its first byte, before a long checksum is computed.
    let begins_well = matches!(payload.first(), Some(&(ENQUEUED | DELIVERED | DONE)));
    if !begins_well || crc32fast::hash(payload) != crc {
        return None;
    }
    let mut fields = Fields(payload);
    let mut changes = Vec::new();
    while !fields.0.is_empty() {
        changes.push(fields.change()?);
    }
    Some((changes, behind))
}

/// What follows a place where no record begins.
enum Next<'a> {
    /// Records, up to the end.
    Record(&'a [u8]),
    /// More, of which nobody can say where its records begin.
    Uncertain,
    /// Nothing: the last record was not written to its end.
    TornEnd,
}

/// Finds the first record behind a damaged one. Where the damaged one tells its length, that says where it ends. Where its
/// head is damaged too, a message's body could hold bytes that look like a record: so only a place counts from which
/// record follows record exactly to the end of the journal.
fn next_record(bytes: &[u8]) -> Next<'_> {
    let told = Fields(bytes).head().and_then(|(length, _)| bytes.get(8 + length as usize..));
    if let Some(behind) = told
        && (behind.is_empty() || read_record(behind).is_some())
    {
        return Next::Record(behind);
    }
    let mut has_records = false;
    let at = (1..bytes.len()).find(|&at| {
        let Some((_, mut behind)) = read_record(&bytes[at..]) else { return false };
        has_records = true;
        while let Some((_, next)) = read_record(behind) {
            behind = next;
        }
        behind.is_empty()
    });
    let is_cut = bytes.len() < 8 || Fields(bytes).head().is_some_and(|(length, _)| bytes.len() - 8 < length as usize);
    match at {
        Some(at) => Next::Record(&bytes[at..]),
        None if is_cut && !has_records => Next::TornEnd,
        None => Next::Uncertain,
    }
}

impl Replay {
    /// Applies the changes of one record.
    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Enqueued(stored) => drop(self.messages.insert(stored.id, stored)),
                Change::Done(id) => drop(self.messages.remove(&id)),
                Change::Delivered(id) => {
                    if let Some(stored) = self.messages.get_mut(&id) {
                        stored.deliveries = stored.deliveries.saturating_add(1);
                    }
                }
            }
        }
    }
}

/// The rest of a record.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn head(mut self) -> Option<(u32, u32)> {
        let (length, crc) = (self.u32()?, self.u32()?);
        (1..=MAX_RECORD).contains(&length).then_some((length, crc))
    }

    fn change(&mut self) -> Option<Change> {
        let [tag] = self.array()?;
        let id = u64::from_le_bytes(self.array()?);
        match tag {
            ENQUEUED => self.stored(id).map(Change::Enqueued),
            DELIVERED => Some(Change::Delivered(id)),
            DONE => Some(Change::Done(id)),
            _ => None,
        }
    }

    fn stored(&mut self, id: u64) -> Option<Stored> {
        let deliveries = self.u32()?;
        let expires = i64::from_le_bytes(self.array()?);
        let queue = self.text()?.into();
        let mut headers = Vec::new();
        for _ in 0..self.u32()? {
            headers.push((self.text()?.to_owned(), self.text()?.to_owned()));
        }
        let body = Bytes::copy_from_slice(self.bytes()?);
        let expires = (expires != i64::MAX).then_some(expires);
        Some(Stored { id, deliveries, queue, message: Arc::new(Message { headers, body, persistent: true, expires }) })
    }
}
