//! Draws the Mandelbrot set, a task a line, and writes it as a picture:
//! `cargo run --release --example mandelbrot -- mandelbrot.ppm [WIDTH]`
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;

use multiprocess::{Pool, cpu_count};

const MOST: u32 = 1000;

/// How many steps a point takes to leave.
fn steps(x0: f64, y0: f64) -> u32 {
    let (mut x, mut y) = (0.0, 0.0);
    for step in 0..MOST {
        if x * x + y * y > 4.0 {
            return step;
        }
        (x, y) = (x * x - y * y + x0, 2.0 * x * y + y0);
    }
    MOST
}

/// A line of the picture: red, green and blue of each point.
fn line((row, width, height): (usize, usize, usize)) -> Vec<u8> {
    // So that lines above and below the axis mirror each other exactly.
    let y = (2.0 * row as f64 + 1.0 - height as f64) / height as f64 * 1.2;
    let point = |column: usize| {
        let x = (column as f64 + 0.5) / width as f64 * 3.2 - 2.2;
        match steps(x, y) {
            MOST => [0, 0, 0],
            steps => [9, 5, 3].map(|shade| (steps * shade % 256) as u8),
        }
    };
    (0..width).flat_map(point).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("usage: mandelbrot FILE [WIDTH]")?;
    let width = arguments.next().map_or(Ok(640), |width| width.parse())?;
    let height = width * 3 / 4;

    let pool = Pool::new(cpu_count())?;
    let rows = (0..height).map(|row| (row, width, height));
    // Lines take different times: small chunks, so that nobody waits for one with many slow ones.
    let lines = pool.map_chunked(line, rows, 4)?;
    let mut picture = format!("P6 {width} {height} 255\n").into_bytes();
    picture.extend(lines.concat());
    fs::write(&file, picture)?;
    println!("{file}: {width} x {height}");
    Ok(())
}
