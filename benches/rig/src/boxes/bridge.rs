//! The Linux bridge over both ports, alone or with nftables.

use super::{Flows, Middle};
use crate::Failure;
use crate::netns::{self, Lab, Received, run};
use crate::rules::{self, Nft};

/// Whether bridges hand their frames to the rules of the family ip; of each network namespace.
pub const TO_NETFILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// The kernel's: everything goes with the namespace.
pub struct Bridge {
    mid: String,
    received: Received,
    tracks: bool,
}

impl Bridge {
    /// A bridge that knows where the destination is, so that it does not flood, with these rules.
    pub fn start(lab: &Lab, nft: Option<Nft>) -> Result<Bridge, Failure> {
        let Lab {
            mid,
            lan_port,
            uplink_port,
            ..
        } = lab;
        let tracks = nft == Some(Nft::Conntrack);
        // Without snooping it sends no reports of its own, which would be counted as frames that got through.
        run(&format!(
            "ip -n {mid} link add br0 type bridge stp_state 0 mcast_snooping 0"
        ))?;
        run(&format!("ip -n {mid} link set {lan_port} master br0"))?;
        run(&format!("ip -n {mid} link set {uplink_port} master br0"))?;
        run(&format!("ip -n {mid} link set br0 up"))?;
        run(&format!(
            "bridge -n {mid} fdb add 02:00:00:fe:00:01 dev {uplink_port} master static"
        ))?;
        hand_to_netfilter(mid, tracks)?;
        if let Some(form) = nft {
            load(mid, &rules::nft(form))?;
        }
        if tracks {
            // What was never opened is no connection, as with the gate.
            let loose = "/proc/sys/net/netfilter/nf_conntrack_tcp_loose";
            netns::within(mid, || std::fs::write(loose, "0"))??;
        }
        Ok(Bridge {
            mid: mid.clone(),
            received: lab.received()?,
            tracks,
        })
    }
}

impl Middle for Bridge {
    fn threads(&self) -> Vec<i32> {
        Vec::new()
    }

    fn received(&mut self) -> Result<u64, Failure> {
        self.received.read()
    }

    fn flows(&self) -> Result<Option<Flows>, Failure> {
        if !self.tracks {
            return Ok(None);
        }
        let count = "/proc/sys/net/netfilter/nf_conntrack_count";
        let text = netns::within(&self.mid, || std::fs::read_to_string(count))??;
        Ok(Some(Flows {
            live: text.trim().parse()?,
            opened: None,
        }))
    }
}

/// A new namespace does it by default where the kernel can, which costs a bridge without such rules for nothing.
fn hand_to_netfilter(mid: &str, wanted: bool) -> Result<(), Failure> {
    let said = netns::within(mid, || {
        std::fs::write(TO_NETFILTER, if wanted { "1" } else { "0" })
    })?;
    match said {
        Err(e) if wanted => Err(format!("{TO_NETFILTER}: {e}").into()),
        _ => Ok(()),
    }
}

fn load(mid: &str, ruleset: &str) -> Result<(), Failure> {
    let path = std::env::temp_dir().join(format!("{mid}.nft"));
    std::fs::write(&path, ruleset)?;
    let loaded = run(&format!("ip netns exec {mid} nft -f {}", path.display()));
    std::fs::remove_file(&path)?;
    loaded
}
