//! What the stepper must know of x86-64: registers, traps, one hardware breakpoint, and as much
//! of the instruction format as tells which memory an instruction addresses.

use std::mem::offset_of;

use super::{Class, Insn, Touch, ptrace, ptrace_to};

/// The victim's mark: a trap that only a tracer makes harmless.
#[inline(always)]
pub fn trap() {
    // SAFETY: int3 changes no register; the tracer that every caller waits for takes the signal.
    unsafe { std::arch::asm!("int3") }
}

/// The general registers of a stopped thread.
pub struct Regs(libc::user_regs_struct);

impl Regs {
    pub fn read(pid: i32) -> Result<Regs, String> {
        // SAFETY: all-zero bytes are a valid user_regs_struct.
        let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        ptrace_to(libc::PTRACE_GETREGS, pid, 0, &mut regs)?;
        Ok(Regs(regs))
    }

    pub fn pc(&self) -> u64 {
        self.0.rip
    }

    pub fn stack_pointer(&self) -> u64 {
        self.0.rsp
    }

    fn general(&self, number: u8) -> u64 {
        let r = &self.0;
        [
            r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11,
            r.r12, r.r13, r.r14, r.r15,
        ][number as usize]
    }

    /// The number of the system call that is about to be made.
    pub fn syscall_number(&self) -> u64 {
        self.0.rax
    }

    /// True when a string instruction with a repeat prefix has iterations left.
    pub fn repeats_left(&self) -> bool {
        self.0.rcx != 0
    }
}

/// True when a SIGTRAP with this `si_code` is a mark (`SI_KERNEL`).
pub fn is_mark(si_code: i32) -> bool {
    si_code == 0x80
}

/// True when a SIGTRAP with this `si_code` is the hardware breakpoint.
pub fn is_breakpoint(si_code: i32) -> bool {
    si_code == 4
}

/// Makes the victim go on behind a mark: nothing to do, the trap has moved the counter already.
pub fn pass_mark(_pid: i32) -> Result<(), String> {
    Ok(())
}

/// Sets the one breakpoint, or clears it with `None`. `Ok(false)`: there is none on this machine.
pub fn set_breakpoint(pid: i32, address: Option<u64>) -> Result<bool, String> {
    let at = |n: usize| offset_of!(libc::user, u_debugreg) + n * size_of::<u64>();
    if let Some(address) = address {
        if ptrace(libc::PTRACE_POKEUSER, pid, at(0), address as usize).is_err() {
            return Ok(false);
        }
        // Bit 0 enables register 0; zero type and length bits: execution.
        return Ok(ptrace(libc::PTRACE_POKEUSER, pid, at(7), 1).is_ok());
    }
    ptrace(libc::PTRACE_POKEUSER, pid, at(7), 0)?;
    Ok(true)
}

/// Reads an instruction's prefixes, opcode and address form. `code` holds 15 bytes, or fewer at
/// the end of a mapping.
pub fn decode(code: &[u8]) -> Insn {
    decode_prefixed(code).unwrap_or(Insn::plain())
}

