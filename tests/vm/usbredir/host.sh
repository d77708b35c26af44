# The factory is outside of the guest here: its modules are devices of QEMU's host controller.
# Arguments: the directory for sockets, the scenario's directory. The factory ends with this script's input.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r profiles "$work/" && cp "$2/station.yaml" "$work/"
sed -i 's/megabytes: .*/megabytes: 2/' "$work"/profiles/*.yaml
{ cat; echo quit; } | stationmaster sim serve "$work/station.yaml" --usbredir "$1"
