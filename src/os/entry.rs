//! `.init_array`: the one file by which a child finds its target.
//!
//! A child is this same program executed afresh. A constructor of this crate looks for one environment variable. Without
//! it nothing happens and the program goes on to its `main`. With it the constructor never returns: it checks what it was
//! given, calls the constructors that come after it and then the function that the parent has named.
//!
//! The variable alone cannot make a program jump anywhere. It must come with a sealed memfd as descriptor 3 that holds a
//! [`StartPacket`] with the same nonce, made by the same build; the named function must lie in the program's code; and a
//! program that has more rights than who started it (`AT_SECURE`) ignores all this.
//!
//! What Rust's own start does and this does not: a stack overflow ends the child with SIGSEGV and no message, and the main
//! thread has no name. Constructors of shared libraries that the loader puts after this program's do not exist; those of
//! libraries loaded beside this crate, when it is a shared library itself, may not have run.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::OnceLock;

pub(crate) mod function;
pub(crate) mod image;

use function::Function;

use super::spawn::exit;
use super::{fds, memfd};

/// The exit code of a child that could not be started as its parent meant it (`EX_SOFTWARE`). It never runs `main`.
pub(crate) const START_FAILED: i32 = 70;

/// The first descriptor that is passed; 0, 1 and 2 are the standard ones.
pub(crate) const FIRST_FD: RawFd = 3;

const NAME_LEN: usize = "MULTIPROCESS_CHILD_".len() + env!("CARGO_PKG_VERSION").len() + 1;
const NAME_BYTES: [u8; NAME_LEN] = name();

/// The name of the variable. It holds the version, for a program may contain several versions of this crate.
pub(crate) const VARIABLE: &CStr = match CStr::from_bytes_with_nul(&NAME_BYTES) {
    Ok(name) => name,
    Err(_) => panic!("a version has no zero byte"),
};

/// Early among the constructors (Rust's own, for `std::env::args`, is 00099), so that what others open comes after the
/// descriptors were looked at.
#[cfg_attr(not(miri), used, unsafe(link_section = ".init_array.00100"))]
static HOOK: image::Constructor = hook;

/// Set by the hook: proof that children will find theirs.
static HOOKED: OnceLock<()> = OnceLock::new();

/// What a child is told to do: lies in the memfd that the child gets as its first descriptor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StartPacket {
    /// A number that the variable has to repeat, so that an old packet is not taken for this one.
    pub(crate) nonce: u64,
    /// What to call. When it returns the process ends: with 0, with [`START_FAILED`] for an error; 101 for a panic.
    pub(crate) function: Function<Start, io::Result<()>>,
}

impl StartPacket {
    /// The length of the encoded form.
    pub(crate) const LEN: usize = 64;
    const MAGIC: u64 = u64::from_ne_bytes(*b"mp start");
    const LAYOUT: u64 = 1;

    /// The encoded form: {magic, layout version, nonce, build identity, function}.
    ///
    /// # Errors
    ///
    /// When the program's build cannot be identified.
    pub(crate) fn to_bytes(self) -> io::Result<[u8; Self::LEN]> {
        let mut bytes = [0; Self::LEN];
        let words = [
            Self::MAGIC,
            Self::LAYOUT,
            self.nonce,
            image::build_identity()?,
        ];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        bytes[32..].copy_from_slice(&self.function.to_bytes());
        Ok(bytes)
    }

    fn from_bytes(bytes: &[u8; Self::LEN], nonce: u64) -> io::Result<StartPacket> {
        let (words, function) = bytes.split_at(32);
        let expected = [Self::MAGIC, Self::LAYOUT, nonce, image::build_identity()?];
        let names = ["magic", "layout", "nonce", "build"];
        for ((found, expected), name) in words.chunks_exact(8).zip(expected).zip(names) {
            if found != expected.to_ne_bytes() {
                return Err(invalid(&format!("the {name} of the start packet differs")));
            }
        }
        let function = function
            .first_chunk()
            .ok_or_else(|| invalid("short packet"))?;
        let function = Function::from_bytes(function)?;
        Ok(StartPacket { nonce, function })
    }
}

