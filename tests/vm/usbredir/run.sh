# A module as a device of QEMU: behind an xHCI, in normal mode and, at the same port, in download mode.
#vm seconds 300
#vm qemu -device qemu-xhci,id=x -chardev socket,id=a1,path=@RUN@/A1.redir,reconnect=1 -device usb-redir,chardev=a1,bus=x.0,port=1
. /scenario/lib.sh

appears() { [ -n "$(devices "$1")" ]; }
within 60 appears 2c7c:0125 || { lsusb; fail "no module in normal mode"; }
path=$(devices 2c7c:0125)
case "$(readlink -f "/sys/bus/usb/devices/$path")" in
  */pci*/*) ;;
  *) fail "$path is not behind a PCI controller" ;;
esac
within 20 [ -n "$(tty "$path:1.2")" ] || fail "no ports"
within 30 eval "ask $(tty "$path:1.2") AT | grep -qx OK" || fail "it does not answer AT"
stty -F "$(tty "$path:1.0")" raw -echo
printf '\113\145\001\000\124\017\176' >"$(tty "$path:1.0")"
within 60 appears 05c6:9008 || fail "it does not come into download mode"
[ "$(devices 05c6:9008)" = "$path" ] || fail "download mode is at another port"
within 20 [ -e "/sys/bus/usb/devices/$path:1.0/driver" ] || fail "no driver takes download mode"
[ "$(driver "$path:1.0")" = qcserial ] || fail "download mode is not qcserial's"
