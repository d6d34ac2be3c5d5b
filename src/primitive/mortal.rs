//! Loom's atomics, for parties that can die: one that has so many writes left to live ends before the next one, as `kill -9` would
//! end it. Between two writes all points of death are the same to the others.

use core::sync::atomic::Ordering;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

loom::thread_local! {
    /// How many writes this thread may still make; `None` is any number.
    static LIFE: Cell<Option<u32>> = Cell::new(None);
}

/// What unwinds a party that has died.
struct Dead;

/// Runs `f` until its end, or until it has made `writes` writes and would make another one: then `None`.
pub(crate) fn live<R>(writes: u32, f: impl FnOnce() -> R) -> Option<R> {
    LIFE.with(|life| life.set(Some(writes)));
    let result = catch_unwind(AssertUnwindSafe(f));
    LIFE.with(|life| life.set(None));
    match result {
        Ok(value) => Some(value),
        Err(end) if end.is::<Dead>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

/// Here something is about to be changed that others see.
pub(super) fn write() {
    let left = LIFE.with(Cell::get);
    match left {
        // Without a word: it is no failure.
        Some(0) => resume_unwind(Box::new(Dead)),
        Some(left) => LIFE.with(|life| life.set(Some(left - 1))),
        None => {}
    }
}

macro_rules! mortal {
    ($name:ident, $value:ty) => {
        #[derive(Debug)]
        pub(crate) struct $name(loom::sync::atomic::$name);

        #[allow(dead_code, reason = "as much as the protocols use")]
        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                $name(loom::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                write();
                self.0.store(value, order)
            }

            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                write();
                self.0.swap(value, order)
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                write();
                self.0.compare_exchange(current, new, success, failure)
            }

            pub(crate) fn fetch_update(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                f: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                write();
                self.0.fetch_update(set_order, fetch_order, f)
            }
        }

        mortal!($name, $value, fetch_add fetch_sub fetch_or fetch_and fetch_max);
    };
    ($name:ident, $value:ty, $($operation:ident)*) => {
        #[allow(dead_code, reason = "as above")]
        impl $name {
            $(
                pub(crate) fn $operation(&self, value: $value, order: Ordering) -> $value {
                    write();
                    self.0.$operation(value, order)
                }
            )*
        }
    };
}

mortal!(AtomicU32, u32);
mortal!(AtomicU64, u64);
