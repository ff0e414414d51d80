//! How a field stands in JSON: absent if it has its default value, `null` read as the
//! default, `bytes` as a raw JSON value.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
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

/// A message. Unlike what serde derives for a struct, it is not read from an array.
pub(crate) trait Structure: Serialize + for<'any> Deserialize<'any> {}

impl<S: Structure> Structure for Box<S> {}

/// Reads a structure from a JSON object, and from nothing else.
pub(crate) struct Object<S>(pub(crate) S);

impl<'de, S: Structure> Deserialize<'de> for Object<S> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<S>(PhantomData<S>);
        impl<'de, S: Structure> Visitor<'de> for ObjectVisitor<S> {
            type Value = S;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<S, A::Error> {
                S::deserialize(MapAccessDeserializer::new(fields))
            }
        }
        input.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

/// Reads structures by name, into the map that keeps them and no other.
struct Objects<S>(BTreeMap<String, S>);

impl<'de, S: Structure> Deserialize<'de> for Objects<S> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct ObjectsVisitor<S>(PhantomData<S>);
        impl<'de, S: Structure> Visitor<'de> for ObjectsVisitor<S> {
            type Value = BTreeMap<String, S>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of objects")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
                let mut objects = BTreeMap::new();
                while let Some((name, Object(object))) = fields.next_entry()? {
                    objects.insert(name, object);
                }
                Ok(objects)
            }
        }
        input.deserialize_map(ObjectsVisitor(PhantomData)).map(Self)
    }
}

/// Fields whose JSON is serde's own, `null` aside.
macro_rules! plain {
    ($($kind:ty, $is_absent:expr;)+) => {$(
        impl Field for $kind {
            fn is_absent(&self) -> bool {
                $is_absent(self)
            }

            fn write<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
                self.serialize(output)
            }

            fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                Ok(Option::deserialize(input)?.unwrap_or_default())
            }
        }
    )+};
}

plain! {
    String, String::is_empty;
    bool, |on: &bool| !on;
    u32, |number: &u32| *number == 0;
    i32, |number: &i32| *number == 0;
    u64, |number: &u64| *number == 0;
    i64, |number: &i64| *number == 0;
    BTreeMap<String, String>, BTreeMap::is_empty;
}

impl<T: Structure> Field for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }

    fn write<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        self.serialize(output)
    }

    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Ok(Option::<Object<T>>::deserialize(input)?.map(|object| object.0))
    }
}

impl<T: Structure> Field for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        self.serialize(output)
    }

    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let objects = Option::<Vec<Object<T>>>::deserialize(input)?.unwrap_or_default();
        Ok(objects.into_iter().map(|object| object.0).collect())
    }
}

impl<T: Structure> Field for BTreeMap<String, T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        self.serialize(output)
    }

    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Ok(Option::<Objects<T>>::deserialize(input)?
            .map(|objects| objects.0)
            .unwrap_or_default())
    }
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
