//! Works on the members of JSON objects. Values keep their bytes, and members keep their order.
//! Pure.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{
    collections::{HashMap, HashSet},
    fmt,
};

/// An object's members, with decoded names and unparsed values.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Returns an object's members in their order, or `None` if the text is not an object.
pub fn members(json: &[u8]) -> Option<Vec<(String, &RawValue)>> {
    serde_json::from_slice::<Members<'_>>(json).ok().map(|members| members.0)
}

fn object<'a>(members: impl Iterator<Item = &'a (String, &'a RawValue)>) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (name, value) in members {
        if out.len() > 1 {
            out.push(b',');
        }
        // serde_json cannot fail on a string and a Vec.
        let _ = serde_json::to_writer(&mut out, name);
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
    }
    out.push(b'}');
    out
}

/// Returns the members of `data` that `previous` has too. Returns `None` if one of the texts is not
/// an object.
pub fn named(data: &[u8], previous: &[u8]) -> Option<Vec<u8>> {
    let (data, previous) = (members(data)?, members(previous)?);
    let names: HashSet<&str> = previous.iter().map(|(name, _)| name.as_str()).collect();
    Some(object(data.iter().filter(|(name, _)| names.contains(name.as_str()))))
}

/// Returns all members of `first`, and the members that only `second` has. Returns `None` if one of
/// the texts is not an object.
pub fn union(first: &[u8], second: &[u8]) -> Option<Vec<u8>> {
    let (first, second) = (members(first)?, members(second)?);
    let names: HashSet<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    Some(object(first.iter().chain(second.iter().filter(|(name, _)| !names.contains(name.as_str())))))
}

/// Returns the old row: the members of `data`, with the values of `previous` where it has them, and
/// then the members that only `previous` has. Returns `None` if one of the texts is not an object.
pub fn restored(data: &[u8], previous: &[u8]) -> Option<Vec<u8>> {
    let (data, previous) = (members(data)?, members(previous)?);
    let was: HashMap<&str, &(String, &RawValue)> =
        previous.iter().map(|member| (member.0.as_str(), member)).collect();
    let names: HashSet<&str> = data.iter().map(|(name, _)| name.as_str()).collect();
    let row = data.iter().map(|member| was.get(member.0.as_str()).copied().unwrap_or(member));
    Some(object(row.chain(previous.iter().filter(|(name, _)| !names.contains(name.as_str())))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    #[test]
    fn values_keep_their_bytes_and_members_their_order() {
        let data =
            br#"{ "b" : 1.50 , "a":12345678901234567890.10, "c":[1e400, {"x":-0}], "d":"\u00e9\ud800" }"#;
        assert_eq!(
            named(data, br#"{"c":0,"b":0,"d":1,"z":2}"#).unwrap(),
            br#"{"b":1.50,"c":[1e400, {"x":-0}],"d":"\u00e9\ud800"}"#
        );
        assert_eq!(named(data, b"{}").unwrap(), b"{}");
        assert_eq!(union(br#"{"a":1,"b":2.0}"#, br#"{"c":3,"a":9}"#).unwrap(), br#"{"a":1,"b":2.0,"c":3}"#);
        assert_eq!(union(b"{}", b"{}").unwrap(), b"{}");
        assert_eq!(
            restored(br#"{"a":1.0,"b":2,"c":null}"#, br#"{"z":0,"b":2.50}"#).unwrap(),
            br#"{"a":1.0,"b":2.50,"c":null,"z":0}"#
        );
        assert_eq!((restored(b"[]", b"{}"), restored(b"{}", b"1")), (None, None));
    }

    #[test]
    fn a_name_may_be_spelled_in_two_ways() {
        assert_eq!(
            named(br#"{"\u0061b":1,"\"":2}"#, br#"{"ab":0,"\u0022":0}"#).unwrap(),
            br#"{"ab":1,"\"":2}"#
        );
    }

    #[test]
    fn what_is_no_object_is_left_to_the_caller() {
        for (data, previous) in [
            (&b"null"[..], &b"{}"[..]),
            (b"{}", b"[]"),
            (b"{\"a\":\"\xff\"}", b"{}"),
            (br#"{"\ud800":1}"#, b"{}"),
        ] {
            assert_eq!((named(data, previous), union(data, previous)), (None, None));
        }
        let deep = [b"{\"a\":".as_slice(), &b"[".repeat(5000), &b"]".repeat(5000), b"}"].concat();
        assert!(named(&deep, br#"{"a":1}"#).is_some(), "depth is no obstacle");
    }

    proptest! {
        #[test]
        fn named_and_union_are_those_of_sets(
            data in proptest::collection::hash_map(".{0,3}", any::<i32>(), 0..6),
            previous in proptest::collection::hash_map(".{0,3}", any::<i32>(), 0..6),
        ) {
            let parse = |bytes: Option<Vec<u8>>| serde_json::from_slice::<Map<String, Value>>(&bytes.unwrap()).unwrap();
            let (json_data, json_previous) = (json!(data).to_string(), json!(previous).to_string());
            let both = parse(named(json_data.as_bytes(), json_previous.as_bytes()));
            let wanted: Map<_, _> = data.iter().filter(|(name, _)| previous.contains_key(*name))
                .map(|(name, value)| (name.clone(), json!(value))).collect();
            prop_assert_eq!(both, wanted);
            let either = parse(union(json_data.as_bytes(), json_previous.as_bytes()));
            let wanted: Map<_, _> = previous.iter().chain(&data).map(|(name, value)| (name.clone(), json!(value))).collect();
            prop_assert_eq!(either, wanted);
            let was = parse(restored(json_data.as_bytes(), json_previous.as_bytes()));
            let wanted: Map<_, _> = data.iter().chain(&previous).map(|(name, value)| (name.clone(), json!(value))).collect();
            prop_assert_eq!(was, wanted);
        }
    }
}
