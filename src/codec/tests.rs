#![forbid(unsafe_code)]

use super::*;
use serde::Deserialize;

/// What a queue does with a value: small, else in a block.
fn encode<'a, T: Serialize>(
    arena: &'a Arena,
    value: &T,
) -> Result<Result<Vec<u8>, Parcel<'a>>, Failure> {
    let mut small = [0; 24];
    match super::encode(value, &mut small)? {
        Some(len) => Ok(Ok(small[..len].to_vec())),
        None => encode_parcel(arena, value, None).map(Err),
    }
}

fn arena() -> Arena {
    Arena::heap(64, &[]).unwrap()
}

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T) -> bool {
    let arena = arena();
    match encode(&arena, &value).unwrap() {
        Ok(bytes) => {
            assert_eq!(decode::<T>(&bytes).unwrap(), value);
            true
        }
        Err(parcel) => {
            let decoded = decode_parcel::<T>(&arena, &parcel, Vec::new());
            assert_eq!(decoded.unwrap(), value);
            false
        }
    }
}

#[test]
fn small_values_stay_inline_and_large_ones_do_not() {
    assert!(round_trip(()));
    for bits in 0..64 {
        assert!(round_trip(u64::MAX >> bits));
        assert!(round_trip((i64::MIN >> bits, u16::MAX)));
    }
    assert!(round_trip("twenty-three bytes long".to_string()));
    assert!(!round_trip("twenty-four bytes long..".to_string()));
    assert!(!round_trip(vec![7_u8; 200_000]));
    assert!(!round_trip((0..5000_u64).collect::<Vec<_>>()));
}

#[test]
fn bytes_that_are_no_value_are_an_error() {
    assert!(decode::<String>(&[200, 1, 2]).is_err());
    assert!(decode::<u8>(&[1, 2]).is_err(), "bytes left over");
    assert!(decode::<char>(&[9]).is_err());
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
    assert!(matches!(encode(&arena, &Fails), Err(Failure::Encode(_))));
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
        let _ = encode(&arena, &Panics);
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
    assert!(encode(&arena, &Fickle(0.into())).is_err());
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn the_arena_s_limit_is_an_error() {
    let arena = arena();
    let huge = vec![1_u8; 65 * 64 * 1024];
    assert!(matches!(encode(&arena, &huge), Err(Failure::NoMemory)));
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
    let Err(Failure::Encode(error)) = encode(&arena, &file) else {
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

#[test]
fn a_refusal_outside_is_no_reason_later() {
    let queue = crate::Queue::<u8>::bounded(1).unwrap();
    assert!(postcard::to_slice(&queue, &mut [0; 16]).is_err());
    let error = decode::<u8>(&[1, 2]).unwrap_err().to_string();
    assert!(error.contains("left over"), "{error}");
    let error = decode::<char>(&[9]).unwrap_err().to_string();
    assert!(!error.contains("handle"), "{error}");
}
