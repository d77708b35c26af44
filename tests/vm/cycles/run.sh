# Three hundred connects, at whichever moment of a run: afterwards the controller has no more open than before.
#vm seconds 1200
#vm by-name it takes ten minutes
#vm memory 2048
. /scenario/lib.sh

attached_station
# A module that was pulled out on its way into download mode is not waited for that long.
sed -i 's/edl_s: 240/edl_s: 30/' real/*.yaml
# So little that three slots can have their transfers, and nothing that is not given back goes unnoticed.
echo 1 >/sys/module/usbcore/parameters/usbfs_memory_mb
slots="A1 A2 A3"
modules() { cat /sys/bus/usb/devices/*/idVendor | grep -c -e 2c7c -e 05c6; }
all_in() { [ "$(modules)" -eq 3 ]; }
all_out() { [ "$(modules)" -eq 0 ]; }
take_out() {
  for slot in $slots; do hand unplug "$slot"; done
  within 60 all_out || fail "modules that were pulled out are still there"
}
put_in() { for slot in $slots; do hand plug "$slot"; done; }
# Open files and threads; threads that wait for work end after ten seconds.
files() { ls "/proc/$controller/fd" | wc -l; }
threads() { sed -n 's/^Threads:\t//p' "/proc/$controller/status"; }
# Tasks of the controller's own; the connection that asks is one of them.
tasks() { wget -q -O - http://127.0.0.1:9464/metrics | sed -n 's/^stationmaster_tasks //p'; }
connects() { dmesg | grep -c 'New USB device found, idVendor=\(2c7c\|05c6\)'; }

within 120 all_in || fail "not every module is there"
run_station --batch CYCLES
passes() { grep -c '^A[123]: PASS' run.log || true; }
passed() { [ "$(passes)" -ge "$wanted" ]; }
# Whatever is opened once and for good is open then.
wanted=3
within 300 passed || { tail -n 60 run.log; fail "the modules are not finished"; }
take_out
sleep 20
files_before=$(files)
threads_before=$(threads)
tasks_before=$(tasks)

# Others, because these are only verified from now on.
for slot in $slots; do hand plug "$slot" new; done
within 60 all_in || fail "no other modules come"
sleep 2
take_out
round=0
while [ "$(connects)" -lt 300 ]; do
  put_in
  within 60 all_in || fail "not every module comes back"
  # Another moment of the run each time: some are in download mode, some are being written.
  sleep $((round % 3))
  round=$((round + 1))
  take_out
  [ $((round % 10)) -ne 0 ] || say "round $round: $(connects) connects"
done
say "$(connects) connects in $round rounds"

# Whatever state they were left in, they are finished, each once more.
wanted=$(($(passes) + 3))
sleep 40
put_in
within 300 passed || { tail -n 60 run.log; fail "the modules are not finished after all that"; }
take_out
sleep 20
say "files $files_before before, $(files) after; threads $threads_before before, $(threads) after; tasks $tasks_before before, $(tasks) after"
[ "$(files)" -le "$files_before" ] || { ls -l "/proc/$controller/fd"; fail "files stay open"; }
[ "$(threads)" -le "$threads_before" ] || fail "threads stay"
[ "$(tasks)" -le "$tasks_before" ] || fail "tasks stay"
kill -TERM "$controller"
within 60 ended || fail "it does not end"
columns reports/CYCLES.csv outcome code | sort | uniq -c
if columns reports/CYCLES.csv outcome | grep -q -e FAIL -e ERROR; then fail "a unit is blamed for being pulled out"; fi
