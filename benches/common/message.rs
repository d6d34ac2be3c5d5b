//! The messages, and how they are checked.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteArray, ByteBuf};
use std::sync::LazyLock;
use zerocopy::IntoBytes;

/// Something to send.
pub trait Message: Send + 'static {
    /// How many bytes it is for a channel of bytes.
    const LEN: usize;

    /// The `i`th message of the sender `from`.
    fn make(from: u8, i: u64) -> Self;

    /// What a channel of bytes carries.
    fn bytes(&self) -> &[u8];
}

/// A number that cannot be encoded shortly.
impl Message for u64 {
    const LEN: usize = 8;

    fn make(from: u8, i: u64) -> Self {
        u64::from(from) << 56 | i
    }

    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// 64 bytes that are copied with the value.
impl Message for ByteArray<64> {
    const LEN: usize = 64;

    fn make(from: u8, i: u64) -> Self {
        let mut bytes = [0x5a; 64];
        bytes[..8].copy_from_slice(&u64::make(from, i).to_ne_bytes());
        bytes[56..].copy_from_slice(&(!i).to_ne_bytes());
        ByteArray::new(bytes)
    }

    fn bytes(&self) -> &[u8] {
        &**self
    }
}

/// Bytes that the sender has already (nothing is made for a message) and that the receiver gets as a `Vec`.
#[derive(Clone, Debug)]
pub enum Block<const N: usize> {
    /// The sender's.
    Lent(&'static [u8]),
    /// The receiver's.
    Owned(Vec<u8>),
}

impl<const N: usize> Message for Block<N> {
    const LEN: usize = N;

    fn make(_: u8, i: u64) -> Self {
        Self::Lent(piece(i, N))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl<const N: usize> Serialize for Block<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.bytes())
    }
}

impl<'de, const N: usize> Deserialize<'de> for Block<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ByteBuf::deserialize(deserializer).map(|bytes| Self::Owned(bytes.into_vec()))
    }
}

/// Bytes that the sender allocates for each message, as it must to send them to another thread.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Heap<const N: usize>(ByteBuf);

impl<const N: usize> Message for Heap<N> {
    const LEN: usize = N;

    fn make(_: u8, i: u64) -> Self {
        Self(ByteBuf::from(piece(i, N)))
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// How far the pieces of two messages are apart, and how many differ.
const STEP: usize = 64;
const PIECES: u64 = 16;

/// `len` bytes that differ from those of the messages before and after.
pub fn piece(i: u64, len: usize) -> &'static [u8] {
    static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let words = (0u64..).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes());
        let len = (1 << 20) + STEP * PIECES as usize;
        words.flatten().take(len).collect()
    });
    &POOL[(i % PIECES) as usize * STEP..][..len]
}

/// A number for a message. Sums of it tell whether what arrived is what was sent.
#[inline]
pub fn digest(bytes: &[u8]) -> u64 {
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    if bytes.len() == 8 {
        word(0)
    } else {
        word(0).wrapping_mul(3).wrapping_add(word(bytes.len() - 8))
    }
}

/// Checks that what arrives from each sender is whole, in order and nothing twice.
#[derive(Debug, Default)]
pub struct Audit {
    next: [u64; 16],
}

impl Audit {
    /// Takes the next message of one receiver. `alone`: there is no other receiver, so that none may be missing.
    pub fn take<M: Message>(&mut self, bytes: &[u8], alone: bool) {
        let from = if M::LEN == 8 { bytes[7] } else { 0 };
        let next = &mut self.next[usize::from(from)];
        let mut i = *next;
        if !alone {
            i = digest(bytes) & (u64::MAX >> 8);
            assert!(i >= *next, "message {i} where {next} was to come");
        }
        assert!(
            M::make(from, i).bytes() == bytes,
            "not message {i} of sender {from}: {:?}",
            &bytes[..bytes.len().min(64)]
        );
        *next = i + 1;
    }
}
