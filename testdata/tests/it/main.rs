//! What histories promise to those who play them.

mod generate;
mod history;
