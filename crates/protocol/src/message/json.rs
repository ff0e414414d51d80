//! How a field stands in JSON: absent if it has its default value, `null` read as the
//! default, `bytes` as a raw JSON value.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;

/// Something that can be a field of a message.
pub(super) trait Field: Default {
    fn is_absent(&self) -> bool;
    fn write<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error>;
    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error>;
}

pub(super) fn is_absent<F: Field>(field: &F) -> bool {
    field.is_absent()
}

pub(super) fn write<F: Field, S: Serializer>(field: &F, output: S) -> Result<S::Ok, S::Error> {
    field.write(output)
}

pub(super) fn read<'de, F: Field, D: Deserializer<'de>>(input: D) -> Result<F, D::Error> {
    F::read(input)
}

/// Fields whose JSON is serde's own, `null` aside.
macro_rules! plain {
    ($(<$($generic:ident)?> $kind:ty, $is_absent:expr;)+) => {$(
        impl<$($generic: Serialize + for<'any> Deserialize<'any>)?> Field for $kind {
            fn is_absent(&self) -> bool {
                $is_absent(self)
            }

            fn write<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
                self.serialize(output)
            }

            fn read<'de, De: Deserializer<'de>>(input: De) -> Result<Self, De::Error> {
                Ok(Option::deserialize(input)?.unwrap_or_default())
            }
        }
    )+};
}

plain! {
    <> String, String::is_empty;
    <> bool, |on: &bool| !on;
    <> u32, |number: &u32| *number == 0;
    <> i32, |number: &i32| *number == 0;
    <> u64, |number: &u64| *number == 0;
    <> i64, |number: &i64| *number == 0;
    <V> Vec<V>, Vec::is_empty;
    <V> Option<V>, Option::is_none;
    <V> BTreeMap<String, V>, BTreeMap::is_empty;
}

impl Field for Bytes {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    /// Fails unless the bytes are one JSON value in UTF-8.
    fn write<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        serde_json::from_slice::<&RawValue>(self)
            .map_err(S::Error::custom)?
            .serialize(output)
    }

    /// Keeps the text as it is, `null` included: a client may well publish `null`.
    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(input)?;
        Ok(Box::<str>::from(raw).into_boxed_bytes().into())
    }
}
