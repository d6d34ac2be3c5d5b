#![forbid(unsafe_code)]

use super::*;
use serde::Deserialize;

fn small(bytes: &[u8]) -> (Small, usize) {
    let mut small = Small::default();
    small.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    (small, bytes.len())
}

fn decode_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (small, len) = small(bytes);
    decode(&small, len)
}

fn encode<'a, T: Serialize>(
    arena: &'a Arena,
    value: &T,
    inline: usize,
) -> Result<Encoded<'a>, Failure> {
    super::encode(arena, value, &mut Small::default(), inline)
}

fn arena() -> Arena {
    Arena::heap(64, &[]).unwrap()
}

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T) -> bool {
    let arena = arena();
    let mut small = Small::default();
    match super::encode(&arena, &value, &mut small, 24).unwrap() {
        Encoded::Inline(len) => {
            assert_eq!(decode::<T>(&small, len).unwrap(), value);
            true
        }
        Encoded::Parcel(parcel) => {
            assert_eq!(
                decode_parcel::<T>(&arena, &parcel, Vec::new()).unwrap(),
                value
            );
            false
        }
    }
}

#[test]
fn small_values_stay_inline_and_large_ones_do_not() {
    assert!(round_trip(()));
    assert!(round_trip(u64::MAX));
    assert!(round_trip("twenty-three bytes long".to_string()));
    assert!(!round_trip("twenty-four bytes long..".to_string()));
    assert!(!round_trip(vec![7_u8; 200_000]));
    assert!(!round_trip((0..5000_u64).collect::<Vec<_>>()));
}

#[test]
fn bytes_that_are_no_value_are_an_error() {
    assert!(decode_bytes::<String>(&[200, 1, 2]).is_err());
    assert!(decode_bytes::<u8>(&[1, 2]).is_err(), "bytes left over");
    assert!(decode_bytes::<char>(&[9]).is_err());
}

#[test]
fn a_failing_encoder_is_an_error_and_leaves_nothing() {
    struct Fails;
    impl Serialize for Fails {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("on purpose"))
        }
    }
    let arena = arena();
    assert!(matches!(
        encode(&arena, &Fails, 24),
        Err(Failure::Encode(_))
    ));
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn a_panicking_encoder_leaves_the_thread_usable() {
    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("on purpose")
        }
    }
    let arena = arena();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = encode(&arena, &Panics, 24);
    }));
    assert!(caught.is_err());
    assert!(round_trip(5_u8));
}

#[test]
fn an_encoder_that_changes_its_mind_is_an_error() {
    struct Fickle(std::cell::Cell<usize>);
    impl Serialize for Fickle {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.set(self.0.get() + 100);
            serializer.serialize_bytes(&vec![1; self.0.get()])
        }
    }
    let arena = arena();
    assert!(encode(&arena, &Fickle(0.into()), 24).is_err());
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn the_arena_s_limit_is_an_error() {
    let arena = arena();
    let huge = vec![1_u8; 65 * 64 * 1024];
    assert!(matches!(encode(&arena, &huge, 24), Err(Failure::NoMemory)));
    assert!(round_trip(huge.len()));
}

#[test]
fn descriptors_go_along_only_where_they_may() {
    #[derive(Debug)]
    struct File(OwnedFd);
    impl Serialize for File {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serialize_fd(std::os::fd::AsFd::as_fd(&self.0), serializer)
        }
    }
    impl<'de> Deserialize<'de> for File {
        fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            deserialize_fd(d).map(File)
        }
    }
    let arena = arena();
    let file = File(std::fs::File::open("/dev/null").unwrap().into());
    let Err(Failure::Encode(error)) = encode(&arena, &file, 24) else {
        panic!("passed")
    };
    assert!(error.to_string().contains("inside a message"), "{error}");
    let mut fds = Vec::new();
    let parcel = encode_parcel(&arena, &(7, &file), Some(&mut fds)).unwrap();
    assert_eq!(fds.len(), 1);
    let (seven, _file): (i32, File) = decode_parcel(&arena, &parcel, fds).unwrap();
    assert_eq!(seven, 7);
    assert!(decode_parcel::<(i32, File)>(&arena, &parcel, Vec::new()).is_err());
}
