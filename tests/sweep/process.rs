//! Sweeps of processes: starting one, being started, ending with a result, joining.

use std::thread;
use std::time::{Duration, Instant};

use multiprocess::{JoinError, Process, Queue, spawn};
use serde_bytes::ByteBuf;

use crate::ring::{BLOCK, LARGE, LONG, Ring, SMALL, VICTIM, message, number};
use crate::stepper::{End, Stepper};
use crate::sweep::{Outcome, Sweep, Victim, alone, members};
use crate::victim::{mark, marked};

/// Waits until the family has shrunk to so many members, as grandchildren end by themselves.
fn await_members(most: usize) {
    let start = Instant::now();
    while members() > most {
        assert!(start.elapsed() < LONG, "somebody does not end");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A ring, and how many members there are besides those of the round.
struct Home {
    ring: Ring,
    members: usize,
}

impl Home {
    fn new(size: usize) -> Home {
        Home {
            ring: Ring::new(2, size, 1, 1),
            members: members(),
        }
    }
}

type Load = (Queue<ByteBuf>, ByteBuf);

/// What a grandchild does: it hands its argument on.
fn deliver((queue, load): Load) -> usize {
    queue.put(load).expect("put");
    7
}

type Start = (Queue<ByteBuf>, Queue<()>, usize);

/// Names the process for whose end a child waits before it joins the family.
const STARTER: &str = "SWEEP_STARTER";

/// Runs in a child before it joins: one that was quick would show nothing, as its parent is stepped and slow.
extern "C" fn let_the_parent_go_first() {
    const PATIENCE: Duration = Duration::from_millis(200);
    let Ok(starter) = std::env::var(STARTER) else {
        return;
    };
    let start = Instant::now();
    let lives = || starter.parse() == Ok(std::os::unix::process::parent_id());
    // The parent that is not killed goes on to wait for its child.
    while lives() && start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_micros(100));
    }
}

#[used]
#[unsafe(link_section = ".init_array.00101")]
static CONSTRUCTOR: extern "C" fn() = let_the_parent_go_first;

/// Says when the start is over. The child has run by then or will, whatever becomes of this process.
fn start_a_child((queue, started, size): Start) {
    let load = message(VICTIM, size);
    // Always of one length, for equal steps.
    let me = format!("{:010}", std::process::id());
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var(STARTER, me) };
    let child = marked(|| {
        let child = spawn(deliver, (queue, load)).expect("spawn");
        started.put(()).expect("put");
        child
    });
    assert_eq!(child.join().expect("join"), 7);
}

#[test]
fn starting_a_process() {
    let alone = alone();
    for size in [SMALL, LARGE] {
        Sweep {
            name: &format!("starting a process, {size} B"),
            setup: &|| (Home::new(size), Queue::bounded(1).expect("a queue")),
            victim: &|(home, started): &mut (Home, Queue<()>)| {
                let arguments = (home.ring.queue.clone(), started.clone(), size);
                spawn(start_a_child, arguments).expect("spawn")
            },
            unblock: None,
            steady: true,
            check: &|(home, started): (Home, Queue<()>), corpse| {
                // The dead victim counts until it is found dead: at once. Its child ends by
                // itself, whether it could start or not.
                await_members(home.members);
                let has_run = home.ring.after_put(corpse) == Outcome::Done;
                if started.try_get().is_err() {
                    // A parent killed before its child's seat is the child's own takes that start
                    // with it, unless the child was quicker.
                    return Outcome::Untold;
                }
                assert!(has_run, "it was started, but did not run");
                Outcome::Done
            },
            whole: Outcome::Done,
        }
        .run(&alone);
    }
}

/// A child at its birth, seen by the helper that starts it and joins it.
struct Newborn {
    helper: Process<bool>,
}

/// The target of the newborn: its mark ends the operation.
fn be_born((queue, load): Load) -> usize {
    mark();
    deliver((queue, load))
}

/// The helper: true if its child came to its end.
fn give_birth((queue, size): (Queue<ByteBuf>, usize)) -> bool {
    mark();
    let child = spawn(be_born, (queue, message(VICTIM, size))).expect("spawn");
    match child.join() {
        Ok(7) => true,
        Err(JoinError::Signaled(libc::SIGKILL)) => false,
        other => panic!("a child that was killed or not: {other:?}"),
    }
}

