//! An explicit-state model of the bounded MPMC ring: every interleaving of its shared accesses,
//! with a "dies here" choice before each of them. It needs nothing of the crate: what it checks is
//! the protocol as `src/ring/README.md` writes it down, step by step under the same names.
//!
//! Not in the model: weak memory (loom checks that), and waiting. A wait ends after a slice at the
//! latest, so that a wake-up that is lost costs time and nothing else; calls are `try_` calls here,
//! and one that meets a living peer in the middle of its own call waits for it without limit.
//! The first state is the empty ring, or one with some messages in it; what holds for laps 1 to 3
//! holds for later ones, as words are only ever compared with their neighbours in time.

mod explore;
mod get;
mod model;
mod mutations;
mod put;
mod state;
mod sweep;

use explore::Search;
use model::{CONSUMERS, Config, Model, PRODUCERS};

/// Explores each configuration, prints its size and fails with the shortest trace of a violation.
fn check(limit: usize, configs: &[Config]) {
    for cfg in configs {
        let report = Search::run(&Model::new(*cfg), limit);
        println!(
            "{cfg}: {} states, {} steps, {} final",
            report.states, report.steps, report.finals
        );
        if let Some((_, trace)) = report.violation {
            panic!("{cfg}: {trace}");
        }
    }
}

/// `cfg` with 0 to `deaths` deaths, in rings of 1 and of 2 slots, empty and with one message.
fn small(cfg: Config, deaths: u8) -> Vec<Config> {
    let mut all = Vec::new();
    for n in 1..=2 {
        for prefill in 0..=1 {
            all.extend((0..=deaths).map(|deaths| Config {
                n,
                prefill,
                deaths,
                ..cfg
            }));
        }
    }
    all
}

const QUICK: usize = 4_000_000;
const LARGE: usize = 150_000_000;

/// What is put, what is got, and how many die at most.
type Roles = (&'static [u8], &'static [u8], u8);

/// As it is; with hints that others correct; and with somebody who closes.
fn check_roles(plain: Roles, hints: Roles, closer: Roles) {
    let of = |(put, get, _): Roles| Config {
        put,
        get,
        ..Config::default()
    };
    check(QUICK, &small(of(plain), plain.2));
    let with_hints = Config {
        hints: true,
        ..of(hints)
    };
    check(QUICK, &small(with_hints, hints.2));
    let with_closer = Config {
        closer: true,
        ..of(closer)
    };
    check(QUICK, &small(with_closer, closer.2));
}

#[test]
fn one_to_one() {
    check_roles((&[3], &[3], 2), (&[3], &[3], 1), (&[2], &[2], 2));
}

#[test]
fn three_producers_one_consumer() {
    const PUT: &[u8] = &[1, 1, 1];
    check_roles((PUT, &[2], 2), (PUT, &[1], 1), (PUT, &[1], 1));
}

#[test]
fn one_producer_three_consumers() {
    const GET: &[u8] = &[1, 1, 1];
    check_roles((&[2], GET, 2), (&[1], GET, 1), (&[1], GET, 1));
}

#[test]
fn two_producers_two_consumers() {
    const BOTH: &[u8] = &[1, 1];
    check_roles((BOTH, BOTH, 2), (BOTH, BOTH, 1), (BOTH, BOTH, 1));
    let more = Config {
        put: &[2, 1],
        get: &[2, 1],
        ..Config::default()
    };
    check(QUICK, &small(more, 1));
}

#[test]
fn three_producers_three_consumers() {
    let c = Config {
        put: &[1, 1, 1],
        get: &[1, 1, 1],
        ..Config::default()
    };
    check(
        QUICK,
        &[
            Config { deaths: 0, ..c },
            Config {
                n: 2,
                deaths: 0,
                prefill: 1,
                ..c
            },
        ],
    );
    check(
        QUICK,
        &[Config {
            deaths: 1,
            prefill: 1,
            ..c
        }],
    );
}

/// Two claimed, then filled and committed; two taken, then copied and acknowledged; who is interrupted on the way is killed.
#[test]
fn batches() {
    let c = Config {
        batch: true,
        put: &[2, 1],
        get: &[2],
        ..Config::default()
    };
    let sizes = |cfg: Config| {
        [(1, 0), (2, 0), (2, 2), (3, 1), (3, 3)].map(|(n, prefill)| Config { n, prefill, ..cfg })
    };
    let some = |cfgs: &[Config]| check(QUICK, cfgs);
    some(&sizes(Config { deaths: 2, ..c }));
    some(&sizes(Config {
        deaths: 1,
        hints: true,
        ..c
    }));
    some(&sizes(Config {
        deaths: 1,
        closer: true,
        ..c
    }));
    some(&sizes(Config {
        put: &[2],
        get: &[2, 1],
        deaths: 2,
        ..c
    }));
    some(&sizes(Config {
        put: &[3],
        get: &[3],
        deaths: 1,
        ..c
    }));
    some(&sizes(Config {
        put: &[2],
        get: &[2],
        sweepers: 1,
        joins: 1,
        deaths: 1,
        ..c
    }));
    some(&sizes(Config {
        put: &[],
        get: &[2, 2],
        sweepers: 1,
        joins: 1,
        deaths: 1,
        mortal: CONSUMERS,
        ..c
    }));
}

