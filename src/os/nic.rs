//! What the kernel says of a NIC, over rtnetlink and ethtool netlink.

use ethtool::{EthtoolAttr, EthtoolChannelAttr, EthtoolFeatureAttr, EthtoolFeatureBit};
use futures_util::TryStreamExt;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};
use rtnetlink::LinkUnspec;
use std::collections::BTreeMap;
use std::future::Future;

/// A NIC as it stands.
#[derive(Clone, Debug, Default)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Its index in this network namespace.
    pub index: u32,
    /// Its MAC address; zeroes for what has none.
    pub mac: [u8; 6],
    /// Its MTU: bytes of payload of an untagged frame.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// There is something at the other end of its cable.
    pub carrier: bool,
    /// Takes frames for any address.
    pub promisc: bool,
    /// The bridge or bond it belongs to.
    pub controller: Option<u32>,
    /// A veth, whose other end belongs to somebody else.
    pub veth: bool,
    /// The XDP program that is attached, and whether it runs in the driver.
    pub xdp: Option<(u32, bool)>,
    /// Receive queues.
    pub rx_queues: u32,
    /// Offloads by the kernel's name, `rx-gro` and so on; an empty map where the kernel does not tell.
    pub features: BTreeMap<String, Feature>,
}

/// An offload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// It is on.
    pub active: bool,
    /// It can be switched.
    pub changeable: bool,
}

/// Why the kernel could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum NicError {
    /// There is no interface of this name.
    #[error("{0}: no such interface in this network namespace; `ip link` lists those there are")]
    Missing(String),
    /// Netlink failed.
    #[error("{nic}: cannot {what}: {source}")]
    Netlink {
        /// The interface.
        nic: String,
        /// What was asked.
        what: &'static str,
        /// What the kernel answered.
        source: std::io::Error,
    },
}

/// Runs a short piece of netlink work to its end on the calling thread.
///
/// # Errors
/// What the work returns, or that no runtime could be had.
pub fn block_on<T>(work: impl Future<Output = Result<T, NicError>>) -> Result<T, NicError> {
    let fail = |source| NicError::Netlink {
        nic: "netlink".into(),
        what: "start",
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(fail)?;
    runtime.block_on(work)
}

/// Reads everything that [`Nic`] holds.
///
/// # Errors
/// [`NicError::Missing`], or what netlink answered.
pub async fn inspect(name: &str) -> Result<Nic, NicError> {
    let mut nic = from_link(&link(name).await?);
    // A kernel without ethtool netlink leaves the features unknown and the queue count as the link reported it.
    if let Ok((connection, mut handle, _)) = ethtool::new_connection() {
        let task = tokio::spawn(connection);
        if let Ok(stream) = handle.feature().get(Some(name)).execute().await {
            let messages: Vec<_> = stream.try_collect().await.unwrap_or_default();
            nic.features = features(messages.iter().flat_map(|m| &m.payload.nlas));
        }
        if let Ok(stream) = handle.channel().get(Some(name)).execute().await {
            let messages: Vec<_> = stream.try_collect().await.unwrap_or_default();
            let queues = channels(messages.iter().flat_map(|m| &m.payload.nlas));
            if queues > 0 {
                nic.rx_queues = queues;
            }
        }
        task.abort();
    }
    Ok(nic)
}

/// Sets promiscuous mode.
///
/// # Errors
/// What netlink answered.
pub async fn set_flags(nic: &Nic, promisc: bool) -> Result<(), NicError> {
    let fail = |e: rtnetlink::Error| NicError::Netlink {
        nic: nic.name.clone(),
        what: "set its flags",
        source: os_error(e),
    };
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|source| NicError::Netlink {
            nic: nic.name.clone(),
            what: "open rtnetlink",
            source,
        })?;
    let task = tokio::spawn(connection);
    let message = LinkUnspec::new_with_index(nic.index)
        .promiscuous(promisc)
        .build();
    let done = handle.link().set(message).execute().await.map_err(fail);
    task.abort();
    done
}

async fn link(name: &str) -> Result<LinkMessage, NicError> {
    let fail = |source| NicError::Netlink {
        nic: name.to_string(),
        what: "ask rtnetlink about it",
        source,
    };
    let (connection, handle, _) = rtnetlink::new_connection().map_err(fail)?;
    let task = tokio::spawn(connection);
    let answer = handle
        .link()
        .get()
        .match_name(name)
        .execute()
        .try_next()
        .await;
    task.abort();
    match answer {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(NicError::Missing(name.to_string())),
        Err(e) => {
            let source = os_error(e);
            match source.raw_os_error() {
                // ENODEV; EINVAL and ERANGE are its answers to a name that cannot be one.
                Some(19 | 22 | 34) => Err(NicError::Missing(name.to_string())),
                _ => Err(fail(source)),
            }
        }
    }
}

fn os_error(e: rtnetlink::Error) -> std::io::Error {
    match e {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => std::io::Error::other(other.to_string()),
    }
}

fn from_link(message: &LinkMessage) -> Nic {
    let flags = message.header.flags;
    let mut nic = Nic {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        promisc: flags.contains(LinkFlags::Promisc),
        rx_queues: 1,
        ..Nic::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => nic.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => nic.mtu = *mtu,
            LinkAttribute::Address(mac) => {
                nic.mac = mac.as_slice().try_into().unwrap_or_default();
            }
            LinkAttribute::Controller(index) => nic.controller = Some(*index),
            LinkAttribute::NumRxQueues(n) => nic.rx_queues = *n,
            LinkAttribute::LinkInfo(infos) => {
                nic.veth |= infos
                    .iter()
                    .any(|i| matches!(i, LinkInfo::Kind(InfoKind::Veth)))
            }
            LinkAttribute::Xdp(xdp) => nic.xdp = attached(xdp),
            _ => {}
        }
    }
    nic
}

fn attached(xdp: &[LinkXdp]) -> Option<(u32, bool)> {
    let id = xdp.iter().find_map(|x| match x {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) => Some(*id),
        _ => None,
    })?;
    let generic = xdp
        .iter()
        .any(|x| matches!(x, LinkXdp::Attached(XdpAttached::SocketBuffer)));
    Some((id, !generic))
}

fn features<'a>(attributes: impl Iterator<Item = &'a EthtoolAttr>) -> BTreeMap<String, Feature> {
    let mut found: BTreeMap<String, Feature> = BTreeMap::new();
    let mut note = |bits: &[EthtoolFeatureBit], active: bool| {
        for bit in bits.iter().filter(|b| b.value) {
            let feature = found.entry(bit.name.clone()).or_insert(Feature {
                active: false,
                changeable: false,
            });
            feature.active |= active;
            feature.changeable |= !active;
        }
    };
    for attribute in attributes {
        match attribute {
            EthtoolAttr::Feature(EthtoolFeatureAttr::Active(bits)) => note(bits, true),
            EthtoolAttr::Feature(EthtoolFeatureAttr::Hw(bits)) => note(bits, false),
            _ => {}
        }
    }
    found
}

fn channels<'a>(attributes: impl Iterator<Item = &'a EthtoolAttr>) -> u32 {
    attributes
        .map(|attribute| match attribute {
            EthtoolAttr::Channel(
                EthtoolChannelAttr::RxCount(n) | EthtoolChannelAttr::CombinedCount(n),
            ) => *n,
            _ => 0,
        })
        .sum()
}
