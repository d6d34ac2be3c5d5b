//! What a trivial task costs our pool beside CPython's `Pool` and `ProcessPoolExecutor`: `cargo run --release --bin pool`
//!
//! Both do the same work with as many processes, in turns; the ratio of the medians counts. Without `python3` there is nothing to
//! compare with.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use multiprocess::Pool;

const WORKERS: usize = 2;
const TASKS: u64 = 100_000;
const ROUNDS: usize = 9;

/// What is measured, in the order of pool.py's figures, and which of ours it stands beside.
const THEIRS: [(&str, usize); 4] = [
    ("Pool.map, chunks of 1", 0),
    ("Pool.map", 1),
    ("ProcessPoolExecutor.map", 0),
    ("Pool.apply", 2),
];
const OURS: [&str; 3] = ["map, chunks of 1", "map", "apply"];

fn add_one(n: u64) -> u64 {
    n + 1
}

/// Nanoseconds a task.
fn measure(tasks: u64, work: impl FnOnce() -> u64) -> f64 {
    let begin = Instant::now();
    let sum = work();
    let took = begin.elapsed().as_nanos() as f64;
    assert_eq!(sum, tasks * (tasks + 1) / 2);
    took / tasks as f64
}

fn ours(pool: &Pool) -> [f64; 3] {
    let one_by_one = || pool.map_chunked(add_one, 0..TASKS, 1).unwrap();
    let few = TASKS / 100;
    [
        measure(TASKS, || one_by_one().iter().sum()),
        measure(TASKS, || pool.map(add_one, 0..TASKS).unwrap().iter().sum()),
        measure(few, || {
            (0..few).map(|n| pool.apply(add_one, n).unwrap()).sum()
        }),
    ]
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin/pool.py");
    let python = Command::new("python3")
        .args([script, &WORKERS.to_string(), &TASKS.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut python = match python {
        Ok(python) => python,
        Err(error) => {
            println!("nothing to compare with: python3: {error}");
            return Ok(());
        }
    };
    let (mut asks, answers) = (python.stdin.take(), python.stdout.take());
    let mut answers = BufReader::new(answers.ok_or("no pipe")?).lines();
    let pool = Pool::new(WORKERS)?;
    let (mut mine, mut theirs) = (vec![Vec::new(); OURS.len()], vec![Vec::new(); THEIRS.len()]);
    for _ in 0..ROUNDS {
        for (all, figure) in mine.iter_mut().zip(ours(&pool)) {
            all.push(figure);
        }
        asks.as_mut().ok_or("no pipe")?.write_all(b"go\n")?;
        let line = answers.next().ok_or("pool.py ended")??;
        for (all, figure) in theirs.iter_mut().zip(line.split(' ')) {
            all.push(figure.parse()?);
        }
    }
    // The end of its input is the end of the script.
    drop(asks.take());
    python.wait()?;
    let mine: Vec<f64> = mine.into_iter().map(median).collect();
    println!("a trivial task, {WORKERS} processes, medians of {ROUNDS}:");
    for ((name, beside), figures) in THEIRS.into_iter().zip(theirs) {
        let (their, our) = (median(figures), mine[beside]);
        println!(
            "  {name:24} {their:9.0} ns   our {:17} {our:7.0} ns   ratio {:.1}",
            OURS[beside],
            their / our
        );
    }
    Ok(())
}
