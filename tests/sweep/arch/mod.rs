//! The processor-dependent part of the stepper, one file a processor.

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
mod this;

pub use this::*;

use std::io;

/// An instruction, as far as the sweeps care.
#[derive(Clone, Copy, Debug)]
pub struct Insn {
    pub class: Class,
    pub touch: Touch,
    /// Bytes; only for `Class::Repeat`.
    pub length: u8,
}

impl Insn {
    pub fn plain() -> Insn {
        Insn {
            class: Class::Plain,
            touch: Touch::Nothing,
            length: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Plain,
    /// A read-modify-write that other processors see as one.
    Atomic,
    /// The first half of a load-exclusive/store-exclusive pair: cannot be single-stepped.
    #[cfg_attr(target_arch = "x86_64", allow(dead_code))]
    Exclusive,
    Syscall,
    /// A string instruction with a repeat prefix.
    Repeat,
    Mark,
}

/// The memory that an instruction addresses.
#[derive(Clone, Copy, Debug)]
pub enum Touch {
    Nothing,
    /// By the string destination register.
    #[cfg_attr(target_arch = "aarch64", allow(dead_code))]
    String,
    Address {
        base: Option<u8>,
        /// Register and shift.
        index: Option<(u8, u8)>,
        displacement: i64,
        /// How far off the computed address may be, in bytes, either way.
        slack: u64,
    },
}

/// One ptrace request whose data is a number.
pub fn ptrace(request: u32, pid: i32, address: usize, data: usize) -> Result<(), String> {
    // SAFETY: every request made through here takes numbers, or points at live memory of ours.
    let done = unsafe { libc::ptrace(request, pid, address, data) };
    if done == -1 {
        let error = io::Error::last_os_error();
        return Err(format!("ptrace request {request:#x} on {pid}: {error}"));
    }
    Ok(())
}

/// One ptrace request that fills a structure.
pub fn ptrace_to<T>(request: u32, pid: i32, address: usize, into: &mut T) -> Result<(), String> {
    ptrace(request, pid, address, (&raw mut *into) as usize)
}
