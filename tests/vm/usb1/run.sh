# The controller with `hardware: usb` on a real kernel: one served module is flashed and proven.
#vm seconds 240
#vm memory 2048
. /scenario/lib.sh

cp -r /project/profiles /scenario/station.yaml .
sed -i 's/megabytes: .*/megabytes: 1/' profiles/*.yaml
real_profiles
serve station.yaml
stationmaster sim attach 127.0.0.1:3240 --like station.yaml --station usb.yaml >attached.log 2>&1 &
within 60 [ -s usb.yaml ] || { cat attached.log; fail "attach writes no station file"; }
sed -i 's:/profiles/:/real/:' usb.yaml
echo 'power: none' >>usb.yaml
timeout 200 stationmaster run usb.yaml --batch B1 --units 1 --listen off --linger 0 >run.log 2>&1 ||
  { cat run.log attached.log; fail "the run is not all good"; }
columns reports/B1.csv slot outcome code flags >got
same /scenario/expected got "the report is not as expected"
