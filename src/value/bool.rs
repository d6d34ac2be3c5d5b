//! A truth value of which every byte is one.
#![forbid(unsafe_code)]

use std::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A `bool` for shared memory: a byte of which zero is false and anything else true, where a `bool` would have bytes that are
/// neither.
///
/// ```
/// use multiprocess::{Bool, Value};
///
/// let ready = Value::new(Bool::from(false))?;
/// ready.set(true.into()).unwrap();
/// assert!(ready.get().unwrap().get());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
pub struct Bool(u8);

impl Bool {
    /// Neither of the bytes that make a `bool` undefined gets out of here.
    #[inline]
    pub const fn get(self) -> bool {
        self.0 != 0
    }

    /// The same for a `bool`.
    #[inline]
    pub const fn new(value: bool) -> Bool {
        Bool(value as u8)
    }
}

impl From<bool> for Bool {
    fn from(value: bool) -> Bool {
        Bool::new(value)
    }
}

impl From<Bool> for bool {
    fn from(value: Bool) -> bool {
        value.get()
    }
}

impl PartialEq for Bool {
    fn eq(&self, other: &Bool) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Bool {}

impl PartialEq<bool> for Bool {
    fn eq(&self, other: &bool) -> bool {
        self.get() == *other
    }
}

impl fmt::Debug for Bool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
