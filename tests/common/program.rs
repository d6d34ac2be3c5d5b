//! Finds an example's program, runs it in a process group of its own, and sees that nobody is left of it.

#![allow(dead_code, reason = "each test takes its part")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// By then it hangs.
const GUARD: Duration = Duration::from_secs(180);

/// A folder that goes with the value.
pub struct Folder {
    pub path: PathBuf,
}

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("example-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder { path }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The folder of the examples' programs. `cargo test` builds them with the tests, but `cargo test --test pipeline` does not:
/// cargo is asked to see that they are there and new.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        // target[/TRIPLE]/PROFILE/deps/pipeline-HASH
        let profile = test.ancestors().nth(2).unwrap();
        let mut target = profile.parent().unwrap();
        if let Some(cargo) = std::env::var_os("CARGO") {
            let mut build = Command::new(cargo);
            build.args(["build", "--quiet", "--examples", "--manifest-path"]);
            build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
            build.args([
                "--profile",
                if profile.ends_with("debug") {
                    "test"
                } else {
                    "release"
                },
            ]);
            if !target.join("CACHEDIR.TAG").exists() {
                build.arg("--target").arg(target.file_name().unwrap());
                target = target.parent().unwrap();
            }
            let status = build
                .arg("--target-dir")
                .arg(target)
                .stdin(Stdio::null())
                .status()
                .unwrap();
            assert!(status.success(), "{build:?}: {status}");
        }
        profile.join("examples")
    })
}

/// What a program left: exit code (none: killed by a signal) and output.
#[derive(Debug)]
pub struct End {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs an example to its end, which must leave nobody behind.
pub fn run(example: &str, arguments: &[&OsStr]) -> End {
    let (end, left) = Program::start(example, arguments).end();
    assert_eq!(left, 0, "processes left behind: {end:?}");
    end
}

/// A running program and its process group.
pub struct Program {
    child: Child,
    /// Outside the folder that the program looks at.
    output: Folder,
}

/// A shell starts what it runs in the background with the interrupt from the keyboard ignored, which programs inherit.
#[allow(unsafe_code)]
fn heed_interrupts() -> std::io::Result<()> {
    // SAFETY: the default action is a valid one.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    Ok(())
}

impl Program {
    #[allow(unsafe_code)]
    pub fn start(example: &str, arguments: &[&OsStr]) -> Program {
        let unique = format!("output-{:?}-{:?}", thread::current().id(), Instant::now());
        let output = Folder::new(&unique.replace(|c: char| !c.is_alphanumeric(), "-"));
        let mut command = Command::new(programs().join(example));
        // SAFETY: a signal's action may be set between fork and exec.
        unsafe { command.pre_exec(heed_interrupts) };
        let child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(output.path.join("out")).unwrap())
            .stderr(File::create(output.path.join("err")).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        Program { child, output }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// As Ctrl-C at a terminal does.
    pub fn signal_group(&self, signal: Signal) {
        kill_process_group(self.pid(), signal).unwrap();
    }

    /// The processes of the group that live (a zombie does not).
    fn living(&self) -> Vec<Pid> {
        let group = self.pid().as_raw_nonzero().to_string();
        let lives = |entry: fs::DirEntry| -> Option<Pid> {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // pid (name) state parent group ..
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            (fields[2] == group && !matches!(fields[0], "Z" | "X")).then(|| Pid::from_raw(pid))?
        };
        let entries = fs::read_dir("/proc").unwrap();
        entries.filter_map(|entry| lives(entry.unwrap())).collect()
    }

    /// Its processes but the first.
    pub fn children(&self) -> Vec<Pid> {
        let mut pids = self.living();
        pids.retain(|pid| *pid != self.pid());
        pids
    }

    /// Waits until so many processes of the group live.
    pub fn wait_for_processes(&self, count: usize) {
        let begun = Instant::now();
        while self.living().len() != count {
            assert!(
                begun.elapsed() < GUARD,
                "{:?} instead of {count} processes",
                self.living()
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for its end; says also how many of its processes are left then.
    pub fn end(&mut self) -> (End, usize) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                begun.elapsed() < GUARD,
                "no end; so far it said: {:?}",
                self.said()
            );
            thread::sleep(Duration::from_millis(1));
        };
        let left = self.living().len();
        let (out, err) = self.said();
        (
            End {
                code: status.code(),
                out,
                err,
            },
            left,
        )
    }

    /// What it has said so far: its output, and that for errors.
    pub fn said(&self) -> (String, String) {
        let read = |name: &str| {
            String::from_utf8_lossy(&fs::read(self.output.path.join(name)).unwrap()).into_owned()
        };
        (read("out"), read("err"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Whatever failed, nobody stays.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
    }
}
