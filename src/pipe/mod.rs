//! Pipes: two ends, each with one owner.
//!
//! `end` is who owns an end and how it moves, `sender` and `receiver` are the ends, `connection` is one of each; `bytes`, `claim` and
//! `stream` are the ways to send and receive something else than a small value; `kind` is what the arena does when owners are gone.
#![forbid(unsafe_code)]

mod bytes;
mod claim;
mod connection;
mod end;
mod kind;
mod receiver;
mod sender;
mod stream;

pub use bytes::RecvIntoError;
pub use claim::{Claim, Received};
pub use connection::Connection;
pub(crate) use kind::{PipeKind, READER_KIND, WRITER_KIND};
pub use receiver::{PipeIter, PipeReceiver};
pub use sender::PipeSender;

use crate::arena::{self, Arena};
use crate::error::Error;
use crate::ring::ByteRing;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;

#[cfg(all(test, not(loom)))]
mod tests;

/// Makes pipes. A pipe is a way from one owner to another, who may be in different processes: what is sent at one end is
/// received at the other, in order.
///
/// Unlike a [`Queue`](crate::Queue) or a [`channel`](crate::channel()) each end has exactly one owner, which the types check (sending and receiving takes
/// `&mut self`, and there is no `Clone`). That makes it several times as fast: nothing is claimed, and no instruction locks the
/// bus. An end can be an argument of a process or part of a message; that moves it. Do not send a
/// receiver through its own pipe, nor two through each other's: nobody can receive them any more, and the pipes stay until the last
/// process of the family has ended.
///
/// When an end is dropped, or its owner ends in whatever way, the other end learns of it: a receiver gets what was sent and
/// then [`RecvError::Closed`](crate::RecvError), a sender gets [`SendError::Closed`](crate::SendError). Nobody else keeps a pipe open, neither who kept
/// a reference to an end that has moved on nor a message in which it was before. (So a task of a
/// [`JoinableQueue`](crate::JoinableQueue) with an end in it cannot be done again: the end goes with the consumer that had it.) Who waits learns of
/// a drop at once and of a death within a moment (0.1 s, as long as the machine keeps up).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiprocess::{Connection, Pipe, spawn};
///
/// fn serve(mut requests: Connection<String, u64>) {
///     while let Ok(number) = requests.recv() {
///         requests.send(format!("{number} squared is {}", number * number)).unwrap();
///     }
/// }
///
/// let (mut client, server) = Pipe::duplex::<u64, String>()?;
/// let process = spawn(serve, server)?; // the end moves to the process
/// client.send(12)?;
/// assert_eq!(client.recv()?, "12 squared is 144");
/// client.close(); // the server's loop ends
/// process.join()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub enum Pipe {}

impl Pipe {
    /// A pipe with two directions: the first end sends `A` and receives `B`, the second the other way round.
    ///
    /// A direction that is full makes its sender wait. So do not let both sides send more than fits, neither receiving: they
    /// would wait for each other for ever, or until a timeout. One of them receives in a thread of its own
    /// ([`split`](Connection::split)), or both use `try_send` and receive in between.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::Error::NoMemory), [`Error::ForeignFork`](crate::Error::ForeignFork).
    #[doc(alias = "Pipe")]
    pub fn duplex<A, B>() -> io::Result<(Connection<A, B>, Connection<B, A>)>
    where
        A: Serialize + DeserializeOwned,
        B: Serialize + DeserializeOwned,
    {
        Pipe::duplex_in(arena::family()?, ByteRing::USUAL)
    }

    /// The same with about so many bytes for messages on their way, each direction; by default it is 30 KiB. Longer messages than
    /// that go through all the same.
    ///
    /// # Errors
    /// As [`duplex`](Self::duplex), and [`Error::InvalidCapacity`](crate::Error::InvalidCapacity) for 0 and for more than can be addressed.
    pub fn duplex_with_capacity<A, B>(
        bytes: usize,
    ) -> io::Result<(Connection<A, B>, Connection<B, A>)>
    where
        A: Serialize + DeserializeOwned,
        B: Serialize + DeserializeOwned,
    {
        let capacity = ByteRing::capacity_for(bytes).ok_or(Error::InvalidCapacity)?;
        Pipe::duplex_in(arena::family()?, capacity)
    }

    /// A pipe with one direction.
    ///
    /// ```
    /// let (mut receiver, mut sender) = multiprocess::Pipe::simplex::<String>()?;
    /// sender.send("hello".to_string())?;
    /// drop(sender);
    /// let all: Result<Vec<String>, _> = receiver.iter().collect();
    /// assert_eq!(all?, ["hello"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Each end has the calls of its side, and one thread at a time:
    /// ```compile_fail,E0599
    /// # let (mut receiver, mut sender) = multiprocess::Pipe::simplex::<u8>().unwrap();
    /// receiver.send(1);
    /// ```
    /// ```compile_fail,E0277
    /// # let (mut receiver, mut sender) = multiprocess::Pipe::simplex::<u8>().unwrap();
    /// std::thread::scope(|scope| scope.spawn(|| sender.is_closed()).join());
    /// ```
    ///
    /// # Errors
    /// As [`duplex`](Self::duplex).
    pub fn simplex<T>() -> io::Result<(PipeReceiver<T>, PipeSender<T>)>
    where
        T: Serialize + DeserializeOwned,
    {
        Pipe::simplex_in(arena::family()?, ByteRing::USUAL)
    }

    /// The same with about so many bytes for messages on their way; see [`duplex_with_capacity`](Self::duplex_with_capacity).
    ///
    /// # Errors
    /// As [`duplex_with_capacity`](Self::duplex_with_capacity).
    pub fn simplex_with_capacity<T>(bytes: usize) -> io::Result<(PipeReceiver<T>, PipeSender<T>)>
    where
        T: Serialize + DeserializeOwned,
    {
        let capacity = ByteRing::capacity_for(bytes).ok_or(Error::InvalidCapacity)?;
        Pipe::simplex_in(arena::family()?, capacity)
    }

    pub(crate) fn simplex_in<T>(
        arena: &Arena,
        capacity: usize,
    ) -> io::Result<(PipeReceiver<T>, PipeSender<T>)> {
        let (writer, reader) = end::create(arena, capacity, end::type_hash::<T>())?;
        Ok((PipeReceiver::new(reader), PipeSender::new(writer)))
    }

    pub(crate) fn duplex_in<A, B>(
        arena: &Arena,
        capacity: usize,
    ) -> io::Result<(Connection<A, B>, Connection<B, A>)> {
        let (receive_a, send_a) = Pipe::simplex_in(arena, capacity)?;
        let (receive_b, send_b) = Pipe::simplex_in(arena, capacity)?;
        Ok((
            Connection::join(send_a, receive_b),
            Connection::join(send_b, receive_a),
        ))
    }
}
