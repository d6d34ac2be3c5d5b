//! One hundred small tasks: by a pool of five processes, and by a hundred processes:
//! `cargo run --release --example five_or_hundred`
#![forbid(unsafe_code)]

use std::error::Error;
use std::time::Instant;

use multiprocess::{Pool, spawn};

/// The length of a Collatz sequence.
fn collatz(n: u64) -> u64 {
    let next = |n: &u64| match n {
        1 => None,
        n if n % 2 == 0 => Some(n / 2),
        n => Some(3 * n + 1),
    };
    std::iter::successors(Some(n), next).count() as u64
}

fn main() -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let pool = Pool::new(5)?;
    let by_five = pool.map_chunked(collatz, 1..=100, 1)?;
    let five = begun.elapsed();
    drop(pool);

    let begun = Instant::now();
    let processes: Vec<_> = (1..=100).map(|n| spawn(collatz, n)).collect();
    let mut by_hundred = Vec::new();
    for process in processes {
        by_hundred.push(process?.join()?);
    }
    let hundred = begun.elapsed();

    assert_eq!(by_five, by_hundred);
    println!(
        "longest: {} steps",
        by_five.iter().max().expect("a hundred")
    );
    println!("a pool of five: {five:.1?}, its start included");
    println!("a hundred processes: {hundred:.1?}");
    Ok(())
}
