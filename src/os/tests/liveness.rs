use std::fs;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::children::{Child, fork, sleep_for_ever};
use super::{Arena, CHECKED, assert_checked, can_set, play, refuse, role, until, within};
use crate::os::liveness::{self, Identity, is_dead, is_gone, namespace_of_children};
use crate::os::memfd::FileId;
use crate::os::pidfd;

/// A child that has the arena mapped, and then does something for ever.
fn member(arena: &Arena, then: impl FnOnce()) -> (Child, Identity) {
    arena.word().store(0, Ordering::SeqCst);
    let child = fork(|| {
        if arena.join() {
            then();
            arena.word().store(2, Ordering::SeqCst);
            sleep_for_ever();
        }
        1
    });
    until("mapped", || arena.word().load(Ordering::SeqCst) != 0);
    let id = Identity::of(child.pid).unwrap();
    (child, id)
}

/// The same process as a kernel before 6.9 would have written it down.
fn before_6_9(id: Identity) -> Identity {
    let fd = pidfd::open(id.pid).unwrap();
    Identity {
        pidfd_inode: 0,
        start: liveness::start(fd).unwrap(),
        ..id
    }
}

/// Both ways to write a process down.
fn both(id: Identity) -> [Identity; 2] {
    [id, before_6_9(id)]
}

/// The state letter in `/proc`.
fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat[stat.rfind(')').unwrap() + 2..].chars().next().unwrap()
}

#[test]
fn whoever_asks_is_alive() {
    let arena = Arena::new();
    let id = Identity::current().unwrap();
    assert_eq!(id, Identity::of(std::process::id()).unwrap());
    assert!(id.pidfd_inode != 0 || id.start != 0);
    for id in both(id) {
        assert!(!is_gone(&id));
        assert!(!is_dead(&id, arena.id));
    }
}

#[test]
fn a_member_lives_until_it_is_killed() {
    within(|| {
        let arena = Arena::new();
        let (child, id) = member(&arena, || {});
        let ids = both(id);
        assert!(ids.iter().all(|id| !is_gone(id) && !is_dead(id, arena.id)));

        // Still a zombie.
        child.kill();
        assert_eq!(state(child.pid), 'Z');
        assert!(ids.iter().all(|id| is_gone(id) && is_dead(id, arena.id)));

        child.join();
        assert!(ids.iter().all(|id| is_gone(id) && is_dead(id, arena.id)));
    });
}

#[test]
fn a_number_alone_tells_of_a_process_that_is_on_its_way() {
    within(|| {
        let here = namespace_of_children();
        assert_ne!(here, 0);
        let arena = Arena::new();
        let (child, id) = member(&arena, || {});
        assert_eq!(here, id.pid_ns);
        let child_id = Identity::numbered(child.pid, here);
        let elsewhere = Identity::numbered(child.pid, here + 1);
        let unknown = Identity::numbered(child.pid, 0);
        assert!(!is_gone(&child_id));
        child.kill();
        assert!(is_gone(&child_id));
        child.join();
        assert!(is_gone(&child_id));
        assert!(!is_gone(&elsewhere) && !is_gone(&unknown));
    });
}

#[test]
fn another_process_under_the_number_is_another() {
    within(|| {
        let arena = Arena::new();
        let (_child, id) = member(&arena, || {});
        if id.pidfd_inode != 0 {
            let pidfd_inode = id.pidfd_inode + 1;
            let other = Identity { pidfd_inode, ..id };
            assert!(is_gone(&other) && is_dead(&other, arena.id));
            // The inode decides alone.
            let start = 1;
            assert!(!is_gone(&Identity { start, ..id }));
        }
        let old = before_6_9(id);
        for (start, gone) in [
            (old.start - 2, true),
            (old.start - 1, false),
            (old.start + 1, false),
            (old.start + 2, true),
            (0, false),
        ] {
            let other = Identity { start, ..old };
            assert_eq!(is_gone(&other), gone, "{start} for {}", old.start);
            assert_eq!(is_dead(&other, arena.id), gone);
        }
    });
}

#[test]
fn a_number_that_comes_back_is_another_process() {
    const TEST: &str = "os::tests::liveness::a_number_that_comes_back_is_another_process";
    if role().is_none() {
        // Without a new `/proc` the numbers in it are not the caller's.
        for stage in [["unshare", "-pf", "--mount-proc"], ["unshare", "-p", "-f"]] {
            if can_set(&stage) {
                assert_checked(&play(&stage, TEST, "first"));
            }
        }
        return;
    }
    let sleeper = || Command::new("sleep").arg("1000").spawn().unwrap();
    let end = |mut child: std::process::Child| {
        child.kill().unwrap();
        child.wait().unwrap();
    };
    let first = sleeper();
    let pid = first.id();
    let ids = both(Identity::of(pid).unwrap());
    assert!(ids.iter().all(|id| !is_gone(id)));
    end(first);
    assert!(ids.iter().all(is_gone));
    // Farther apart than start times are precise.
    std::thread::sleep(Duration::from_millis(50));
    let mut second = sleeper();
    until("the number again", || {
        let last = format!("{}", pid - 1);
        fs::write("/proc/sys/kernel/ns_last_pid", last).unwrap();
        end(std::mem::replace(&mut second, sleeper()));
        second.id() == pid
    });
    assert!(ids.iter().all(is_gone));
    assert!(
        both(Identity::of(pid).unwrap())
            .iter()
            .all(|id| !is_gone(id))
    );
    end(second);
    println!("{CHECKED}");
}

