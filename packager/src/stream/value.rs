//! Values that are too large for memory: compressed into a temporary file as they come, and read again from there.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write};

use zstd::stream::{read, write};

/// A value of more bytes goes through a temporary file.
pub(super) const LARGE: u64 = 4 << 20;

/// A value that is being written.
pub(super) struct Spool {
    encoder: write::Encoder<'static, File>,
    room: u64,
    length: u64,
}

impl Spool {
    /// A value in a new file, compressed at that level, with room for so many bytes before it. Its length can be told beforehand.
    pub(super) fn new(room: u64, level: i32, length: Option<u64>) -> io::Result<Self> {
        let mut file = tempfile::tempfile()?;
        file.seek(SeekFrom::Start(room))?;
        let mut encoder = write::Encoder::new(file, level)?;
        encoder.set_pledged_src_size(length)?;
        Ok(Self { encoder, room, length: 0 })
    }

    /// Ends the value.
    pub(super) fn finish(self) -> io::Result<Spooled> {
        let mut file = self.encoder.finish()?;
        let compressed = file.stream_position()? - self.room;
        Ok(Spooled { file, room: self.room, length: self.length, compressed })
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.encoder.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A value that was written.
pub(super) struct Spooled {
    /// One zstd frame, behind the room before it.
    pub(super) file: File,
    room: u64,
    /// Length of the value in bytes.
    pub(super) length: u64,
    /// Length of the frame in bytes.
    pub(super) compressed: u64,
}

impl Spooled {
    /// Reads the value from its beginning.
    pub(super) fn open(&self) -> io::Result<impl Read + use<>> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(self.room))?;
        read::Decoder::with_buffer(BufReader::new(file))
    }
}

/// A reader of which everything that is read goes into a spool too.
pub(super) struct Tee<'a> {
    pub(super) reader: &'a mut dyn Read,
    pub(super) spool: &'a mut Spool,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.spool.write_all(&buffer[..read])?;
        Ok(read)
    }
}

/// Reads a value of `size` bytes, which is not too large, into memory.
pub(super) fn small(reader: &mut dyn Read, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?);
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}
