//! The bit-packed words of the arena, each with its layout and named parts. A word is only ever changed as a whole.

/// Which process: an index into the members table. 0 is nobody.
pub(crate) type MemberId = u16;
/// Bits of a [`MemberId`] inside a word.
pub(crate) const MEMBER_BITS: u32 = 12;
/// The most members a family can have at a time.
pub(crate) const MAX_MEMBERS: u32 = (1 << MEMBER_BITS) - 1;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $shift:literal, $bits:expr;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) u64);

        impl $name {
            $(
                #[inline]
                pub(crate) const fn $field(self) -> u64 {
                    (self.0 >> $shift) & ((1 << $bits) - 1)
                }
            )*
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))$(.field(stringify!($field), &self.$field()))*.finish()
            }
        }
    };
}

word! {
    /// What a block is: `generation:30 | owner:30 | state:4`.
    ///
    /// The generation rises when the block is freed, so that a word never repeats. Only the owner changes an `OWNED`
    /// word, except that who repairs takes it over from an owner that died, by compare-exchange of the exact word.
    BlockWord { state: 0, 4; owner: 4, 30; generation: 34, 30; }
}

impl BlockWord {
    pub(crate) const FREE: u64 = 0;
    /// Belongs to the member `owner`, unless a live object lists it.
    pub(crate) const OWNED: u64 = 1;
    /// An object with its header; lives as long as it has a valid holder. Instead of an owner the word names its kind.
    pub(crate) const OBJECT: u64 = 2;
    /// Free, and its chunk is being taken out of use.
    pub(crate) const RETIRED: u64 = 3;

    pub(crate) const fn new(state: u64, owner: u64, generation: u64) -> Self {
        BlockWord((generation & ((1 << 30) - 1)) << 34 | owner << 4 | state)
    }

    pub(crate) const fn object(kind: u32, generation: u32) -> Self {
        BlockWord::new(BlockWord::OBJECT, kind as u64, generation as u64)
    }

    /// The kind of an object.
    pub(crate) const fn kind(self) -> Option<usize> {
        if self.state() == BlockWord::OBJECT {
            Some(self.owner() as usize)
        } else {
            None
        }
    }

    pub(crate) const fn with_state(self, state: u64, owner: u64) -> Self {
        BlockWord::new(state, owner, self.generation())
    }
}

word! {
    /// What a chunk is: `generation:21 | length:21 | owner:12 | class:5 | secured:1 | state:4`.
    ///
    /// `length` is the number of chunks of a `LARGE` run; `secured` says that the page of the chunk's block words exists.
    /// The generation rises at every claim.
    ChunkWord { state: 0, 4; secured: 4, 1; class: 5, 5; owner: 10, 12; length: 22, 21; generation: 43, 21; }
}

impl ChunkWord {
    /// Free, no page behind it.
    pub(crate) const CLEAN: u64 = 0;
    /// Free, its pages are still there.
    pub(crate) const DIRTY: u64 = 1;
    /// Claimed by `owner`: being prepared, part of a run, or being given back. A chunk that a `LARGE` head covers is in use.
    pub(crate) const BUSY: u64 = 2;
    /// Holds blocks of one size class.
    pub(crate) const SPAN: u64 = 3;
    /// The head of a run of `length` chunks that is one block.
    pub(crate) const LARGE: u64 = 4;
    /// A span that `owner` takes out of use if all its blocks are free.
    pub(crate) const CLOSING: u64 = 5;

    pub(crate) const fn is_free(self) -> bool {
        self.state() <= ChunkWord::DIRTY
    }

    const fn with(self, state: u64, class: u64, owner: u64, length: u64) -> Self {
        let kept = self.0 & (((1 << 21) - 1) << 43 | 1 << 4);
        ChunkWord(kept | state | class << 5 | owner << 10 | length << 22)
    }

    /// The word after a claim by `owner`.
    pub(crate) const fn claimed(self, owner: MemberId) -> Self {
        let next = (self.generation() + 1) & ((1 << 21) - 1);
        let risen = ChunkWord(self.0 & !(((1 << 21) - 1) << 43) | next << 43);
        risen.with(ChunkWord::BUSY, 0, owner as u64, 0)
    }

    pub(crate) const fn busy(self, owner: MemberId) -> Self {
        self.with(ChunkWord::BUSY, 0, owner as u64, 0)
    }

    /// A claim of a chunk without pages; `length` has no other use while `BUSY`.
    pub(crate) const fn with_clean(self) -> Self {
        ChunkWord(self.0 | 1 << 22)
    }

