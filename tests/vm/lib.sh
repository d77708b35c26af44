#!/bin/busybox sh
# What scenarios share; it is read by `. /scenario/lib.sh` in the guest.
set -eu

# A line that `scripts/vm` shows also when the scenario passed.
say() { echo "# $*"; }

fail() {
  echo "FAILED: $*"
  exit 1
}

# Columns of a report by their names: `columns FILE NAME…`, sorted, without the header, separated by blanks; `-` is an
# empty value. Reports are RFC 4180; no value asked for here may hold a line feed.
columns() {
  file=$1
  shift
  tr -d '\r' <"$file" | awk -v names="$*" '
    function fields(line,   n, c, i, quoted, value) {
      n = 0; value = ""; quoted = 0
      for (i = 1; i <= length(line); i++) {
        c = substr(line, i, 1)
        if (c == "\"") quoted = !quoted
        else if (c == "," && !quoted) { f[++n] = value; value = "" }
        else value = value c
      }
      f[++n] = value
      return n
    }
    NR == 1 { n = fields($0); for (i = 1; i <= n; i++) at[f[i]] = i; count = split(names, want, " ")
      for (i = 1; i <= count; i++) if (!(want[i] in at)) { print "no column " want[i]; exit 1 }
      next }
    { fields($0); line = ""
      for (i = 1; i <= count; i++) { v = f[at[want[i]]]; line = line (i > 1 ? " " : "") (v == "" ? "-" : v) }
      print line }' | sort
}

# `same EXPECTED GOT WHAT` compares two files and shows the difference.
same() {
  diff -u "$1" "$2" || fail "$3"
}

