//! Who holds what: a member of the family, and where it matters one of its threads.

use crate::arena::{Arena, MemberId};
use crate::primitive::Fences;
use std::cell::Cell;

/// A thread of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Me {
    pub(crate) member: MemberId,
    /// The kernel's number for the thread, below 2^22.
    pub(crate) thread: u32,
}

/// Who asks, and who can be asked whether an owner has died.
pub(crate) trait Owners {
    fn me(&self) -> Me;

    /// The mode of the family's store-load handshakes.
    fn fences(&self) -> Fences;

    /// Asks the kernel: for slow paths. Load the tagged word first, ask then, and change exactly that word.
    fn is_dead(&self, member: MemberId) -> bool;

    /// Something of a dead member was put right.
    fn repaired(&self) {}

    /// The caller has slept for a while without a word.
    fn quiet(&self) {}
}

thread_local! {
    /// The member as which this thread has asked for its number last, and the number: a copy of the process is another member.
    static ME: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

impl Owners for Arena {
    #[inline]
    fn me(&self) -> Me {
        let member = self.my_word();
        let (known, mut thread) = ME.get();
        if known != member {
            thread = ask(member);
        }
        Me {
            member: member as MemberId,
            thread,
        }
    }

    #[inline]
    fn fences(&self) -> Fences {
        Arena::fences(self)
    }

    fn is_dead(&self, member: MemberId) -> bool {
        Arena::is_dead(self, member)
    }

    fn repaired(&self) {
        self.count_repair();
    }

    fn quiet(&self) {
        self.idle();
    }
}

#[cold]
fn ask(member: u64) -> u32 {
    let thread = crate::os::thread_id();
    ME.set((member, thread));
    thread
}
