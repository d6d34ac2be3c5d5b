//! The only file that names atomics, fences, `UnsafeCell` and the futex word. Everything above uses these names, so that
//! the same protocols run in shared memory and, under `all(test, loom)`, in loom's model checker.
//!
//! They are `type` aliases and not re-exports because `clippy::disallowed_types` looks through the latter.
#![allow(unsafe_code, clippy::disallowed_types)]

use core::sync::atomic::Ordering;
use std::time::Duration;

/// Parties of a model that die.
#[cfg(all(test, loom))]
pub(crate) mod mortal;

#[cfg(not(all(test, loom)))]
mod imp {
    pub(crate) type AtomicU32 = core::sync::atomic::AtomicU32;
    pub(crate) type AtomicU64 = core::sync::atomic::AtomicU64;
    pub(crate) use core::sync::atomic::fence;
}

#[cfg(all(test, loom))]
mod imp {
    pub(crate) type AtomicU32 = super::mortal::AtomicU32;
    pub(crate) type AtomicU64 = super::mortal::AtomicU64;
    pub(crate) use loom::sync::atomic::fence;
}

pub(crate) use imp::{AtomicU32, AtomicU64, fence};

/// Atomics that stay in this process and are part of no modelled protocol.
pub(crate) mod private {
    pub(crate) type AtomicU32 = core::sync::atomic::AtomicU32;
    pub(crate) type AtomicU64 = core::sync::atomic::AtomicU64;
}

/// Atomics that are the user's own data in shared memory. Nothing of this crate relies on what they hold.
pub(crate) mod plain {
    pub(crate) type AtomicI8 = core::sync::atomic::AtomicI8;
    pub(crate) type AtomicI16 = core::sync::atomic::AtomicI16;
    pub(crate) type AtomicI32 = core::sync::atomic::AtomicI32;
    pub(crate) type AtomicI64 = core::sync::atomic::AtomicI64;
    pub(crate) type AtomicIsize = core::sync::atomic::AtomicIsize;
    pub(crate) type AtomicU8 = core::sync::atomic::AtomicU8;
    pub(crate) type AtomicU16 = core::sync::atomic::AtomicU16;
    pub(crate) type AtomicU32 = core::sync::atomic::AtomicU32;
    pub(crate) type AtomicU64 = core::sync::atomic::AtomicU64;
    pub(crate) type AtomicUsize = core::sync::atomic::AtomicUsize;
}

/// Orders an earlier read-modify-write before a later load (store-load). On x86-64 a locked instruction is a full barrier,
/// so only the compiler needs to be told.
#[inline]
pub(crate) fn fence_after_rmw() {
    #[cfg(all(target_arch = "x86_64", not(all(test, loom))))]
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(all(test, loom)))))]
    imp::fence(Ordering::SeqCst);
}

/// Asks for a cache line that will be written soon, so that the store need not wait until another CPU has given it up. A hint:
/// nothing is read or written, whatever the address.
#[inline]
pub(crate) fn prefetch_for_write(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the instruction changes no memory and no register, and faults for no address.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}

/// The two halves of an asymmetric store-load handshake. One mode for the whole family: mixing them would order nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fences {
    /// A fence on both sides.
    Symmetric,
    /// Nothing on the frequent side, `membarrier` on the side that goes to sleep.
    #[cfg_attr(all(test, loom), allow(dead_code))]
    Membarrier,
}

impl Fences {
    /// The side that is taken at every message.
    #[inline]
    pub(crate) fn light(self) {
        match self {
            Fences::Symmetric => imp::fence(Ordering::SeqCst),
            Fences::Membarrier => core::sync::atomic::compiler_fence(Ordering::SeqCst),
        }
    }

    /// The side that is about to sleep.
    pub(crate) fn heavy(self) {
        match self {
            Fences::Symmetric => imp::fence(Ordering::SeqCst),
            Fences::Membarrier => crate::os::membarrier::barrier(),
        }
    }
}

/// A 32-bit word that processes sleep on.
#[repr(transparent)]
#[derive(Debug)]
#[cfg(not(all(test, loom)))]
pub(crate) struct FutexWord(AtomicU32);

