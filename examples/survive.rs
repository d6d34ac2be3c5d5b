//! Four workers share a queue, one of them is killed with SIGKILL at its work, and the books still balance:
//! `cargo run --release --example survive`
#![forbid(unsafe_code)]

use std::error::Error;
use std::mem::replace;
use std::thread;

use multiprocess::{Process, Queue};

const JOBS: u64 = 100_000;
const WORKERS: u32 = 4;

/// Takes jobs until the queue is closed and empty.
fn work((jobs, results): (Queue<u64>, Queue<(u64, u64)>)) {
    for job in jobs.iter() {
        let job = job.expect("numbers decode");
        if results.put((job, job * job)).is_err() {
            return;
        }
    }
}

fn feed((jobs, count): (Queue<u64>, u64)) {
    for job in 0..count {
        jobs.put(job).expect("nobody closes the queue but us");
    }
    // No end markers: `close` lets the workers finish what is there.
    jobs.close();
}

fn main() -> Result<(), Box<dyn Error>> {
    let (jobs, results) = (Queue::bounded(100)?, Queue::bounded(100)?);
    let feeder = Process::builder()
        .name("feed")
        .spawn(feed, (jobs.clone(), JOBS))?;
    let mut workers = Vec::new();
    for n in 0..WORKERS {
        let builder = Process::builder().name(format!("work-{n}"));
        workers.push(builder.spawn(work, (jobs.clone(), results.clone()))?);
    }

    let mut seen = vec![false; JOBS as usize];
    let mut count = 0;
    let mut check = |(job, square): (u64, u64)| {
        if square != job * job || replace(&mut seen[job as usize], true) {
            return Err(format!("job {job} came twice, or torn"));
        }
        count += 1;
        Ok(count)
    };
    thread::scope(|scope| {
        // The workers share the queue of results: it is closed when the last of them has ended.
        scope.spawn(|| {
            for worker in &workers {
                worker.wait();
            }
            results.close();
        });
        let gathered = results
            .iter()
            .try_for_each(|result| -> Result<(), Box<dyn Error>> {
                if check(result?)? == JOBS / 2 {
                    workers[0].kill()?;
                }
                Ok(())
            });
        // Had the check failed, this would let everybody go.
        results.close();
        jobs.close();
        gathered
    })?;
    feeder.join()?;

    println!("{} ended with {:?}", workers[0].name(), workers[0].wait());
    println!("{JOBS} jobs, {count} results, none twice");
    let missing: Vec<usize> = (0..seen.len()).filter(|job| !seen[*job]).collect();
    match missing[..] {
        [] => println!("the killed worker had no job in its hands"),
        [job] => println!(
            "job {job}, which the killed worker had in its hands, is the only one without a result"
        ),
        _ => return Err(format!("jobs were lost: {missing:?}").into()),
    }
    Ok(())
}
