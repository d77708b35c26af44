# The controller with `hardware: usb` on a real kernel: one served module is asked, flashed and proven.
#vm seconds 240
#vm memory 2048
. /scenario/lib.sh

attached_station
appears() { [ -n "$(devices 2c7c:0125)" ]; }
within 60 appears || { cat attached.log; fail "the module is not there"; }
stationmaster at A1 AT+CGSN --station usb.yaml >asked || fail "at: $(cat asked)"
grep -qE '^86[0-9]{13}$' asked || fail "no IMEI: $(cat asked)"
if stationmaster at A1 AT+CFUN=5 --station usb.yaml >asked 2>&1; then fail "a writing command is sent"; fi
run_station --batch B1 --units 1
ends_within 200
columns reports/B1.csv slot outcome code flags >got
same /scenario/expected got "the report is not as expected"
