//! SHA-256 that can be put down between two blocks and taken up again, in another process if need be: what lets the hash of an
//! archive outlive the process that began it.
//!
//! The blocks are compressed by crate `sha2` (with the processor's instructions where there are some); only the padding
//! (FIPS 180-4, 5.1.1) is here, because that crate keeps its own state to itself.

use adit_shared::digest::Sha256;
use serde::{Deserialize, Serialize};
use sha2::block_api::compress256;

/// Bytes in a block of SHA-256; a hash can be put down only at multiples of it.
pub(crate) const BLOCK: u64 = 64;

/// First words of the fractional parts of the square roots of the first eight primes (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The state of a hash between two blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Saved", into = "Saved")]
pub(crate) struct Midstate {
    words: [u32; 8],
    length: u64,
}

impl Default for Midstate {
    fn default() -> Self {
        Self { words: INITIAL, length: 0 }
    }
}

impl Midstate {
    /// How many bytes were hashed.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Hashes the whole blocks of `bytes` and returns what is left, less than a block.
    pub(crate) fn absorb<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (blocks, rest) = bytes.as_chunks::<{ BLOCK as usize }>();
        compress256(&mut self.words, blocks);
        self.length += (bytes.len() - rest.len()) as u64;
        rest
    }

    /// Hashes the last `bytes`, pads, and gives the digest.
    pub(crate) fn finish(mut self, bytes: &[u8]) -> Sha256 {
        let rest = self.absorb(bytes);
        let bits = (self.length + rest.len() as u64).wrapping_mul(8);
        let mut tail = [0; 128];
        tail[..rest.len()].copy_from_slice(rest);
        tail[rest.len()] = 0x80;
        // The bit 1 and the 64-bit length must find room behind the rest.
        let end = if rest.len() < 56 { 64 } else { 128 };
        tail[end - 8..end].copy_from_slice(&bits.to_be_bytes());
        self.absorb(&tail[..end]);
        Sha256(state_bytes(&self.words))
    }
}

fn state_bytes(words: &[u32; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (chunk, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *chunk = word.to_be_bytes();
    }
    bytes
}

/// The written form of a [`Midstate`].
#[derive(Serialize, Deserialize)]
struct Saved {
    length: u64,
    state: Sha256,
}

impl From<Midstate> for Saved {
    fn from(midstate: Midstate) -> Self {
        Self { length: midstate.length, state: Sha256(state_bytes(&midstate.words)) }
    }
}

impl TryFrom<Saved> for Midstate {
    type Error = String;

    fn try_from(saved: Saved) -> Result<Self, String> {
        if !saved.length.is_multiple_of(BLOCK) {
            return Err(format!("a SHA-256 state after {} bytes is not between two blocks", saved.length));
        }
        let mut words = [0; 8];
        for (word, chunk) in words.iter_mut().zip(saved.state.0.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*chunk);
        }
        Ok(Self { words, length: saved.length })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_length_around_the_padding_is_hashed_as_sha2_does() {
        for length in 0..300 {
            let bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
            assert_eq!(Midstate::default().finish(&bytes), Sha256::of(&bytes), "{length} bytes");
        }
    }

    #[test]
    fn a_state_inside_a_block_is_refused() {
        let text = format!(r#"{{"length": 65, "state": "{}"}}"#, Sha256::of(b""));
        assert!(serde_json::from_str::<Midstate>(&text).is_err());
    }

    proptest! {
        #[test]
        fn a_hash_goes_on_from_its_written_state(blocks in 0..40_usize, bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let cut = (blocks * 64).min(bytes.len() / 64 * 64);
            let mut midstate = Midstate::default();
            prop_assert!(midstate.absorb(&bytes[..cut]).is_empty());
            let written = serde_json::to_string(&midstate).unwrap();
            let read: Midstate = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(read.length(), cut as u64);
            prop_assert_eq!(read.finish(&bytes[cut..]), Sha256::of(&bytes));
        }
    }
}
