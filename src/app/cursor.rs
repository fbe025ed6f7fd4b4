//! Reading forward over bytes that may end too early.

use super::Looks;

/// What is left of the bytes. Where they end before what is asked for, that is [`Looks::More`].
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn u8(&mut self) -> Result<u8, Looks> {
        let (first, rest) = self.0.split_first().ok_or(Looks::More)?;
        self.0 = rest;
        Ok(*first)
    }

    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Looks> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Looks::More)?;
        self.0 = rest;
        Ok(first)
    }

    /// In network order.
    pub fn u16(&mut self) -> Result<u16, Looks> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Looks> {
        let (first, rest) = self.0.split_at_checked(count).ok_or(Looks::More)?;
        self.0 = rest;
        Ok(first)
    }

    /// Up to the next NUL, which is passed over.
    pub fn until_nul(&mut self) -> Result<&'a [u8], Looks> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let found = self.take(end.ok_or(Looks::More)?)?;
        self.u8()?;
        Ok(found)
    }

    /// These bytes, and `No` at the first that differs.
    pub fn literal(&mut self, expected: &[u8]) -> Result<(), Looks> {
        let common = self.0.len().min(expected.len());
        check(self.0.get(..common) == expected.get(..common))?;
        self.take(expected.len()).map(drop)
    }

    /// A byte within, else `No`.
    pub fn byte_in(&mut self, range: std::ops::RangeInclusive<u8>) -> Result<u8, Looks> {
        let byte = self.u8()?;
        check(range.contains(&byte))?;
        Ok(byte)
    }
}

/// `No` unless it holds.
pub(super) fn check(holds: bool) -> Result<(), Looks> {
    if holds { Ok(()) } else { Err(Looks::No) }
}

/// What is read to its end is a match.
pub(super) fn looks(result: Result<(), Looks>) -> Looks {
    result.err().unwrap_or(Looks::Match)
}
