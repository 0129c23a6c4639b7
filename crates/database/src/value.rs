//! Values that go over the wire without conversion: timestamps as microseconds, json as bytes, full
//! transaction ids.

use bytes::{BufMut, BytesMut};
use std::error::Error;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// Microseconds between 1970 (ours) and 2000 (Postgres).
const EPOCH_2000_US: i64 = 946_684_800_000_000;

/// A `timestamptz`, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub i64);

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        // The ends of the range mean 'infinity', and stay as they are.
        Ok(Self(i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH_2000_US)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

impl ToSql for Micros {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.0.saturating_sub(EPOCH_2000_US));
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

/// An `interval`, in microseconds as `extract(epoch from …)` counts: a year has 365.25 days, and a
/// month has 30.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(pub i64);

const DAY_US: i128 = 86_400_000_000;

impl<'a> FromSql<'a> for Interval {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let raw: [u8; 16] = raw.try_into()?;
        let number = i128::from_be_bytes(raw);
        let (us, days, months) = ((number >> 64) as i64, (number >> 32) as i32, number as i32);
        let (years, months) = (i128::from(months / 12), i128::from(months % 12));
        let of_years = years * 1461 * DAY_US / 4;
        let sum = i128::from(us) + of_years + (months * 30 + i128::from(days)) * DAY_US;
        Ok(Self(sum.clamp(i64::MIN.into(), i64::MAX.into()) as i64))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::INTERVAL
    }
}

/// An `interval[]` of any number of dimensions, without its nulls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intervals(pub Vec<i64>);

impl<'a> FromSql<'a> for Intervals {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let (dimensions, raw) = split(raw, 4)?;
        let dimensions = u32::from_be_bytes(dimensions.try_into()?) as usize;
        // Flags, the type of the elements, then two numbers for each dimension.
        let (_, mut rest) = split(raw, 8 + 8 * dimensions)?;
        let mut values = Vec::new();
        while !rest.is_empty() {
            let (length, behind) = split(rest, 4)?;
            rest = behind;
            // A null has the length -1.
            if let Ok(length) = usize::try_from(i32::from_be_bytes(length.try_into()?)) {
                let (value, behind) = split(rest, length)?;
                rest = behind;
                values.push(Interval::from_sql(&Type::INTERVAL, value)?.0);
            }
        }
        Ok(Self(values))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::INTERVAL_ARRAY
    }
}

fn split(raw: &[u8], at: usize) -> Result<(&[u8], &[u8]), &'static str> {
    raw.split_at_checked(at).ok_or("the array is cut off")
}

/// A full transaction id, `xid8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xid(pub u64);

impl ToSql for Xid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u64(self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::XID8
    }

    to_sql_checked!();
}

/// The bytes of a `json` or text value, as they are stored.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a>(pub &'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::JSON | Type::TEXT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(months: i32, days: i32, us: i64) -> Vec<u8> {
        [&us.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat()
    }

    #[test]
    fn an_interval_counts_as_its_epoch() {
        let of =
            |months, days, us| Interval::from_sql(&Type::INTERVAL, &interval(months, days, us)).unwrap().0;
        // The values are those of `extract(epoch from …) * 1000000`.
        assert_eq!(of(0, 0, 5_000_000), 5_000_000);
        assert_eq!(of(0, 1, 1), 86_400_000_001);
        assert_eq!(of(14, -1, 0), 36_655_200_000_000);
        assert_eq!(of(-25, 0, -1), -65_707_200_000_001);
        assert_eq!(of(i32::MAX, i32::MAX, i64::MAX), i64::MAX);
        assert!(Interval::from_sql(&Type::INTERVAL, &[0; 15]).is_err());
    }

    #[test]
    fn intervals_come_from_arrays_of_any_dimensions() {
        let number = |number: i32| number.to_be_bytes().to_vec();
        let element = |value: Vec<u8>| [number(16), value].concat();
        let (second, day) = (element(interval(0, 0, 1_000_000)), element(interval(0, 1, 0)));
        let head = |dimensions: i32| [number(dimensions), number(0), number(1186)].concat();
        let flat = [head(1), number(3), number(1), second.clone(), number(-1), day.clone()].concat();
        let square = [head(2), number(2), number(1), number(1), number(1), second, day].concat();
        let read = |raw: &[u8]| Intervals::from_sql(&Type::INTERVAL_ARRAY, raw).map(|of| of.0);
        assert_eq!(read(&flat).unwrap(), [1_000_000, 86_400_000_000]);
        assert_eq!(read(&square).unwrap(), [1_000_000, 86_400_000_000]);
        assert_eq!(read(&head(0)).unwrap(), [] as [i64; 0]);
        assert!(read(&flat[..flat.len() - 1]).is_err() && read(&[0; 3]).is_err());
    }
}
