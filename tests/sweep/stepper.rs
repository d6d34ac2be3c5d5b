//! A tracer of one thread: it steps another process's main thread instruction by instruction,
//! and kills that process where it is told to.
//!
//! A step is one instruction. A system call is one step. A repeated string instruction is one
//! step for each of its first iterations and one more for all that remain. All requests for one
//! victim must come from the thread that attached to it, as ptrace demands.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use crate::arch::{self, Class, Insn, Regs, ptrace, ptrace_to};
use crate::watch;

/// How long a victim may sit in a call that can sleep before it counts as blocked.
const BLOCKED_AFTER: Duration = Duration::from_millis(4);
/// How long a victim may run freely between two stops before it counts as blocked.
const RUNS_FOR: Duration = Duration::from_millis(50);
/// Iterations of a repeated string instruction that are steps of their own.
const REPEATS_STEPPED: u32 = 4;

/// Calls that may sleep until somebody else acts.
const SLEEPERS: [i64; 8] = [
    libc::SYS_futex,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_pwait,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_waitid,
    libc::SYS_wait4,
];

/// What a victim did when it was let go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It stands before its next instruction.
    Stepped,
    /// It stands behind a mark.
    Mark,
    /// It has not come back from a call that sleeps. `wait` goes on waiting for it.
    Blocked,
    /// It stands at a ptrace event.
    Event(i32),
    Ended(End),
}

/// How a victim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exited(i32),
    Killed(i32),
}

/// Where a victim stands: an instruction, and how many bytes of stack lie between it and the last
/// mark. The same function called from elsewhere is, as a rule, another site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    pub pc: u64,
    pub depth: u64,
}

/// The instruction before which a victim stands.
#[derive(Clone, Copy, Debug)]
pub struct Next {
    pub site: Site,
    pub insn: Insn,
    /// Start and length of the memory that it may touch.
    pub touched: Option<(u64, u64)>,
    syscall: u64,
    repeats_left: bool,
}

impl Next {
    pub fn syscall(&self) -> Option<u64> {
        (self.insn.class == Class::Syscall).then_some(self.syscall)
    }
}

/// A traced process. Dropping it kills the process, unless it was let go.
pub struct Stepper {
    pid: i32,
    /// Our own child's end is only looked at, so that its owner can still reap it.
    own_child: bool,
    /// False from a resumption to the next stop, and before the first one.
    stopped: bool,
    signal: i32,
    next: Option<Next>,
    repeats: (u64, u32),
    breakpoint: bool,
    /// The stack pointer at the last mark.
    base: u64,
    end: Option<End>,
    gone: bool,
    code: HashMap<u64, Insn>,
}

impl Stepper {
    /// Attaches to a running child of this process. It dies with the calling thread.
    pub fn attach(pid: u32) -> Result<Stepper, String> {
        let pid = pid as i32;
        let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACEEXEC;
        ptrace(libc::PTRACE_SEIZE, pid, 0, options as usize).map_err(|error| {
            format!("{error}: the kill sweeps need ptrace (is it forbidden by a sandbox here?)")
        })?;
        watch::victim(Some(pid));
        Ok(Stepper::of(pid, true))
    }

    /// The same with a child of a child.
    pub fn attach_to_grandchild(pid: u32) -> Result<Stepper, String> {
        let mut stepper = Stepper::attach(pid)?;
        stepper.own_child = false;
        Ok(stepper)
    }

