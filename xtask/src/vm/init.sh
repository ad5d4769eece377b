#!/bin/sh
# The first process of a VM: mounts, loads modules, runs /etc/command and says how that ended.
# The first serial line is the kernel's console, and takes what goes wrong in here. The second carries the command's
# output.

export PATH=/bin HOME=/root TERM=linux LANG=C.UTF-8
read -r output </etc/output

busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup

hostname ctmon-vm
ip link set lo up
ulimit -n 1048576

if ! grep -qw ctmon.nomodules=1 /proc/cmdline; then
    while read -r module; do insmod "$module"; done </etc/modules-order
fi

# A marker begins with a byte that text does not hold. Setting the terminal waits until all of it is sent.
say() {
    printf '\036ctmon-vm: %s\n' "$1" >$output
    stty -F $output "$mode" -echo
}

mode=raw
stty -F $output $mode -echo
say start
cd /root || exit
if [ -e /etc/interactive ]; then
    setsid -c sh /etc/command <>$output >&0 2>&0
else
    setsid sh /etc/command </dev/null >$output 2>&1
fi
say "exit $?"
sync
poweroff -f
