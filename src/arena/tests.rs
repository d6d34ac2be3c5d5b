use super::layout::{SLOTS, class_of};
use super::*;

fn arena() -> Arena {
    Arena::heap(64, &[]).unwrap()
}

#[test]
fn blocks_are_disjoint_and_come_back() {
    let arena = arena();
    let sizes = [1_u64, 128, 129, 1000, 5000, 30_000, 32_768, 32_769, 200_000];
    let mut blocks: Vec<_> = sizes
        .iter()
        .flat_map(|&len| [len; 3])
        .map(|len| {
            let block = arena.alloc(len).unwrap();
            assert!(block.bytes().len() as u64 >= len);
            block
        })
        .collect();
    for (i, block) in blocks.iter_mut().enumerate() {
        block.bytes_mut().fill(i as u8);
    }
    for (i, block) in blocks.iter().enumerate() {
        assert!(block.bytes().iter().all(|&b| b == i as u8));
    }
    assert!(arena.stats().bytes_in_use > 700_000);
    drop(blocks);
    assert_eq!(arena.stats().bytes_in_use, 0);
    // All of it is whole again.
    assert!(arena.alloc(63 * CHUNK).is_ok());
}

#[test]
fn shortage_is_an_error_and_passes() {
    let arena = arena();
    assert_eq!(arena.alloc(65 * CHUNK).unwrap_err(), Error::NoMemory);
    let mut blocks = Vec::new();
    let error = loop {
        match arena.alloc(10_000) {
            Ok(block) => blocks.push(block),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::NoMemory);
    assert_eq!(blocks.len(), 64 * 6);
    blocks.truncate(10);
    assert!(
        arena.alloc(50 * CHUNK).is_ok(),
        "emptied spans are chunks again"
    );
}

#[test]
fn freed_memory_is_reused_before_new_pages_are_touched() {
    let arena = arena();
    for _ in 0..1000 {
        drop(arena.alloc(100_000).unwrap());
        drop(arena.alloc(100).unwrap());
    }
    assert!(arena.high_water() <= 4, "{}", arena.high_water());
}

#[test]
fn blocks_survive_threads() {
    let arena = arena();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let arena = arena.clone();
            scope.spawn(move || {
                let mut random = u64::from(thread) + 1;
                let mut held: Vec<(OwnedBlock<'_>, u8)> = Vec::new();
                for turn in 0..5000_u32 {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
                    let len = 1 << ((random >> 40) % 17);
                    if held.len() > 8 {
                        let (block, mark) = held.swap_remove((random >> 33) as usize % held.len());
                        assert!(
                            block.bytes().iter().all(|&b| b == mark),
                            "somebody else wrote"
                        );
                    }
                    if let Ok(mut block) = arena.alloc(len) {
                        let mark = thread.wrapping_mul(61).wrapping_add(turn as u8);
                        block.bytes_mut().fill(mark);
                        held.push((block, mark));
                    }
                }
            });
        }
    });
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn what_a_dead_member_left_is_collected() {
    let arena = arena();
    let seat = arena.reserve().unwrap();
    // This process plays the other member, dies as it, and is itself again.
    let me = (arena.me(), arena.my_generation());
    let _keep = arena.alloc(1000).unwrap();
    let before = arena.stats().bytes_in_use;
    arena.take_seat(seat).unwrap();
    arena.alloc(500).unwrap().into_block();
    arena.alloc(300_000).unwrap().into_block();
    arena.set_me(me.0, me.1);
    assert!(arena.stats().bytes_in_use > before);
    assert_eq!(arena.stats().members, 2);
    arena.mark_ended(seat);
    let after = arena.stats();
    assert_eq!((after.bytes_in_use, after.members), (before, 1));
    assert_eq!(
        arena.reserve().unwrap().id,
        seat.id,
        "its number is free again"
    );
}

#[test]
fn a_full_table_is_an_error() {
    let arena = arena();
    let seats: Vec<_> = std::iter::from_fn(|| arena.reserve().ok()).collect();
    assert_eq!(seats.len(), 14);
    assert_eq!(arena.reserve().unwrap_err(), Error::TooManyMembers);
    arena.cancel(seats[3]);
    assert_eq!(arena.reserve().unwrap().id, seats[3].id);
}

#[test]
fn a_real_arena_gives_memory_back_to_the_kernel() {
    let config = Config {
        limit: 256 << 20,
        max_members: 4,
    };
    let arena = Arena::create(config, &[], 1).unwrap();
    let mut block = arena.alloc(200 << 20).unwrap();
    block.bytes_mut().fill(1);
    drop(block);
    let blocks = || {
        let fd = arena.fd().unwrap();
        rustix::fs::fstat(fd).unwrap().st_blocks as u64 * 512
    };
    assert!(blocks() > 200 << 20);
    arena.stats();
    assert!(blocks() < 40 << 20, "{}", blocks());
}

/// A span is retired and its chunk used for blocks of another size while somebody is about to claim one of the old blocks.
#[test]
fn a_block_of_another_size_is_not_taken() {
    let arena = arena();
    let small = arena.alloc(100).unwrap();
    let index = small.block().index;
    drop(small);
    arena.stats(); // retires the span
    let other = arena.alloc(5000).unwrap();
    let neighbour = index + 1;
    assert_eq!(
        u64::from(other.block().index) / SLOTS,
        u64::from(index) / SLOTS
    );
    assert!(arena.claim_block(neighbour, class_of(100)).is_none());
    let block = arena.claim_block(neighbour, class_of(5000)).unwrap();
    assert_eq!(block.index, neighbour, "it was put back");
    arena.free(block);
    drop(other);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn spans_come_and_go_under_allocations() {
    let arena = Arena::heap(16, &[]).unwrap();
    let stop = crate::primitive::AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while stop.load(std::sync::atomic::Ordering::Relaxed) == 0 {
                arena.stats();
            }
        });
        let workers: Vec<_> = (0..3_u64)
            .map(|worker| {
                let arena = &arena;
                scope.spawn(move || {
                    let mut random = worker;
                    for i in 0..100_000_u64 {
                        random = random
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1);
                        let len = 64 << (random >> 60 & 7);
                        let mut block = arena.alloc(len).unwrap();
                        assert!(block.bytes().len() as u64 >= len);
                        let mark = [worker as u8, i as u8];
                        for at in [0, len as usize - 2] {
                            block.bytes_mut()[at..at + 2].copy_from_slice(&mark);
                        }
                        for at in [0, len as usize - 2] {
                            assert_eq!(block.bytes()[at..at + 2], mark, "another owner");
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        stop.store(1, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(arena.stats().bytes_in_use, 0);
}