    fn of(pid: i32, own_child: bool) -> Stepper {
        Stepper {
            pid,
            own_child,
            stopped: false,
            signal: 0,
            next: None,
            repeats: (0, 0),
            breakpoint: false,
            base: 0,
            end: None,
            gone: false,
            code: HashMap::new(),
        }
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Lets the victim run to its next mark.
    pub fn run_to_mark(&mut self) -> Result<(), String> {
        loop {
            self.resume(libc::PTRACE_CONT)?;
            match self.wait()? {
                Stop::Mark => return Ok(()),
                Stop::Stepped | Stop::Blocked => {}
                Stop::Event(libc::PTRACE_EVENT_EXEC) => self.code.clear(),
                Stop::Event(_) => {}
                Stop::Ended(end) => return Err(format!("the victim ended early: {end:?}")),
            }
        }
    }

    /// Lets the victim, which was told to report its children, run until it has started one.
    /// The child is returned as it stands before its first instruction.
    pub fn run_to_child(&mut self) -> Result<Stepper, String> {
        let options = libc::PTRACE_O_EXITKILL
            | libc::PTRACE_O_TRACEEXEC
            | libc::PTRACE_O_TRACEFORK
            | libc::PTRACE_O_TRACEVFORK;
        ptrace(libc::PTRACE_SETOPTIONS, self.pid, 0, options as usize)?;
        loop {
            self.resume(libc::PTRACE_CONT)?;
            match self.wait()? {
                Stop::Event(libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK) => break,
                Stop::Ended(end) => return Err(format!("ended with no child: {end:?}")),
                Stop::Mark => return Err("a mark, but no child".into()),
                _ => {}
            }
        }
        let mut child: libc::c_ulong = 0;
        ptrace_to(libc::PTRACE_GETEVENTMSG, self.pid, 0, &mut child)?;
        let mut child = Stepper::of(child as i32, false);
        watch::victim(Some(child.pid));
        match child.wait()? {
            Stop::Event(_) => Ok(child),
            other => Err(format!("a new child reports {other:?}")),
        }
    }

    /// Lets the victim run until it has executed another program.
    pub fn run_to_exec(&mut self) -> Result<(), String> {
        loop {
            self.resume(libc::PTRACE_CONT)?;
            match self.wait()? {
                Stop::Event(libc::PTRACE_EVENT_EXEC) => {
                    self.code.clear();
                    return Ok(());
                }
                Stop::Ended(end) => return Err(format!("ended before exec: {end:?}")),
                _ => {}
            }
        }
    }

    /// Looks at the instruction before which the victim stands.
    pub fn next(&mut self) -> Result<Next, String> {
        if let Some(next) = self.next {
            return Ok(next);
        }
        let regs = Regs::read(self.pid)?;
        let pc = regs.pc();
        let insn = *self.code.entry(pc).or_insert_with(|| {
            let mut bytes = [0; 15];
            let length = read_memory(self.pid, pc, &mut bytes);
            arch::decode(&bytes[..length])
        });
        let depth = self.base.wrapping_sub(regs.stack_pointer());
        let next = Next {
            site: Site { pc, depth },
            insn,
            touched: arch::touched(&insn, &regs),
            syscall: regs.syscall_number(),
            repeats_left: regs.repeats_left(),
        };
        self.next = Some(next);
        Ok(next)
    }

    /// Executes one step.
    pub fn step(&mut self) -> Result<Stop, String> {
        let next = self.next()?;
        let (last, count) = self.repeats;
        self.repeats = match next.insn.class {
            Class::Repeat if last == next.site.pc => (last, count + 1),
            Class::Repeat => (next.site.pc, 1),
            _ => (0, 0),
        };
        if next.insn.class == Class::Exclusive {
            return Err("a load-exclusive cannot be stepped: build for LSE atomics".into());
        }
        let finish = self.repeats.1 > REPEATS_STEPPED && next.repeats_left;
        if finish && self.set_breakpoint(Some(next.site.pc + u64::from(next.insn.length)))? {
            let stop = self.resume_and_wait(libc::PTRACE_CONT)?;
            if !matches!(stop, Stop::Ended(_)) {
                self.set_breakpoint(None)?;
            }
            return Ok(stop);
        }
        let sleeps = next
            .syscall()
            .is_some_and(|number| SLEEPERS.contains(&(number as i64)));
        if !sleeps {
            return self.resume_and_wait(libc::PTRACE_SINGLESTEP);
        }
        self.resume(libc::PTRACE_SINGLESTEP)?;
        self.wait_for(Some(BLOCKED_AFTER))
    }

    /// Lets the victim run until it has come to a site so many times. `unblock` is called when it
    /// seems to sleep. Anything but `Stepped` means that it did not come.
    pub fn run_to(
        &mut self,
        site: Site,
        times: usize,
        unblock: &mut dyn FnMut(),
    ) -> Result<Stop, String> {
        if !self.set_breakpoint(Some(site.pc))? {
            return Err("no hardware breakpoint".into());
        }
        let mut seen = 0;
        while seen < times {
            self.resume(libc::PTRACE_CONT)?;
            let mut stop = self.wait_for(Some(RUNS_FOR))?;
            if stop == Stop::Blocked {
                unblock();
                stop = self.wait()?;
            }
            match stop {
                Stop::Stepped if self.breakpoint => seen += usize::from(self.next()?.site == site),
                Stop::Stepped => {}
                Stop::Ended(end) => return Ok(Stop::Ended(end)),
                other => {
                    self.set_breakpoint(None)?;
                    return Ok(other);
                }
            }
        }
        self.set_breakpoint(None)?;
        Ok(Stop::Stepped)
    }

    /// True when this machine lets us set a breakpoint.
    pub fn set_breakpoint(&mut self, address: Option<u64>) -> Result<bool, String> {
        arch::set_breakpoint(self.pid, address)
    }

    fn resume_and_wait(&mut self, request: u32) -> Result<Stop, String> {
        self.resume(request)?;
        loop {
            let stop = self.wait()?;
            if stop != Stop::Blocked {
                return Ok(stop);
            }
        }
    }

    fn resume(&mut self, request: u32) -> Result<(), String> {
        self.next = None;
        if !std::mem::take(&mut self.stopped) {
            return Ok(());
        }
        let signal = std::mem::take(&mut self.signal);
        ptrace(request, self.pid, 0, signal as usize)
    }

    /// Waits until the victim stops or ends.
    pub fn wait(&mut self) -> Result<Stop, String> {
        self.wait_for(None)
    }

    /// The same, at most so long; then `Blocked`. A signal is handed on and is no stop.
    pub fn wait_for(&mut self, limit: Option<Duration>) -> Result<Stop, String> {
        let start = Instant::now();
        let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::__WALL;
        let mut polls = 0;
        let info = loop {
            let poll = if limit.is_some() { libc::WNOHANG } else { 0 };
            let info = waitid(self.pid, flags | poll)?;
            if info.pid != 0 {
                break info;
            }
            if limit.is_some_and(|limit| start.elapsed() > limit) {
                return Ok(Stop::Blocked);
            }
            // It shares our processor, and most often it stops at once.
            polls += 1;
            match polls {
                ..20 => std::thread::yield_now(),
                _ => std::thread::sleep(Duration::from_micros(50)),
            }
        };
        match info.code {
            libc::CLD_EXITED => self.ended(End::Exited(info.status)),
            libc::CLD_KILLED | libc::CLD_DUMPED => self.ended(End::Killed(info.status)),
            _ => self.stopped(info.status & 0xff, info.status >> 8),
        }
    }

    fn ended(&mut self, end: End) -> Result<Stop, String> {
        self.end = Some(end);
        if !self.own_child {
            // Only then does its own parent hear of it.
            waitid(self.pid, libc::WEXITED | libc::__WALL)?;
        }
        Ok(Stop::Ended(end))
    }

    fn stopped(&mut self, signal: i32, event: i32) -> Result<Stop, String> {
        self.stopped = true;
        self.breakpoint = false;
        if event != 0 {
            return Ok(Stop::Event(event));
        }
        if signal != libc::SIGTRAP {
            self.signal = signal;
            return Ok(Stop::Stepped);
        }
        // SAFETY: all-zero bytes are a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        ptrace_to(libc::PTRACE_GETSIGINFO, self.pid, 0, &mut info)?;
        self.breakpoint = arch::is_breakpoint(info.si_code);
        if arch::is_mark(info.si_code) {
            arch::pass_mark(self.pid)?;
            self.base = Regs::read(self.pid)?.stack_pointer();
            return Ok(Stop::Mark);
        }
        Ok(Stop::Stepped)
    }

    /// Kills the victim wherever it is and waits until it is a zombie.
    pub fn kill(&mut self) -> Result<End, String> {
        if let Some(end) = self.end {
            return Ok(end);
        }
        // SAFETY: a pid that nobody has reaped, as only we or its owner, later, do that.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        loop {
            if let Stop::Ended(end) = self.wait()? {
                return Ok(end);
            }
        }
    }

