# Programs that nobody here wrote, on served modules: Debian's usbip lists and attaches them, the kernel's drivers take
# them, a libusb program reads their descriptors, a serial port answers AT, and download mode comes and goes.
#vm seconds 600
. /scenario/lib.sh

cp -r /project/profiles /scenario/station.yaml .
sed -i 's/megabytes: .*/megabytes: 2/' profiles/*.yaml
serve station.yaml
is_listed() { usbip list -r 127.0.0.1 2>&1 | grep -c '(2c7c:' | grep -qx "$1"; }
within 60 is_listed 4 || { usbip list -r 127.0.0.1; fail "usbip does not list four modules"; }

# One with Debian's program.
bus=$(usbip list -r 127.0.0.1 2>/dev/null | sed -n 's/^ *\([^ :]*\): .*(2c7c:0125).*/\1/p' | head -n 1)
usbip attach -r 127.0.0.1 -b "$bus"
appears() { [ -n "$(devices "$1")" ]; }
within 30 appears 2c7c:0125 || fail "the attached module is not there"
one=$(devices 2c7c:0125 | head -n 1)
within 20 [ -e "/sys/bus/usb/devices/$one:1.4/driver" ] || fail "its interfaces have no drivers"
for interface in 0 1 2 3; do
  [ "$(driver "$one:1.$interface")" = option ] || fail "interface $interface is not option's"
done
[ "$(driver "$one:1.4")" = qmi_wwan ] || fail "interface 4 is not qmi_wwan's"

port=$(tty "$one:1.2")
within 30 eval "ask $port AT | grep -qx OK" || fail "$port does not answer AT"
ask "$port" AT+GSN | grep -qE '^86[0-9]{13}$' || fail "no IMEI: $(ask "$port" AT+GSN)"
say "usbip attached $one, $port answers"

# What a libusb program reads: `described ID MODEL`.
described() {
  lsusb -v -d "$1" >descriptors 2>&1
  awk '/Device Qualifier|Binary Object Store/ { exit }
    /bcdUSB|bNumInterfaces|bInterface(Number|Class|SubClass|Protocol)|bNumEndpoints|bEndpointAddress/ { print $1, $2 }' \
    descriptors >got
  same "/scenario/$2.expected" got "the descriptors are not those of $2"
}
described 2c7c:0125 eg25-g

# Into download mode, by the frame on its DIAG port: a real disconnect, which takes the ttys along.
switch() {
  stty -F "$1" raw -echo
  printf '\113\145\001\000\124\017\176' >"$1"
}
switch "$(tty "$one:1.0")"
leaves() { [ -z "$(devices "$1")" ]; }
within 30 leaves 2c7c:0125 || fail "it does not leave normal mode"
is_in_edl() { usbip list -r 127.0.0.1 2>&1 | grep -q '(05c6:9008)'; }
within 30 is_in_edl || fail "usbip does not list it in download mode"
bus=$(usbip list -r 127.0.0.1 2>/dev/null | sed -n 's/^ *\([^ :]*\): .*(05c6:9008).*/\1/p')
usbip attach -r 127.0.0.1 -b "$bus"
within 30 appears 05c6:9008 || fail "the module in download mode is not there"
one=$(devices 05c6:9008)
within 20 [ -e "/sys/bus/usb/devices/$one:1.0/driver" ] || fail "no driver takes download mode"
[ "$(driver "$one:1.0")" = qcserial ] || fail "download mode is not qcserial's"
# The 50 bytes that a real EC25 was seen to send.
printf '%s\n' 1201000200000040c605089000000102000109022000010100800109040000 02ffffff000705810200020007050102000200 | tr -d '\n' >expected
xxd -p "/sys/bus/usb/devices/$one/descriptors" | tr -d '\n' >got
cmp -s expected got || fail "descriptors of download mode: $(cat got)"
grep -qE '^QUSB_BULK_CID:[0-9A-F]{4}_SN:[0-9A-F]{8}$' "/sys/bus/usb/devices/$one/product" ||
  fail "product string: $(cat "/sys/bus/usb/devices/$one/product")"
usbip port | grep -q 05c6:9008 || fail "usbip port does not show it"

# The others through our own `attach`, which gives each slot its own ports. A SuperSpeed module hops to the USB 2 side.
stationmaster sim attach 127.0.0.1:3240 --like station.yaml --station usb.yaml >attached.log 2>&1 &
hop() {
  within 60 appears "$1" || { cat attached.log; fail "$1 is not attached"; }
  path=$(devices "$1")
  [ "$(cat "/sys/bus/usb/devices/$path/speed")" = 5000 ] || fail "$path is no SuperSpeed device"
  described "$1" "$2"
  within 20 [ -n "$(tty "$path:1.2")" ] || fail "no ports of $path"
  within 30 eval "ask $(tty "$path:1.2") AT | grep -qx OK" || fail "$path does not answer"
  before=$(devices 05c6:9008 | wc -l)
  switch "$(tty "$path:1.0")"
  within 60 eval "[ \$(devices 05c6:9008 | wc -l) -gt $before ]" || { cat attached.log; fail "$path does not hop"; }
}
hop 2c7c:0800 rm500q-gl
hop 2c7c:0801 rm520n-gl
for path in $(devices 05c6:9008); do
  [ "$(cat "/sys/bus/usb/devices/$path/speed")" = 480 ] || fail "$path is no high speed device"
done
grep '"event":"attached"' attached.log | sed -E 's/.*"slot":"([^"]*)".*"chain":"([^"]*)".*"id":"([^"]*)".*/\1 \3 \2/' | sort >got
printf '%s\n' 'A2 05c6:9008 platform-vhci_hcd.0/usb2/2' 'A2 2c7c:0800 platform-vhci_hcd.0/usb3/2' \
  'A3 05c6:9008 platform-vhci_hcd.0/usb2/3' 'A3 2c7c:0801 platform-vhci_hcd.0/usb3/3' \
  'A4 2c7c:0125 platform-vhci_hcd.0/usb2/4' >expected
same expected got "the modules are not at the ports of their slots"

# Pulled out and put back by hand.
hand unplug A4
within 20 leaves 2c7c:0125 || fail "A4 was pulled out and is still there"
hand plug A4
within 60 appears 2c7c:0125 || fail "A4 was put back and is not there"
