//! The same messages through each of the contenders: a link carries them both ways between this process and a peer.

use std::error::Error;
use std::fs;
use std::hint;
use std::path::PathBuf;

use iceoryx2::config::Config;
use iceoryx2::node::{Node, NodeBuilder};
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{BackpressureStrategy, FileName, Path, SemanticString, SignalHandlingMode};
use iceoryx2::service::ipc;
use ipc_channel::ipc::{
    IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender, bytes_channel,
};
use ipmpsc::SharedRingBuffer;
use multiprocess::{Bytes, Queue};
use serde::{Deserialize, Serialize};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One end of something that carries messages both ways.
pub trait Link {
    /// Writes a copy of these bytes to where the other end will read them.
    fn send(&mut self, bytes: &[u8]) -> Result<()>;

    /// Waits for a message and reads it where it lies, or where the contender has put it: its [`sum`].
    fn receive(&mut self) -> Result<u64>;
}

/// All bytes of a message, read.
pub fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.as_chunks().0.iter();
    words.fold(0, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)))
}

/// How many messages of this length a link holds at most.
fn capacity(len: usize) -> usize {
    ((4 << 20) / len).clamp(4, 128)
}

/// Makes this process's end, once the peer has been given the address.
type Opener = Box<dyn FnOnce() -> Result<Box<dyn Link>>>;

/// The contenders, ours first.
pub const NAMES: [&str; 4] = ["multiprocess", "ipc-channel", "ipmpsc", "iceoryx2"];

/// A new link of the contender with this name.
pub fn create(name: &str, len: usize) -> Result<(Address, Opener)> {
    Ok(match name {
        "multiprocess" => {
            let queue = || Queue::bounded(capacity(len));
            let (there, back) = (queue()?, queue()?);
            let address = Address::Ours(back.clone(), there.clone());
            (address, Box::new(|| Ok(Box::new(Ours(there, back)))))
        }
        "ipc-channel" => {
            let (server, name) = IpcOneShotServer::new()?;
            let accept = || {
                let (_, (sender, receiver)) = server.accept()?;
                Ok(Box::new(IpcChannel(sender, receiver)) as _)
            };
            (Address::IpcChannel(name), Box::new(accept))
        }
        "ipmpsc" => {
            let (link, address) = Ipmpsc::new(len)?;
            (address, Box::new(|| Ok(Box::new(link))))
        }
        _ => {
            let run = std::process::id();
            let link = Iceoryx2::open(run, len, ["there", "back"])?;
            (Address::Iceoryx2(run, len), Box::new(|| Ok(Box::new(link))))
        }
    })
}

/// The peer's end.
pub fn connect(address: Address) -> Result<Box<dyn Link>> {
    Ok(match address {
        Address::Ours(there, back) => Box::new(Ours(there, back)),
        Address::IpcChannel(name) => Box::new(IpcChannel::connect(name)?),
        Address::Ipmpsc(there, back) => Box::new(Ipmpsc::open(&there, &back)?),
        Address::Iceoryx2(run, len) => Box::new(Iceoryx2::open(run, len, ["back", "there"])?),
    })
}

/// How the peer finds the other end of a link.
#[derive(Clone, Serialize, Deserialize)]
pub enum Address {
    Ours(Queue<Bytes>, Queue<Bytes>),
    IpcChannel(String),
    Ipmpsc(String, String),
    Iceoryx2(u32, usize),
}

/// Queues of this crate: written once, read in place.
struct Ours(Queue<Bytes>, Queue<Bytes>);

impl Link for Ours {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.put_bytes(bytes)?)
    }

    fn receive(&mut self) -> Result<u64> {
        Ok(sum(&self.1.get_ref()?))
    }
}

/// Unix sockets; what is longer than a packet goes in pieces. A `Vec` is received.
struct IpcChannel(IpcBytesSender, IpcBytesReceiver);

impl IpcChannel {
    fn connect(name: String) -> Result<Self> {
        let (there, receiver) = bytes_channel()?;
        let (sender, back) = bytes_channel()?;
        IpcSender::connect(name)?.send((there, back))?;
        Ok(IpcChannel(sender, receiver))
    }
}

