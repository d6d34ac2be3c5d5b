//! Numbers, flags and characters, and what is a new type of one, are a word each. The format of the other values is made for few
//! bytes, and takes a number apart: for one that is alone in a message a word is shorter in time, and in the end in bytes as well.
#![forbid(unsafe_code)]

use crate::error::DecodeError;
use serde::Serialize;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::ser::{self, Impossible, Serializer};
use std::fmt;

/// Whether it is worth asking: it may be a word, and nothing in it is anything else than a value.
pub(crate) const fn may_be_word<T>() -> bool {
    size_of::<T>() <= 8 && !std::mem::needs_drop::<T>()
}

/// The word that the value is; `None` for all that is more.
#[inline]
pub(crate) fn to_word<T: Serialize>(value: &T) -> Option<u64> {
    value.serialize(ToWord).ok()
}

/// The value that was this word.
#[inline]
pub(crate) fn from_word<T: DeserializeOwned>(word: u64) -> Result<T, DecodeError> {
    T::deserialize(FromWord(word)).map_err(|NoWord| DecodeError("it was sent as a number".into()))
}

/// It is something else.
#[derive(Debug)]
struct NoWord;

impl fmt::Display for NoWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no number")
    }
}

impl std::error::Error for NoWord {}

impl ser::Error for NoWord {
    #[cold]
    fn custom<T: fmt::Display>(_: T) -> Self {
        NoWord
    }
}

impl de::Error for NoWord {
    #[cold]
    fn custom<T: fmt::Display>(_: T) -> Self {
        NoWord
    }
}

struct ToWord;

type No = Impossible<u64, NoWord>;

macro_rules! words {
    ($($name:ident($value:ident: $type:ty) -> $word:expr;)*) => {$(
        #[inline]
        fn $name(self, $value: $type) -> Result<u64, NoWord> {
            Ok($word)
        }
    )*};
}

macro_rules! no_words {
    ($($name:ident($($type:ty),*) -> $result:ty;)*) => {$(
        #[inline]
        fn $name(self, $(_: $type),*) -> Result<$result, NoWord> {
            Err(NoWord)
        }
    )*};
}

impl Serializer for ToWord {
    type Ok = u64;
    type Error = NoWord;
    type SerializeSeq = No;
    type SerializeTuple = No;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStruct = No;
    type SerializeStructVariant = No;

    words! {
        serialize_bool(v: bool) -> v.into();
        serialize_i8(v: i8) -> v as u64;
        serialize_i16(v: i16) -> v as u64;
        serialize_i32(v: i32) -> v as u64;
        serialize_i64(v: i64) -> v as u64;
        serialize_u8(v: u8) -> v.into();
        serialize_u16(v: u16) -> v.into();
        serialize_u32(v: u32) -> v.into();
        serialize_u64(v: u64) -> v;
        serialize_f32(v: f32) -> v.to_bits().into();
        serialize_f64(v: f64) -> v.to_bits();
        serialize_char(v: char) -> u32::from(v).into();
    }

    no_words! {
        serialize_str(&str) -> u64;
        serialize_bytes(&[u8]) -> u64;
        serialize_none() -> u64;
        serialize_unit() -> u64;
        serialize_unit_struct(&'static str) -> u64;
        serialize_unit_variant(&'static str, u32, &'static str) -> u64;
        serialize_seq(Option<usize>) -> No;
        serialize_tuple(usize) -> No;
        serialize_tuple_struct(&'static str, usize) -> No;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> No;
        serialize_map(Option<usize>) -> No;
        serialize_struct(&'static str, usize) -> No;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> No;
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<u64, NoWord> {
        Err(NoWord)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<u64, NoWord> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<u64, NoWord> {
        Err(NoWord)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

struct FromWord(u64);

macro_rules! visits {
    ($($name:ident($word:ident) -> $visit:ident($value:expr);)*) => {$(
        #[inline]
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoWord> {
            let $word = self.0;
            visitor.$visit($value)
        }
    )*};
}

impl<'de> Deserializer<'de> for FromWord {
    type Error = NoWord;

    visits! {
        deserialize_bool(word) -> visit_bool(word != 0);
        deserialize_i8(word) -> visit_i8(i8::try_from(word as i64).map_err(|_| NoWord)?);
        deserialize_i16(word) -> visit_i16(i16::try_from(word as i64).map_err(|_| NoWord)?);
        deserialize_i32(word) -> visit_i32(i32::try_from(word as i64).map_err(|_| NoWord)?);
        deserialize_i64(word) -> visit_i64(word as i64);
        deserialize_u8(word) -> visit_u8(u8::try_from(word).map_err(|_| NoWord)?);
        deserialize_u16(word) -> visit_u16(u16::try_from(word).map_err(|_| NoWord)?);
        deserialize_u32(word) -> visit_u32(u32::try_from(word).map_err(|_| NoWord)?);
        deserialize_u64(word) -> visit_u64(word);
        deserialize_f32(word) -> visit_f32(f32::from_bits(word as u32));
        deserialize_f64(word) -> visit_f64(f64::from_bits(word));
        deserialize_char(word) -> visit_char(char::from_u32(word as u32).ok_or(NoWord)?);
    }

    #[cold]
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoWord> {
        Err(NoWord)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NoWord> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 str string bytes byte_buf option unit unit_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    fn round<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: T) {
        let word = to_word(&value).expect("a word");
        assert_eq!(from_word::<T>(word).unwrap(), value);
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct New(i16);

    /// Takes what it has asked for, and nothing wider.
    #[derive(PartialEq, Debug)]
    struct Narrow(u8);

    impl Serialize for Narrow {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_u8(self.0)
        }
    }

    impl<'de> Deserialize<'de> for Narrow {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            from.deserialize_u8(Narrow(0))
        }
    }

    impl Visitor<'_> for Narrow {
        type Value = Narrow;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a byte")
        }

        fn visit_u8<E>(self, byte: u8) -> Result<Narrow, E> {
            Ok(Narrow(byte))
        }
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Named {
        number: u8,
    }

    #[test]
    fn numbers_are_words() {
        for number in [0, 1, u64::MAX, 1 << 63] {
            round(number);
            round(number as u32);
            round(number as u16);
            round(number as u8);
            round(number as i64);
            round(number as i32);
            round(number as i16);
            round(number as i8);
            round(number as usize);
            round(f64::from_bits(number >> 12));
            round(f32::from_bits(number as u32 >> 9));
        }
        round(true);
        round(false);
        for letter in ['a', '\0', char::MAX] {
            round(letter);
        }
        round(New(-7));
        round(Narrow(200));
    }

    #[test]
    fn others_are_not() {
        assert_eq!(to_word(&(1_u8, 2_u8)), None);
        assert_eq!(to_word(&Some(1_u8)), None);
        assert_eq!(to_word(&()), None);
        assert_eq!(to_word(&"a"), None);
        assert_eq!(to_word(&Named { number: 1 }), None);
        assert_eq!(to_word(&1_u128), None);
    }

    #[test]
    fn a_word_that_is_no_such_value_is_an_error() {
        assert!(from_word::<u8>(256).is_err());
        assert!(from_word::<char>(0xd800).is_err());
        assert!(from_word::<Named>(1).is_err());
        assert!(from_word::<(u8, u8)>(1).is_err());
    }
}
