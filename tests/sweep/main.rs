//! Kill sweeps: a victim runs one operation under ptrace, instruction by instruction, and is
//! killed at one of them; then the survivors must be able to go on, and the books must balance.
//! Again, for the next instruction, until the operation is through.
//!
//! `SWEEP_STRIDE` thins the kill points: 1 takes all (see ci/sweep.sh), by default most of those
//! far from any write to shared memory are left out.

#![allow(unsafe_code)] // ptrace, and the victim's trap

mod arch;
mod arena;
mod batch;
mod channel;
mod ends;
mod joinable;
#[path = "../common/kept.rs"]
mod kept;
mod lock;
mod meeting;
mod pipe;
mod place;
mod pool;
mod process;
mod queue;
mod repair;
mod ring;
mod selftest;
mod sleepers;
mod stepper;
mod sweep;
mod sync;
mod trace;
mod turns;
mod unbounded;
mod value;
mod victim;
mod watch;