impl Link for IpcChannel {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.send(bytes)?)
    }

    fn receive(&mut self) -> Result<u64> {
        Ok(sum(&self.1.recv()?))
    }
}

/// A ring in a file of shared memory under a mutex: written once, read in place.
struct Ipmpsc(ipmpsc::Sender, ipmpsc::Receiver);

impl Ipmpsc {
    fn new(len: usize) -> Result<(Self, Address)> {
        // A message has its length twice, and one that does not fit before the end begins anew.
        let bytes = ((capacity(len) + 1) * (len + 16)) as u32;
        let path = |side| format!("/dev/shm/compare-{}-{side}", std::process::id());
        let (there, back) = (path("there"), path("back"));
        let sender = ipmpsc::Sender::new(SharedRingBuffer::create(&there, bytes)?);
        let receiver = ipmpsc::Receiver::new(SharedRingBuffer::create(&back, bytes)?);
        Ok((Ipmpsc(sender, receiver), Address::Ipmpsc(back, there)))
    }

    /// The files are not needed any more when both ends have them open.
    fn open(there: &str, back: &str) -> Result<Self> {
        let sender = ipmpsc::Sender::new(SharedRingBuffer::open(there)?);
        let receiver = ipmpsc::Receiver::new(SharedRingBuffer::open(back)?);
        fs::remove_file(there)?;
        fs::remove_file(back)?;
        Ok(Ipmpsc(sender, receiver))
    }
}

impl Link for Ipmpsc {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.send(&serde_bytes::Bytes::new(bytes))?)
    }

    fn receive(&mut self) -> Result<u64> {
        let mut place = self.1.zero_copy_context();
        Ok(sum(place.recv::<&serde_bytes::Bytes>()?))
    }
}

/// Publish and subscribe, lossless, a topic each way: written once, read in place. There is no call that waits: both sides
/// look again and again.
struct Iceoryx2 {
    publisher: Publisher<ipc::Service, [u8], ()>,
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    _node: Node<ipc::Service>,
}

impl Iceoryx2 {
    fn open(run: u32, len: usize, [there, back]: [&str; 2]) -> Result<Self> {
        let mut config = Config::default();
        config
            .global
            .set_root_path(&Path::new(folder(run).as_os_str().as_encoded_bytes())?);
        config.global.prefix = FileName::new(format!("compare-{run}-").as_bytes())?;
        let node = NodeBuilder::new()
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .config(&config)
            .create::<ipc::Service>()?;
        let topic = |name: &str| {
            node.service_builder(&format!("{name} {len}").as_str().try_into()?)
                .publish_subscribe::<[u8]>()
                .enable_safe_overflow(false)
                .subscriber_max_buffer_size(capacity(len))
                .open_or_create()
                .map_err(Box::<dyn Error>::from)
        };
        let publisher = topic(there)?
            .publisher_builder()
            .initial_max_slice_len(len)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        let subscriber = topic(back)?.subscriber_builder().create()?;
        Ok(Iceoryx2 {
            publisher,
            subscriber,
            _node: node,
        })
    }
}

impl Link for Iceoryx2 {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sample = self.publisher.loan_slice_uninit(bytes.len())?;
        sample.write_from_slice(bytes).send()?;
        Ok(())
    }

    fn receive(&mut self) -> Result<u64> {
        loop {
            if let Some(sample) = self.subscriber.receive()? {
                return Ok(sum(&sample));
            }
            hint::spin_loop();
        }
    }
}

/// Where iceoryx2 keeps its files, but for those in /dev/shm.
fn folder(run: u32) -> PathBuf {
    std::env::temp_dir().join(format!("compare-{run}"))
}

/// Removes what the rivals have left.
pub fn sweep() {
    let run = std::process::id();
    let _ = fs::remove_dir_all(folder(run));
    for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name
            .to_string_lossy()
            .starts_with(&format!("compare-{run}-"))
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}