    /// Lets the victim go on for good, untraced.
    pub fn let_go(mut self) -> Result<(), String> {
        self.gone = true;
        let signal = self.signal as usize;
        ptrace(libc::PTRACE_DETACH, self.pid, 0, signal)
    }
}

impl Drop for Stepper {
    fn drop(&mut self) {
        if !self.gone && self.kill().is_err() {
            eprintln!("sweep: cannot end victim {}", self.pid);
        }
        watch::victim(None);
    }
}

struct WaitInfo {
    pid: i32,
    code: i32,
    status: i32,
}

fn waitid(pid: i32, flags: i32) -> Result<WaitInfo, String> {
    loop {
        // SAFETY: all-zero bytes are a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is ours.
        let done = unsafe { libc::waitid(libc::P_PID, pid as u32, &mut info, flags) };
        if done == 0 {
            return Ok(WaitInfo {
                // SAFETY: waitid has filled the fields of a child's signal, or left zeros.
                pid: unsafe { info.si_pid() },
                code: info.si_code,
                // SAFETY: as above.
                status: unsafe { info.si_status() },
            });
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(format!("waiting for victim {pid}: {error}"));
        }
    }
}

/// Reads another process's memory; returns how much of it could be read.
pub fn read_memory(pid: i32, address: u64, into: &mut [u8]) -> usize {
    let ours = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    let theirs = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: into.len(),
    };
    // SAFETY: `ours` is a live buffer; `theirs` is checked by the kernel.
    let length = unsafe { libc::process_vm_readv(pid, &ours, 1, &theirs, 1, 0) };
    length.max(0) as usize
}
