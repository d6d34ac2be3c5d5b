//! Fetches pages from a web server and takes them apart in worker processes; a callback in the parent keeps the books:
//! `cargo run --release --example fetch`
//!
//! The server is a thread of this program, on a port of its own. One of its pages is broken in such a way that parsing it ends
//! the worker: that page is lost, and nothing else.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use multiprocess::{Pool, TaskError};
use serde::{Deserialize, Serialize};

const PAGES: u32 = 30;
/// The page that nobody survives.
const EVIL: u32 = 13;

#[derive(Debug, Serialize, Deserialize)]
struct Page {
    title: String,
    words: usize,
    links: Vec<u32>,
}

/// What a worker does.
fn fetch((server, number): (SocketAddr, u32)) -> Result<Page, String> {
    get(server, number)
        .map_err(|error| error.to_string())
        .and_then(|text| parse(&text).ok_or_else(|| "no page".to_string()))
}

fn get(server: SocketAddr, number: u32) -> io::Result<String> {
    let mut stream = TcpStream::connect(server)?;
    write!(stream, "GET /{number} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    if !head.starts_with("HTTP/1.0 200") {
        return Err(io::Error::other(
            head.lines().next().unwrap_or("no answer").to_string(),
        ));
    }
    Ok(body.to_string())
}

fn parse(text: &str) -> Option<Page> {
    let between = |from: &str, to: &str| Some(text.split_once(from)?.1.split_once(to)?.0);
    let body = between("<body>", "</body>")?;
    if body.contains("evil") {
        std::process::abort(); // as a parser in C might
    }
    let links = body.split("href=\"/").skip(1);
    Some(Page {
        title: between("<title>", "</title>")?.to_string(),
        words: body.split_whitespace().count(),
        links: links
            .filter_map(|link| link.split_once('"')?.0.parse().ok())
            .collect(),
    })
}

fn serve(listener: TcpListener) {
    for stream in listener.incoming().flatten() {
        let _ = answer(stream); // whoever hung up does not want it
    }
}

fn answer(stream: TcpStream) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let number = line
        .split(['/', ' '])
        .nth(2)
        .and_then(|n| n.parse::<u32>().ok());
    match number {
        Some(n) if n < PAGES => {
            let text = if n == EVIL { "evil" } else { "word " }.repeat(n as usize + 1);
            let body = format!("{text}<a href=\"/{}\">on</a>", (n + 7) % PAGES);
            let page = format!("<title>Page {n}</title><body>{body}</body>");
            write!(&stream, "HTTP/1.0 200 OK\r\n\r\n{page}")
        }
        _ => write!(&stream, "HTTP/1.0 404 Not Found\r\n\r\n"),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = listener.local_addr()?;
    thread::spawn(|| serve(listener));

    let books = Arc::new(Mutex::new((BTreeMap::new(), BTreeMap::new())));
    let pool = Pool::new(4)?;
    for number in 0..=PAGES {
        let (pages, faults) = (books.clone(), books.clone());
        let on_ok = move |page: &Result<Page, String>| {
            let mut books = pages.lock().unwrap();
            match page {
                Ok(page) => drop(books.0.insert(number, format!("{page:?}"))),
                Err(fault) => drop(books.1.insert(number, fault.clone())),
            }
        };
        let on_error = move |error: &TaskError| {
            let fault = match error {
                TaskError::WorkerDied { exit, .. } => format!("it ended its worker: {exit:?}"),
                other => other.to_string(),
            };
            faults.lock().unwrap().1.insert(number, fault);
        };
        pool.apply_async_with(fetch, (server, number), on_ok, on_error);
    }
    pool.close();
    pool.join()?; // the callbacks have run then
    let (pages, faults) = &*books.lock().unwrap();
    for (number, page) in pages {
        println!("{number}: {page}");
    }
    for (number, fault) in faults {
        println!("{number} failed: {fault}");
    }
    println!("{} pages, {} failed", pages.len(), faults.len());
    Ok(())
}
