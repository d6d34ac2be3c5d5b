//! Pools of real processes: what they run, and what becomes of tasks whose workers die.

#[path = "../common/guard.rs"]
mod guard;

mod calls;
mod deaths;
mod endings;
mod inputs;
mod promises;
mod rows;
