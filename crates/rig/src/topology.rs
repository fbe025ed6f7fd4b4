//! The three namespaces and the wires between them.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::netns::sweep;
use crate::site::{Inside, Site};
use crate::{Error, Namespace, Result};

/// The addresses of the rig. All of them exist inside the namespaces only.
pub mod addr {
    /// The workstation, inside.
    pub const HOST: &str = "10.77.0.9";
    /// The workstation, IPv6.
    pub const HOST6: &str = "fd77::9";
    /// The designated mail server, inside.
    pub const MAIL: &str = "10.77.0.25";
    /// The designated mail server, IPv6.
    pub const MAIL6: &str = "fd77::25";
    /// The inside prefixes.
    pub const LAN: [&str; 2] = ["10.77.0.0/24", "fd77::/64"];
    /// The router: the uplink's end of the wire.
    pub const ROUTER: &str = "10.77.0.1";
    /// The router, IPv6.
    pub const ROUTER6: &str = "fd77::1";
    /// The public server.
    pub const SERVER: &str = "93.184.216.34";
    /// The public server, IPv6.
    pub const SERVER6: &str = "2606:2800:220:1::34";
    /// A private destination beyond the uplink (RFC 6890), which answers.
    pub const PRIVATE: &str = "192.168.99.1";
    /// A source that does not belong inside (RFC 5737), to which the uplink has a way back.
    pub const SPOOFED: &str = "198.51.100.77";
    /// MAC address of `lan0`.
    pub const LAN_MAC: &str = "02:00:00:77:00:09";
    /// MAC address of `up0`.
    pub const UPLINK_MAC: &str = "02:00:00:77:00:01";
}

/// What a rig is made like.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Receive and transmit queues of each gate end.
    pub queues: u32,
    /// MTU of every interface, in bytes.
    pub mtu: u32,
}

impl Default for Layout {
    fn default() -> Layout {
        Layout {
            queues: 1,
            mtu: 1500,
        }
    }
}

/// Three namespaces joined by two veth pairs, and a directory for files. All of it goes when dropped.
#[derive(Debug)]
pub struct Rig {
    /// Where the clients run; its interface is `lan0`.
    pub lan: Namespace,
    /// Where the gate runs; its interfaces are `gl0` and `gu0`, without an address.
    pub gate: Namespace,
    /// Where the servers run; its interface is `up0`.
    pub uplink: Namespace,
    dir: TempDir,
}

impl Rig {
    /// The gate's interface towards the LAN.
    pub const LAN_PORT: &'static str = "gl0";
    /// The gate's interface towards the uplink.
    pub const UPLINK_PORT: &'static str = "gu0";

    /// A rig with one queue an interface and an MTU of 1,500 bytes.
    pub fn new() -> Result<Rig> {
        Rig::with(Layout::default())
    }

    /// A rig made like `layout`.
    pub fn with(layout: Layout) -> Result<Rig> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        if count == 0 {
            sweep();
        }
        let pid = std::process::id();
        let id = if count == 0 {
            format!("pc{pid}")
        } else {
            format!("pc{pid}n{count}")
        };
        let rig = Rig {
            lan: Namespace::create(&format!("{id}-lan"))?,
            gate: Namespace::create(&format!("{id}-gate"))?,
            uplink: Namespace::create(&format!("{id}-uplink"))?,
            dir: tempfile::Builder::new()
                .prefix("rig-")
                .tempdir()
                .map_err(Error::io("making a directory"))?,
        };
        open_to_all(rig.dir())?;
        rig.wire(layout)?;
        Ok(rig)
    }

    /// A directory of this rig's own, readable by the users that servers change to.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The lan namespace, for the clients of attempts.
    pub fn inside_lan(&self) -> impl Site {
        let namespace = &self.lan;
        Inside {
            namespace,
            rig: self,
        }
    }

    fn wire(&self, Layout { queues, mtu }: Layout) -> Result<()> {
        let (lan, uplink) = (self.lan.name(), self.uplink.name());
        // Both ends get the same number of queues: with fewer receive queues than its peer has transmit queues, a veth
        // end takes an XDP program in generic mode only (Linux, drivers/net/veth.c, `veth_xdp_set`).
        // IPv6 is off before the gate's ends come up: they have nothing of their own to say on either wire.
        self.gate.set("ipv6/conf/default/disable_ipv6", "1")?;
        self.gate.ip(&format!(
            "link add gl0 mtu {mtu} numtxqueues {queues} numrxqueues {queues} type veth peer name lan0 mtu {mtu} numtxqueues {queues} numrxqueues {queues} address {} netns {lan}
link add gu0 mtu {mtu} numtxqueues {queues} numrxqueues {queues} type veth peer name up0 mtu {mtu} numtxqueues {queues} numrxqueues {queues} address {} netns {uplink}
link set gl0 up promisc on
link set gu0 up promisc on
", addr::LAN_MAC, addr::UPLINK_MAC))?;
        for (namespace, interface) in [
            (&self.lan, "lan0"),
            (&self.uplink, "up0"),
            (&self.gate, "gl0"),
            (&self.gate, "gu0"),
        ] {
            namespace.offloads_off(interface)?;
        }
        self.lan.ip(&Rig::lan_setup())?;
        self.uplink.ip(&Rig::uplink_setup())
    }

    /// Addresses and routes of the machine in the LAN whose NIC is `lan0`: a batch for ip(8).
    pub fn lan_setup() -> String {
        format!(
            "link set lan0 up
addr add {host}/24 dev lan0
addr add {mail}/24 dev lan0
addr add {spoofed}/32 dev lan0
addr add {host6}/64 dev lan0 nodad
addr add {mail6}/64 dev lan0 nodad
route add default via {router} src {host}
route add default via {router6} src {host6}
",
            host = addr::HOST,
            mail = addr::MAIL,
            spoofed = addr::SPOOFED,
            host6 = addr::HOST6,
            mail6 = addr::MAIL6,
            router = addr::ROUTER,
            router6 = addr::ROUTER6,
        )
    }

    /// The same of the machine beyond the uplink, whose NIC is `up0`.
    pub fn uplink_setup() -> String {
        format!(
            "link set up0 up
addr add {router}/24 dev up0
addr add {router6}/64 dev up0 nodad
addr add {server}/32 dev lo
addr add {server6}/128 dev lo nodad
addr add {private}/32 dev lo
route add {spoofed}/32 dev up0
",
            router = addr::ROUTER,
            router6 = addr::ROUTER6,
            server = addr::SERVER,
            server6 = addr::SERVER6,
            private = addr::PRIVATE,
            spoofed = addr::SPOOFED,
        )
    }
}

/// True where a rig can be made. Else says on stderr, past the capture of the test harness, that `what` was not run.
pub fn root_or_say(what: &str) -> bool {
    use std::io::Write;
    let root = nix::unistd::geteuid().is_root();
    if !root {
        // One write, so that lines of tests that run at once do not mix.
        let line = format!("NOT RUN, needs root: {what} (`make test` asks sudo)\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    root
}

/// A temporary directory is its owner's alone, and some servers give up root.
pub(crate) fn open_to_all(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
        .map_err(Error::io(format!("opening {}", dir.display())))
}
