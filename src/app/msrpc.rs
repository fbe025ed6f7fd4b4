//! Microsoft's RPC, which is DCE RPC (C706 chapter 12, MS-RPCE section 2.2): connection-oriented v5, connectionless v4.

use super::Looks;
use super::cursor::{Cursor, check, looks};
use super::details::Fields;

pub(super) const STARTS_TCP: &[(u8, u8)] = &[(5, 5)];
pub(super) const STARTS_UDP: &[(u8, u8)] = &[(4, 4)];

const BIND: u8 = 11;
const ALTER_CONTEXT: u8 = 14;
/// A bind without its list of contexts.
const SHORTEST_BIND: u16 = 28;
/// The header of a connectionless packet.
const HEADER_V4: usize = 80;
type Uuid = [u8; 16];

/// Whether numbers are little-endian, by the data representation (C706 section 14.1); `No` where it is none.
fn little_endian(drep: [u8; 3]) -> Result<bool, Looks> {
    let [number, float, reserved] = drep;
    check(number & !0x11 == 0 && float <= 3 && reserved == 0)?;
    Ok(number & 0x10 != 0)
}

fn u16_of(bytes: [u8; 2], little: bool) -> u16 {
    if little {
        u16::from_le_bytes(bytes)
    } else {
        u16::from_be_bytes(bytes)
    }
}

/// Over TCP: a bind, or an alter-context. SOCKS version 5 differs in the third byte: 11 and 14 are no methods of its.
pub fn tcp(bytes: &[u8]) -> Looks {
    looks(bind(&mut Cursor(bytes)).map(drop))
}

/// The common header; whether numbers are little-endian.
fn bind(rest: &mut Cursor) -> Result<bool, Looks> {
    rest.literal(&[5])?;
    rest.byte_in(0..=1)?;
    check(matches!(rest.u8()?, BIND | ALTER_CONTEXT))?;
    rest.u8()?;
    let [number, float, reserved, last] = *rest.array()?;
    let little = little_endian([number, float, reserved])?;
    check(last == 0)?;
    let length = u16_of(*rest.array()?, little);
    let auth = u16_of(*rest.array()?, little);
    check(length >= SHORTEST_BIND && auth < length)?;
    Ok(little)
}

/// Over UDP: a request.
pub fn udp(bytes: &[u8]) -> Looks {
    looks(request(bytes).map(drop))
}

/// The interface of a request, and whether its numbers are little-endian.
fn request(bytes: &[u8]) -> Result<(&Uuid, bool), Looks> {
    let mut rest = Cursor(bytes);
    rest.literal(&[4, 0])?;
    // The lowest and highest of the first flags are reserved, and all but one of the second (C706 section 12.5.2).
    check(rest.u8()? & 0x81 == 0)?;
    check(rest.u8()? & !0x02 == 0)?;
    let little = little_endian(*rest.array()?)?;
    rest.u8()?;
    let _object: &Uuid = rest.array()?;
    let interface: &Uuid = rest.array()?;
    let activity: &Uuid = rest.array()?;
    check(*interface != [0; 16] && *activity != [0; 16])?;
    let _boot_time: &[u8; 4] = rest.array()?;
    let _interface_version: &[u8; 4] = rest.array()?;
    let _sequence: &[u8; 4] = rest.array()?;
    let operation = u16_of(*rest.array()?, little);
    let _hints: &[u8; 4] = rest.array()?;
    let length = u16_of(*rest.array()?, little);
    let _fragment: &[u8; 2] = rest.array()?;
    let auth = rest.u8()?;
    rest.u8()?;
    check(
        operation < 0x400
            && usize::from(length) + HEADER_V4 <= 0xffff
            && matches!(auth, 0 | 1 | 9 | 10 | 16),
    )?;
    Ok((interface, little))
}

/// The first interface that is asked for.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    if let Ok((uuid, little)) = request(payload).or_else(|_| first_context(payload)) {
        fields.add("interface", text(uuid, little).as_bytes());
    }
}

/// The interface of the first context that a bind offers.
fn first_context(bytes: &[u8]) -> Result<(&Uuid, bool), Looks> {
    let mut rest = Cursor(bytes);
    let little = bind(&mut rest)?;
    // Call, both fragment sizes, group, count of contexts; context, count of syntaxes.
    rest.take(4 + 8 + 4 + 4)?;
    Ok((rest.array()?, little))
}

fn text(uuid: &Uuid, little: bool) -> String {
    let mut uuid = *uuid;
    if little {
        let (first, rest) = uuid.split_at_mut(4);
        let (second, rest) = rest.split_at_mut(2);
        first.reverse();
        second.reverse();
        if let Some(third) = rest.get_mut(..2) {
            third.reverse();
        }
    }
    let value = u128::from_be_bytes(uuid);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        value >> 96,
        value >> 80 & 0xffff,
        value >> 64 & 0xffff,
        value >> 48 & 0xffff,
        value & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::{tcp, udp};

    #[test]
    fn a_bind_has_a_sane_header_in_either_byte_order() {
        for (expected, payload) in [
            (Match, &[5, 0, 11, 3, 0x10, 0, 0, 0, 72, 0, 0, 0][..]),
            (Match, &[5, 1, 14, 3, 0, 0, 0, 0, 0, 72, 0, 0]),
            (More, &[5, 0, 11, 3, 0x10, 0, 0, 0, 72, 0, 0]),
            (No, &[5, 2]),
            (No, &[5, 1, 0]),
            (No, &[5, 0, 11, 3, 0x20, 0, 0, 0]),
            (No, &[5, 0, 11, 3, 0x10, 0, 0, 0, 20, 0, 0, 0]),
            (No, &[5, 0, 11, 3, 0x10, 0, 0, 0, 72, 0, 72, 0]),
        ] {
            assert_eq!(tcp(payload), expected, "{payload:02x?}");
        }
    }

    #[test]
    fn a_request_without_connection_has_its_whole_header() {
        let mut request = vec![4, 0, 0x28, 0, 0x10, 0, 0, 0];
        request.extend([0; 16]);
        request.extend([7; 32]);
        request.extend([
            0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0,
        ]);
        assert_eq!((request.len(), udp(&request)), (80, Match));
        assert_eq!(udp(&request[..79]), More);
        for (at, bad) in [
            (1, 1),
            (2, 0x80),
            (3, 0x10),
            (4, 0x40),
            (6, 1),
            (69, 9),
            (78, 3),
        ] {
            let mut other = request.clone();
            other[at] = bad;
            assert_eq!(udp(&other), No, "byte {at}");
        }
    }
}
