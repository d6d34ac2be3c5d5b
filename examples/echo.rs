//! An echo server in which each connection has a process of its own, whose argument is the accepted socket.
//! `cargo run --release --example echo -- 127.0.0.1:7777`, then `nc 127.0.0.1 7777`; without an address it talks to itself.
//!
//! Each process reports over one channel how much it echoed, or what went wrong; one that crashes takes its connection with it and
//! nobody else's.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use multiprocess::{Fd, Sender, channel, spawn};

type Report = Sender<(String, String)>;

fn echo((socket, report, peer): (Fd, Report, String)) {
    let said = match echo_all(TcpStream::from(socket.into_owned())) {
        Ok(echoed) => format!("{echoed} bytes"),
        Err(error) => error.to_string(),
    };
    // When nobody prints it any more there is nobody to tell.
    let _ = report.send((peer, said));
}

fn echo_all(mut stream: TcpStream) -> io::Result<u64> {
    let mut buffer = [0; 8192];
    let mut echoed = 0;
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(echoed);
        }
        stream.write_all(&buffer[..len])?;
        echoed += len as u64;
    }
}

/// Gives a connection to a process of its own.
fn accept(stream: io::Result<TcpStream>, report: &Report) -> io::Result<()> {
    let stream = stream?;
    let peer = stream.peer_addr()?.to_string();
    // The process has the socket from here on; this one's copy is closed with the arguments.
    spawn(echo, (Fd::from(stream), report.clone(), peer))?;
    Ok(())
}

/// Serves `most` connections.
fn serve(listener: &TcpListener, most: usize) -> Result<(), Box<dyn Error>> {
    let (report, reports) = channel(64)?;
    let printer = thread::spawn(move || {
        for (peer, said) in reports.iter().flatten() {
            println!("{peer}: {said}");
        }
    });
    for stream in listener.incoming().take(most) {
        // A client that has gone again, or that there is no process for, is no reason to leave the others alone.
        if let Err(error) = accept(stream, &report) {
            eprintln!("a connection was lost: {error}");
        }
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
        let listener = TcpListener::bind(address)?;
        println!("listening at {}", listener.local_addr()?);
        return serve(&listener, usize::MAX);
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
