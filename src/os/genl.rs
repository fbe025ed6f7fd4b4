//! What generic netlink tells of a NIC that no crate reads: XDP features of its driver, and how its receive queues are chosen.
//!
//! Documentation/netlink/specs/netdev.yaml and ethtool.yaml of the kernel.

use super::nic::NicError;
use futures_util::StreamExt;
use genetlink::new_connection;
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla,
    NlaBuffer, NlasIterator, Parseable, ParseableParametrized,
};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use std::fmt::Debug;
use std::marker::PhantomData;

/// `NETDEV_CMD_DEV_GET`, and its attributes.
const DEV_GET: u8 = 1;
const DEV_IFINDEX: u16 = 1;
const DEV_XDP_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_*` (linux/netdev.h).
const XDP_BASIC: u64 = 1;
const XDP_REDIRECT: u64 = 1 << 1;
const XDP_ZEROCOPY: u64 = 1 << 3;

/// `ETHTOOL_MSG_RSS_GET`, and its attributes (linux/ethtool_netlink.h).
const RSS_GET: u8 = 38;
const RSS_HEADER: u16 = 1;
const HEADER_DEV_INDEX: u16 = 1;
const RSS_HKEY: u16 = 5;
const RSS_INPUT_XFRM: u16 = 6;
/// `NLA_F_NESTED` (linux/netlink.h).
const NESTED: u16 = 1 << 15;
/// `RXH_XFRM_SYM_XOR` and `RXH_XFRM_SYM_OR_XOR` (linux/ethtool.h).
const SYMMETRIC: u32 = 0b11;

/// What the driver of a NIC can do for XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpFeatures {
    /// It runs XDP programs, and can redirect to a socket.
    pub native: bool,
    /// It can receive into and send from the memory of an AF_XDP socket.
    pub zero_copy: bool,
}

/// How a NIC chooses the receive queue of a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rss {
    /// The key of its hash; empty where it does not tell.
    pub key: Vec<u8>,
    /// Source and destination are made alike before they are hashed.
    pub symmetric_input: bool,
}

impl Rss {
    /// True if both directions of a flow come out at the same queue. A Toeplitz key that repeats its first two bytes does that
    /// too (Woo and Park, "Scalable TCP session monitoring with symmetric receive-side scaling", 2012).
    pub fn symmetric(&self) -> bool {
        self.symmetric_input
            || (self.key.len() > 2 && self.key.chunks(2).all(|two| self.key.starts_with(two)))
    }
}

/// What the driver of the NIC of this index can do; `None` where the kernel does not tell (before 6.3).
///
/// # Errors
/// That netlink cannot be used at all.
pub async fn xdp_features(index: u32) -> Result<Option<XdpFeatures>, NicError> {
    let ask = vec![DefaultNla::new(DEV_IFINDEX, index.to_ne_bytes().to_vec())];
    let answer = ask_one::<Netdev>(DEV_GET, ask).await?;
    Ok(answer.and_then(|nlas| {
        let bits = u64::from_ne_bytes(value(&nlas, DEV_XDP_FEATURES)?.try_into().ok()?);
        Some(XdpFeatures {
            native: bits & (XDP_BASIC | XDP_REDIRECT) == XDP_BASIC | XDP_REDIRECT,
            zero_copy: bits & XDP_ZEROCOPY != 0,
        })
    }))
}

/// How the NIC of this index chooses queues; `None` where its driver or the kernel does not tell.
///
/// # Errors
/// That netlink cannot be used at all.
pub async fn rss(index: u32) -> Result<Option<Rss>, NicError> {
    let device = DefaultNla::new(HEADER_DEV_INDEX, index.to_ne_bytes().to_vec());
    let mut header = vec![0; device.buffer_len()];
    device.emit(&mut header);
    let ask = vec![DefaultNla::new(RSS_HEADER | NESTED, header)];
    let answer = ask_one::<Ethtool>(RSS_GET, ask).await?;
    Ok(answer.map(|nlas| {
        let xfrm = value(&nlas, RSS_INPUT_XFRM).and_then(|bytes| bytes.try_into().ok());
        Rss {
            key: value(&nlas, RSS_HKEY).unwrap_or_default(),
            symmetric_input: xfrm.map_or(0, u32::from_ne_bytes) & SYMMETRIC != 0,
        }
    }))
}

fn value(nlas: &[DefaultNla], kind: u16) -> Option<Vec<u8>> {
    let nla = nlas.iter().find(|nla| nla.kind() & !NESTED == kind)?;
    let mut bytes = vec![0; nla.value_len()];
    nla.emit_value(&mut bytes);
    Some(bytes)
}

/// The attributes of the one answer; `None` where the family is not there or the kernel answers an error.
async fn ask_one<F: Family>(
    command: u8,
    nlas: Vec<DefaultNla>,
) -> Result<Option<Vec<DefaultNla>>, NicError> {
    let (connection, mut handle, _) = new_connection().map_err(|source| NicError::Netlink {
        nic: F::NAME.into(),
        what: "open generic netlink",
        source,
    })?;
    let task = tokio::spawn(connection);
    let mut message = NetlinkMessage::from(GenlMessage::from_payload(Message::<F> {
        command,
        nlas,
        family: PhantomData,
    }));
    message.header.flags = NLM_F_REQUEST;
    let answer = match handle.request(message).await {
        Ok(mut answers) => answers.next().await,
        Err(_) => None,
    };
    task.abort();
    Ok(match answer {
        Some(Ok(NetlinkMessage {
            payload: NetlinkPayload::InnerMessage(message),
            ..
        })) => Some(message.payload.nlas),
        _ => None,
    })
}

trait Family: Clone + Debug + Send + Unpin + 'static {
    const NAME: &'static str;
}

#[derive(Clone, Debug)]
struct Netdev;
impl Family for Netdev {
    const NAME: &'static str = "netdev";
}

#[derive(Clone, Debug)]
struct Ethtool;
impl Family for Ethtool {
    const NAME: &'static str = "ethtool";
}

/// A message of a family, its attributes as they are.
#[derive(Clone, Debug)]
struct Message<F> {
    command: u8,
    nlas: Vec<DefaultNla>,
    family: PhantomData<F>,
}

impl<F: Family> GenlFamily for Message<F> {
    fn family_name() -> &'static str {
        F::NAME
    }

    fn command(&self) -> u8 {
        self.command
    }

    fn version(&self) -> u8 {
        1
    }
}

impl<F> Emitable for Message<F> {
    fn buffer_len(&self) -> usize {
        self.nlas.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.nlas.as_slice().emit(buffer);
    }
}

impl<F> ParseableParametrized<[u8], GenlHeader> for Message<F> {
    fn parse_with_param(bytes: &[u8], header: GenlHeader) -> Result<Self, DecodeError> {
        let nlas = NlasIterator::new(bytes)
            .map(|nla: Result<NlaBuffer<&[u8]>, DecodeError>| DefaultNla::parse(&nla?))
            .collect::<Result<_, _>>()?;
        Ok(Message {
            command: header.cmd,
            nlas,
            family: PhantomData,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_repeats_two_bytes_is_symmetric_and_another_is_not() {
        let of = |key: &[u8]| Rss {
            key: key.to_vec(),
            symmetric_input: false,
        };
        assert!(of(&[0x6d, 0x5a].repeat(20)).symmetric());
        let mut other = [0x6d, 0x5a].repeat(20);
        other[39] = 0;
        assert!(!of(&other).symmetric());
        assert!(!of(&[]).symmetric());
        let by_input = Rss {
            symmetric_input: true,
            ..of(&other)
        };
        assert!(by_input.symmetric());
    }
}