#[cfg(not(all(test, loom)))]
impl FutexWord {
    pub(crate) fn new(value: u32) -> Self {
        FutexWord(AtomicU32::new(value))
    }

    #[inline]
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// Sleeps while the word is `expected`, until a wake or the end of `timeout`; may also return for no reason. False when the time
    /// was over. Every outcome leads the caller to look at its condition again.
    pub(crate) fn wait(&self, expected: u32, timeout: Duration) -> bool {
        crate::os::futex::wait(&self.0, expected, Some(timeout)).is_ok()
    }

    /// Wakes up to `count` sleepers and says how many slept.
    pub(crate) fn wake(&self, count: u32) -> usize {
        crate::os::futex::wake(&self.0, count)
    }
}

/// Sleeps while each of the words is as expected, until a wake of any; `Unsupported` where the kernel cannot.
#[cfg(not(all(test, loom)))]
pub(crate) fn wait_any(words: &[(&FutexWord, u32)], timeout: Duration) -> std::io::Result<()> {
    let words: Vec<_> = words.iter().map(|(word, key)| (&word.0, *key)).collect();
    crate::os::futex::wait_any(&words, timeout)
}

/// No model waits for several.
#[cfg(all(test, loom))]
pub(crate) fn wait_any(_: &[(&FutexWord, u32)], _: Duration) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// The futex in loom: the kernel's compare under its bucket lock, and its barriers, are a mutex and SeqCst fences here.
#[cfg(all(test, loom))]
mod futex {
    use super::{AtomicU32, Duration, Ordering, imp};
    use loom::sync::{Condvar, Mutex};

    #[derive(Debug, Default)]
    struct Queue {
        /// Sleepers so far, and how many of them, the first ones, were woken.
        slept: usize,
        woken: usize,
        /// From now on every sleep is over at once, as if its time were.
        expired: bool,
    }

    #[derive(Debug)]
    struct Bucket {
        queue: Mutex<Queue>,
        woken: Condvar,
    }

    impl Bucket {
        fn new() -> Self {
            Bucket {
                queue: Mutex::new(Queue::default()),
                woken: Condvar::new(),
            }
        }

        fn wait(&self, is_expected: impl FnOnce() -> bool) {
            let mut queue = self.queue.lock().unwrap();
            imp::fence(Ordering::SeqCst);
            if !is_expected() {
                return;
            }
            let ticket = queue.slept;
            queue.slept += 1;
            while queue.woken <= ticket && !queue.expired {
                queue = self.woken.wait(queue).unwrap();
            }
            let expired = queue.expired;
            drop(queue);
            if expired {
                loom::thread::yield_now();
            }
        }

        fn expire(&self) {
            self.queue.lock().unwrap().expired = true;
            self.woken.notify_all();
        }

        fn wake(&self, count: u32) -> usize {
            super::mortal::write();
            imp::fence(Ordering::SeqCst);
            let mut queue = self.queue.lock().unwrap();
            let asleep = queue.slept.saturating_sub(queue.woken);
            let woken = asleep.min(count as usize);
            queue.woken += woken;
            self.woken.notify_all();
            woken
        }
    }

    #[derive(Debug)]
    pub(crate) struct FutexWord {
        word: AtomicU32,
        bucket: Bucket,
    }

    impl FutexWord {
        pub(crate) fn new(value: u32) -> Self {
            FutexWord {
                word: AtomicU32::new(value),
                bucket: Bucket::new(),
            }
        }

        pub(crate) fn word(&self) -> &AtomicU32 {
            &self.word
        }

        /// Without the time limit: in a model a wake-up that never comes must show as a deadlock.
        pub(crate) fn wait(&self, expected: u32, _timeout: Duration) -> bool {
            self.bucket
                .wait(|| self.word.load(Ordering::Relaxed) == expected);
            true
        }

        pub(crate) fn wake(&self, count: u32) -> usize {
            self.bucket.wake(count)
        }

        /// Ends all sleeps, now and later, as the time limit would: after a death in a model.
        pub(crate) fn expire(&self) {
            self.bucket.expire();
        }
    }
}

#[cfg(all(test, loom))]
pub(crate) use futex::FutexWord;
