//! The journal's bytes: [`MAGIC`], then records of length, CRC-32 and payload; integers are little-endian.
//!
//! A payload is one or more changes, each a tag byte and its fields. A record that is cut short, or whose checksum does
//! not fit, ends the journal: it and what follows it were never confirmed to anybody.

use std::collections::BTreeMap;
use std::io::{self, Read};
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
    /// It does not begin as a journal does; nothing was read.
    pub foreign: bool,
}

/// Reads a journal to its end, or to the first record that is not whole.
pub(super) fn replay(mut input: impl Read) -> io::Result<Replay> {
    let mut replay = Replay::default();
    let mut magic = Vec::new();
    input.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic)?;
    if magic != MAGIC {
        replay.foreign = !MAGIC.starts_with(&magic);
        replay.cut = magic.len() as u64;
        return Ok(replay);
    }
    loop {
        let mut head = Vec::with_capacity(8);
        input.by_ref().take(8).read_to_end(&mut head)?;
        let mut payload = Vec::new();
        let whole = match Fields(&head).head() {
            Some((length, crc)) => {
                input.by_ref().take(length.into()).read_to_end(&mut payload)?;
                payload.len() == length as usize
                    && crc32fast::hash(&payload) == crc
                    && replay.record(&payload).is_some()
            }
            None => false,
        };
        if !whole {
            replay.cut = (head.len() + payload.len()) as u64 + io::copy(&mut input, &mut io::sink())?;
            return Ok(replay);
        }
    }
}

impl Replay {
    /// Applies one record; `None`, with nothing applied, if it makes no sense.
    fn record(&mut self, payload: &[u8]) -> Option<()> {
        let mut fields = Fields(payload);
        let mut changes = Vec::new();
        while !fields.0.is_empty() {
            changes.push(fields.change()?);
        }
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
        Some(())
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
