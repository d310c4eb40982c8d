//! What tests and the demo play: real histories and seeded random ones of the same shape.
//!
//! ```
//! use revenant_testdata::history::Reader;
//!
//! let transactions = Reader::small().collect::<Result<Vec<_>, _>>()?;
//! assert_eq!(transactions.len(), 600);
//! # Ok::<(), revenant_testdata::history::HistoryError>(())
//! ```
//!
//! Map: [`history`] reads what happened, [`record`] makes it a log's; [`generate`] makes up what could have; [`queries`] makes up live
//! queries and changes of what they read; [`tally`] counts what became of them. None knows SurrealDB.

pub mod generate;
pub mod history;
pub mod queries;
pub mod record;
pub mod tally;
