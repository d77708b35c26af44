# A file system that is really full below the ledger: what is under way is recorded in the room of the reserve, the
# station ends, and goes on once there is room. Whether the ledger's line or its index finds no room first is a matter
# of a few kilobytes, so there are several sizes.
#vm seconds 600
. /scenario/lib.sh

cp -r /project/stations /project/profiles .
# A small package: the guest is slow.
sed -i 's/megabytes: .*/megabytes: 2/' profiles/*.yaml
ledger=state/demo/ledger
begun=0
for kilobytes in 1060 1108 1112 1116 1120; do
  mkdir -p $ledger
  mount -t tmpfs -o size=${kilobytes}k ledger $ledger
  batch=FULL-$kilobytes
  run="stationmaster run stations/demo.yaml --batch $batch --units 2 --listen off --linger 0"
  status=0
  $run >ran 2>&1 || status=$?
  [ $status = 3 ] || { cat ran; fail "$kilobytes KiB: status $status"; }
  if [ -e $ledger/ledger-000001.jsonl ]; then
    grep -q '^error: the disk failed, and nothing new was begun: the ledger: ' ran || { cat ran; fail "no reason"; }
    tail -n 1 $ledger/ledger-000001.jsonl | grep -q '"station_stopped"' || { cat ran; fail "its end is not recorded"; }
    begun=$((begun + 1))
    first=line
    if grep -q 'without the file of its index' ran; then first=index; fi
    say "$kilobytes KiB: the $first found no room; $(wc -l <$ledger/ledger-000001.jsonl) lines are recorded"
  else
    grep -q '^help: make room on the disk' ran || { cat ran; fail "no remedy"; }
    say "$kilobytes KiB: nothing was begun"
  fi

  mount -o remount,size=16m $ledger
  $run >ran 2>&1 || { cat ran; fail "$kilobytes KiB: it does not go on"; }
  columns reports/$batch.csv outcome | grep -c '^PASS$' >got
  echo 2 >expected
  same expected got "$kilobytes KiB: not every unit passed"
  stationmaster verify --state state/demo >ran 2>&1 || { cat ran; fail "$kilobytes KiB: the records are not whole"; }
  umount $ledger
  rm -rf state reports
done
[ $begun -ge 3 ] || fail "the sizes are too small by now: at $begun of them a run was begun"