#[test]
fn a_number_that_is_a_thread_now_is_another() {
    within(|| {
        let arena = Arena::new();
        let (number, asked) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let thread = std::thread::spawn(move || {
            number
                .0
                .send(rustix::thread::gettid().as_raw_nonzero().get())
                .unwrap();
            let _ = asked.1.recv();
        });
        let pid = number.1.recv().unwrap() as u32;
        let id = Identity::current().unwrap();
        let id = Identity { pid, ..id };
        assert!(is_gone(&id) && is_dead(&id, arena.id));
        drop(asked.0);
        thread.join().unwrap();
    });
}

#[test]
fn a_process_lives_while_any_of_its_threads_does() {
    extern "C" fn second(_: *mut libc::c_void) -> libc::c_int {
        sleep_for_ever()
    }
    within(|| {
        let arena = Arena::new();
        let mut stack = vec![0u128; 4096];
        let top = stack.as_mut_ptr_range().end;
        let (child, id) = member(&arena, || {
            let flags = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND;
            // SAFETY: the stack is the child's copy, and the function does nothing with it.
            unsafe { libc::clone(second, top.cast(), flags, std::ptr::null_mut()) };
            // SAFETY: ends this thread only.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        });
        until("the main thread has ended", || state(child.pid) == 'Z');
        let maps = fs::read(format!("/proc/{}/maps", child.pid)).unwrap_or_default();
        assert!(maps.is_empty());
        let ids = both(id);
        assert!(ids.iter().all(|id| !is_gone(id) && !is_dead(id, arena.id)));
        child.kill();
        assert!(ids.iter().all(|id| is_gone(id) && is_dead(id, arena.id)));
    });
}

#[test]
fn a_process_lives_without_descriptors() {
    within(|| {
        let arena = Arena::new();
        let (child, id) = member(&arena, || {
            for fd in 0..4096 {
                // SAFETY: the child uses none of them again.
                unsafe { libc::close(fd) };
            }
        });
        until("all closed", || arena.word().load(Ordering::SeqCst) == 2);
        let open = fs::read_dir(format!("/proc/{}/fd", child.pid))
            .unwrap()
            .count();
        assert_eq!(open, 0);
        for id in both(id) {
            assert!(!is_gone(&id) && !is_dead(&id, arena.id));
        }
    });
}

#[test]
fn a_process_that_called_exec_is_no_member() {
    within(|| {
        let arena = Arena::new();
        let arguments = [c"sleep".as_ptr(), c"1000".as_ptr(), std::ptr::null()];
        let (child, id) = member(&arena, || {
            // SAFETY: the strings end with a zero, their list with a null.
            unsafe { libc::execv(c"/bin/sleep".as_ptr(), arguments.as_ptr()) };
        });
        let command = format!("/proc/{}/comm", child.pid);
        until("exec", || {
            fs::read_to_string(&command).unwrap() == "sleep\n"
        });
        let maps = format!("/proc/{}/maps", child.pid);
        until("mapped", || !fs::read(&maps).unwrap().is_empty());
        assert_eq!(
            Identity::of(child.pid).unwrap(),
            id,
            "all that names it stays"
        );
        for id in both(id) {
            assert!(!is_gone(&id));
            assert!(is_dead(&id, arena.id));
            // Who cannot see the arena in its own memory does not judge by that of others.
            let ino = arena.id.ino + (1 << 60);
            let unseen = FileId { ino, ..arena.id };
            assert!(!is_dead(&id, unseen));
        }
    });
}

#[test]
fn whose_memory_cannot_be_read_is_alive() {
    within(|| {
        let arena = Arena::new();
        let child = fork(|| sleep_for_ever());
        let id = Identity::of(child.pid).unwrap();
        assert!(
            !is_gone(&id) && is_dead(&id, arena.id),
            "it never mapped the arena"
        );
        let asked = std::thread::spawn(move || {
            // As if `/proc` were forbidden or all descriptors were in use.
            refuse(libc::SYS_openat, libc::EMFILE);
            assert!(!is_gone(&id) && !is_dead(&id, arena.id));
        });
        asked.join().unwrap();
    });
}

#[test]
fn a_number_of_another_namespace_says_nothing() {
    within(|| {
        let child = fork(|| 0);
        let id = Identity::of(child.pid).unwrap();
        child.join();
        assert!(is_gone(&id));
        let pid_ns = id.pid_ns + 1;
        let elsewhere = Identity { pid_ns, ..id };
        assert!(!is_gone(&elsewhere));
        let pid = 0;
        assert!(!is_gone(&Identity { pid, ..id }), "nobody is not dead");
    });
}

#[test]
fn who_may_not_ask_does_not_judge() {
    within(|| {
        let child = fork(|| 0);
        let id = Identity::of(child.pid).unwrap();
        child.join();
        assert!(is_gone(&id));
        for errno in [libc::ENOSYS, libc::EPERM, libc::EMFILE, libc::EINVAL] {
            let asked = std::thread::spawn(move || {
                refuse(libc::SYS_pidfd_open, errno);
                // Want of descriptors is another matter: that nobody has the number is told without one.
                assert_eq!(is_gone(&id), errno == libc::EMFILE, "{errno}");
                let id = Identity::current();
                match errno {
                    libc::ENOSYS | libc::EPERM => assert_eq!(id.unwrap().pidfd_inode, 0),
                    _ => assert_eq!(id.unwrap_err().raw_os_error(), Some(errno)),
                }
            });
            asked.join().unwrap();
        }
    });
}

#[test]
fn start_times_agree_across_time_namespaces() {
    const TEST: &str = "os::tests::liveness::start_times_agree_across_time_namespaces";
    let stat = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        liveness::start_field(&stat).unwrap()
    };
    let Some(role) = role() else {
        for seconds in ["86400", "-1"] {
            let stage = ["unshare", "--fork", "--time", "--boottime", seconds];
            if can_set(&stage) {
                let this = std::process::id();
                let start = before_6_9(Identity::current().unwrap()).start;
                let known = format!("{this} {start} {}", stat(this));
                assert_checked(&play(&stage, TEST, &known));
            }
        }
        return;
    };
    let numbers: Vec<u64> = role.split(' ').map(|word| word.parse().unwrap()).collect();
    let (pid, start, shown) = (numbers[0] as u32, numbers[1], numbers[2]);
    // The file shows something else here, so that this test would fail without the correction.
    assert!(stat(pid).abs_diff(shown) >= 99);
    let id = before_6_9(Identity::of(pid).unwrap());
    assert!(id.start.abs_diff(start) <= 1, "{} for {start}", id.start);
    assert!(!is_gone(&Identity { start, ..id }));
    let start = start + 10;
    assert!(is_gone(&Identity { start, ..id }));
    println!("{CHECKED}");
}

#[test]
fn shifts_of_the_boot_clock_are_taken_out() {
    let second = 1_000_000_000;
    assert_eq!(liveness::normalised(500, 0), Some(500));
    assert_eq!(liveness::normalised(500, second), Some(400));
    assert_eq!(liveness::normalised(500, -second), Some(600));
    assert_eq!(liveness::normalised(500, 9_999_999), Some(499));
    assert_eq!(liveness::normalised(500, 6 * second), None);
    let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 2 3 4";
    assert_eq!(liveness::start_field(stat), Some(4242));
}

/// Of a process that is no child of the one that asks, so that only a descriptor can tell.
#[test]
fn a_full_table_of_descriptors_hides_no_death() {
    const TEST: &str = "os::tests::liveness::a_full_table_of_descriptors_hides_no_death";
    if role().is_none() {
        assert_checked(&play(&[], TEST, "full"));
        return;
    }
    within(|| {
        let arena = Arena::new();
        let child = fork(|| {
            if !arena.join() {
                return 1;
            }
            let _other = fork(|| {
                if !arena.join() {
                    return 1;
                }
                arena.word().store(std::process::id(), Ordering::SeqCst);
                sleep_for_ever()
            });
            sleep_for_ever()
        });
        until("started", || arena.word().load(Ordering::SeqCst) > 1);
        let other = Identity::of(arena.word().load(Ordering::SeqCst)).unwrap();
        let id = Identity::of(child.pid).unwrap();
        let limit = libc::rlimit {
            rlim_cur: 64,
            rlim_max: 64,
        };
        // SAFETY: reads a value of that type.
        let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        assert_eq!(set, 0);
        let full: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
        assert!(pidfd::open(child.pid).is_err());
        for id in [other, id] {
            assert!(!is_gone(&id) && !is_dead(&id, arena.id));
            if id.pidfd_inode != 0 {
                // Told from another under its number, so it was looked at.
                let pidfd_inode = id.pidfd_inode + 1;
                assert!(is_gone(&Identity { pidfd_inode, ..id }));
            }
            // SAFETY: sends a signal; nobody has reaped it.
            unsafe { libc::kill(id.pid as i32, libc::SIGKILL) };
            until("noticed", || is_gone(&id));
            assert!(is_dead(&id, arena.id));
        }
        assert!(pidfd::open(child.pid).is_err(), "the table is still full");
        drop(full);
        println!("{CHECKED}");
    });
}
