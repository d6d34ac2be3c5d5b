//! What can go wrong when a program is started afresh and does not run its `main`: each trap that is known, sprung.

#![allow(unsafe_code, reason = "to set the traps")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use multiprocess::{Error, ExitCode, Fd, Process, spawn};

#[path = "../common/guard.rs"]
mod guard;
mod pool;
mod program_file;

use guard::{Watch, watch_for};

fn watch() -> Watch {
    watch_for(Duration::from_secs(200))
}

/// Where the test program is; still so when the file was replaced.
fn own_path() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// A directory of this test's own, removed with what is in it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("start-traps-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Copies a program by a process of its own: a child that another test starts meanwhile would inherit a descriptor that
/// writes to it, and the copy could not be executed ("text file busy").
fn copy_file(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let copied = Command::new("cp")
        .arg(from.as_ref())
        .arg(to.as_ref())
        .status()
        .unwrap();
    assert!(copied.success());
}

/// Runs one of the tests below that are ignored otherwise, in a process of its own.
fn in_program(mut command: Command, test: &str) -> Output {
    command
        .args(["--ignored", "--exact", test, "--nocapture"])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[track_caller]
fn assert_passed(output: &Output) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{out}\n{err}"
    );
}

// Constructors: all of them have run when the target does

static CONSTRUCTED: Mutex<Vec<&str>> = Mutex::new(Vec::new());

macro_rules! constructor {
    ($name:ident, $section:literal) => {
        const _: () = {
            #[used]
            #[unsafe(link_section = $section)]
            static CONSTRUCTOR: extern "C" fn(i32, *const *const u8) = run;

            extern "C" fn run(argc: i32, argv: *const *const u8) {
                assert!(argc >= 1 && !argv.is_null());
                CONSTRUCTED.lock().unwrap().push(stringify!($name));
            }
        };
    };
}

constructor!(early, ".init_array.00200");
constructor!(usual, ".init_array");
constructor!(late, ".init_array.65535");
constructor!(other, ".init_array");

#[test]
fn every_constructor_runs_once_in_a_child() {
    let _watch = watch();
    fn look(_: ()) -> Vec<String> {
        CONSTRUCTED
            .lock()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    }
    let own = look(());
    let seen = spawn(look, ()).unwrap().join().unwrap();
    assert_eq!(own.len(), 4);
    assert_eq!(seen, own, "in the same order");
}

#[test]
fn main_does_not_run_in_a_child() {
    let _watch = watch();
    // The harness would start threads and print; and nothing else is in the child's standard output.
    fn threads(_: ()) -> usize {
        fs::read_dir("/proc/self/task").unwrap().count()
    }
    assert_eq!(spawn(threads, ()).unwrap().join().unwrap(), 1);
}

// What a child inherits

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Surroundings {
    fds: Vec<(i32, String)>,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    directory: PathBuf,
    status: String,
}

fn surroundings(_: ()) -> Surroundings {
    let mut fds: Vec<_> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let number = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            let target = fs::read_link(&path).unwrap_or_default();
            (number, target.to_string_lossy().into_owned())
        })
        // That of the listing itself, and what the child watches its parent by.
        .filter(|(_, target)| !target.ends_with("/fd") && target != "anon_inode:[pidfd]")
        .collect();
    fds.sort();
    Surroundings {
        fds,
        environment: std::env::vars().collect(),
        arguments: std::env::args().collect(),
        directory: std::env::current_dir().unwrap(),
        status: fs::read_to_string("/proc/self/status").unwrap(),
    }
}

impl Surroundings {
    fn signals(&self, which: &str) -> u64 {
        let line = self
            .status
            .lines()
            .find_map(|line| line.strip_prefix(which))
            .unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    }
}

