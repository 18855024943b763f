# Sourced by every script here: where things are, what is ours, what is alive.
# shellcheck shell=bash disable=SC2034
set -eu
RANGE_NETNS=${RANGE_NETNS:-range}
if ! [[ $RANGE_NETNS =~ ^[a-z][a-z0-9-]{0,30}$ && $RANGE_NETNS != range-cache ]]; then
  echo "RANGE_NETNS must be a short lower-case name, not '$RANGE_NETNS'" >&2
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
state=$checkout/target/$RANGE_NETNS      # one range: all of it goes with `down`
cache=$checkout/target/range-cache       # binaries and images, shared by all ranges
netns=/run/netns/$RANGE_NETNS
python=/usr/bin/python3                  # not a version manager's shim: it is slow and may be a shell

# Not `ip netns exec`: that remounts /sys and hides the cgroups.
inside() { nsenter --net="$netns" "$@"; }

kubectl() { inside "$cache/bin/hyperkube" kubectl --kubeconfig "$state/admin.kubeconfig" "$@"; }

# A name in /run/netns is a namespace only while something is mounted there.
netns_exists() { [ "$(stat -fc %T "$netns" 2>/dev/null)" = nsfs ]; }

# The folder of the range that made the namespace: it is written on the bridge,
# because numbers of namespaces and processes are used again.
owner() { inside ip -json link show br-node 2>/dev/null | jq -r '.[0].ifalias // empty'; }

# Every process of the range: its servers live in the namespace, its pods in the cgroup.
# Zombies are left out: where the first process does not reap, they stay for ever.
alive() {
  local inode pid rest
  {
    if netns_exists; then
      inode=$(stat -Lc %i "$netns")
      find /proc -mindepth 3 -maxdepth 3 -path '/proc/[0-9]*/ns/net' -lname "net:\[$inode\]" 2>/dev/null | cut -d/ -f3
    fi
    find /sys/fs/cgroup/"$RANGE_NETNS" /sys/fs/cgroup/*/"$RANGE_NETNS" -name cgroup.procs -exec cat {} + 2>/dev/null
  } | sort -u | while read -r pid; do
    rest=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
    case ${rest##*) } in [ZX]*) ;; *) echo "$pid" ;; esac
  done
}