/// The dead are swept by one or two sweepers that may die themselves; the ids are used again.
#[test]
fn sweeps_and_new_processes() {
    let c = Config {
        sweepers: 1,
        joins: 1,
        deaths: 1,
        ..Config::default()
    };
    check(
        QUICK,
        &small(
            Config {
                put: &[1],
                get: &[1],
                ..c
            },
            2,
        ),
    );
    check(
        QUICK,
        &small(
            Config {
                put: &[1],
                get: &[1],
                sweepers: 2,
                ..c
            },
            2,
        ),
    );
    check(
        QUICK,
        &small(
            Config {
                put: &[1, 1],
                get: &[1],
                ..c
            },
            1,
        ),
    );
    check(
        QUICK,
        &small(
            Config {
                put: &[1],
                get: &[1, 1],
                ..c
            },
            1,
        ),
    );
    check(
        QUICK,
        &small(
            Config {
                put: &[1],
                get: &[1],
                closer: true,
                ..c
            },
            1,
        ),
    );
    let orphans = Config {
        get: &[1, 1, 1],
        prefill: 1,
        mortal: CONSUMERS,
        ..c
    };
    let two = Config {
        n: 2,
        prefill: 2,
        ..orphans
    };
    check(
        QUICK,
        &[
            orphans,
            two,
            Config {
                deaths: 2,
                joins: 0,
                ..two
            },
        ],
    );
    let passed = Config {
        n: 4,
        get: &[1, 3],
        prefill: 4,
        ..c
    };
    check(
        QUICK,
        &[
            passed,
            Config {
                unseen: true,
                ..passed
            },
            Config {
                n: 3,
                prefill: 3,
                sweepers: 2,
                ..passed
            },
        ],
    );
}

#[test]
#[ignore = "minutes and gigabytes"]
fn large_three_to_three() {
    let c = Config {
        put: &[1, 1, 1],
        get: &[1, 1, 1],
        prefill: 1,
        ..Config::default()
    };
    for deaths in 1..=2 {
        check(
            LARGE,
            &[Config { deaths, ..c }, Config { n: 2, deaths, ..c }],
        );
        check(
            LARGE,
            &[
                Config {
                    deaths,
                    prefill: 0,
                    ..c
                },
                Config {
                    n: 2,
                    deaths,
                    prefill: 2,
                    ..c
                },
            ],
        );
    }
}

#[test]
#[ignore = "minutes and gigabytes"]
fn large_two_to_two() {
    let c = Config {
        put: &[2, 2],
        get: &[2, 2],
        deaths: 2,
        ..Config::default()
    };
    check(LARGE, &[c, Config { n: 2, ..c }, Config { n: 3, ..c }]);
    let c = Config {
        put: &[2, 1],
        get: &[2, 1],
        deaths: 1,
        hints: true,
        ..c
    };
    check(LARGE, &[c, Config { n: 2, ..c }]);
    let c = Config {
        deaths: 2,
        closer: true,
        hints: false,
        ..c
    };
    check(LARGE, &[c, Config { n: 2, ..c }]);
}

#[test]
#[ignore = "minutes and gigabytes"]
fn large_sweeps() {
    let c = Config {
        sweepers: 1,
        joins: 1,
        deaths: 2,
        ..Config::default()
    };
    check(
        LARGE,
        &small(
            Config {
                put: &[1, 1],
                get: &[1],
                ..c
            },
            2,
        ),
    );
    check(
        LARGE,
        &small(
            Config {
                put: &[1],
                get: &[1, 1],
                ..c
            },
            2,
        ),
    );
    check(
        LARGE,
        &[Config {
            put: &[1],
            get: &[1, 1, 1],
            prefill: 1,
            ..c
        }],
    );
    check(
        LARGE,
        &[Config {
            put: &[1, 1],
            get: &[1, 1],
            deaths: 1,
            ..c
        }],
    );
    check(
        LARGE,
        &[Config {
            put: &[1, 1],
            get: &[1, 1],
            deaths: 1,
            n: 2,
            prefill: 1,
            ..c
        }],
    );
    let c = Config { joins: 2, ..c };
    check(
        LARGE,
        &[Config {
            put: &[1, 1],
            mortal: PRODUCERS,
            sweepers: 2,
            ..c
        }],
    );
    check(
        LARGE,
        &[Config {
            get: &[1, 1, 1],
            prefill: 1,
            mortal: CONSUMERS,
            sweepers: 2,
            ..c
        }],
    );
}
