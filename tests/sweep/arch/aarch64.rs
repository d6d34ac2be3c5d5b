//! What the stepper must know of AArch64. Kept alike to the x86-64 file, but never run by its
//! authors: there is no hardware breakpoint here, so far kill points are reached by counting.

use super::{Class, Insn, Touch, ptrace};

/// The victim's mark: a trap that only a tracer makes harmless.
#[inline(always)]
pub fn trap() {
    // SAFETY: brk changes no register; the tracer that every caller waits for takes the signal.
    unsafe { std::arch::asm!("brk #0") }
}

/// The general registers of a stopped thread.
pub struct Regs(libc::user_regs_struct);

const NT_PRSTATUS: usize = 1;

impl Regs {
    pub fn read(pid: i32) -> Result<Regs, String> {
        // SAFETY: all-zero bytes are a valid user_regs_struct.
        let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        let mut piece = libc::iovec {
            iov_base: (&raw mut regs).cast(),
            iov_len: size_of_val(&regs),
        };
        let piece = (&raw mut piece) as usize;
        ptrace(libc::PTRACE_GETREGSET, pid, NT_PRSTATUS, piece)?;
        Ok(Regs(regs))
    }

    fn write(&mut self, pid: i32) -> Result<(), String> {
        let mut piece = libc::iovec {
            iov_base: (&raw mut self.0).cast(),
            iov_len: size_of_val(&self.0),
        };
        let piece = (&raw mut piece) as usize;
        ptrace(libc::PTRACE_SETREGSET, pid, NT_PRSTATUS, piece).map(drop)
    }

    pub fn pc(&self) -> u64 {
        self.0.pc
    }

    pub fn stack_pointer(&self) -> u64 {
        self.0.sp
    }

    fn general(&self, number: u8) -> u64 {
        match number {
            31 => self.0.sp,
            n => self.0.regs[n as usize],
        }
    }

    /// The number of the system call that is about to be made.
    pub fn syscall_number(&self) -> u64 {
        self.0.regs[8]
    }

    /// There are no repeated string instructions.
    pub fn repeats_left(&self) -> bool {
        false
    }
}

/// True when a SIGTRAP with this `si_code` is a mark (`TRAP_BRKPT`).
pub fn is_mark(si_code: i32) -> bool {
    si_code == 1
}

/// True when a SIGTRAP with this `si_code` is the hardware breakpoint.
pub fn is_breakpoint(si_code: i32) -> bool {
    si_code == 4
}

/// Makes the victim go on behind a mark.
pub fn pass_mark(pid: i32) -> Result<(), String> {
    let mut regs = Regs::read(pid)?;
    regs.0.pc += 4;
    regs.write(pid)
}

/// There is no breakpoint here: `Ok(false)`.
pub fn set_breakpoint(_pid: i32, _address: Option<u64>) -> Result<bool, String> {
    Ok(false)
}

/// Reads the class of an instruction and the address that it loads from or stores to.
pub fn decode(code: &[u8]) -> Insn {
    let mut insn = Insn::plain();
    let Some(bytes) = code.get(..4) else {
        return insn;
    };
    let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    if word == 0xd400_0001 {
        insn.class = Class::Syscall;
    } else if word & 0xffe0_001f == 0xd420_0000 {
        insn.class = Class::Mark;
    } else if word & 0x0a00_0000 == 0x0800_0000 {
        // Loads and stores, all families. The base register is in one place in all of them.
        let base = Some(((word >> 5) & 31) as u8);
        let by_register = word & 0x3b20_0c00 == 0x3820_0800;
        let index = by_register.then_some((((word >> 16) & 31) as u8, 0));
        insn.touch = Touch::Address {
            base,
            index,
            displacement: 0,
            slack: 32 * 1024,
        };
        // Exclusive, ordered and compare-and-swap instructions; then the atomic memory ones.
        if word & 0x3f00_0000 == 0x0800_0000 || word & 0x3b20_0c00 == 0x3820_0000 {
            insn.class = Class::Atomic;
        }
        // A load-exclusive with no acquire-only bit (o2): its pair fails under single steps.
        if word & 0x3fc0_0000 == 0x0840_0000 {
            insn.class = Class::Exclusive;
        }
    }
    insn
}

/// The first address and the length of what the instruction may touch, generously.
pub fn touched(insn: &Insn, regs: &Regs) -> Option<(u64, u64)> {
    let Touch::Address {
        base, index, slack, ..
    } = insn.touch
    else {
        return None;
    };
    let base = base.map_or(0, |n| regs.general(n));
    let index = index.map_or(0, |(n, _)| regs.general(n));
    let at = base.wrapping_add(index).saturating_sub(slack);
    Some((at, 64 + 2 * slack))
}
