//! What the model remembers: the words of the ring, the private state of each process, and the
//! observer's notes ("ghost" fields) that no process can read. Everything packs into one u64 per
//! slot and per process, so that millions of states fit into memory.

pub const MAX_SLOTS: usize = 4;
pub const MAX_PROCS: usize = 8;

/// States of a claim word: SKIPPED (0) and CLAIMED; of a take word: DONE (0), TAKEN and ORPHAN.
pub const FREE: u16 = 0;
pub const HELD: u16 = 1;
pub const ORPHAN: u16 = 2;

/// A claim or take word: {lap:4 | takes:2 | state:2 | owner:4}. `takes` counts how often this
/// lap's message was taken, so that a word never comes back.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Word(pub u16);

impl Word {
    pub fn new(lap: u8, state: u16, owner: u8) -> Word {
        debug_assert!(lap < 16 && owner < 16);
        Word(u16::from(lap) << 8 | state << 4 | u16::from(owner))
    }

    pub fn lap(self) -> u8 {
        (self.0 >> 8) as u8
    }

    pub fn state(self) -> u16 {
        self.0 >> 4 & 3
    }

    pub fn owner(self) -> u8 {
        (self.0 & 15) as u8
    }

    pub fn is(self, lap: u8, state: u16) -> bool {
        self.lap() == lap && self.state() == state
    }

    pub fn takes(self) -> u16 {
        self.0 >> 6 & 3
    }

    /// The same word with another number of takes (modulo 4).
    pub fn with_takes(self, takes: u16) -> Word {
        Word(self.0 & !0xc0 | (takes & 3) << 6)
    }

