//! The real servers, in the uplink namespace.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::must;
use crate::topology::open_to_all;
use crate::{Daemon, Error, Result, Rig, addr, poll_until, spawn};

/// How long all servers together may take until they listen.
const UP: Duration = Duration::from_secs(20);

/// A transport protocol, as a server listens on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A server program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// dnsmasq: DNS over UDP and TCP 53, TFTP on UDP 69; IPv4 and IPv6.
    Dnsmasq,
    /// aiosmtpd: SMTP on TCP 25, delivering into a maildir.
    Aiosmtpd,
    /// ngircd: IRC on TCP 6667 and 8080.
    Ngircd,
    /// net-snmp's snmpd: UDP 161.
    Snmpd,
    /// Samba's smbd: TCP 445 and 139.
    Smbd,
    /// Samba's DCE/RPC server with its endpoint mapper: TCP 135.
    Dcerpcd,
    /// nginx: HTTP on TCP 80; IPv4 and IPv6.
    Nginx,
    /// iperf3: TCP and UDP 5201.
    Iperf3,
}

impl Server {
    /// All of them.
    pub const ALL: [Server; 8] = [
        Server::Dnsmasq,
        Server::Aiosmtpd,
        Server::Ngircd,
        Server::Snmpd,
        Server::Smbd,
        Server::Dcerpcd,
        Server::Nginx,
        Server::Iperf3,
    ];

