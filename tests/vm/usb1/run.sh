# The controller with `hardware: usb` on a real kernel: one served module is flashed and proven.
#vm seconds 240
#vm memory 2048
. /scenario/lib.sh

attached_station
run_station --batch B1 --units 1
ends_within 200
columns reports/B1.csv slot outcome code flags >got
same /scenario/expected got "the report is not as expected"
