//! `Pages`: the bytes of a file in pages that its copies share until one of them is written. To keep a disk as it
//! was costs only what changes of it.

use std::sync::Arc;

/// Bytes of a page.
const PAGE: usize = 4096;

/// Bytes that are cheap to clone. What a page has beyond their end is 0.
#[derive(Clone, Default)]
pub(super) struct Pages {
    pages: Vec<Arc<[u8; PAGE]>>,
    len: usize,
}

impl Pages {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Cuts them, or adds zeros.
    pub(super) fn resize(&mut self, len: usize) {
        let zeros = Arc::new([0; PAGE]);
        self.pages.resize(len.div_ceil(PAGE), zeros);
        if len < self.len
            && let Some(last) = self.pages.last_mut().filter(|_| !len.is_multiple_of(PAGE))
        {
            Arc::make_mut(last)[len % PAGE..].fill(0);
        }
        self.len = len;
    }

    /// Puts `bytes` where others are, or behind them, with zeros between.
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        if at + bytes.len() > self.len {
            self.resize(at + bytes.len());
        }
        let mut left = bytes;
        while !left.is_empty() {
            let start = at + bytes.len() - left.len();
            let (part, rest) = left.split_at(left.len().min(PAGE - start % PAGE));
            let page = Arc::make_mut(&mut self.pages[start / PAGE]);
            page[start % PAGE..][..part.len()].copy_from_slice(part);
            left = rest;
        }
    }

    /// Fills `buffer` from `at` on, as far as there is something, and says how far.
    pub(super) fn read(&self, at: usize, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.len.saturating_sub(at));
        let mut left = &mut buffer[..count];
        while !left.is_empty() {
            let start = at + count - left.len();
            let (part, rest) = left.split_at_mut(left.len().min(PAGE - start % PAGE));
            part.copy_from_slice(&self.pages[start / PAGE][start % PAGE..][..part.len()]);
            left = rest;
        }
        count
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read(0, &mut bytes);
        bytes
    }
}

impl From<&[u8]> for Pages {
    fn from(bytes: &[u8]) -> Self {
        let mut pages = Self::default();
        pages.write(0, bytes);
        pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sim::Dice;

    #[test]
    fn pages_hold_what_a_vector_holds_and_copies_do_not_see_what_is_written_later() {
        let most = 3 * PAGE as u64;
        for seed in 1..200 {
            let mut dice = Dice::new(seed);
            let mut below = |bound: u64| usize::try_from(dice.below(bound)).unwrap();
            let (mut pages, mut model) = (Pages::default(), Vec::new());
            let mut copies = Vec::new();
            for step in 1..30 {
                let (at, len) = (below(most), below(most));
                if below(4) == 0 {
                    pages.resize(len);
                    model.resize(len, 0);
                } else {
                    pages.write(at, &vec![step; len]);
                    model.resize(model.len().max(at + len), 0);
                    model[at..at + len].fill(step);
                }
                let mut some = vec![0; len];
                let count = pages.read(at, &mut some);
                let wanted = model.iter().skip(at).take(len).copied();
                assert!(some[..count].iter().copied().eq(wanted), "seed {seed}");
                copies.push((pages.clone(), model.clone()));
            }
            for (pages, model) in copies {
                assert!(pages.to_vec() == model && pages.len() == model.len(), "seed {seed}");
            }
        }
    }
}