/// What the child's function gets.
#[derive(Debug)]
pub(crate) struct Start {
    /// The descriptors that were passed; the first is the memfd with the packet.
    pub(crate) fds: Vec<OwnedFd>,
    /// What the parent had to say beyond that.
    pub(crate) tail: String,
}

/// The variable's content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Variable<'a> {
    /// How many descriptors are passed.
    pub(crate) fds: usize,
    /// Must the child close those that were not passed?
    pub(crate) close_rest: bool,
    /// Where in the first of them the packet is.
    pub(crate) offset: u64,
    /// The packet's.
    pub(crate) nonce: u64,
    /// For the function.
    pub(crate) tail: &'a str,
}

impl<'a> Variable<'a> {
    /// The whole environment string, `NAME=value`.
    pub(crate) fn to_environment(&self) -> io::Result<CString> {
        let mut bytes = VARIABLE.to_bytes().to_vec();
        let close = u8::from(self.close_rest);
        write!(
            bytes,
            "={}:{close}:{:x}:{:x}:",
            self.fds, self.offset, self.nonce
        )?;
        bytes.extend_from_slice(self.tail.as_bytes());
        Ok(CString::new(bytes)?)
    }

    fn parse(value: &'a str) -> Option<Variable<'a>> {
        let mut parts = value.splitn(5, ':');
        Some(Variable {
            fds: parts.next()?.parse().ok().filter(|&fds| fds >= 1)?,
            close_rest: parts.next()? == "1",
            offset: u64::from_str_radix(parts.next()?, 16).ok()?,
            nonce: u64::from_str_radix(parts.next()?, 16).ok()?,
            tail: parts.next()?,
        })
    }
}

/// Will a child of this program find its way here? It would run `main` if not.
///
/// # Errors
///
/// `Unsupported` when the constructor did not run in this process, which means that it is not linked in.
pub(crate) fn is_in_place() -> io::Result<()> {
    // The mention keeps the constructor's object file in the link.
    std::hint::black_box(&raw const HOOK);
    HOOKED.get().copied().ok_or_else(|| {
        let text = "the program was linked without the constructor that starts children";
        io::Error::new(io::ErrorKind::Unsupported, text)
    })
}

/// The constructor. The C runtime calls it in every process that contains this crate, before `main`.
extern "C" fn hook(argc: c_int, argv: *const *const c_char, environment: *const *const c_char) {
    let _ = HOOKED.set(());
    let Some(value) = take_variable() else {
        return;
    };
    // From here on this is a child, which must not run `main` whatever happens.
    let run = || start(&value, |constructor| constructor(argc, argv, environment));
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(Err(error)) => {
            // Without standard error there is nobody to tell.
            let _ = writeln!(
                io::stderr(),
                "multiprocess: a child could not start: {error}"
            );
            exit::exit_now(START_FAILED)
        }
        Ok(Ok(())) => std::process::exit(0),
        // The panic hook has printed the message.
        Err(_) => std::process::exit(101),
    }
}