    pub fn with_owner(self, owner: u8) -> Word {
        Word(self.0 & !15 | u16::from(owner))
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = ["-", "HELD", "ORPHAN", "?"][usize::from(self.state())];
        write!(f, "{}:{state}", self.lap())?;
        if self.owner() != 0 {
            write!(f, "#{}", self.owner())?;
        }
        if self.takes() != 0 {
            write!(f, "x{}", self.takes())?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Slot {
    pub claim: Word,
    pub take: Word,
    /// Lap of the newest committed message, 0 before the first.
    pub published: u8,
    /// The payload in two halves, each holding the lap it was written for.
    pub payload: [u8; 2],
    /// Ghost: the message of lap `published` was acknowledged.
    pub acked: bool,
}

impl Slot {
    /// A committed message that nobody has taken yet.
    pub fn fresh(&self) -> bool {
        self.published > self.take.lap()
    }

    /// A committed message that was not acknowledged.
    pub fn unfinished(&self) -> bool {
        self.published > 0 && !self.acked
    }

    fn pack(&self) -> u64 {
        let mut b = Bits::default();
        b.put(u64::from(self.claim.0), 12);
        b.put(u64::from(self.take.0), 12);
        b.put(u64::from(self.published), 4);
        b.put(u64::from(self.payload[0]), 4);
        b.put(u64::from(self.payload[1]), 4);
        b.put(u64::from(self.acked), 1);
        b.word
    }

    fn unpack(word: u64) -> Slot {
        let mut b = Bits { word, at: 0 };
        Slot {
            claim: Word(b.get(12) as u16),
            take: Word(b.get(12) as u16),
            published: b.get(4) as u8,
            payload: [b.get(4) as u8, b.get(4) as u8],
            acked: b.get(1) != 0,
        }
    }
}

macro_rules! places {
    ($first:ident, $($other:ident,)*) => {
        /// Where a process stands: the shared access it makes *next*.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug, Default)]
        #[repr(u8)]
        pub enum Pc {
            #[default]
            $first,
            $($other,)*
        }

        impl Pc {
            fn from(n: u8) -> Pc {
                const ALL: &[Pc] = &[Pc::$first, $(Pc::$other,)*];
                debug_assert_eq!(ALL[usize::from(n)] as u8, n);
                ALL[usize::from(n)]
            }
        }
    };
}

places! {
    Done,
    // put
    Put,
    P1Claim,
    P1Hint,
    P2Take,
    P2TakerDead,
    P2Bump,
    P2Orphan,
    P2Pub,
    P2ClaimerDead,
    P2ClaimAgain,
    P2PubAgain,
    P2Skip,
    P3Cas,
    P4Closed,
    P4Abort,
    // the second of a batch of two
    B1Claim,
    B2Take,
    B3Cas,
    P5First,
    P5Second,
    P6Commit,
    P7Hint,
    // get
    Get,
    G0Take,
    G0Dead,
    G0Again,
    G0Cas,
    G0Seen,
    G1Pub,
    G1Hint,
    G1Claim,
    G1Flag,
    G1ClaimAgain,
    G1Dead,
    G1PubAgain,
    G1Skip,
    G2Take,
    G2Cas,
    G3Hint,
    // the second of a batch of two
    H0Deaths,
    H1Pub,
    H2Take,
    H3Cas,
    G4First,
    G4Second,
    H4First,
    H4Second,
    G5Ack,
    H5Ack,
    // look at what is taken but not done, before EMPTY or Closed is said
    Look,
    LookDead,
    LookAgain,
    LookBump,
    // sweep
    Idle,
    SClaim,
    SClaimDead,
    SPub,
    SSkip,
    STake,
    STakeDead,
    SOrphan,
    SBump,
    SRecycle,
    // close
    Close,
}

impl Pc {
    /// The claim or the take has succeeded: neither FULL nor EMPTY will be said.
    pub fn has_slot(self) -> bool {
        (Pc::P4Closed..=Pc::P7Hint).contains(&self) || (Pc::G3Hint..=Pc::H5Ack).contains(&self)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Life {
    /// Dead and swept: the id may be given to a new process. Also what is not there at all.
    #[default]
    Free,
    Alive,
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Proc {
    pub life: Life,
    pub pc: Pc,
    /// Position of the private cursor; in a sweeper, the index of the process it sweeps.
    pub cur: u8,
    /// Calls still to make, the present one included.
    pub ops: u8,
    /// Holds the next position too.
    pub two: bool,
    /// Words as loaded.
    pub c: Word,
    pub k: Word,
    /// The slot that is scanned, or whose message is being read.
    pub j: u8,
    /// `deaths` did not change since this call loaded it. In a sweeper: the member entry did not
    /// change since the sweep began.
    pub current: bool,
    /// `deaths` did not change since the value in `seen` was loaded: no counters are needed.
    pub seen: bool,
    /// The closed flag was found set.
    pub closing: bool,
    /// Ghost: at some instant of this call the ring was full (put), held nothing fresh (get).
    pub instant: bool,
    /// Ghost: slots whose message was an orphan's, known or not, during the whole call.
    pub dead_mask: u8,
    /// Ghost: slots whose take word said ORPHAN during the whole call.
    pub orphan_mask: u8,
}

impl Proc {
    pub fn alive(&self) -> bool {
        self.life == Life::Alive
    }

    /// Forgets what matters during a call only.
    pub fn clear_call(&mut self) {
        *self = Proc {
            life: self.life,
            pc: self.pc,
            cur: self.cur,
            ops: self.ops,
            seen: self.seen,
            ..Proc::default()
        };
    }

    pub fn pack(&self) -> u64 {
        let mut b = Bits::default();
        b.put(u64::from(self.c.0), 12);
        b.put(u64::from(self.k.0), 12);
        b.put(self.life as u64, 2);
        b.put(self.pc as u64, 7);
        b.put(u64::from(self.two), 1);
        b.put(u64::from(self.cur), 4);
        b.put(u64::from(self.ops), 2);
        b.put(u64::from(self.j), 2);
        b.put(u64::from(self.current), 1);
        b.put(u64::from(self.seen), 1);
        b.put(u64::from(self.closing), 1);
        b.put(u64::from(self.instant), 1);
        b.put(u64::from(self.dead_mask), 4);
        b.put(u64::from(self.orphan_mask), 4);
        b.word
    }

    fn unpack(word: u64) -> Proc {
        let mut b = Bits { word, at: 0 };
        Proc {
            c: Word(b.get(12) as u16),
            k: Word(b.get(12) as u16),
            life: [Life::Free, Life::Alive, Life::Dead][b.get(2) as usize],
            pc: Pc::from(b.get(7) as u8),
            two: b.get(1) != 0,
            cur: b.get(4) as u8,
            ops: b.get(2) as u8,
            j: b.get(2) as u8,
            current: b.get(1) != 0,
            seen: b.get(1) != 0,
            closing: b.get(1) != 0,
            instant: b.get(1) != 0,
            dead_mask: b.get(4) as u8,
            orphan_mask: b.get(4) as u8,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    pub closed: bool,
    /// Ghost: a get has said Closed.
    pub said_closed: bool,
    pub deaths_left: u8,
    pub joins_left: u8,
    pub head_hint: u8,
    pub tail_hint: u8,
    pub slots: [Slot; MAX_SLOTS],
    pub procs: [Proc; MAX_PROCS],
}

impl State {
    pub fn pack(&self, n: usize, procs: usize, out: &mut Vec<u64>) {
        let mut b = Bits::default();
        b.put(u64::from(self.closed), 1);
        b.put(u64::from(self.said_closed), 1);
        b.put(u64::from(self.deaths_left), 2);
        b.put(u64::from(self.joins_left), 2);
        b.put(u64::from(self.head_hint), 4);
        b.put(u64::from(self.tail_hint), 4);
        out.clear();
        out.push(b.word);
        out.extend(self.slots[..n].iter().map(Slot::pack));
        out.extend(self.procs[..procs].iter().map(Proc::pack));
    }

    pub fn unpack(n: usize, words: &[u64]) -> State {
        let mut b = Bits {
            word: words[0],
            at: 0,
        };
        let mut s = State {
            closed: b.get(1) != 0,
            said_closed: b.get(1) != 0,
            deaths_left: b.get(2) as u8,
            joins_left: b.get(2) as u8,
            head_hint: b.get(4) as u8,
            tail_hint: b.get(4) as u8,
            ..State::default()
        };
        for (slot, &w) in s.slots.iter_mut().zip(&words[1..=n]) {
            *slot = Slot::unpack(w);
        }
        for (proc, &w) in s.procs.iter_mut().zip(&words[n + 1..]) {
            *proc = Proc::unpack(w);
        }
        s
    }
}

#[derive(Default)]
struct Bits {
    word: u64,
    at: u32,
}

impl Bits {
    fn put(&mut self, value: u64, bits: u32) {
        debug_assert!(value < 1 << bits, "{value} does not fit into {bits} bits");
        self.word |= value << self.at;
        self.at += bits;
    }

    fn get(&mut self, bits: u32) -> u64 {
        let value = self.word >> self.at & ((1 << bits) - 1);
        self.at += bits;
        value
    }
}
