//! The sweeps' own tests: a sweep must find what a broken protocol does wrong. The victims are
//! raw forks that work on a page of their own.
#![allow(clippy::disallowed_types)] // the forks' own atomics

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::arch::Class;
use crate::stepper::{End, Site, Stepper, Stop, read_memory};
use crate::sweep::{Corpse, Outcome, Sweep, Victim, alone, stride};
use crate::trace::{Effect, Point, Step, plan, trace};
use crate::victim::marked;

/// A page that forks share.
struct Page(*mut libc::c_void);

const PAGE: usize = 16384;

impl Page {
    fn new() -> Page {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh mapping at an address that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, rights, kind, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        Page(start)
    }

    fn word(&self, n: usize) -> &AtomicU64 {
        assert!(n < PAGE / 8);
        // SAFETY: within the mapping.
        let word = unsafe { self.0.cast::<AtomicU64>().add(n) };
        // SAFETY: aligned, zeroed, and mapped as long as `self` lives.
        unsafe { &*word }
    }

    /// All words but the first 16, as plain memory, for the one victim that writes it.
    fn fill(&self, byte: u8) {
        // SAFETY: word 16 is within the mapping.
        let start = unsafe { self.0.cast::<AtomicU64>().add(16) };
        // SAFETY: the rest of the mapping; one victim at a time writes it.
        unsafe { std::ptr::write_bytes(start.cast::<u8>(), byte, PAGE - 128) };
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: our mapping; no reference outlives `self`.
        unsafe { libc::munmap(self.0, PAGE) };
    }
}

/// A fork that runs one operation on the page.
struct Forked(u32);

fn fork(page: &Page, operation: fn(&Page)) -> Forked {
    // SAFETY: the child runs the operation and ends with _exit; glibc keeps malloc usable in it.
    match unsafe { libc::fork() } {
        0 => {
            operation(page);
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
        pid @ 1.. => Forked(pid as u32),
        _ => panic!("fork: {}", std::io::Error::last_os_error()),
    }
}

impl Victim for Forked {
    fn attach(&mut self) -> Result<Stepper, String> {
        let mut stepper = Stepper::attach(self.0)?;
        stepper.run_to_mark()?;
        Ok(stepper)
    }

    fn reap(self, _end: End) -> Result<Outcome, String> {
        // SAFETY: our own child; no status is asked for.
        unsafe { libc::waitpid(self.0 as i32, std::ptr::null_mut(), 0) };
        Ok(Outcome::Untold)
    }

    fn finish(self) -> Result<Outcome, String> {
        self.reap(End::Exited(0))
    }
}

#[inline(never)]
fn write_value_then_commit(page: &Page) {
    marked(|| {
        page.word(0).store(7, SeqCst);
        page.word(1).store(1, SeqCst);
    });
}

#[inline(never)]
fn commit_then_write_value(page: &Page) {
    marked(|| {
        page.word(1).store(1, SeqCst);
        page.word(0).store(7, SeqCst);
    });
}

fn judge(page: Page, _: Corpse) -> Outcome {
    if page.word(1).load(SeqCst) == 0 {
        return Outcome::NotDone;
    }
    assert_eq!(page.word(0).load(SeqCst), 7, "committed, but torn");
    Outcome::Done
}

fn sweep_of(operation: fn(&Page)) -> Result<usize, String> {
    let alone = alone();
    let sweep = Sweep {
        name: "selftest",
        setup: &Page::new,
        victim: &|page| fork(page, operation),
        unblock: None,
        steady: true,
        check: &judge,
        whole: Outcome::Done,
    };
    let run = std::panic::AssertUnwindSafe(|| sweep.run(&alone));
    match std::panic::catch_unwind(run) {
        Ok(report) => report.boundary.ok_or("no boundary".into()),
        Err(panic) => Err(crate::sweep::message(&*panic)),
    }
}

#[test]
fn a_sound_commit_passes_with_one_boundary() {
    let boundary = sweep_of(write_value_then_commit).expect("sound");
    assert!(boundary > 1);
}

#[test]
fn a_torn_commit_is_found() {
    let faults = sweep_of(commit_then_write_value).expect_err("torn");
    assert!(faults.contains("committed, but torn"), "{faults}");
}

/// An effect that is taken back: seen done, then not done.
#[inline(never)]
fn commit_and_take_back(page: &Page) {
    marked(|| {
        page.word(0).store(7, SeqCst);
        page.word(1).store(1, SeqCst);
        page.word(1).store(0, SeqCst);
        page.word(1).store(1, SeqCst);
    });
}

#[test]
fn an_unclean_boundary_is_found() {
    let faults = sweep_of(commit_and_take_back).expect_err("unclean");
    assert!(faults.contains("no clean boundary"), "{faults}");
}

/// Waits for a word as a futex.
#[inline(never)]
fn sleep_on_word(page: &Page) {
    let word = std::ptr::from_ref(page.word(0)).cast::<u32>();
    marked(|| {
        while page.word(0).load(SeqCst) == 0 {
            let forever = std::ptr::null::<libc::timespec>();
            // SAFETY: the word is mapped.
            unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, 0, forever) };
        }
        page.word(1).store(1, SeqCst);
    });
}

fn wake(page: &Page) {
    page.word(0).store(7, SeqCst);
    let word = std::ptr::from_ref(page.word(0)).cast::<u32>();
    // SAFETY: the word is mapped.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, 1) };
}