    pub(crate) const fn is_clean_claim(self) -> bool {
        self.state() == ChunkWord::BUSY && self.length() == 1
    }

    /// What a `BUSY` chunk is when its claim is given up.
    pub(crate) const fn released(self) -> Self {
        self.free(if self.is_clean_claim() {
            ChunkWord::CLEAN
        } else {
            ChunkWord::DIRTY
        })
    }

    pub(crate) const fn free(self, state: u64) -> Self {
        self.with(state, 0, 0, 0)
    }

    pub(crate) const fn span(self, class: usize) -> Self {
        self.with(ChunkWord::SPAN, class as u64, 0, 0)
    }

    pub(crate) const fn closing(self, owner: MemberId) -> Self {
        self.with(ChunkWord::CLOSING, self.class(), owner as u64, 0)
    }

    pub(crate) const fn large(self, length: u64) -> Self {
        self.with(ChunkWord::LARGE, 0, 0, length)
    }

    pub(crate) const fn with_secured(self) -> Self {
        ChunkWord(self.0 | 1 << 4)
    }
}

word! {
    /// A row of the members table: `generation:32 | pid:26 | state:4`. For a reserved row `pid` is the member that reserved it.
    MemberWord { state: 0, 4; pid: 4, 26; generation: 32, 32; }
}

impl MemberWord {
    pub(crate) const FREE: u64 = 0;
    /// Kept by the member in `pid` for a child that it is starting.
    pub(crate) const RESERVED: u64 = 1;
    /// The process `pid` writes down its identity.
    pub(crate) const JOINING: u64 = 2;
    pub(crate) const ALIVE: u64 = 3;
    /// The process has ended; its tags may still be in the arena.
    pub(crate) const DEAD: u64 = 4;

    pub(crate) const fn new(state: u64, pid: u64, generation: u64) -> Self {
        MemberWord(generation << 32 | pid << 4 | state)
    }
}

word! {
    /// Who keeps an object alive: `generation:30 | index:30 | kind:4`. Valid as long as the holder has that generation.
    HolderWord { kind: 0, 4; index: 4, 30; generation: 34, 30; }
}

impl HolderWord {
    pub(crate) const NONE: u64 = 0;
    /// The member with this id.
    pub(crate) const MEMBER: u64 = 1;
    /// The message in this block.
    pub(crate) const BLOCK: u64 = 2;
    /// The same, when nobody can get it out of that message any more.
    pub(crate) const OLD_BLOCK: u64 = 3;

    pub(crate) const fn new(kind: u64, index: u64, generation: u64) -> Self {
        HolderWord((generation & ((1 << 30) - 1)) << 34 | index << 4 | kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap() {
        let word = BlockWord::new(BlockWord::OWNED, (1 << 30) - 1, (1 << 30) - 1);
        assert_eq!(
            (word.state(), word.owner(), word.generation()),
            (1, (1 << 30) - 1, (1 << 30) - 1)
        );
        assert_eq!(
            BlockWord::new(0, 0, 1 << 30).generation(),
            0,
            "generations wrap"
        );
        assert_eq!(word.kind(), None);
        let object = BlockWord::object(7, 9);
        assert_eq!((object.kind(), object.generation()), (Some(7), 9));

        let clean = ChunkWord(0).with_secured();
        let busy = clean.claimed(4095);
        assert_eq!(
            (
                busy.state(),
                busy.owner(),
                busy.generation(),
                busy.secured()
            ),
            (2, 4095, 1, 1)
        );
        let large = busy.large((1 << 21) - 1);
        assert_eq!(
            (
                large.state(),
                large.length(),
                large.owner(),
                large.generation()
            ),
            (4, (1 << 21) - 1, 0, 1)
        );
        let span = busy.span(16);
        assert_eq!(
            (
                span.class(),
                span.closing(7).class(),
                span.closing(7).owner()
            ),
            (16, 16, 7)
        );
        assert!(large.free(ChunkWord::DIRTY).is_free());
        assert_eq!(
            ChunkWord(u64::MAX).claimed(1).generation(),
            0,
            "generations wrap"
        );

        let member = MemberWord::new(MemberWord::ALIVE, 4_194_304, u64::from(u32::MAX));
        assert_eq!(
            (member.state(), member.pid(), member.generation()),
            (3, 4_194_304, u64::from(u32::MAX))
        );
    }
}