#[test]
fn a_child_has_no_descriptor_but_those_passed() {
    let _watch = watch();
    // Open across an exec, at a high and at a low number.
    let leak = File::open("/proc/self/status").unwrap();
    // SAFETY: makes a new descriptor of an open one.
    let leaks = [20, 500].map(|min| unsafe { libc::fcntl(leak.as_raw_fd(), libc::F_DUPFD, min) });
    let seen = spawn(surroundings, ()).unwrap().join().unwrap();
    for fd in leaks {
        assert!(fd >= 20);
        // SAFETY: it is this test's own.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    let numbers: Vec<i32> = seen.fds.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [0, 1, 2, 3], "{:?}", seen.fds);
    assert_eq!(seen.fds[0].1, "/dev/null");
    assert!(seen.fds[3].1.starts_with("/memfd:"));
}

/// Makes the numbers of descriptors here just those that others have in the child.
#[test]
#[ignore = "run by another, in a process without other threads that open files"]
fn starting_with_overlapping_descriptors() {
    fn read(files: Vec<Fd>) -> Vec<String> {
        let read = |fd| {
            let mut text = String::new();
            File::from(fd).read_to_string(&mut text).unwrap();
            text
        };
        files.into_iter().map(read).collect()
    }
    // The lowest free numbers are not for the family's memory, and free again when it has another.
    let low = [(); 3].map(|()| File::open("/dev/null").unwrap());
    multiprocess::family::stats();
    drop(low);
    let directory = Directory::new("fds");
    let expected: Vec<String> = (0..40).map(|i| i.to_string()).collect();
    for text in &expected {
        fs::write(directory.0.join(text), text).unwrap();
    }
    // Far above; copies for the child are made at the lowest free numbers.
    let open = |text: &String| {
        let file = File::open(directory.0.join(text)).unwrap();
        // SAFETY: makes a new descriptor of an open one.
        let fd = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 100) };
        // SAFETY: it was just made.
        unsafe { OwnedFd::from_raw_fd(fd) }.into()
    };
    for daemon in [false, true] {
        let files = expected.iter().map(open).collect();
        let process = Process::builder()
            .daemon(daemon)
            .spawn(read, files)
            .unwrap();
        assert_eq!(process.join().unwrap(), expected);
    }
}

#[test]
fn passed_descriptors_do_not_get_mixed_up() {
    let _watch = watch();
    let command = Command::new("/proc/self/exe");
    assert_passed(&in_program(
        command,
        "starting_with_overlapping_descriptors",
    ));
}

