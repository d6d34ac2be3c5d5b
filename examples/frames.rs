//! Frames of a film pass through three processes, and none of them is ever copied:
//! `cargo run --release --example frames -- [COUNT]`
//!
//! One process draws (2 MiB a frame), one blurs, one finds the edges; this one looks at what comes out. A stage writes into a
//! `loan`, which is shared memory, and the next one reads it there by `get_ref`: only the place goes through the queue.
//! In the end this process does all of it again alone, and must come to the same.
#![forbid(unsafe_code)]

use std::error::Error;
use std::time::{Duration, Instant};

use multiprocess::{Bytes, ExitCode, GetError, Process, Queue};

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;
const FRAME: usize = WIDTH * HEIGHT;

type Frames = Queue<Bytes>;
/// Makes a frame from another one.
type Filter = fn(&[u8], &mut [u8]);

/// Stripes that move across each other, a byte a pixel.
fn draw(number: usize, frame: &mut [u8]) {
    for (y, row) in frame.chunks_exact_mut(WIDTH).enumerate() {
        for (x, pixel) in row.iter_mut().enumerate() {
            *pixel = ((x + 3 * number) ^ (y + 5 * number)) as u8;
        }
    }
}

/// Each pixel becomes a value of the three rows of three around it; the margin becomes black.
fn filter(from: &[u8], to: &mut [u8], value: impl Fn([[u16; 3]; 3]) -> u16) {
    to.fill(0); // a loan has whatever was in that memory before
    let row = |y| -> &[u8; WIDTH] { from[y * WIDTH..][..WIDTH].try_into().expect("a row") };
    for y in 1..HEIGHT - 1 {
        let [above, here, below] = [row(y - 1), row(y), row(y + 1)];
        let pixels = &mut to[y * WIDTH..][..WIDTH];
        for x in 1..WIDTH - 1 {
            let around = |row: &[u8; WIDTH]| [row[x - 1], row[x], row[x + 1]].map(u16::from);
            pixels[x] = value([around(above), around(here), around(below)]).min(255) as u8;
        }
    }
}

fn blur(from: &[u8], to: &mut [u8]) {
    filter(from, to, |around| {
        around.as_flattened().iter().sum::<u16>() / 9
    });
}

/// Sobel's two gradients.
fn edges(from: &[u8], to: &mut [u8]) {
    filter(from, to, |[a, b, c]| {
        let across = (a[0] + 2 * b[0] + c[0]).abs_diff(a[2] + 2 * b[2] + c[2]);
        let down = (a[0] + 2 * a[1] + a[2]).abs_diff(c[0] + 2 * c[1] + c[2]);
        across + down
    });
}

/// The first stage.
fn camera((count, frames): (usize, Frames)) {
    for number in 0..count {
        let mut frame = frames.loan(FRAME).expect("memory for a frame");
        draw(number, &mut frame);
        frame.put().expect("an open queue");
    }
    frames.close(); // the next stage does what is there, ends, and closes its own
}

fn stage(from: Frames, to: Frames, filter: Filter) {
    while let Ok(frame) = from.get_ref() {
        let mut filtered = to.loan(FRAME).expect("memory for a frame");
        filter(&frame, &mut filtered);
        drop(frame); // its memory is free before the wait
        filtered.put().expect("an open queue");
    }
    to.close();
}

/// The hashes of all frames, made by three processes.
fn several(count: usize) -> Result<Vec<blake3::Hash>, Box<dyn Error>> {
    let (drawn, blurred, done) = (
        Frames::bounded(2)?,
        Frames::bounded(2)?,
        Frames::bounded(2)?,
    );
    // Daemons end with this process, however it ends: by an error below, or by Ctrl-C.
    let daemon = || Process::builder().daemon(true);
    let mut stages = vec![
        daemon().spawn(camera, (count, drawn.clone()))?,
        daemon().spawn(|(a, b)| stage(a, b, blur), (drawn, blurred.clone()))?,
        daemon().spawn(|(a, b)| stage(a, b, edges), (blurred, done.clone()))?,
    ];
    let failed = |stage: &Process<()>| {
        stage
            .exitcode()
            .is_some_and(|end| end != ExitCode::Exited(0))
    };
    let mut hashes = Vec::new();
    loop {
        match done.get_ref_timeout(Duration::from_millis(100)) {
            Ok(frame) => hashes.push(blake3::hash(&frame)),
            // A stage that died has closed nothing.
            Err(GetError::Empty) => {
                if let Some(dead) = stages.iter().position(failed) {
                    stages.swap_remove(dead).join()?;
                }
            }
            Err(GetError::Closed) => return Ok(hashes),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The same in this process.
fn alone(count: usize) -> Vec<blake3::Hash> {
    let [mut drawn, mut blurred, mut done] = [(); 3].map(|()| vec![0; FRAME]);
    let frames = (0..count).map(|number| {
        draw(number, &mut drawn);
        blur(&drawn, &mut blurred);
        edges(&blurred, &mut done);
        blake3::hash(&done)
    });
    frames.collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let count = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 300,
    };
    let begun = Instant::now();
    let hashes = several(count)?;
    let time = begun.elapsed();
    let begun = Instant::now();
    if hashes != alone(count) {
        return Err("three processes did not come to what one does".into());
    }
    println!(
        "{count} frames through three processes: {time:.2?}, alone {:.2?}",
        begun.elapsed()
    );
    println!("all {} hashes are equal", hashes.len());
    let mib = (3 * count * FRAME) >> 20;
    println!(
        "{mib} MiB went from process to process and were not copied; a pipe copies them in and out"
    );
    Ok(())
}
