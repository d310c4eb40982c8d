//! `Slab`: values under small numbers that are used again.

/// Values by number.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Keeps a value and returns its number.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self.slots[number as usize] = Some(value);
            return number;
        }
        self.slots.push(Some(value));
        u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 values")
    }

    /// Gives a value up.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.slots.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(value)
    }

    /// A value that is known to be kept.
    pub(crate) fn at(&self, number: u32) -> &T {
        self.slots[number as usize].as_ref().expect("only numbers of kept values are held")
    }

    /// A value that is known to be kept.
    pub(crate) fn at_mut(&mut self, number: u32) -> &mut T {
        self.slots[number as usize].as_mut().expect("only numbers of kept values are held")
    }

    /// Whether a number is in use.
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.slots.get(number as usize).is_some_and(Option::is_some)
    }

    /// Every value with its number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let numbered = self.slots.iter().enumerate();
        numbered.filter_map(|(number, slot)| Some((u32::try_from(number).ok()?, slot.as_ref()?)))
    }

    /// Every value.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten()
    }

    /// How many values are kept.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
