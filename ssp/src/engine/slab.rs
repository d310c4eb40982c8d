//! `Slab`: values under small numbers that are used again. Values lie in chunks, so that growing moves
//! nothing, and a chunk whose values are all gone is given back.

use std::collections::BTreeSet;

/// Values in a chunk.
const CHUNK: u32 = 1024;

/// Values by number.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// Chunks with a place that is free.
    roomy: BTreeSet<u32>,
    len: usize,
}

/// [`CHUNK`] numbers in a row.
#[derive(Debug)]
struct Chunk<T> {
    /// Not longer than was needed so far.
    slots: Vec<Option<T>>,
    free: Vec<u16>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), roomy: BTreeSet::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    /// Keeps a value and returns its number.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let number = self.roomy.first().copied().unwrap_or_else(|| {
            let number = u32::try_from(self.chunks.len()).expect("fewer than 2^32 values");
            self.chunks.push(Chunk { slots: Vec::new(), free: Vec::new() });
            self.roomy.insert(number);
            number
        });
        let chunk = &mut self.chunks[number as usize];
        let place = match chunk.free.pop() {
            Some(place) => {
                chunk.slots[usize::from(place)] = Some(value);
                u32::from(place)
            }
            None => {
                chunk.slots.push(Some(value));
                u32::try_from(chunk.slots.len() - 1).expect("a chunk is short")
            }
        };
        if chunk.free.is_empty() && chunk.slots.len() == CHUNK as usize {
            self.roomy.remove(&number);
        }
        self.len += 1;
        number.checked_mul(CHUNK).and_then(|first| first.checked_add(place)).expect("2^32 values")
    }

    /// Gives a value up.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let chunk = self.chunks.get_mut((number / CHUNK) as usize)?;
        let value = chunk.slots.get_mut((number % CHUNK) as usize)?.take()?;
        chunk.free.push(u16::try_from(number % CHUNK).expect("a chunk is short"));
        self.roomy.insert(number / CHUNK);
        if chunk.free.len() == chunk.slots.len() {
            *chunk = Chunk { slots: Vec::new(), free: Vec::new() };
            while self.chunks.last().is_some_and(|last| last.slots.is_empty()) {
                self.chunks.pop();
                self.roomy.pop_last();
            }
        }
        self.len -= 1;
        Some(value)
    }

    /// A value that is known to be kept.
    pub(crate) fn at(&self, number: u32) -> &T {
        self.get(number).expect("only numbers of kept values are held")
    }

    /// A value that is known to be kept.
    pub(crate) fn at_mut(&mut self, number: u32) -> &mut T {
        let chunk = &mut self.chunks[(number / CHUNK) as usize];
        let slot = chunk.slots[(number % CHUNK) as usize].as_mut();
        slot.expect("only numbers of kept values are held")
    }

    /// Whether a number is in use.
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.get(number).is_some()
    }

    /// Every value with its number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.chunks.iter().zip((0..).step_by(CHUNK as usize)).flat_map(|(chunk, first)| {
            let numbered = chunk.slots.iter().zip(first..);
            numbered.filter_map(|(slot, number)| Some((number, slot.as_ref()?)))
        })
    }

    /// How many values are kept.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn get(&self, number: u32) -> Option<&T> {
        let chunk = self.chunks.get((number / CHUNK) as usize)?;
        chunk.slots.get((number % CHUNK) as usize)?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_empty_chunks_are_given_back() {
        let mut slab = Slab::default();
        let numbers: Vec<u32> = (0..5 * CHUNK).map(|value| slab.insert(value)).collect();
        for number in &numbers[10..] {
            assert!(slab.remove(*number).is_some());
        }
        assert_eq!((slab.len(), slab.chunks.len()), (10, 1));
        assert_eq!(slab.remove(numbers[20]), None);
        let again: BTreeSet<u32> = (0..3 * CHUNK).map(|value| slab.insert(value)).collect();
        assert!(again.iter().all(|number| *number >= 10 && *number < 3 * CHUNK + 10));
        assert_eq!(slab.iter().count(), slab.len());
        assert!(numbers[..10].iter().all(|number| *slab.at(*number) == *number));
    }
}
