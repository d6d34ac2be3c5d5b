//! Each mistake must be found, in the smallest configuration that is known to show it; and the
//! same configuration without the mistake must be clean.

use crate::explore::Search;
use crate::model::*;

const LIMIT: usize = 1_000_000;

fn cases() -> Vec<(Bug, Config)> {
    use Bug::*;
    let c = Config::default();
    let one = Config {
        put: &[1],
        get: &[1],
        ..c
    };
    let two_put = Config {
        put: &[1, 1],
        get: &[1],
        ..c
    };
    let two_get = Config {
        get: &[1, 1],
        prefill: 1,
        mortal: CONSUMERS,
        ..c
    };
    // One takes the first message and dies; the other has passed it by and goes on.
    let passed = Config {
        n: 3,
        get: &[1, 2],
        prefill: 3,
        deaths: 1,
        mortal: CONSUMERS,
        ..c
    };
    let passed_twice = Config {
        n: 4,
        get: &[1, 3],
        prefill: 4,
        sweepers: 1,
        ..passed
    };
    let swept = Config {
        get: &[1],
        prefill: 1,
        deaths: 1,
        joins: 1,
        sweepers: 1,
        mortal: CONSUMERS,
        ..c
    };
    let batch = Config {
        n: 2,
        put: &[2],
        get: &[2],
        batch: true,
        ..c
    };
    vec![
        (
            BatchIgnoresTaken,
            Config {
                prefill: 2,
                get: &[1],
                ..batch
            },
        ),
        (
            BatchAcksEarly,
            Config {
                prefill: 2,
                ..batch
            },
        ),
        (
            ClosedBeforeClaim,
            Config {
                closer: true,
                ..one
            },
        ),
        (
            AbortNotStored,
            Config {
                put: &[1],
                closer: true,
                ..c
            },
        ),
        (FreeIgnoresTaken, Config { prefill: 1, ..one }),
        (
            FreeIgnoresLap,
            Config {
                put: &[1],
                prefill: 1,
                ..c
            },
        ),
        (
            StaleTakeIsFull,
            Config {
                n: 2,
                put: &[1, 1],
                get: &[3],
                prefill: 2,
                ..c
            },
        ),
        (
            StalePubIsFull,
            Config {
                n: 2,
                put: &[2, 1, 1],
                get: &[2],
                deaths: 1,
                mortal: PRODUCERS,
                ..c
            },
        ),
        (
            FullWithoutRepair,
            Config {
                put: &[1, 1],
                deaths: 1,
                ..c
            },
        ),
        (
            FullAliveUnchecked,
            Config {
                put: &[1, 1],
                deaths: 1,
                joins: 1,
                sweepers: 1,
                ..c
            },
        ),
        (
            FullRepairNoReread,
            Config {
                put: &[1, 1],
                deaths: 1,
                ..c
            },
        ),
        (ClaimByStore, Config { put: &[1, 1], ..c }),
        (CommitEarly, one),
        (
            ProducerBumpsAfter,
            Config {
                put: &[1],
                ..passed
            },
        ),
        (
            TailHintBeforeClaim,
            Config {
                prefill: 1,
                hints: true,
                ..two_put
            },
        ),
        (
            SeenAfterScan,
            Config {
                unseen: true,
                sweepers: 1,
                ..passed
            },
        ),
        (
            ScanAliveUnchecked,
            Config {
                joins: 1,
                ..passed_twice
            },
        ),
        (
            SeenAfterSuccess,
            Config {
                get: &[1, 1, 2],
                deaths: 2,
                ..passed_twice
            },
        ),
        (ScanSkipsLostRace, passed_twice),
        (
            StealFromLiving,
            Config {
                unseen: true,
                ..two_get
            },
        ),
        (SkipWithoutReread, Config { deaths: 1, ..one }),
        (
            SkipByStore,
            Config {
                deaths: 1,
                mortal: PRODUCERS,
                ..two_put
            },
        ),
        (TakeByStore, two_get),
        (EmptyByPub, Config { n: 2, ..two_put }),
        (StepOverBusy, one),
        (BusyNotReloaded, one),
        (AckBeforeCopy, Config { prefill: 1, ..one }),
        (
            HeadHintBeforeTake,
            Config {
                n: 2,
                get: &[1, 1, 1],
                prefill: 2,
                hints: true,
                ..c
            },
        ),
        (
            NoLook,
            Config {
                deaths: 1,
                ..two_get
            },
        ),
        (
            LookAliveUnchecked,
            Config {
                deaths: 1,
                joins: 1,
                sweepers: 1,
                ..two_get
            },
        ),
        (
            LookNoBump,
            Config {
                deaths: 1,
                ..two_get
            },
        ),
        (
            LookIgnoresOrphan,
            Config {
                deaths: 1,
                sweepers: 1,
                ..two_get
            },
        ),
        (
            FlagAfterClaim,
            Config {
                closer: true,
                ..one
            },
        ),
        (
            ClosedIgnoresTaken,
            Config {
                closer: true,
                deaths: 1,
                ..two_get
            },
        ),
        (
            NoTakeCount,
            Config {
                sweepers: 2,
                ..swept
            },
        ),
        (NoTakeCount, Config { put: &[1], ..swept }),
        (
            NoTakeCount,
            Config {
                get: &[1, 1],
                ..swept
            },
        ),
        (
            NoBump,
            Config {
                sweepers: 1,
                ..passed
            },
        ),
        (
            SweepBumpsAfter,
            Config {
                sweepers: 1,
                ..passed
            },
        ),
        (
            DeadAskedFirst,
            Config {
                sweepers: 2,
                ..swept
            },
        ),
        (
            SweepIgnoresPub,
            Config {
                put: &[1],
                deaths: 1,
                sweepers: 1,
                ..c
            },
        ),
        (
            SweepByStore,
            Config {
                sweepers: 1,
                deaths: 1,
                ..two_get
            },
        ),
        (
            SweepTakesOnly,
            Config {
                put: &[1],
                get: &[],
                prefill: 0,
                mortal: PRODUCERS,
                ..swept
            },
        ),
        (SweepClaimsOnly, swept),
        (RecycleUnswept, swept),
        (
            RecycleAnyGeneration,
            Config {
                deaths: 2,
                joins: 2,
                sweepers: 2,
                ..swept
            },
        ),
        (
            JoinerSkipsScan,
            Config {
                n: 2,
                prefill: 2,
                ..swept
            },
        ),
    ]
}

