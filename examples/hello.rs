//! A function and its arguments become a process: `cargo run --example hello`
#![forbid(unsafe_code)]

use std::error::Error;

use multiprocess::{JoinError, spawn};

fn greet(name: String) -> String {
    format!("hello {name}, from process {}", std::process::id())
}

fn divide((a, b): (u32, u32)) -> u32 {
    a / b
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("this is process {}", std::process::id());

    // Any `fn` whose argument and result serde knows; several arguments are a tuple.
    let child = spawn(greet, "world".to_owned())?;
    println!("{}", child.join()?);
    println!("7 / 2 = {}", spawn(divide, (7, 2))?.join()?);

    // A panic ends the child alone. Its message comes back with `join`.
    match spawn(divide, (1, 0))?.join() {
        Err(JoinError::Panicked { message, location }) => {
            let location = location.as_deref().unwrap_or("an unknown place");
            println!("the child panicked at {location}: {message}");
            Ok(())
        }
        other => Err(format!("a panic was expected, not {other:?}").into()),
    }
}