# Waits until a command succeeds: `within SECONDS COMMAND…`.
within() {
  local end=$(($(date +%s) + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$(date +%s)" -lt "$end" ] || return 1
    usleep 200000
  done
}

# Starts the simulated factory in the background: `serve STATION.yaml`. Lines for it go to the file `hands`.
serve() {
  mkfifo hands
  # Opened for both, so that the factory's input never ends.
  exec 9<>hands
  stationmaster sim serve "$1" --usbip 127.0.0.1:3240 <&9 >served.log 2>&1 &
  within 30 grep -q '"serving"' served.log || { cat served.log; fail "nothing is served"; }
}

# Tells the factory's hands what to do: `hand COMMAND…`, such as `hand unplug A1`.
hand() {
  before=$(grep -c '"command"' served.log || true)
  echo "$*" >&9
  within 20 eval "[ \$(grep -c '\"command\"' served.log) -gt $before ]" || fail "no answer to: $*"
  grep '"command"' served.log | tail -n 1 | grep -q '"ok":true' || { tail -n 1 served.log; fail "refused: $*"; }
}

# A value of the last answer to `hand`: `said unit`.
said() { grep '"command"' served.log | tail -n 1 | sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p"; }

# The last run of a slot, as the controller's ledger has it.
run_of() {
  cat state/*-usb/ledger/*.jsonl |
    sed -n "s/.*{\"run_started\":{\"run\":\"\([^\"]*\)\",[^}]*\"slot\":\"$1\".*/\1/p" | tail -n 1
}

# Whether the ledger has a fact of a run: `has RUN intent`.
has() { grep -q "{\"$2\":{\"run\":\"$1\"" state/*-usb/ledger/*.jsonl; }

# Waits until the module in a slot is being written: something of it is changed, and not everything written.
mid_flash() {
  changing() { [ -n "$(run_of "$1")" ] && has "$(run_of "$1")" intent; }
  within 300 changing "$1" || { cat run.log; fail "nothing is written to the module in $1"; }
  ! has "$(run_of "$1")" staged || fail "the module in $1 was written too fast"
}

# Serves a station with small packages, gives its modules to this kernel, and makes `usb.yaml` for it; without a name it
# is the scenario's station.yaml.
attached_station() {
  cp -r /project/profiles .
  [ $# -gt 0 ] || cp /scenario/station.yaml .
  sed -i 's/megabytes: .*/megabytes: 1/' profiles/*.yaml
  sed -i "s/megabytes: .*/megabytes: ${eg25_megabytes:-1}/" profiles/eg25-g.yaml
  real_profiles
  serve station.yaml
  stationmaster sim attach 127.0.0.1:3240 --like station.yaml --station usb.yaml >attached.log 2>&1 &
  within 60 [ -s usb.yaml ] || { cat attached.log; fail "attach writes no station file"; }
  sed -i 's:/profiles/:/real/:' usb.yaml
  # The guest's processor is emulated, and may have another machine's worth of modules to serve.
  for profile in real/*.yaml; do
    echo 'timeouts: { at_s: 20, ready_s: 240, edl_s: 240, hello_s: 30, loader_s: 60, reset_s: 60, boot_s: 300 }' >>"$profile"
  done
  echo 'power: none' >>usb.yaml
}

# Starts the controller on `usb.yaml` in the background: `run_station --batch B1 --units 4`. Nobody qualified the
# scenario's profiles, so each row has the flag.
run_station() {
  stationmaster run usb.yaml "$@" --unqualified --listen 127.0.0.1:9464 --linger 0 >run.log 2>&1 &
  controller=$!
}

# Waits for the controller's end, which must be a good one: `ends_within SECONDS`.
ended() { ! kill -0 "$controller" 2>/dev/null; }
ends_within() {
  if within "$1" ended && wait "$controller"; then return 0; fi
  kill "$controller" 2>/dev/null || true
  tail -n 100 run.log
  [ ! -e attached.log ] || tail -n 20 attached.log served.log
  fail "the run is not all good"
}

# Has QEMU do something: `monitor device_del h1`. What it says is in target/vm/log/monitor, outside.
monitor() {
  printf 'qemu: %s\n' "$*" >/dev/ttyS1
  sleep 1
}

# The kernel's names of the USB devices with an id: `devices 2c7c:0125`.
devices() {
  for device in /sys/bus/usb/devices/*; do
    [ -e "$device/idVendor" ] || continue
    [ "$(cat "$device/idVendor"):$(cat "$device/idProduct")" = "$1" ] && basename "$device"
  done
  return 0
}

# The name of the driver that has an interface: `driver 1-1:1.0`.
driver() {
  basename "$(readlink "/sys/bus/usb/devices/$1/driver")"
}

# The serial port of an interface: `tty 1-1:1.2`.
tty() {
  for found in "/sys/bus/usb/devices/$1"/ttyUSB*; do
    [ -e "$found" ] && echo "/dev/$(basename "$found")"
  done
  return 0
}

# Asks a serial port, and prints the answer up to its last line: `ask /dev/ttyUSB2 AT+GSN`.
ask() {
  stty -F "$1" raw -echo
  exec 8<>"$1"
  printf '%s\r' "$2" >&8
  timeout 10 awk '{ sub(/\r$/, "") } NF { print } /^(OK|ERROR|\+CME ERROR.*)$/ { exit }' <&8 || true
  exec 8>&-
}

# Makes `real/NAME.yaml` of each of `profiles/`, as a station with `hardware: usb` wants it: the firmware that it would
# generate is a package on disk, and pinned.
real_profiles() {
  mkdir -p real packages
  for profile in profiles/*.yaml; do
    name=$(basename "$profile" .yaml)
    value() { sed -n "s/^    $1: //p" "$profile" | head -n 1; }
    stationmaster sim package --out "packages/$name" --model "$(value model)" --revision "$(value revision)" \
      --megabytes "$(value megabytes)" >/dev/null
    digest=$(stationmaster package inspect "packages/$name" --json | sed -n 's/^  "digest": "\(.*\)",$/\1/p')
    sed -e '/^    \(model\|revision\|megabytes\): /d' \
      -e "s:^  simulated\:\$:  directory\: ../packages/$name\n  sha256\: \"$digest\":" "$profile" >"real/$name.yaml"
  done
}
