//! Senseless input: a named error each, and everything goes on. (Shortage of memory, of members and of the process's own
//! limits is `tests/shortage`'s.)

use std::cell::{Cell, RefCell};

use super::*;

/// What an item does when it becomes bytes, and when bytes become an item.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Odd(u8);

const PLAIN: Odd = Odd(0);
const ENCODE_FAILS: Odd = Odd(1);
const ENCODE_PANICS: Odd = Odd(2);
const DECODE_FAILS: Odd = Odd(3);
const DECODE_PANICS: Odd = Odd(4);
/// Twice as large as what a slot holds, so that it takes a block.
const TAIL: [u64; 32] = [7; 32];

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            ENCODE_FAILS => Err(serde::ser::Error::custom("odd")),
            ENCODE_PANICS => panic!("odd"),
            Odd(number) => (number, TAIL).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (number, tail) = <(u8, [u64; 32])>::deserialize(deserializer)?;
        assert_eq!(tail, TAIL);
        match Odd(number) {
            DECODE_FAILS => Err(serde::de::Error::custom("odd")),
            DECODE_PANICS => panic!("odd"),
            odd => Ok(odd),
        }
    }
}

fn panics<R>(work: impl FnOnce() -> R) -> bool {
    catch_unwind(AssertUnwindSafe(work)).is_err()
}

#[test]
fn a_message_that_does_not_decode_costs_that_message() {
    let _watch = watch();
    let queue = queue::<Odd>(3);
    fn consume(queue: Queue<Odd>) -> Vec<u8> {
        let mut seen = Vec::new();
        loop {
            seen.push(match catch_unwind(AssertUnwindSafe(|| queue.get())) {
                Ok(Ok(odd)) => odd.0,
                Ok(Err(GetError::Decode(_))) => 103,
                Ok(Err(GetError::Closed)) => return seen,
                Ok(Err(other)) => panic!("{other:?}"),
                Err(_) => 104,
            });
        }
    }
    let consumer = start(consume, queue.clone());
    for item in [
        PLAIN,
        DECODE_FAILS,
        DECODE_FAILS,
        DECODE_PANICS,
        PLAIN,
        DECODE_PANICS,
        Odd(9),
    ] {
        queue.put(item).unwrap();
    }
    queue.close();
    assert_eq!(consumer.join().unwrap(), [0, 103, 103, 104, 0, 104, 9]);
}

/// Bytes of one type that are read as another.
struct Raw<const KIND: u8>;

impl<const KIND: u8> Serialize for Raw<KIND> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match KIND {
            // A length that no memory holds.
            0 => u64::MAX.serialize(serializer),
            1 => (u64::MAX >> 1, TAIL).serialize(serializer),
            // Too much, and too little.
            2 => (1_u8, 7_u64, "rest").serialize(serializer),
            3 => ().serialize(serializer),
            // No text.
            _ => (2_u8, 0xff_u8, 0xfe_u8).serialize(serializer),
        }
    }
}

impl<'de, const KIND: u8> Deserialize<'de> for Raw<KIND> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match KIND {
            0..=2 => Vec::<u64>::deserialize(deserializer).map(|_| Raw),
            3 => u128::deserialize(deserializer).map(|_| Raw),
            _ => String::deserialize(deserializer).map(|_| Raw),
        }
    }
}

#[test]
fn bytes_of_another_type_are_an_error() {
    fn refused<const KIND: u8>() {
        let queue = queue::<Raw<KIND>>(1);
        for _ in 0..3 {
            queue.put(Raw).unwrap();
            assert!(matches!(queue.get(), Err(GetError::Decode(_))), "{KIND}");
        }
        let process = start(|_: Raw<KIND>| (), Raw);
        assert!(
            matches!(process.join(), Err(JoinError::Decode(_))),
            "{KIND}"
        );
    }
    let _watch = watch();
    refused::<0>();
    refused::<1>();
    refused::<2>();
    refused::<3>();
    refused::<4>();
}

#[test]
fn an_encoder_that_fails_or_panics_has_claimed_nothing() {
    let _watch = watch();
    let queue = queue::<Odd>(1);
    for _ in 0..20 {
        assert!(matches!(
            queue.put(ENCODE_FAILS),
            Err(PutError::Encode(ENCODE_FAILS, _))
        ));
        assert!(panics(|| queue.put(ENCODE_PANICS)));
        assert_eq!(queue.len(), 0);
        queue.try_put(PLAIN).unwrap();
        // Full, and the encoder is asked first.
        assert!(panics(|| queue.put(ENCODE_PANICS)));
        assert_eq!(queue.try_get().unwrap(), PLAIN);
    }
    // In a child that ends by it, too.
    let process = start(
        |queue: Queue<Odd>| queue.put(ENCODE_PANICS).unwrap(),
        queue.clone(),
    );
    assert!(matches!(process.join(), Err(JoinError::Panicked { .. })));
    queue.try_put(PLAIN).unwrap();
    assert_eq!(queue.try_get().unwrap(), PLAIN);
}

