//! Tests of `revenant-log`, a module per theme.

mod crash;
mod damage;
mod life;
mod model;
mod text;