fn decode_prefixed(code: &[u8]) -> Option<Insn> {
    let mut i = 0;
    let (mut lock, mut repeat, mut thread_local) = (false, false, false);
    loop {
        match *code.get(i)? {
            0xf0 => lock = true,
            0xf2 | 0xf3 => repeat = true,
            0x64 | 0x65 => thread_local = true,
            0x66 | 0x67 | 0x2e | 0x36 | 0x3e | 0x26 => {}
            _ => break,
        }
        i += 1;
    }
    let mut rex = 0;
    if code.get(i)? & 0xf0 == 0x40 {
        rex = *code.get(i)?;
        i += 1;
    }
    let mut insn = Insn::plain();
    let (mut extend_index, mut extend_base) = (rex & 2 != 0, rex & 1 != 0);
    let mut vector = false;
    let opcode = *code.get(i)?;
    i += 1;
    let has_modrm = match opcode {
        // VEX with two and three bytes, EVEX: the extension bits are stored inverted.
        0xc5 => {
            i += 1;
            vector_opcode(code, &mut i)?
        }
        0xc4 => {
            let b = *code.get(i)?;
            (extend_index, extend_base) = (b & 0x40 == 0, b & 0x20 == 0);
            i += 2;
            vector_opcode(code, &mut i)?
        }
        0x62 => {
            let b = *code.get(i)?;
            (extend_index, extend_base) = (b & 0x40 == 0, b & 0x20 == 0);
            vector = true;
            i += 3;
            vector_opcode(code, &mut i)?
        }
        0x0f => {
            let second = *code.get(i)?;
            i += 1;
            match second {
                0x05 => {
                    insn.class = Class::Syscall;
                    return Some(insn);
                }
                0x38 | 0x3a => {
                    i += 1;
                    true
                }
                0x06..=0x09 | 0x0b | 0x0e | 0x30..=0x37 | 0x77 | 0x80..=0x8f => false,
                0xa0..=0xa2 | 0xa8..=0xaa | 0xc8..=0xcf => false,
                _ => true,
            }
        }
        0xcc => {
            insn.class = Class::Mark;
            return Some(insn);
        }
        // movs and stos write where rdi points; the other string instructions only read.
        0xa4 | 0xa5 | 0xaa | 0xab => {
            insn.class = if repeat { Class::Repeat } else { Class::Plain };
            insn.length = i as u8;
            insn.touch = Touch::String;
            return Some(insn);
        }
        0xa6 | 0xa7 | 0xac..=0xaf if repeat => {
            insn.class = Class::Repeat;
            insn.length = i as u8;
            return Some(insn);
        }
        0x00..=0x3f => opcode & 7 < 4,
        0x63 | 0x69 | 0x6b | 0x80..=0x8f | 0xc0 | 0xc1 | 0xc6 | 0xc7 => true,
        0xd0..=0xd3 | 0xd8..=0xdf | 0xf6 | 0xf7 | 0xfe | 0xff => true,
        _ => false,
    };
    // xchg with memory locks without the prefix.
    let exchanges = matches!(opcode, 0x86 | 0x87);
    if has_modrm && !thread_local {
        insn.touch = address_form(code, i, extend_index, extend_base, vector)?;
    }
    if lock || (exchanges && !matches!(insn.touch, Touch::Nothing)) {
        insn.class = Class::Atomic;
    }
    Some(insn)
}

/// Steps over a vector instruction's opcode; all but vzeroupper have an address byte.
fn vector_opcode(code: &[u8], i: &mut usize) -> Option<bool> {
    let opcode = *code.get(*i)?;
    *i += 1;
    Some(opcode != 0x77)
}

fn address_form(
    code: &[u8],
    mut i: usize,
    extend_index: bool,
    extend_base: bool,
    vector: bool,
) -> Option<Touch> {
    let modrm = *code.get(i)?;
    i += 1;
    let (mode, rm) = (modrm >> 6, modrm & 7);
    if mode == 3 {
        return Some(Touch::Nothing);
    }
    let extended = |number: u8, extend: bool| number + if extend { 8 } else { 0 };
    let (mut base, mut index) = (None, None);
    if rm == 4 {
        let sib = *code.get(i)?;
        i += 1;
        let number = extended((sib >> 3) & 7, extend_index);
        if number != 4 {
            index = Some((number, sib >> 6));
        }
        if sib & 7 != 5 || mode != 0 {
            base = Some(extended(sib & 7, extend_base));
        }
    } else if rm == 5 && mode == 0 {
        // Relative to the instruction: the program's own data, never the shared mapping.
        return Some(Touch::Nothing);
    } else {
        base = Some(extended(rm, extend_base));
    }
    let wide = mode == 2 || (mode == 0 && base.is_none());
    let displacement = if mode == 1 {
        i64::from(*code.get(i)? as i8)
    } else if wide {
        let bytes = code.get(i..i + 4)?;
        i64::from(i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    } else {
        0
    };
    // EVEX scales a short displacement by up to 64: look at all it could mean.
    let slack = if vector && mode == 1 { 64 * 128 } else { 0 };
    Some(Touch::Address {
        base,
        index,
        displacement,
        slack,
    })
}

/// The first address and the length of what the instruction may touch, generously.
pub fn touched(insn: &Insn, regs: &Regs) -> Option<(u64, u64)> {
    const WIDEST: u64 = 64;
    match insn.touch {
        Touch::Nothing => None,
        Touch::String => Some((regs.general(7), WIDEST)),
        Touch::Address {
            base,
            index,
            displacement,
            slack,
        } => {
            let base = base.map_or(0, |n| regs.general(n));
            let index = index.map_or(0, |(n, scale)| regs.general(n) << scale);
            let at = base
                .wrapping_add(index)
                .wrapping_add_signed(displacement)
                .saturating_sub(slack);
            Some((at, WIDEST + 2 * slack))
        }
    }
}