#[test]
fn no_program_started_from_a_child_gets_its_descriptors() {
    let _watch = watch();
    fn list(_: Fd) -> String {
        let output = Command::new("/bin/ls")
            .arg("/proc/self/fd")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
    let fd = File::open("/dev/null").unwrap().into();
    let process = Process::builder().daemon(true).spawn(list, fd).unwrap();
    // The last is the listing's own.
    assert_eq!(process.join().unwrap(), "0\n1\n2\n3\n");
}

#[test]
fn environment_arguments_and_directory_are_this_process_s() {
    let _watch = watch();
    let seen = spawn(surroundings, ()).unwrap().join().unwrap();
    assert_eq!(seen.arguments, std::env::args().collect::<Vec<_>>());
    assert_eq!(seen.directory, std::env::current_dir().unwrap());
    // The variable is gone.
    let mut environment = seen.environment;
    let mut own: Vec<_> = std::env::vars().collect();
    environment.sort();
    own.sort();
    assert_eq!(environment, own);
}

#[test]
fn no_signal_is_blocked_and_sigpipe_is_ignored() {
    let _watch = watch();
    // Everything, in the thread that starts the child.
    // SAFETY: all zero is a valid set.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes to the set.
    unsafe { libc::sigfillset(&raw mut all) };
    let mut before = all;
    // SAFETY: both sets are valid.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    let process = spawn(surroundings, ()).unwrap();
    // SAFETY: the set is valid.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    let seen = process.join().unwrap();
    assert_eq!(seen.signals("SigBlk:"), 0);

    fn default(_: ()) -> Surroundings {
        // SAFETY: the default installs no code.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        spawn(surroundings, ()).unwrap().join().unwrap()
    }
    let seen = spawn(default, ()).unwrap().join().unwrap();
    assert_ne!(seen.signals("SigIgn:") & (1 << (libc::SIGPIPE - 1)), 0);
}

#[test]
fn an_ignored_sigchld_is_not_passed_on() {
    let _watch = watch();
    fn ignoring(_: ()) -> Option<i32> {
        // SAFETY: ignoring a signal installs no code.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        // What a grandchild learns of its own child.
        let code = |()| spawn(|()| (), ()).unwrap().wait().code();
        spawn(code, ()).unwrap().join().unwrap()
    }
    assert_eq!(spawn(ignoring, ()).unwrap().join().unwrap(), Some(0));
}

#[test]
fn closed_standard_descriptors_are_not_taken_by_files() {
    let _watch = watch();
    fn close_and_start(_: ()) -> Vec<(i32, String)> {
        for fd in 0..3 {
            // SAFETY: nobody owns the standard descriptors, nothing is written meanwhile.
            unsafe { libc::close(fd) };
        }
        spawn(surroundings, ()).unwrap().join().unwrap().fds
    }
    let fds = spawn(close_and_start, ()).unwrap().join().unwrap();
    let null = "/dev/null".to_string();
    assert_eq!(fds[..3], [(0, null.clone()), (1, null.clone()), (2, null)]);
    assert_eq!(fds.len(), 4);
}

#[test]
fn tools_see_the_program_s_name() {
    let _watch = watch();
    let name = |()| fs::read_to_string("/proc/self/comm").unwrap();
    let seen = spawn(name, ()).unwrap().join().unwrap();
    let own = own_path()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    assert_eq!(seen.trim_end(), &own[..own.len().min(15)]);
}

#[test]
fn what_works_in_a_usual_process_works_in_a_child() {
    let _watch = watch();
    fn work(_: ()) -> (String, bool, u32) {
        std::thread_local!(static LOCAL: std::cell::Cell<u32> = const { std::cell::Cell::new(3) });
        let thread = thread::spawn(|| LOCAL.get()).join().unwrap();
        let caught = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(1))).is_err();
        (format!("{:.3}", 0.5_f64), caught, thread + LOCAL.get())
    }
    assert_eq!(
        spawn(work, ()).unwrap().join().unwrap(),
        ("0.500".to_string(), true, 6)
    );
}

// The variable

fn variable() -> String {
    let version = env!("CARGO_PKG_VERSION").replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!("MULTIPROCESS_CHILD_{version}")
}

/// Runs the program with the variable and a descriptor 3.
fn with_variable(value: &str, third: Option<OwnedFd>) -> Output {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("/proc/self/exe");
    command.env(variable(), value);
    let third = third.map(IntoRawFd::into_raw_fd);
    // SAFETY: the closure makes system calls only.
    #[allow(clippy::multiple_unsafe_ops_per_block, reason = "a choice of one call")]
    unsafe {
        command.pre_exec(move || {
            match third {
                Some(3) => libc::fcntl(3, libc::F_SETFD, 0),
                Some(fd) => libc::dup2(fd, 3),
                None => libc::close(3),
            };
            Ok(())
        })
    };
    let output = in_program(command, "the_harness_runs");
    if let Some(fd) = third {
        // SAFETY: it was taken out of its owner above.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    output
}

#[test]
#[ignore = "run by others"]
fn the_harness_runs() {}

#[test]
fn a_wrong_variable_starts_neither_a_target_nor_main() {
    let _watch = watch();
    let memfd = |flags| {
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"trap".as_ptr(), flags) };
        // SAFETY: it was just made.
        unsafe { OwnedFd::from_raw_fd(fd) }
    };
    let seal = |fd: OwnedFd| {
        let mut file = File::from(fd);
        file.write_all(&[0; 4096]).unwrap();
        let seals = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
        // SAFETY: takes a number, touches no memory.
        let sealed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
        assert_eq!(sealed, 0);
        OwnedFd::from(file)
    };
    let file = || Some(OwnedFd::from(File::open("/dev/zero").unwrap()));
    let sealed = || Some(seal(memfd(libc::MFD_ALLOW_SEALING)));
    let traps = [
        ("", None, "form"),
        ("nonsense", None, "form"),
        ("1:0:0:0:", file(), "not a sealed memfd"),
        ("1:0:0:0:", Some(memfd(0)), "not a sealed memfd"),
        ("1:0:0:0:", sealed(), "magic"),
        ("1:0:ffffffffffffff00:0:", sealed(), ""),
        ("1:0:ff0:0:", sealed(), "beyond the end"),
        ("999999999:0:0:0:", sealed(), "was not passed"),
    ];
    for (value, third, reason) in traps {
        let output = with_variable(value, third);
        assert_eq!(output.status.code(), Some(70), "{value}: {output:?}");
        assert!(output.stdout.is_empty(), "{value}: {output:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.contains("a child could not start") && error.contains(reason),
            "{error}"
        );
    }
}