#[test]
fn a_sleeping_victim_is_killed_in_its_sleep_and_woken_by_survivors() {
    let alone = alone();
    let slept = std::cell::Cell::new(0);
    let sweep = Sweep {
        name: "sleep",
        setup: &Page::new,
        victim: &|page| fork(page, sleep_on_word),
        unblock: Some(&|page: &mut Page| {
            slept.set(slept.get() + 1);
            wake(page);
        }),
        steady: true,
        check: &judge,
        whole: Outcome::Done,
    };
    let report = sweep.run(&alone);
    let blocked = |step: &&Step| step.effect == Effect::Blocked;
    assert_eq!(report.trace.steps.iter().filter(blocked).count(), 1);
    assert!(slept.get() > 1, "also in rounds that end in a kill");
}

#[inline(never)]
fn write_in_many_ways(page: &Page) {
    let text = std::hint::black_box(b"some bytes that are not in the page yet".as_slice());
    marked(|| {
        page.word(0).fetch_add(1, SeqCst);
        page.word(1).swap(2, SeqCst);
        page.word(2).store(u64::MAX, SeqCst);
        page.fill(std::hint::black_box(1));
        page.word(3).fetch_or(5, SeqCst);
        for n in 200..300 {
            page.word(n).store(u64::from(text[n % text.len()]), SeqCst);
        }
        page.fill(std::hint::black_box(2));
        let _ = page.word(4).compare_exchange(0, 9, SeqCst, SeqCst);
    });
}

/// Every step that changes the page is found by its registers: a second tracer compares the
/// whole page after each step.
#[test]
fn no_write_is_overlooked() {
    let _alone = alone();
    let page = Page::new();
    let mut victim = fork(&page, write_in_many_ways);
    let mut stepper = victim.attach().expect("attach");
    let found = trace(&mut stepper, &mut || {}).expect("trace").steps;
    drop(stepper);
    victim.reap(End::Killed(9)).expect("reap");

    let page = Page::new();
    let mut victim = fork(&page, write_in_many_ways);
    let mut stepper = victim.attach().expect("attach");
    let bytes = |stepper: &Stepper| {
        let mut bytes = vec![0; PAGE];
        let length = read_memory(stepper.pid(), page.0 as u64, &mut bytes);
        assert_eq!(length, PAGE);
        bytes
    };
    let mut before = bytes(&stepper);
    let mut changes = 0;
    for (n, step) in found.iter().enumerate() {
        let next = stepper.next().expect("next");
        assert_eq!(next.site, step.site, "the two runs differ at step {n}");
        assert_eq!(stepper.step(), Ok(Stop::Stepped));
        let after = bytes(&stepper);
        let repeats = next.insn.class == Class::Repeat;
        if before != after && !repeats {
            changes += 1;
            assert_ne!(step.effect, Effect::None, "step {n} at {:#x}", step.site.pc);
        }
        if step.effect == Effect::Write {
            assert_ne!(before, after, "step {n} at {:#x}", step.site.pc);
        }
        before = after;
    }
    assert_eq!(stepper.step(), Ok(Stop::Mark));
    assert!(changes > 100, "{changes}");
    drop(stepper);
    victim.reap(End::Killed(9)).expect("reap");
}

#[inline(never)]
fn count_long(page: &Page) {
    marked(|| {
        for n in 0..10_000 {
            page.word(5).store(n, SeqCst);
        }
        page.word(0).store(7, SeqCst);
        page.word(1).store(1, SeqCst);
    });
}

/// A kill point far away is reached by a shortcut, and is the same point.
#[test]
fn a_shortcut_leads_to_the_same_step() {
    let alone = alone();
    let sweep = Sweep {
        name: "long",
        setup: &Page::new,
        victim: &|page| fork(page, count_long),
        unblock: None,
        steady: true,
        check: &judge,
        whole: Outcome::Done,
    };
    let report = sweep.run(&alone);
    let boundary = report.boundary.expect("a boundary");
    assert!(report.trace.shortcut(boundary).is_some());
    let writes = |step: &Step| matches!(step.effect, Effect::Write | Effect::Atomic);
    assert!(writes(&report.trace.steps[boundary - 1]));
    assert!(!report.trace.steps[boundary..].iter().any(writes));
}

#[test]
fn a_dropped_stepper_ends_its_victim() {
    let _alone = alone();
    let page = Page::new();
    let mut victim = fork(&page, count_long);
    let mut stepper = victim.attach().expect("attach");
    assert_eq!(stepper.step(), Ok(Stop::Stepped));
    drop(stepper);
    let mut status = 0;
    // SAFETY: our own child, which must be a zombie by now.
    let pid = unsafe { libc::waitpid(victim.0 as i32, &mut status, libc::WNOHANG) };
    assert_eq!(pid, victim.0 as i32);
    assert_eq!(status & 0x7f, libc::SIGKILL);
}

#[test]
fn a_thinned_plan_keeps_the_points_around_atomics() {
    let mut steps: Vec<Step> = (0..1000)
        .map(|pc| Step {
            site: Site { pc, depth: 0 },
            effect: Effect::None,
        })
        .collect();
    steps[500].effect = Effect::Atomic;
    let all = plan(&steps, 1);
    assert_eq!(all.len(), 1001);
    let thinned = plan(&steps, 100);
    assert!(thinned.len() < 30);
    for after in 499..=502 {
        let point = Point {
            after,
            asleep: false,
        };
        assert!(thinned.contains(&point), "{after}");
    }
    assert!(stride() > 0);
}
