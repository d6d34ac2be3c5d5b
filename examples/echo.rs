//! An echo server in which each connection has a process of its own, whose argument is the accepted socket.
//! `cargo run --release --example echo -- 127.0.0.1:7777`, then `nc 127.0.0.1 7777`; without an address it talks to itself.
//!
//! Each process reports over one channel how much it echoed; one that crashes takes its connection with it and nobody else's.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use multiprocess::{Fd, Sender, channel, spawn};

fn echo((socket, report, peer): (Fd, Sender<(String, u64)>, String)) -> Result<(), String> {
    let mut stream = TcpStream::from(socket.into_owned());
    let told = |error: io::Error| error.to_string();
    let mut buffer = [0; 8192];
    let mut echoed = 0;
    loop {
        match stream.read(&mut buffer).map_err(told)? {
            0 => break,
            len => {
                stream.write_all(&buffer[..len]).map_err(told)?;
                echoed += len as u64;
            }
        }
    }
    report
        .send((peer, echoed))
        .map_err(|error| error.to_string())
}

/// Serves `most` connections.
fn serve(listener: &TcpListener, most: usize) -> Result<(), Box<dyn Error>> {
    let (report, reports) = channel(64)?;
    let printer = thread::spawn(move || {
        for (peer, echoed) in reports.iter().flatten() {
            println!("{peer}: {echoed} bytes");
        }
    });
    for stream in listener.incoming().take(most) {
        let stream = stream?;
        let peer = stream.peer_addr()?.to_string();
        // The process has the socket from here on; this one's copy is closed with the arguments.
        spawn(echo, (Fd::from(stream), report.clone(), peer))?;
    }
    drop(report);
    printer.join().expect("the printer");
    Ok(())
}

fn talk(address: std::net::SocketAddr, text: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert_eq!(answer, text);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(address) = std::env::args().nth(1) {
        return serve(&TcpListener::bind(address)?, usize::MAX);
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let clients: Vec<_> = ["hello", "how are you?", &"x".repeat(100_000)]
        .map(String::from)
        .into_iter()
        .map(|text| thread::spawn(move || talk(address, &text)))
        .collect();
    serve(&listener, clients.len())?;
    for client in clients {
        client.join().expect("a client")?;
    }
    Ok(())
}
