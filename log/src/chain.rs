//! The audit chain: one hash that stands for every record up to and with a seq.
//!
//! The chain hash of seq n is `BLAKE3(chain hash of n - 1, BLAKE3(record n))`, and that of seq 0 is zeros.
//! It says nothing of frames, segments or the log's id, so that two logs with the same records have the
//! same hashes however they were appended. Of the two hashes of a record, the caller of an append
//! computes the one that grows with the record; the writer is left with one block of 64 bytes.

use std::fmt;
use std::str::FromStr;

use crate::seq::Seq;

/// Bytes of a [`ChainHash`].
pub const CHAIN_BYTES: usize = 32;

/// The chain hash of a seq.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ChainHash(pub [u8; CHAIN_BYTES]);

/// The hash of one record's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHash([u8; CHAIN_BYTES]);

impl RecordHash {
    /// Of a record as the log holds it.
    #[must_use]
    pub fn of(record: &[u8]) -> Self {
        Self(*blake3::hash(record).as_bytes())
    }
}

impl ChainHash {
    /// Of seq 0, before the first record.
    pub const START: Self = Self([0; CHAIN_BYTES]);

    /// The hash after one more record.
    #[must_use]
    pub fn then(self, record: RecordHash) -> Self {
        let mut link = [0; 2 * CHAIN_BYTES];
        link[..CHAIN_BYTES].copy_from_slice(&self.0);
        link[CHAIN_BYTES..].copy_from_slice(&record.0);
        Self(*blake3::hash(&link).as_bytes())
    }

    /// Reads the 64 hex digits that `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes()))
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainHash({self})")
    }
}

/// What someone outside of the log noted of it: at `seq` its chain hash was `hash`. Whoever changes a
/// record up to there, however well they mend the checksums, cannot meet it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Up to and with which record.
    pub seq: Seq,
    /// The chain hash there.
    pub hash: ChainHash,
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for Anchor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(seq, hash)| {
            Some(Self { seq: Seq(seq.parse().ok()?), hash: ChainHash::parse(hash)? })
        });
        parsed.ok_or_else(|| format!("{text:?} is not SEQ:HASH with 64 hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_reads_back_as_it_was_printed() {
        let hash = ChainHash::START.then(RecordHash::of(b"record"));
        let anchor = Anchor { seq: Seq(7), hash };
        assert_eq!(anchor.to_string().parse(), Ok(anchor));
        for bad in ["", "7", "7:", "x:00", &format!("7:{hash}0"), &format!(":{hash}")] {
            assert!(bad.parse::<Anchor>().is_err(), "{bad}");
        }
    }
}
