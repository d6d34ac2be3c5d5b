//! Pools in programs whose constructors end the children.

use super::*;
use multiprocess::{Pool, TaskError};
use std::env;
use std::ffi::OsStr;

/// Names a file: while it is there children abort in a constructor, or exit as if all went well.
const ABORTS: &str = "START_TRAP_ABORTS";
const EXITS: &str = "START_TRAP_EXITS";

#[used]
#[unsafe(link_section = ".init_array")]
static TRAP: extern "C" fn() = trap;

/// Not in this program's first process, which begins before the file is there.
extern "C" fn trap() {
    let is_there = |variable| env::var_os(variable).is_some_and(|path| Path::new(&path).exists());
    if is_there(ABORTS) {
        std::process::abort();
    }
    if is_there(EXITS) {
        std::process::exit(0);
    }
}

#[test]
#[ignore = "run by others, with a variable"]
fn workers_stop_to_begin() {
    let _watch = watch();
    let trap = [ABORTS, EXITS].iter().find_map(env::var_os).unwrap();
    let trap: &OsStr = trap.as_ref();
    let pools = [
        Pool::new(1).unwrap(),
        Pool::builder()
            .processes(2)
            .initializer(|()| (), ())
            .max_tasks_per_child(1_000_000)
            .build()
            .unwrap(),
    ];
    for pool in &pools {
        assert_eq!(pool.map(|n: u8| n + 1, [1, 2, 3]).unwrap(), [2, 3, 4]);
    }
    File::create(trap).unwrap();
    let all = |pool: &Pool| {
        let die = |_: u8| -> u8 { std::process::abort() };
        pool.map_async_chunked(die, [1; 20], 1)
    };
    for results in pools.each_ref().map(all) {
        // Those that were at work cost a task each; the others find no worker.
        assert!(matches!(results.get(), Err(TaskError::WorkerDied { .. })));
    }
    for pool in &pools {
        let none = pool.apply(|n: u8| n, 1);
        assert!(matches!(none, Err(TaskError::NoWorker)), "{none:?}");
        // For good.
        let none = pool.apply(|n: u8| n, 1);
        assert!(matches!(none, Err(TaskError::NoWorker)), "{none:?}");
        pool.close();
        pool.join().unwrap();
    }
    fs::remove_file(trap).unwrap();
}

#[test]
fn a_pool_whose_workers_stop_to_begin_says_so() {
    let _watch = watch();
    let run = |variable| {
        let directory = Directory::new(variable);
        let mut command = Command::new(own_path());
        command.env(variable, directory.0.join("trap"));
        assert_passed(&in_program(command, "pool::workers_stop_to_begin"));
    };
    thread::scope(|scope| {
        scope.spawn(|| run(ABORTS));
        run(EXITS);
    });
}