#[test]
fn another_version_s_variable_is_not_ours() {
    let _watch = watch();
    let mut command = Command::new("/proc/self/exe");
    command.env(format!("{}0", variable()), "nonsense");
    assert_passed(&in_program(command, "the_harness_runs"));
}

// The program's file

#[test]
fn a_function_of_a_library_is_refused() {
    let _watch = watch();
    let elsewhere = libc::abs as unsafe extern "C" fn(i32) -> i32 as *const ();
    // SAFETY: it is never called.
    let function = unsafe { std::mem::transmute::<*const (), fn(i32) -> i32>(elsewhere) };
    match spawn(function, 1) {
        Err(error) => {
            assert_eq!(Error::from_io(error.error()), Some(Error::NotInProgram));
            assert_eq!(error.into_inner(), 1);
        }
        // In a static program it is not elsewhere.
        Ok(process) => assert_eq!(process.wait(), ExitCode::Exited(0)),
    }
}

#[test]
fn a_stack_overflow_ends_the_child_alone() {
    let _watch = watch();
    fn deep(n: u64) -> u64 {
        std::hint::black_box([n; 64]);
        if n == u64::MAX {
            n
        } else {
            deep(std::hint::black_box(n) + 1) + 1
        }
    }
    let end = spawn(deep, 0).unwrap().wait();
    let signals = [libc::SIGSEGV, libc::SIGABRT].map(ExitCode::Signaled);
    assert!(signals.contains(&end), "{end}");
}

/// Builds a program of its own with everything that could hide a function from its child.
#[test]
fn a_stripped_program_with_link_time_optimisation_that_aborts() {
    let _watch = watch();
    let directory = Directory::new("program");
    let root = env!("CARGO_MANIFEST_DIR");
    let manifest = format!(
        r#"
        [package]
        name = "program"
        version = "0.0.0"
        edition = "2024"
        [dependencies]
        multiprocess = {{ path = {root:?} }}
        [profile.release]
        strip = true
        lto = "fat"
        codegen-units = 1
        panic = "abort"
        opt-level = 1
        [workspace]
        "#
    );
    let program = r#"
        use multiprocess::{ExitCode, JoinError, spawn};
        fn main() {
            let process = spawn(|(a, b): (u32, u32)| a / b, (6, 3)).unwrap();
            assert_eq!(process.join().unwrap(), 2);
            let process = spawn(|(a, b): (u32, u32)| a / b, (6, 0)).unwrap();
            assert_eq!(process.wait(), ExitCode::Signaled(6));
            let Err(JoinError::Panicked { message, location }) = process.join() else { panic!() };
            assert_eq!(message, "attempt to divide by zero");
            assert!(location.unwrap().contains("main.rs"));
        }
    "#;
    fs::create_dir(directory.0.join("src")).unwrap();
    fs::write(directory.0.join("Cargo.toml"), manifest).unwrap();
    fs::write(directory.0.join("src/main.rs"), program).unwrap();
    let lock = Path::new(root).join("Cargo.lock");
    if lock.exists() {
        fs::copy(lock, directory.0.join("Cargo.lock")).unwrap();
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // What is built stays from run to run.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("start-traps");
    let output = Command::new(cargo)
        .args(["run", "--release", "--quiet", "--offline"])
        .current_dir(&directory.0)
        .env("CARGO_TARGET_DIR", target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