impl Victim for Newborn {
    fn attach(&mut self) -> Result<Stepper, String> {
        let mut helper = Stepper::attach(self.helper.pid())?;
        helper.run_to_mark()?;
        let mut child = helper.run_to_child()?;
        helper.let_go()?;
        child.run_to_exec()?;
        Ok(child)
    }

    fn reap(self, end: End) -> Result<Outcome, String> {
        let lived = self.helper.join().map_err(|error| format!("{error:?}"))?;
        if lived != (end == End::Exited(0)) {
            return Err(format!("ended by {end:?}, but lived: {lived}"));
        }
        Ok(Outcome::Untold)
    }

    fn finish(self) -> Result<Outcome, String> {
        self.reap(End::Exited(0))
    }
}

#[test]
fn being_started() {
    let alone = alone();
    for size in [SMALL, BLOCK] {
        Sweep {
            name: &format!("being started, {size} B"),
            setup: &|| Home::new(size),
            victim: &|home: &mut Home| {
                let arguments = (home.ring.queue.clone(), size);
                let helper = spawn(give_birth, arguments).expect("spawn");
                Newborn { helper }
            },
            unblock: None,
            steady: true,
            check: &|home: Home, corpse| {
                await_members(home.members);
                match home.ring.after_put(corpse) {
                    Outcome::Done => Outcome::Done,
                    _ => Outcome::Untold,
                }
            },
            whole: Outcome::Done,
        }
        .run(&alone);
    }
}

/// A child that ends with a result.
struct Ending {
    process: Process<ByteBuf>,
    size: usize,
}

fn end_with_result(size: usize) -> ByteBuf {
    let result = message(VICTIM, size);
    mark();
    result
}

impl Victim for Ending {
    fn attach(&mut self) -> Result<Stepper, String> {
        let mut stepper = Stepper::attach(self.process.pid())?;
        stepper.run_to_mark()?;
        Ok(stepper)
    }

    fn reap(self, end: End) -> Result<Outcome, String> {
        match (self.process.join(), end) {
            (Ok(result), _) => {
                assert_eq!(number(&result, self.size), VICTIM);
                Ok(Outcome::Done)
            }
            (Err(JoinError::Signaled(libc::SIGKILL)), End::Killed(_)) => Ok(Outcome::NotDone),
            (Err(error), end) => Err(format!("ended by {end:?}, joined as {error:?}")),
        }
    }

    fn finish(self) -> Result<Outcome, String> {
        self.reap(End::Exited(0))
    }
}

#[test]
fn ending_with_a_result() {
    let alone = alone();
    for size in [SMALL, BLOCK, LARGE] {
        Sweep {
            name: &format!("ending with a result of {size} B"),
            setup: &|| (),
            victim: &|_: &mut ()| {
                let process = spawn(end_with_result, size).expect("spawn");
                Ending { process, size }
            },
            unblock: None,
            steady: true,
            check: &|_, _| Outcome::Untold,
            whole: Outcome::Done,
        }
        .run(&alone);
    }
}

fn hand_back(size: usize) -> ByteBuf {
    message(VICTIM, size)
}

fn join_a_child(size: usize) {
    let child = spawn(hand_back, size).expect("spawn");
    child.wait();
    let result = marked(|| child.join()).expect("join");
    assert_eq!(number(&result, size), VICTIM);
}

fn forget_a_child(size: usize) {
    let child = spawn(hand_back, size).expect("spawn");
    child.wait();
    marked(|| drop(child));
}

#[test]
fn joining_a_process_that_has_ended() {
    let alone = alone();
    let join = ("join", join_a_child as fn(usize));
    let forget = ("drop", forget_a_child as fn(usize));
    for (name, operation) in [join, forget] {
        for size in [SMALL, BLOCK] {
            Sweep {
                name: &format!("{name} of a process with {size} B"),
                setup: &|| (),
                victim: &|_: &mut ()| spawn(operation, size).expect("spawn"),
                unblock: None,
                steady: true,
                check: &|_, _| Outcome::Untold,
                whole: Outcome::Untold,
            }
            .run(&alone);
        }
    }
}
