//! `atexit`, `_exit`: the end of this process.

#![allow(unsafe_code)]

use std::io;

/// `atexit(hook)`: `hook` is called when the process ends by returning from `main` or by `exit`, not when it aborts, is
/// killed or calls `_exit`. What was registered last is called first. A hook that panics aborts the process.
///
/// # Errors
///
/// `OutOfMemory`.
pub(crate) fn at_exit(hook: extern "C" fn()) -> io::Result<()> {
    // SAFETY: a function stays callable until the end; the C library unregisters those of an unloaded library.
    match unsafe { libc::atexit(hook) } {
        0 => Ok(()),
        _ => Err(io::ErrorKind::OutOfMemory.into()),
    }
}

/// `_exit(code)`: ends the process at once, without exit handlers, without flushing anything.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process whatever its state.
    unsafe { libc::_exit(code) }
}
