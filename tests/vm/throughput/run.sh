# Throughput of the product's pipe against a plain loop, over usbfs and vhci, on one served module.
#vm seconds 900
#vm memory 2048
#vm example throughput
#vm by-name it measures, and says nothing about right and wrong
. /scenario/lib.sh

cp -r /project/profiles /scenario/station.yaml .
sed -i 's/megabytes: .*/megabytes: 1/' profiles/*.yaml
serve station.yaml
stationmaster sim attach 127.0.0.1:3240 --like station.yaml --station usb.yaml >attached.log 2>&1 &
appears() { [ -n "$(devices "$1")" ]; }
within 90 appears 2c7c:0125 || { cat attached.log; fail "the module is not attached"; }
one=$(devices 2c7c:0125)
within 30 [ -n "$(tty "$one:1.0")" ] || fail "it has no DIAG port"
# Into download mode, by the frame on its DIAG port.
port=$(tty "$one:1.0")
stty -F "$port" raw -echo
printf '\113\145\001\000\124\017\176' >"$port"
within 60 appears 05c6:9008 || { cat attached.log; fail "it does not come in download mode"; }
within 20 [ -e "/sys/bus/usb/devices/$(devices 05c6:9008):1.0" ] || fail "it has no interface"
throughput 4 11 >figures 2>&1 || { cat figures attached.log; fail "nothing was measured"; }
while read -r line; do say "$line"; done <figures
[ "$(grep -c 'median of the rounds' figures)" -eq 2 ] || fail "not both ways were measured"
