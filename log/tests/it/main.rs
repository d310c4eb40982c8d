//! Tests of `revenant-log`, a module per theme.

mod crash;
mod damage;
mod golden;
mod life;
mod model;
mod property;
mod text;
