//! Descriptors as arguments.
#![forbid(unsafe_code)]

use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec;

/// A file descriptor that can be an argument of a process: an open file, a socket, a pipe's end.
///
/// The child gets a duplicate, so that both processes have the same open file (and share its position). Serialising it
/// anywhere but in a process's arguments is an error.
///
/// ```
/// use multiprocess::Fd;
/// use std::io::{Read, Seek, Write};
///
/// fn write(file: Fd) {
///     let mut file = std::fs::File::from(file);
///     file.write_all(b"from the child").unwrap();
/// }
///
/// # let path = std::env::temp_dir().join(format!("multiprocess-fd-{}", std::process::id()));
/// let mut file = std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
/// # std::fs::remove_file(&path)?;
/// multiprocess::spawn(write, file.try_clone()?.into())?.join()?;
/// let mut text = String::new();
/// file.rewind()?;
/// file.read_to_string(&mut text)?;
/// assert_eq!(text, "from the child");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Fd(OwnedFd);

impl Fd {
    /// The descriptor itself.
    pub fn into_owned(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Serialize for Fd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        codec::serialize_fd(self.as_fd(), serializer)
    }
}

impl<'de> Deserialize<'de> for Fd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        codec::deserialize_fd(deserializer).map(Fd)
    }
}

macro_rules! convert {
    ($($type:ty)*) => {$(
        impl From<$type> for Fd {
            fn from(value: $type) -> Fd {
                Fd(value.into())
            }
        }

        impl From<Fd> for $type {
            fn from(fd: Fd) -> $type {
                fd.0.into()
            }
        }
    )*};
}

convert!(OwnedFd File TcpListener TcpStream UdpSocket UnixDatagram UnixListener UnixStream);
