#!/kexecdbg/busybox sh
# The guest's init: reports on the console that user space is reached, then runs the lines it is sent.
# A line is "NUMBER COMMAND"; its output stands between "kexecdbg: NUMBER begins" and "kexecdbg: NUMBER ends, STATUS".
export PATH=/kexecdbg/bin:/sbin:/usr/sbin:/bin:/usr/bin
/kexecdbg/busybox mkdir -p /proc /sys /dev /kexecdbg/bin
/kexecdbg/busybox --install -s /kexecdbg/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
stty -echo
case " $(cat /proc/cmdline) " in
    *" kexecdbg.kernel=2 "*) kernel=2 ;;
    *) kernel=1 ;;
esac
echo "kexecdbg: init of kernel $kernel, $(uname -r)"
while read -r number command; do
    echo "kexecdbg: $number begins"
    eval "$command" </dev/null
    echo "kexecdbg: $number ends, $?"
done
poweroff -f
