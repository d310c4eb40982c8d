//! What is appended: bodies that do not compress and that name their number, so that any reader can tell
//! a right one from a wrong one.

/// Bytes of a record's body.
pub const BODY_BYTES: usize = 256;

/// A record's body.
pub type Body = [u8; BODY_BYTES];

/// The body of record `number`: the number, then a splitmix64 stream that it seeds.
pub fn body(number: u64) -> Body {
    let mut body = [0; BODY_BYTES];
    body[..8].copy_from_slice(&number.to_be_bytes());
    let mut state = number;
    for part in body[8..].chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        part.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    body
}

/// Bodies of `count` records from `first` on.
pub fn bodies(first: u64, count: usize) -> Vec<Body> {
    (first..).take(count).map(body).collect()
}
