# Forty-eight modules of four kinds at once, on the ports of four virtual controllers: all are flashed and proven.
#vm seconds 1500
#vm by-name it takes four minutes, and usb16 is the same with fewer modules
#vm memory 4096
. /scenario/lib.sh

{
  cat /scenario/head.yaml
  index=0
  for shelf in A B C D E F G H I J K L; do
    for place in 1 2 3 4; do
      index=$((index + 1))
      echo "  - { name: $shelf$place, usb2: sim-0/usb2/$index, usb3: sim-0/usb3/$index }"
      echo "$shelf$place PASS - unqualified" >>expected
    done
  done
  cat /scenario/units.yaml
} >station.yaml
# A quarter of what the kernel lends is left to other programs, and each slot may take 256 KiB at once.
echo 32 >/sys/module/usbcore/parameters/usbfs_memory_mb
attached_station made
run_station --batch B1 --units 48
ends_within 1200
columns reports/B1.csv slot outcome code flags >got
same expected got "the report is not as expected"
