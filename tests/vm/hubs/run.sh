# Modules behind nested hubs whose ports have a switch: found by their place, flashed, proven, and started again by
# their supply.
#vm seconds 900
#vm memory 2048
#vm qemu -device qemu-xhci,id=x -device usb-hub,id=h1,bus=x.0,port=1,port-power=on -device usb-hub,id=h2,bus=x.0,port=1.2,port-power=on -chardev socket,id=a1,path=@RUN@/A1.redir,reconnect=1 -device usb-redir,id=m1,chardev=a1,bus=x.0,port=1.2.1 -chardev socket,id=a2,path=@RUN@/A2.redir,reconnect=1 -device usb-redir,id=m2,chardev=a2,bus=x.0,port=1.3
. /scenario/lib.sh

both() { [ "$(devices 2c7c:0125 | wc -l)" -eq 2 ]; }
within 90 both || { lsusb; fail "there are not two modules in normal mode"; }
# The port chain of each: the controller's device, the side of the root hub, the ports.
chain() {
  path=$(readlink -f "/sys/bus/usb/devices/$1")
  controller=$(basename "${path%%/usb[0-9]*}")
  echo "pci-$controller/usb2/${1#*-}"
}
for device in $(devices 2c7c:0125); do
  case "$device" in
    *-1.2.1 | *-?.2.1) a1=$(chain "$device") ;;
    *) a2=$(chain "$device") ;;
  esac
done
say "A1 at $a1, A2 at $a2"

cp -r /project/profiles .
# Full speed carries a megabyte in a second, and one of them may be half a minute later in download mode than the other:
# the hub is pulled out while both are written.
sed -i 's/megabytes: .*/megabytes: 30/' profiles/*.yaml
real_profiles
cat >station.yaml <<YAML
name: hubs
hardware: usb
power: hub
profiles: [real/eg25-g.yaml]
state: state/hubs-usb
reports: reports
slots:
  - { name: A1, usb2: $a1 }
  - { name: A2, usb2: $a2 }
YAML
# Behind two hubs QEMU's redirection may take half a minute to bring a module back.
printf '%s\n' 'timeouts: { edl_s: 300, boot_s: 300, reset_s: 60 }' >>real/eg25-g.yaml
stationmaster devices station.yaml

# The port of each slot is switched off and on, and the hubs obey.
stationmaster doctor station.yaml --switch-power >doctor.log || true
grep -q '^ *ok *power' doctor.log || { cat doctor.log; fail "doctor does not see the slots' supply switched"; }
within 90 both || { lsusb; fail "the modules do not come back with their supply"; }

# While a module is written its hub is pulled out, with all that hangs behind it, and put back.
stationmaster run station.yaml --batch HUBS --units 2 --unqualified --listen off --linger 0 >run.log 2>&1 &
controller=$!
mid_flash A1
mid_flash A2
monitor device_del h1
# QEMU's hubs are 0409:55aa.
none() { [ -z "$(devices 0409:55aa)" ]; }
within 60 none || { lsusb; fail "the hub is pulled out, and its modules are still there"; }
sleep 3
monitor device_add usb-hub,id=h1,bus=x.0,port=1,port-power=on
monitor device_add usb-hub,id=h2,bus=x.0,port=1.2,port-power=on
# QEMU forgets a module's socket with the module, but not that its name was taken; it runs where `target` is.
for module in 1 2; do
  monitor "chardev-add socket,id=b$module,path=target/vm/run/A$module.redir,reconnect=1"
done
monitor device_add usb-redir,id=m1,chardev=b1,bus=x.0,port=1.2.1
monitor device_add usb-redir,id=m2,chardev=b2,bus=x.0,port=1.3
returned() { [ "$(devices 0409:55aa | wc -l)" -eq 2 ]; }
within 60 returned || { fail "the hub does not come back"; }
ends_within 500
columns reports/HUBS.csv slot outcome code flags >got
! grep -q 'booted again by a reset' reports/HUBS.csv || fail "the supply was not cut for the second boot"
printf '%s\n' 'A1 PASS - resumed unqualified' 'A2 PASS - resumed unqualified' >expected
same expected got "the report is not what it must be"
