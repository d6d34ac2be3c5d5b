//! Pools of real processes: what they run, and what becomes of tasks whose workers die.

#[path = "../common/signals.rs"]
mod signals;

#[path = "../common/guard.rs"]
mod guard;

mod calls;
mod deaths;
mod endings;
mod inputs;
mod promises;
mod rows;
