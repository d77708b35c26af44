# The guest itself: its kernel has the USB drivers, and the shipped binary runs, on simulated modules.
#vm seconds 600
. /scenario/lib.sh

for driver in option1 qcserial; do
  [ -e "/sys/bus/usb-serial/drivers/$driver" ] || fail "no driver $driver"
done
[ -e /sys/devices/platform/vhci_hcd.0/attach ] || fail "no virtual host controller"
[ "$(lsusb -d 1d6b:0003 | wc -l)" -ge 8 ] || fail "lsusb lists no SuperSpeed root hubs: $(lsusb)"

stationmaster --version
cp -r /project/stations /project/profiles .
# A small package: the guest is slow.
sed -i 's/megabytes: .*/megabytes: 2/' profiles/*.yaml
stationmaster check stations/demo.yaml
stationmaster run stations/demo.yaml --batch SMOKE --units 2 --listen off --linger 0

columns reports/SMOKE.csv outcome code flags >got
printf '%s\n' 'PASS - simulated' 'PASS - simulated' >expected
same expected got "the report is not what it must be"
