# Sixteen modules of four kinds at once, with `hardware: usb` on a real kernel: flashed and proven, one of them unplugged
# while it is written and put back, and one that another unit takes the place of while it is written.
#vm seconds 900
#vm memory 3072
. /scenario/lib.sh

# Those that are taken out while they are written take long enough.
eg25_megabytes=8
attached_station
all_in() { [ "$(cat /sys/bus/usb/devices/*/idVendor | grep -c 2c7c)" -eq 16 ]; }
within 200 all_in || fail "not every module is there"
hand unplug D1
owner=$(said unit)
run_station --batch B1 --units 17

# While it is written: some of its flash is changed already.
mid_flash C1
hand unplug C1
say "C1 is out"
hand plug D1 "$owner"
mid_flash D1
hand unplug D1
say "D1 is out"
# The next unit in the slot is another one. It gets a run of its own, and D1's own is finished where it comes back.
hand plug D1 new
hand plug C1
within 300 grep -q '^D1: [A-Z]* ' run.log || fail "nothing becomes of the other unit in D1"
hand unplug D1
# As long as a hand takes: a module that is away for a moment only is taken for one that restarts.
sleep 5
hand plug D1 "$owner"

ends_within 300
columns reports/B1.csv slot outcome code flags >got
same /scenario/expected got "the report is not as expected"

# What the kernel saw: its driver took each module in download mode, but for those that keep their vendor's id there, which
# are option's; SuperSpeed modules came back on the USB 2 side; the serial ports of one module got other numbers each time.
dmesg | sed -n 's/.* qcserial \([^:]*\):.* converter detected$/\1/p' | sort -u >qcserial
dmesg | awk '{ name = $0; sub(/.*\] usb /, "", name); sub(/:.*/, "", name) }
  / New USB device found, / { vendor[name] = $0 ~ /idVendor=2c7c/ }
  / Product: Q(HS)?USB_+BULK/ && vendor[name] { print name }' | sort -u >own_id
taken=$(sort -u qcserial own_id | wc -l)
[ "$taken" -eq 16 ] || fail "$taken modules were taken by a driver in download mode"
[ "$(wc -l <qcserial)" -ge 12 ] || fail "qcserial took $(wc -l <qcserial) of them only"
columns reports/B1.csv slot port_normal port_edl | grep '^[A-D][34] ' | sed 's/platform-//g' >got
same /scenario/hops got "the modules did not hop as they must"
ports=$(dmesg | sed -n 's/.* usb 1-1: GSM modem .* attached to \(ttyUSB[0-9]*\)$/\1/p' | sort -u | wc -l)
[ "$ports" -gt 4 ] || fail "the serial ports of A1 were never renumbered"