#[test]
fn arguments_whose_encoder_panics_start_nothing() {
    let _watch = watch();
    for _ in 0..20 {
        assert!(panics(|| start(|_: Odd| (), ENCODE_PANICS)));
    }
    assert_eq!(start(|odd: Odd| odd, PLAIN).join().unwrap(), PLAIN);
    let process = start(|_: ()| ENCODE_PANICS, ());
    assert!(matches!(process.join(), Err(JoinError::Panicked { .. })));
    let process = start(|_: ()| DECODE_PANICS, ());
    assert!(panics(|| process.join()));
}

/// Waits within its own encoding and decoding.
#[derive(Clone)]
struct Slow {
    begun: Queue<()>,
    go: Queue<()>,
    plain: bool,
}

impl Serialize for Slow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.plain {
            self.begun.put(()).unwrap();
            self.go.get().unwrap();
        }
        (&self.begun, &self.go).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Slow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (begun, go) = Deserialize::deserialize(deserializer)?;
        let plain = true;
        Ok(Slow { begun, go, plain })
    }
}

#[test]
fn an_encoder_that_blocks_blocks_nobody_else() {
    let _watch = watch();
    let (begun, go) = (queue::<()>(1), queue::<()>(1));
    let slow = Slow {
        begun: begun.clone(),
        go: go.clone(),
        plain: true,
    };
    for killed in [true, false] {
        let queue = queue::<Slow>(1);
        fn put((queue, mut slow): (Queue<Slow>, Slow)) {
            slow.plain = false;
            queue.put(slow).unwrap();
        }
        let process = start(put, (queue.clone(), slow.clone()));
        begun.get().unwrap();
        for _ in 0..3 {
            queue.try_put(slow.clone()).unwrap();
            assert_eq!(queue.len(), 1);
            assert!(queue.try_put(slow.clone()).unwrap_err().is_full());
            queue.try_get().unwrap();
            assert!(queue.is_empty());
            assert!(matches!(queue.try_get(), Err(GetError::Empty)));
        }
        if killed {
            kill(process);
            continue;
        }
        // It encodes several times: to learn the size, and to write.
        while queue.is_empty() {
            let _ = go.try_put(());
            let _ = begun.try_get();
        }
        process.join().unwrap();
        queue.try_get().unwrap();
        assert!(queue.is_empty());
    }
}

/// Puts another into the queue that it is put into, and gets another from the one that it is got from.
struct Nested(u64, Cell<bool>);

impl Nested {
    fn new(number: u64) -> Nested {
        Nested(number, Cell::new(false))
    }
}

thread_local!(static OWN: RefCell<Option<Queue<Nested>>> = const { RefCell::new(None) });

impl Serialize for Nested {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = OWN.with_borrow(|own| own.clone().unwrap());
        // A value may be encoded more than once: to learn its size first.
        if self.0 > 0 && !self.1.replace(true) {
            own.put(Nested::new(self.0 - 1)).unwrap();
        }
        (self.0, TAIL).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (number, _) = <(u64, [u64; 32])>::deserialize(deserializer)?;
        let own = OWN.with_borrow(|own| own.clone().unwrap());
        let next = own.try_get().map_or(0, |other| other.0);
        Ok(Nested::new(number + next))
    }
}

#[test]
fn an_item_may_use_the_queue_that_it_goes_through() {
    let _watch = watch();
    let queue = queue::<Nested>(4);
    fn work(queue: Queue<Nested>) -> (u64, bool) {
        OWN.set(Some(queue.clone()));
        queue.put(Nested::new(3)).unwrap();
        let full = queue.is_full();
        let sum = queue.get().unwrap().0;
        OWN.set(None);
        (sum, full)
    }
    assert_eq!(
        start(work, queue.clone()).join().unwrap(),
        (3 + 2 + 1, true)
    );
    assert!(queue.is_empty());
}

