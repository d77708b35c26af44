# `map` on a real kernel: two slots of which nothing is known are taught by modules that hop between SuperSpeed and USB 2.
#vm seconds 420
#vm memory 2048
. /scenario/lib.sh

cp -r /project/profiles /scenario/station.yaml .
sed -i 's/megabytes: .*/megabytes: 1/' profiles/*.yaml
real_profiles
serve station.yaml
stationmaster sim attach 127.0.0.1:3240 --like station.yaml --station usb.yaml >attached.log 2>&1 &
within 60 [ -s usb.yaml ] || { cat attached.log; fail "attach writes no station file"; }
count() { [ "$(devices 2c7c:0801 | wc -l)" -eq "$1" ]; }
within 120 count 2 || { cat attached.log; lsusb; fail "there are not two modules in normal mode"; }
hand unplug A1
hand unplug A2
within 60 count 0 || { lsusb; fail "the modules do not leave"; }

# What attach knows of the slots is what has to be learned.
chains() { tr -d ' "{}' <"$1" | sed 's/^-//' | tr ',' '\n' | grep -E '^(name:A|usb[23]:)'; }
chains usb.yaml >expected
sed -n 's:/profiles/:/real/:; /^slots:/,/^[a-z]/ { /^slots:/d; /^ /d; }; p' usb.yaml >taught.yaml
echo '# the end' >>taught.yaml
cp taught.yaml before.yaml
grep -q slots taught.yaml && { cat taught.yaml; fail "the slots are still in the file"; }

mkfifo answers
exec 7<>answers
stationmaster map taught.yaml --slots A1,A2 <&7 >map.out 2>map.log &
map=$!
told() { [ "$(grep -c "$1" map.log)" -ge "$2" ]; }
fail_map() { cat map.log map.out attached.log; stationmaster devices; fail "$1"; }
within 60 told 'put one module into slot A1$' 1 || fail_map "A1 is not asked for"
hand plug A1
hand plug A2
within 120 told 'more than one module appeared' 1 || fail_map "two modules at once are not refused"
hand unplug A1
hand unplug A2
within 60 count 0 || fail_map "the modules do not leave"
hand plug A1
within 120 told 'a module was at' 1 || fail_map "a module that may only have started anew is believed"
within 60 told 'put one module into slot A1$' 3 || fail_map "A1 is not asked for again"
sleep 1
echo yes >&7
within 200 told 'slot A1 is learned' 1 || fail_map "A1 is not learned"
within 60 told 'put one module into slot A2$' 1 || fail_map "A2 is not asked for"
hand unplug A1
hand plug A2
within 120 told 'a module was at' 2 || fail_map "a module at a port that was seen before is believed"
within 60 told 'put one module into slot A2$' 2 || fail_map "A2 is not asked for again"
sleep 1
echo yes >&7
within 200 told 'slot A2 is learned' 1 || fail_map "A2 is not learned"
wait "$map" || fail_map "map does not end well"
cat map.log map.out
chains taught.yaml >got
same expected got "the chains are not those of the ports"
head -n "$(wc -l <before.yaml)" taught.yaml >head.yaml
same before.yaml head.yaml "more than the slots was changed"
stationmaster check taught.yaml
[ -n "$(devices 2c7c:0801)" ] || fail_map "the module is not back in normal mode"