/// `getenv`, `unsetenv`: the value, if this is a child. Nothing started from here finds it again.
fn take_variable() -> Option<String> {
    // SAFETY: before `main` nobody changes the environment at the same time.
    let value = unsafe { libc::getenv(VARIABLE.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: getenv returns a C string, which stays until the variable is changed.
    let value = unsafe { CStr::from_ptr(value) };
    let value = value.to_string_lossy().into_owned();
    // SAFETY: as for getenv.
    unsafe { libc::unsetenv(VARIABLE.as_ptr()) };
    (!image::is_secure_execution()).then_some(value)
}

fn start(value: &str, construct: impl Fn(image::Constructor)) -> io::Result<()> {
    let variable = Variable::parse(value).ok_or_else(|| invalid("the variable's form"))?;
    // SAFETY: the program's own code has not run yet, and the parent has put its descriptors at these numbers.
    let fds = unsafe { fds::adopt(FIRST_FD, variable.fds) }?;
    if variable.close_rest {
        let rest = FIRST_FD + variable.fds as RawFd;
        // SAFETY: the program's own code has not run yet, so nobody has opened any.
        unsafe { fds::close_from(rest) }?;
    }
    fds::complete_standard()?;
    let packet = read_packet(fds[0].as_fd(), &variable)?;

    image::constructors_after(&raw const HOOK as usize)
        .into_iter()
        .for_each(construct);
    name_after_program();
    // As Rust's own start does: writing to a closed pipe is an error, not the end.
    // SAFETY: setting a signal to "ignored" installs no code.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };

    let start = Start {
        fds,
        tail: variable.tail.to_owned(),
    };
    packet.function.call(start)
}

/// `prctl(PR_SET_NAME)`: the kernel has named this process after "/proc/self/exe"; tools look for the program's name.
fn name_after_program() {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    if let Ok(name) = CString::new(name.as_bytes()) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// `pread`: the packet, if it is one that the parent can have meant.
fn read_packet(
    memory: std::os::fd::BorrowedFd<'_>,
    variable: &Variable<'_>,
) -> io::Result<StartPacket> {
    if !memfd::is_sealed_memfd(memory) {
        return Err(invalid("descriptor 3 is not a sealed memfd"));
    }
    let mut bytes = [0; StartPacket::LEN];
    let len = rustix::io::retry_on_intr(|| rustix::io::pread(memory, &mut bytes, variable.offset))?;
    if len != bytes.len() {
        return Err(invalid("the start packet is beyond the end of the memory"));
    }
    StartPacket::from_bytes(&bytes, variable.nonce)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The version with what a variable's name may not hold replaced, and the zero byte.
const fn name() -> [u8; NAME_LEN] {
    let (prefix, version) = (b"MULTIPROCESS_CHILD_", env!("CARGO_PKG_VERSION").as_bytes());
    let mut name = [0; NAME_LEN];
    let mut i = 0;
    while i < NAME_LEN - 1 {
        let byte = if i < prefix.len() {
            prefix[i]
        } else {
            version[i - prefix.len()]
        };
        name[i] = if byte.is_ascii_alphanumeric() {
            byte
        } else {
            b'_'
        };
        i += 1;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(_: fn(u8) -> u8, _: Start) -> io::Result<()> {
        unreachable!("only its address is used")
    }

    #[test]
    fn the_hook_has_run() {
        is_in_place().unwrap();
    }

    #[test]
    fn the_name_holds_the_version() {
        let expected = format!(
            "MULTIPROCESS_CHILD_{}",
            env!("CARGO_PKG_VERSION").replace(['.', '-', '+'], "_")
        );
        assert_eq!(VARIABLE.to_str().unwrap(), expected);
    }

    #[test]
    fn the_variable_is_read_as_it_was_written() {
        let variable = Variable {
            fds: 2,
            close_rest: true,
            offset: 0xabc0,
            nonce: u64::MAX,
            tail: "a:b=c",
        };
        let text = variable.to_environment().unwrap().into_string().unwrap();
        let (_, value) = text.split_once('=').unwrap();
        assert_eq!(Variable::parse(value), Some(variable));
        for wrong in [
            "",
            "0:0:0:0:",
            "1:0:0:0",
            "1:0:x:0:",
            "-1:0:0:0:",
            "1:0:0:10000000000000000:",
        ] {
            assert_eq!(Variable::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_packet_is_refused_when_one_bit_differs() {
        let function = Function::new(body, |x: u8| x).unwrap();
        let bytes = StartPacket { nonce: 5, function }.to_bytes().unwrap();
        assert!(StartPacket::from_bytes(&bytes, 5).is_ok());
        assert!(StartPacket::from_bytes(&bytes, 6).is_err());
        for bit in 0..8 * bytes.len() {
            let mut wrong = bytes;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(StartPacket::from_bytes(&wrong, 5).is_err(), "bit {bit}");
        }
    }
}
