#!/usr/bin/busybox sh
# Moves the root file system from the initramfs, which nothing can be unmounted from, into one of its own, as sandboxed
# units need it, and starts systemd in it.
b=/usr/bin/busybox
$b mkdir -p /new
$b mount -t tmpfs -o mode=755,size=80% root /new || exec $b sh
for name in bin sbin lib lib64 etc usr var dev proc root run sys tmp; do
    $b cp -a /$name /new/
done
$b chmod 1777 /new/tmp
exec $b switch_root /new /usr/lib/systemd/systemd
