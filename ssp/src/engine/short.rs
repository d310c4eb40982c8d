//! `Short`: bytes of fixed length, mostly few. Those lie where the value lies: to follow a pointer to them
//! costs a cache miss on every lookup.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// So many lie inside. With them the value takes 32 bytes, half a cache line; the encodings of usual texts and
/// of links to rows with generated keys are not longer.
const INSIDE: usize = 30;

/// Bytes that compare and hash as the slice does.
#[derive(Clone)]
pub(crate) enum Short {
    Inside { len: u8, bytes: [u8; INSIDE] },
    Outside(Box<[u8]>),
}

const _: () = assert!(size_of::<Short>() == 32 && INSIDE <= u8::MAX as usize);

impl From<&[u8]> for Short {
    fn from(from: &[u8]) -> Self {
        let Some(len) = u8::try_from(from.len()).ok().filter(|_| from.len() <= INSIDE) else {
            return Self::Outside(from.into());
        };
        let mut bytes = [0; INSIDE];
        bytes[..from.len()].copy_from_slice(from);
        Self::Inside { len, bytes }
    }
}

impl Deref for Short {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Inside { len, bytes } => &bytes[..usize::from(*len)],
            Self::Outside(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Short {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Short {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Short {}

impl Hash for Short {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl std::fmt::Debug for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_every_length_come_back_and_are_found_by_their_slice() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let mut known = hashbrown::HashMap::new();
        for len in 0..=all.len() {
            let short = Short::from(&all[..len]);
            assert_eq!(*short, all[..len]);
            assert_eq!(matches!(short, Short::Inside { .. }), len <= INSIDE);
            known.insert(short, len);
        }
        assert!((0..=all.len()).all(|len| known.get(&all[..len]) == Some(&len)));
    }
}