#[test]
fn a_handle_is_serialised_in_messages_only() {
    let _watch = watch();
    let queue = queue::<u8>(1);
    assert!(postcard::to_allocvec(&queue).is_err());
    assert!(postcard::to_allocvec(&(1, Some(&queue))).is_err());
    assert!(postcard::from_bytes::<Queue<u8>>(&[0, 0, 0, 0, 0]).is_err());
    // Within the encoding of a message the same is still outside of it for a second format: what comes is refused there.
    struct Smuggled(Queue<u8>);
    impl Serialize for Smuggled {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let bytes = postcard::to_allocvec(&self.0).map_err(serde::ser::Error::custom)?;
            bytes.serialize(serializer)
        }
    }
    impl<'de> Deserialize<'de> for Smuggled {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let bytes = Vec::<u8>::deserialize(deserializer)?;
            let queue = postcard::from_bytes(&bytes).map_err(serde::de::Error::custom)?;
            Ok(Smuggled(queue))
        }
    }
    // Its place in the message's table is what the bytes say, so it even arrives.
    let smuggle = super::queue::<Smuggled>(1);
    smuggle.put(Smuggled(queue.clone())).unwrap();
    smuggle.get().unwrap().0.put(7).unwrap();
    assert_eq!(queue.get().unwrap(), 7);
    let null = Fd::from(std::fs::File::open("/dev/null").unwrap());
    assert!(postcard::to_allocvec(&null).is_err());
    assert!(postcard::from_bytes::<Fd>(&[0]).is_err());
}

/// Says that it has handles, or not, and reads others.
enum Forged {
    /// The place in a table that the message does not have.
    NoTable(u32),
    /// A place behind the end of the table.
    Behind(Queue<u64>, u32),
    /// A queue of numbers, read as a queue of text.
    OtherMessages(Queue<u64>),
    /// The same place twice: that is nothing but two handles.
    Twice(Queue<u64>),
}

impl Serialize for Forged {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Forged::NoTable(place) => (0_u8, place).serialize(serializer),
            Forged::Behind(queue, place) => (1_u8, queue, place).serialize(serializer),
            Forged::OtherMessages(queue) => (2_u8, queue).serialize(serializer),
            Forged::Twice(queue) => (3_u8, queue, 0_u32).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Forged {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;
        impl<'de> serde::de::Visitor<'de> for Parts {
            type Value = Forged;
            fn expecting(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                text.write_str("a forged handle")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut parts: A,
            ) -> Result<Forged, A::Error> {
                match parts.next_element::<u8>()?.unwrap() {
                    0 => drop(parts.next_element::<Queue<u64>>()?),
                    1 | 3 => {
                        let first = parts.next_element::<Queue<u64>>()?.unwrap();
                        let second = parts.next_element::<Queue<u64>>()?.unwrap();
                        second.put(5).unwrap();
                        return Ok(Forged::Twice(first));
                    }
                    _ => drop(parts.next_element::<Queue<String>>()?),
                }
                panic!("it was taken for a handle")
            }
        }
        deserializer.deserialize_tuple(3, Parts)
    }
}

#[test]
fn a_forged_handle_is_an_error() {
    let _watch = watch();
    let (queue, numbers) = (queue::<Forged>(1), queue::<u64>(2));
    let forged = [
        (Forged::NoTable(0), "no longer exists"),
        (Forged::NoTable(u32::MAX), "no longer exists"),
        (Forged::Behind(numbers.clone(), 1), "no longer exists"),
        (
            Forged::Behind(numbers.clone(), u32::MAX),
            "no longer exists",
        ),
        (Forged::OtherMessages(numbers.clone()), "another type"),
    ];
    for (item, reason) in forged {
        queue.put(item).unwrap();
        let Err(GetError::Decode(error)) = queue.get() else {
            panic!("{reason}")
        };
        assert!(error.to_string().contains(reason), "{error}");
    }
    queue.put(Forged::Twice(numbers.clone())).unwrap();
    let Ok(Forged::Twice(same)) = queue.get() else {
        panic!()
    };
    assert_eq!(same.get().unwrap(), 5);
    for item in [Forged::NoTable(0), Forged::OtherMessages(numbers.clone())] {
        let process = start(|_: Forged| (), item);
        assert!(matches!(process.join(), Err(JoinError::Decode(_))));
    }
    drop(queue);
    numbers.put(1).unwrap();
    assert_eq!(same.get().unwrap(), 1);
}

/// Takes the same descriptor out twice, or one that was not passed.
struct ForgedFd(Option<Fd>);

impl Serialize for ForgedFd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(fd) => (fd, 0_u32).serialize(serializer),
            None => (0_u32, 0_u32).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ForgedFd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (first, _second) = <(Fd, Fd)>::deserialize(deserializer)?;
        Ok(ForgedFd(Some(first)))
    }
}

#[test]
fn a_forged_descriptor_is_an_error() {
    let _watch = watch();
    let null = Fd::from(std::fs::File::open("/dev/null").unwrap());
    for item in [ForgedFd(Some(null)), ForgedFd(None)] {
        let process = start(|_: ForgedFd| (), item);
        assert!(matches!(process.join(), Err(JoinError::Decode(_))));
    }
    let queue = queue::<ForgedFd>(1);
    queue.put(ForgedFd(None)).unwrap();
    assert!(matches!(queue.get(), Err(GetError::Decode(_))));
}
