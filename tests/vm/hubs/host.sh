# The factory is outside of the guest here. Arguments: the directory for sockets, the scenario's directory.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r profiles "$work/" && cp "$2/station.yaml" "$work/"
sed -i 's/megabytes: .*/megabytes: 1/' "$work"/profiles/*.yaml
{ cat; echo quit; } | stationmaster sim serve "$work/station.yaml" --usbredir "$1" --full-speed
