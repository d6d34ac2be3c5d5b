//! Requests and replies over a pipe: a process of its own does what may crash.
//! `cargo run --release --example requests -- "6 * 7" "1 / 0" "2 + 2"`
//!
//! The calculator divides without looking. When it dies of that, or of anything else, its end of the pipe is closed at once; the
//! client says so, starts another one and goes on with the next request.
#![forbid(unsafe_code)]

use std::error::Error;

use multiprocess::{Connection, Pipe, Process, RecvError, SendError, spawn};

type Client = Connection<String, Result<i64, String>>;
type Server = Connection<Result<i64, String>, String>;

fn serve(mut requests: Server) {
    while let Ok(request) = requests.recv() {
        if requests.send(calculate(&request)).is_err() {
            return; // nobody wants to know any more
        }
    }
}

fn calculate(request: &str) -> Result<i64, String> {
    let parts: Vec<&str> = request.split_whitespace().collect();
    let [left, operator, right] = parts[..] else {
        return Err("a number, an operator and a number are needed".to_string());
    };
    let number = |text: &str| text.parse::<i64>().map_err(|error| error.to_string());
    let (left, right) = (number(left)?, number(right)?);
    match operator {
        "+" => Ok(left + right),
        "-" => Ok(left - right),
        "*" => Ok(left * right),
        "/" => Ok(left / right),
        _ => Err(format!("what is {operator}?")),
    }
}

fn start() -> Result<(Client, Process<()>), Box<dyn Error>> {
    let (client, server) = Pipe::duplex()?;
    Ok((client, spawn(serve, server)?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut client, mut server) = start()?;
    for request in std::env::args().skip(1) {
        let answer = match client.send(request.clone()) {
            Ok(()) => client.recv(),
            // It has died since it answered last.
            Err(SendError::Closed(_)) => Err(RecvError::Closed),
            Err(error) => return Err(error.into()),
        };
        match answer {
            Ok(Ok(result)) => println!("{request} = {result}"),
            Ok(Err(error)) => println!("{request}: {error}"),
            Err(RecvError::Closed) => {
                let (next_client, next_server) = start()?;
                client = next_client;
                let dead = std::mem::replace(&mut server, next_server);
                println!(
                    "{request}: no answer, the calculator has died ({})",
                    dead.wait()
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
    client.close();
    if let Err(error) = server.join() {
        eprintln!("the calculator died at its end: {error}");
    }
    Ok(())
}
