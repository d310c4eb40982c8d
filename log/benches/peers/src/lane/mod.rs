//! The lanes, each a part of the table.

pub mod append;
pub mod check;
pub mod damage;
pub mod stored;
pub mod tail;
