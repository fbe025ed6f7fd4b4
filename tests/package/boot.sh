#!/bin/sh
# Boots the systemd of this machine as the first process of namespaces of its own, over a copy-on-write view of this machine's files:
#   unshare -m -p -C -u -i --fork --kill-child boot.sh FOLDER
# FOLDER takes the view and everything that is written, in memory. As with systemd-nspawn, /sys and /proc/sys are read-only and
# /dev has next to nothing. bpffs is its own too: what is pinned there goes with it.
set -eu

folder=$1
mount -t tmpfs -o mode=0755 tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
cd "$folder/root"

mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t bpf -o mode=0700 bpf sys/fs/bpf
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=0755 tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
for device in null zero full random urandom tty; do
  touch "dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done

# Nothing of this machine's own starts but the journal.
rm -rf etc/systemd/system/*.wants run/systemd
for unit in lib/systemd/system/*.target.wants/*; do
  case ${unit##*/} in
    systemd-journald* | systemd-tmpfiles-setup.service) ;;
    *) ln -sf /dev/null "etc/systemd/system/${unit##*/}" ;;
  esac
done
rm -rf usr/sbin/policy-rc.d var/log/journal
export container=portcullis-test
exec chroot . /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no
