# Sourced by every script here: the paths, the ownership and the processes of a range.
# shellcheck shell=bash disable=SC2034
set -eu
RANGE_NETNS=${RANGE_NETNS:-range}
if ! [[ $RANGE_NETNS =~ ^[a-z][a-z0-9-]{0,30}$ && $RANGE_NETNS != range-cache ]]; then
  echo "RANGE_NETNS must be a short lower-case name, not '$RANGE_NETNS'" >&2
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
state=$checkout/target/$RANGE_NETNS      # one range: `down` deletes all of it
cache=$checkout/target/range-cache       # binaries and images, shared by all ranges
netns=/run/netns/$RANGE_NETNS
python=/usr/bin/python3                  # not a version manager's shim: it is slow and may be a shell
version=v1.34.4
server_ip=192.0.2.10                     # API server, DNS; node1's too. TEST-NET-1: never a real host
sink_ip=192.0.2.99                       # what the test domain resolves to

say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }
fail() { echo "range: $*" >&2; exit 1; }

hyperkube=$cache/bin/hyperkube
pki=$state/pki
procs=    # where `serve` enters a cgroup

# Not `ip netns exec`: that remounts /sys and hides the cgroups.
inside() { nsenter --net="$netns" "$@"; }

kubectl() { inside "$cache/bin/hyperkube" kubectl --kubeconfig "$state/admin.kubeconfig" "$@"; }

# A name in /run/netns is a namespace only while something is mounted there.
netns_exists() { [ "$(stat -fc %T "$netns" 2>/dev/null)" = nsfs ]; }

# Print the folder of the range that created the namespace. It is stored as the alias of the bridge, because numbers of
# namespaces and processes are reused.
owner() { inside ip -json link show br-node 2>/dev/null | jq -r '.[0].ifalias // empty'; }

# alive: print every process of the range: its servers are in the namespace, its pods in the cgroup.
# alive NODE: print only those of one node: its servers, shims and pods are all in its cgroup.
# Zombies are skipped: if the first process does not reap them, they stay forever.
alive() {
  local below=$RANGE_NETNS${1:+/$1} inode pid rest
  {
    if [ $# = 0 ] && netns_exists; then
      inode=$(stat -Lc %i "$netns")
      find /proc -mindepth 3 -maxdepth 3 -path '/proc/[0-9]*/ns/net' -lname "net:\[$inode\]" 2>/dev/null | cut -d/ -f3
    fi
    find /sys/fs/cgroup/"$below" /sys/fs/cgroup/*/"$below" -name cgroup.procs -exec cat {} + 2>/dev/null
  } | sort -u | while read -r pid; do
    rest=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
    case ${rest##*) } in [ZX]*) ;; *) echo "$pid" ;; esac
  done
}

# end [NODE]: kill all at once, repeatedly, so that no process restarts another.
end() {
  local round pids
  for ((round = 0; round < 50; round++)); do
    pids=$(alive "$@")
    [ -n "$pids" ] || return 0
    # shellcheck disable=SC2086
    kill -9 $pids 2>/dev/null || true
    sleep .1
  done
  echo "these processes of the range do not end: ${pids//$'\n'/ }" >&2
  return 1
}

# shim_sockets FOLDER [NODE]: print the sockets of containerd's shims. They are outside the range's folder, beside those
# of other containers of the machine; their addresses are in it.
shim_sockets() {
  find "$1"/${2:-node*}/containerd/run -maxdepth 5 -name address -exec cat {} + 2>/dev/null |
    grep -o '/run/containerd/s/[0-9a-f]*' || true
}

# sweep FOLDER [NODE]: remove what a range or one of its nodes leaves outside its folder, and the mounts below it.
sweep() {
  local below=$1/${2:-}
  shim_sockets "$@" | xargs -r rm -f
  awk -v below="${below%/}/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r | xargs -r umount -l || true
  # The kubelet also writes to a fixed path.
  find /var/log/containers -lname "${below%/}/*" -delete 2>/dev/null || true
}

remove_cgroups() { find /sys/fs/cgroup/"$1" /sys/fs/cgroup/*/"$1" -depth -type d -exec rmdir {} \; 2>/dev/null || true; }

# fill FROM TO: write settings with the paths and addresses of this range (and node).
fill() {
  sed "s#@STATE@#$state#g; s#@NETNS@#$RANGE_NETNS#g; s#@SERVER_IP@#$server_ip#g; s#@SINK_IP@#$sink_ip#g; s#@NODE@#${node:-}#g; s#@NODE_IP@#${node_ip:-}#g" \
    "$here/conf/$1" >"$2"
}

# sign NAME SUBJECT ALT_NAMES: create a key and a certificate of the range's authority.
sign() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" -subj "$2" 2>/dev/null |
    openssl x509 -req -CA ca.crt -CAkey ca.key -days 30 -out "$1.crt" -extfile <(echo "subjectAltName=$3") 2>/dev/null
}

# user NAME SUBJECT FILE [ALT_NAMES]: create a self-contained kubeconfig.
user() {
  sign "$1" "$2" "${4:-DNS:$1}"
  cat >"$3" <<KUBECONFIG
apiVersion: v1
kind: Config
clusters: [{name: range, cluster: {server: "https://$server_ip:6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: range, context: {cluster: range, user: $1}}]
current-context: range
KUBECONFIG
}

# serve NAME CMD...: start a server inside, in the cgroup of its node if procs names one, and record its process id
# (exec: not a shell's).
serve() {
  local name=$1
  shift
  ([ -z "$procs" ] || echo "$BASHPID" >"$procs"; exec setsid nsenter --net="$netns" "$@") \
    >"$state/log/$name.log" 2>&1 </dev/null 9>&- &
  echo $! >"$state/run/$name.pid"
}

# await WHAT CMD...: wait until the command succeeds, for a minute.
await() {
  local what=$1 end=$((SECONDS + 60)) file pid
  shift
  until "$@" >/dev/null 2>&1; do
    for file in "$state"/run/*.pid; do
      pid=$(cat "$file" 2>/dev/null) && [ -n "$pid" ] || continue    # of another node, which is being added or removed
      [ -e "/proc/$pid/ns" ] || fail "$(basename "$file" .pid) ended: $(tail -n 3 "$state/log/$(basename "$file" .pid).log")"
    done
    [ "$SECONDS" -lt "$end" ] || fail "no $what in time; see $state/log"
    sleep .1
  done
}