    /// The program.
    pub const fn name(self) -> &'static str {
        match self {
            Server::Dnsmasq => "dnsmasq",
            Server::Aiosmtpd => "aiosmtpd",
            Server::Ngircd => "ngircd",
            Server::Snmpd => "snmpd",
            Server::Smbd => "smbd",
            Server::Dcerpcd => "samba-dcerpcd",
            Server::Nginx => "nginx",
            Server::Iperf3 => "iperf3",
        }
    }

    /// Where it listens once it is up.
    pub const fn ports(self) -> &'static [(Transport, u16)] {
        use Transport::{Tcp, Udp};
        match self {
            Server::Dnsmasq => &[(Udp, 53), (Tcp, 53), (Udp, 69)],
            Server::Aiosmtpd => &[(Tcp, 25)],
            Server::Ngircd => &[(Tcp, 6667), (Tcp, 8080)],
            Server::Snmpd => &[(Udp, 161)],
            Server::Smbd => &[(Tcp, 445), (Tcp, 139)],
            Server::Dcerpcd => &[(Tcp, 135)],
            Server::Nginx => &[(Tcp, 80)],
            Server::Iperf3 => &[(Tcp, 5201)],
        }
    }

    /// The command line, with [`Server::files`] in `dir`.
    pub fn argv(self, dir: &Path) -> Vec<String> {
        let (at, at6, dir) = (addr::SERVER, addr::SERVER6, dir.display());
        let line = match self {
            Server::Dnsmasq => format!(
                "dnsmasq -k -C /dev/null --no-resolv --no-hosts --user=root --bind-interfaces --listen-address={at} \
                 --listen-address={at6} --address=/rig.test/{at} --address=/rig.test/{at6} --enable-tftp \
                 --tftp-root={dir}/tftp --log-facility=-"
            ),
            Server::Aiosmtpd => {
                format!("aiosmtpd -n -c aiosmtpd.handlers.Mailbox -l {at}:25 {dir}/mail")
            }
            Server::Ngircd => format!("ngircd -n -f {dir}/ngircd.conf"),
            Server::Snmpd => format!("snmpd -f -Lo -C -c {dir}/snmpd.conf -I -smux udp:{at}:161"),
            Server::Smbd => format!("smbd -F --no-process-group -s {dir}/smb.conf"),
            Server::Dcerpcd => {
                format!(
                    "/usr/libexec/samba/samba-dcerpcd -s {dir}/smb.conf -F --libexec-rpcds --no-process-group"
                )
            }
            Server::Nginx => format!("nginx -e {dir}/nginx.log -c {dir}/nginx.conf"),
            Server::Iperf3 => format!("iperf3 -s -B {at}"),
        };
        line.split_whitespace().map(str::to_owned).collect()
    }
    /// Directories that they need below the one of their files.
    pub const DIRECTORIES: [&'static str; 3] = ["tftp", "samba/ncalrpc", "nginx"];

    /// What they serve and are configured by, where `dir` is the directory of their files: names below it, and contents.
    pub fn files(dir: &Path) -> Vec<(String, String)> {
        let (at, at6, here) = (addr::SERVER, addr::SERVER6, dir.display());
        let files = [
            (format!("tftp/{}", Servers::FILE), payload()),
            (
                "snmpd.conf".to_owned(),
                "rocommunity public\nsysLocation the uplink of the rig\n".to_owned(),
            ),
            (
                "ngircd.conf".to_owned(),
                format!(
                    "[Global]\nName = irc.rig.test\nInfo = rig\nListen = {at}\nPorts = 6667,8080\nMotdPhrase = hello\n\
             PidFile = {here}/ngircd.pid\n[Options]\nDNS = no\nIdent = no\nPAM = no\n"
                ),
            ),
            (
                "smb.conf".to_owned(),
                format!(
                    "[global]\nserver role = standalone server\nmap to guest = bad user\nguest account = root\n\
             log file = {here}/samba/log\nlock directory = {here}/samba\nstate directory = {here}/samba\n\
             cache directory = {here}/samba\nprivate dir = {here}/samba\npid directory = {here}/samba\n\
             ncalrpc dir = {here}/samba/ncalrpc\ninterfaces = {at}/32\nbind interfaces only = yes\n\
             load printers = no\nprinting = bsd\ndisable spoolss = yes\nrpc start on demand helpers = no\n\
             [files]\npath = {here}/tftp\nguest ok = yes\n"
                ),
            ),
            (
                "nginx.conf".to_owned(),
                format!(
                    "user root;\ndaemon off;\nmaster_process off;\npid {here}/nginx/pid;\nerror_log {here}/nginx.log;\n\
             events {{ worker_connections 512; }}\nhttp {{\n access_log off;\n\
             client_body_temp_path {here}/nginx/b; proxy_temp_path {here}/nginx/p; fastcgi_temp_path {here}/nginx/f;\n\
             uwsgi_temp_path {here}/nginx/u; scgi_temp_path {here}/nginx/s;\n\
             server {{ listen {at}:80; listen [{at6}]:80; root {here}/tftp; }}\n}}\n"
                ),
            ),
        ];
        files.into()
    }

    /// The command whose output [`Server::missing`] reads, where the servers are.
    pub const LISTENING: [&'static str; 6] = ["ss", "-H", "-l", "-n", "-t", "-u"];

    /// The names of those of `wanted` that do not listen yet, by what `ss` printed; empty when all do.
    pub fn missing(wanted: &[Server], ss: &str) -> String {
        let open: Vec<_> = ss.lines().filter_map(socket).collect();
        let closed = |server: &&Server| !server.ports().iter().all(|port| open.contains(port));
        let names: Vec<_> = wanted.iter().filter(closed).map(|s| s.name()).collect();
        names.join(", ")
    }
}

/// Running servers, ended when dropped.
#[derive(Debug)]
pub struct Servers {
    daemons: Vec<Daemon>,
    dir: PathBuf,
}

impl Servers {
    /// The content of the file that TFTP, HTTP and SMB serve.
    pub const FILE: &'static str = "payload.bin";

    /// Starts `wanted` in the uplink namespace and waits until each listens.
    pub fn start(rig: &Rig, wanted: &[Server]) -> Result<Servers> {
        let dir = rig.dir().join("servers");
        write(&dir).map_err(Error::io(format!(
            "writing the files of the servers to {}",
            dir.display()
        )))?;
        open_to_all(&dir)?;
        let mut servers = Servers {
            daemons: Vec::new(),
            dir,
        };
        for server in wanted {
            let argv = server.argv(&servers.dir);
            let mut command = rig.uplink.command(&argv[0]);
            let log = servers.dir.join(format!("{}.log", server.name()));
            servers
                .daemons
                .push(spawn(server.name(), command.args(&argv[1..]), &log)?);
        }
        servers.await_ports(rig, wanted)?;
        Ok(servers)
    }

    /// The file that TFTP, HTTP and SMB serve.
    pub fn payload(&self) -> PathBuf {
        self.dir.join("tftp").join(Servers::FILE)
    }

    /// Where the mail server puts what is delivered: one file a message (maildir).
    pub fn mailbox(&self) -> PathBuf {
        mailbox(&self.dir)
    }

    fn await_ports(&mut self, rig: &Rig, wanted: &[Server]) -> Result<()> {
        let mut missing = String::new();
        let up = poll_until("the servers to listen", UP, || {
            for daemon in &mut self.daemons {
                daemon.check()?;
            }
            let open = must(
                rig.uplink
                    .command(Server::LISTENING[0])
                    .args(&Server::LISTENING[1..]),
                "",
            )?;
            missing = Server::missing(wanted, &open);
            Ok(missing.is_empty().then_some(()))
        });
        match up {
            Err(Error::Timeout { limit, .. }) => Err(Error::Timeout {
                what: format!("{missing} to listen"),
                limit,
            }),
            other => other,
        }
    }
}

/// Text that differs from block to block, so that a lost or repeated block shows: 200 lines, 9,400 bytes.
pub(crate) fn payload() -> String {
    (0..200)
        .map(|n| format!("line {n:4} of the payload, told from the others\n"))
        .collect()
}

/// Where the mail server of which these are the files puts what is delivered: one file a message (maildir).
pub fn mailbox(servers: &Path) -> PathBuf {
    servers.join("mail/new")
}

/// One line of `ss -Hlntu`: `udp UNCONN 0 0 93.184.216.34:53 0.0.0.0:*`.
fn socket(line: &str) -> Option<(Transport, u16)> {
    let mut words = line.split_whitespace();
    let transport = match words.next()? {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        _ => return None,
    };
    let (_, port) = words.nth(3)?.rsplit_once(':')?;
    Some((transport, port.parse().ok()?))
}

/// Writes what the servers serve and are configured by.
fn write(dir: &Path) -> std::io::Result<()> {
    for name in Server::DIRECTORIES {
        std::fs::create_dir_all(dir.join(name))?;
    }
    for (name, content) in Server::files(dir) {
        std::fs::write(dir.join(name), content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_read_from_ss() {
        let udp = "udp   UNCONN 0      0      93.184.216.34:69        0.0.0.0:*";
        let tcp = "tcp   LISTEN 0      511    [2606:2800:220:1::34]:80      [::]:*";
        assert_eq!(socket(udp), Some((Transport::Udp, 69)));
        assert_eq!(socket(tcp), Some((Transport::Tcp, 80)));
        assert_eq!(socket("nl UNCONN 0 0 rtnl:kernel *"), None);
        assert_eq!(socket(""), None);
    }
}
