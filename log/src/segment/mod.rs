//! One file of frames: its name, header, footer, and how its frames are walked.

pub(crate) mod check;
pub mod compressed;
pub mod footer;
pub(crate) mod handle;
pub mod header;
pub(crate) mod loaded;
pub mod name;
pub(crate) mod scan;
