//! Cars wait at a traffic light: an event that one process sets and clears. No car that waited when it turned green stays behind,
//! however short green was.

use multiprocess::{Event, spawn};
use std::error::Error;
use std::thread;
use std::time::Duration;

fn light((green, over): (Event, Event)) {
    while !over.wait_timeout(Duration::from_millis(15)) {
        println!("light: green");
        green.set();
        thread::sleep(Duration::from_millis(5));
        println!("light: red");
        green.clear();
    }
}

fn drive((green, car): (Event, u64)) {
    thread::sleep(Duration::from_millis(car * 6));
    if !green.is_set() {
        println!("car {car} waits");
    }
    assert!(green.wait());
    println!("car {car} passes");
}

fn main() -> Result<(), Box<dyn Error>> {
    let (green, over) = (Event::new()?, Event::new()?);
    let light = spawn(light, (green.clone(), over.clone()))?;
    let cars: Result<Vec<_>, _> = (1..=8)
        .map(|car| spawn(drive, (green.clone(), car)))
        .collect();
    for car in cars? {
        car.join()?;
    }
    over.set();
    light.join()?;
    Ok(())
}
