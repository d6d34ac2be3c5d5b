//! Helpers, and one file a subject.
#![allow(unsafe_code)]
#![allow(clippy::disallowed_types, reason = "below `primitive`")]

mod children;
mod clock;
mod limits;
mod liveness;
mod memory;
mod pidfd;
mod waiting;

use std::os::fd::OwnedFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::memfd::{self, FileId};
use super::mmap::Mapping;

const HANG: Duration = Duration::from_secs(60);

/// Runs a test body; one that hangs fails.
fn within(body: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = done.send(());
    });
    if ended.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("hangs");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Waits until something is so; fails when it never is.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < HANG / 2, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What members share.
struct Arena {
    fd: OwnedFd,
    map: Mapping,
    id: FileId,
}

impl Arena {
    fn new() -> Arena {
        let fd = memfd::create("test", 1 << 20).unwrap();
        let map = Mapping::shared(&fd, 1 << 20).unwrap();
        let id = memfd::file_id(&fd).unwrap();
        Arena { fd, map, id }
    }

    /// The first word of the memory; in a child only after [`join`](Arena::join).
    fn word(&self) -> &AtomicU32 {
        // SAFETY: the page is mapped, aligned, and accessed through atomics only.
        unsafe { AtomicU32::from_ptr(self.map.base().cast()) }
    }

    /// Maps the arena in a forked child, for good, and says so in the first word.
    fn join(&self) -> bool {
        match Mapping::shared_at(&self.fd, self.map.base(), self.map.len()) {
            Ok(map) => std::mem::forget(map),
            Err(_) => return false,
        }
        self.word().store(1, Ordering::SeqCst);
        true
    }
}

const ROLE: &str = "MULTIPROCESS_TEST_ROLE";
const CHECKED: &str = "role: checked";

/// Runs one test of this binary again, in a process of its own, where it plays a role. Prefixed
/// with a command that sets the stage, if there is one.
fn play(stage: &[&str], test: &str, role: &str) -> Output {
    let this = std::env::current_exe().unwrap();
    let this = this.to_str().unwrap();
    let line = [stage, &[this, test, "--exact", "--nocapture"]].concat();
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).env(ROLE, role).output().unwrap()
}

/// Which role this run of a test has, if any.
fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Fails unless the role was played to its end.
fn assert_checked(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    let ended = output.status.success() && said.contains(CHECKED);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(ended, "{:?}\n{said}\n{complaints}", output.status);
}

/// Whether a stage can be set here; if not, says so.
fn can_set(stage: &[&str]) -> bool {
    let run = Command::new(stage[0])
        .args(&stage[1..])
        .arg("true")
        .output();
    let can = run.as_ref().is_ok_and(|run| run.status.success());
    if !can {
        eprintln!("skipped: {stage:?} is not possible here: {run:?}");
    }
    can
}

/// Makes a system call fail for the calling thread from here on.
fn refuse(call: libc::c_long, errno: i32) {
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let give = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(load, 0, 0, 0),
        step(equal, 0, 1, call as u32),
        step(give, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: the arguments are numbers.
    let set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(set, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the program and its steps outlive the call.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}
