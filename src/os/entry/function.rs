//! Functions by name of their place: a Rust function that another process of the same program can call.
//!
//! A function pointer means nothing in another process, its offset in the main image does. A [`Function`] is such an
//! offset together with what is needed to call it without knowing its argument's type: a *body*, generic over that type,
//! that gets the function and a context, finds the argument in the context and calls the function with it.

#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::marker::PhantomData;

use super::image::{self, Hash};

/// A function of this program and the body that calls it, for a context `C` and an outcome `O`.
pub(crate) struct Function<C, O> {
    shim: u64,
    body: u64,
    target: u64,
    check: u64,
    types: PhantomData<fn(C) -> O>,
}

/// What a shim looks like: the types of the function and its argument are known to it alone.
type Shim<C, O> = unsafe fn(usize, usize, C) -> O;

impl<C, O> Function<C, O> {
    /// Names `target`, to be called by `body`.
    ///
    /// # Errors
    ///
    /// `Unsupported` when one of the functions is not in the main image.
    #[inline] // in the caller's crate, so that the shim is in the main image when this crate is a shared library
    pub(crate) fn new<A, R>(body: fn(fn(A) -> R, C) -> O, target: fn(A) -> R) -> io::Result<Self> {
        let shim: Shim<C, O> = shim::<A, R, C, O>;
        let offsets = [
            image::image_offset(shim as usize)?,
            image::image_offset(body as usize)?,
            image::image_offset(target as usize)?,
        ];
        Ok(Self::from_parts(offsets, Self::check(offsets)?))
    }

    /// Calls the body with the function and the context.
    ///
    /// # Panics
    ///
    /// When the body or the function panics.
    pub(crate) fn call(&self, context: C) -> O {
        let address = |offset| image::image_address(offset).expect("looked at when it was made");
        let shim = std::ptr::with_exposed_provenance::<()>(address(self.shim));
        // SAFETY: `new` took the offset from such a function, in this build; `from_bytes` checks that.
        let shim = unsafe { std::mem::transmute::<*const (), Shim<C, O>>(shim) };
        // SAFETY: `new` took the two offsets together with the shim's, so they have the types that it expects.
        unsafe { shim(address(self.body), address(self.target), context) }
    }

    /// The encoded form: the offsets and a check word.
    pub(crate) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let words = [self.shim, self.body, self.target, self.check];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Decodes what [`to_bytes`](Self::to_bytes) has made in a process of the same build.
    ///
    /// # Errors
    ///
    /// `InvalidData` when the check word does not fit the offsets, the types `C` and `O` and this build, or an offset is
    /// not in the program's code. So bytes that come here by mistake are refused.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> io::Result<Self> {
        let word = |i: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[8 * i..8 * i + 8]);
            u64::from_ne_bytes(word)
        };
        let offsets = [word(0), word(1), word(2)];
        if Self::check(offsets)? != word(3) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not the name of a function of this build",
            ));
        }
        for offset in offsets {
            image::image_address(offset)?;
        }
        Ok(Self::from_parts(offsets, word(3)))
    }

    fn from_parts([shim, body, target]: [u64; 3], check: u64) -> Self {
        Function {
            shim,
            body,
            target,
            check,
            types: PhantomData,
        }
    }

    fn check(offsets: [u64; 3]) -> io::Result<u64> {
        let mut hash = Hash::new();
        for word in offsets.into_iter().chain([image::build_identity()?]) {
            hash.add(&word.to_ne_bytes());
        }
        hash.add(std::any::type_name::<fn(C) -> O>().as_bytes());
        Ok(hash.finish())
    }
}

/// Gives the body and the target their types back and calls.
///
/// # Safety
///
/// `body` is the address of a `fn(fn(A) -> R, C) -> O`, `target` that of a `fn(A) -> R`.
#[inline]
unsafe fn shim<A, R, C, O>(body: usize, target: usize, context: C) -> O {
    let body = std::ptr::with_exposed_provenance::<()>(body);
    // SAFETY: by the contract.
    let body = unsafe { std::mem::transmute::<*const (), fn(fn(A) -> R, C) -> O>(body) };
    let target = std::ptr::with_exposed_provenance::<()>(target);
    // SAFETY: by the contract.
    let target = unsafe { std::mem::transmute::<*const (), fn(A) -> R>(target) };
    body(target, context)
}

impl<C, O> Clone for Function<C, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C, O> Copy for Function<C, O> {}

impl<C, O> fmt::Debug for Function<C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Function({:#x})", self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body<A: From<u8>, R: Into<u64>>(target: fn(A) -> R, context: u8) -> u64 {
        target(A::from(context)).into()
    }

    #[test]
    fn a_function_can_be_called_by_its_bytes() {
        let double = Function::<u8, u64>::new(body::<u64, u64>, |x| 2 * x).unwrap();
        let text = Function::<u8, u64>::new(body::<char, u32>, |c| u32::from(c) + 1).unwrap();
        let copy = Function::<u8, u64>::from_bytes(&double.to_bytes()).unwrap();
        assert_eq!(copy.call(21), 42);
        let copy = Function::<u8, u64>::from_bytes(&text.to_bytes()).unwrap();
        assert_eq!(copy.call(b'a'), 98);
    }

    #[test]
    fn wrong_bytes_are_refused() {
        let bytes = Function::<u8, u64>::new(body::<u64, u64>, |x| x)
            .unwrap()
            .to_bytes();
        assert!(Function::<u8, u32>::from_bytes(&bytes).is_err());
        assert!(Function::<u8, u64>::from_bytes(&[0; 32]).is_err());
        for i in 0..32 {
            let mut wrong = bytes;
            wrong[i] ^= 4;
            assert!(Function::<u8, u64>::from_bytes(&wrong).is_err());
        }
    }
}
