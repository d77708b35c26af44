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
  left=$(($1 * 5))
  shift
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || return 1
    usleep 200000
  done
}