#[test]
fn every_mistake_is_found() {
    let mut missed = Vec::new();
    for (bug, cfg) in cases() {
        let clean = Search::run(&Model::new(cfg), LIMIT);
        if let Some((_, trace)) = clean.violation {
            panic!("without {bug:?}: {trace}");
        }
        let broken = Search::run(&Model::new(Config { bug, ..cfg }), LIMIT);
        let fault = broken.violation.map(|(fault, _)| fault);
        let parties = cfg.put.len() + cfg.get.len() + cfg.sweepers + usize::from(cfg.closer);
        println!(
            "| {bug:?} | {cfg} | {parties} | {} of {} | {} |",
            broken.states,
            clean.states,
            fault.unwrap_or("MISSED")
        );
        if fault.is_none() {
            missed.push(bug);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// An orphan at the cursor may be stepped over: whoever marks it bumps `deaths` first, so that the
/// scan of this consumer's next call, or the look before EMPTY, finds it.
#[test]
fn stepping_over_an_orphan_is_harmless() {
    let bug = Bug::StepOverOrphan;
    let c = Config {
        bug,
        deaths: 1,
        sweepers: 1,
        ..Config::default()
    };
    let passed = Config {
        n: 4,
        get: &[1, 3],
        prefill: 4,
        joins: 1,
        ..c
    };
    let filled = Config {
        n: 2,
        put: &[1],
        get: &[2, 2],
        prefill: 1,
        ..c
    };
    for cfg in [passed, filled] {
        assert!(
            Search::run(&Model::new(cfg), LIMIT).violation.is_none(),
            "{cfg}"
        );
    }
}
