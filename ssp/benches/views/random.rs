//! `Random`: numbers from a seed (splitmix64, Steele et al., OOPSLA 2014). Free of dependencies, since the
//! peers' workspace includes this file.

/// Numbers from a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `count`.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % count
    }

    /// A place in something of this length.
    pub(crate) fn place(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).expect("below a length")
    }
}
