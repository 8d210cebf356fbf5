# Names, paths and helpers of all parts of the world.
# shellcheck shell=bash

say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }
die() {
	printf '[%4ds] ERROR: %s\n' "$SECONDS" "$*" >&2
	exit 1
}

root=$(cd "$here/../.." && pwd)
# The Docker Engine: the machine's, or another one beside it (engine.sh), as in "28" or "28-containerd".
engine_major=${ENGINE-}
store=${STORE-}
topology=${TOPOLOGY:-container}
# A management cluster in the network of the machine would change the machine, so that it gets a network of its own.
[ "$topology" != host ] || engine_major=${engine_major:-20}
engine=$engine_major${store:+-$store}
# State of this world: addresses, pids, logs. Safe to delete after `world down --docker`.
state=${WORLD_STATE:-$root/target/world}${engine:+-$engine}
# Downloads and builds that all clones share: packages, programs, saved images.
cache=${WORLD_CACHE:-$HOME/.cache/localcluster-operator}
# Prefix of every name in Docker, so that two worlds can share one engine.
world=${WORLD_NAME:-lco-world}
label=localcluster.dev/world=$world
# The container of the management cluster, its network, and its node.
mgmt=$world-mgmt
mgmt_network=$world
mgmt_node=$mgmt
if [ "$topology" = host ]; then
	mgmt_network=host
	mgmt_node=$world-host
fi
# Outside Docker's own pools and K3s's 10.42/10.43. It is in the operator's pool (10.231.0.0/16); the operator avoids it
# like every network of the engine.
subnet=${WORLD_SUBNET:-10.231.231.0/24}
# First API port to try: outside the operator's range (20000-29999) and the kernel's (32768 and up).
api_port=${WORLD_API_PORT:-16443}
version=${WORLD_NODE_VERSION:-v1.36.3+k3s1}
version_2=${WORLD_NODE_VERSION_2:-v1.36.4+k3s1}
operator_image=${OPERATOR_IMAGE:-localcluster-operator:dev}

# shellcheck source=engine.sh
. "$here/lib/engine.sh"
DOCKER_HOST=${DOCKER_HOST:-unix:///var/run/docker.sock}
machine_docker=${WORLD_MACHINE_DOCKER:-$DOCKER_HOST}
valid_engine
netns=
if [ -n "$engine" ]; then
	engine_names "$engine"
	DOCKER_HOST=unix://$engine_run/docker.sock
	export WORLD_MACHINE_DOCKER=$machine_docker
fi
export DOCKER_HOST
socket=${DOCKER_HOST#unix://}

mkdir -p "$state" "$cache"
state=$(cd "$state" && pwd)
cache=$(cd "$cache" && pwd)
kubeconfig=$state/mgmt.kubeconfig
PATH=$PATH:$cache/bin

# within SECONDS COMMAND... runs COMMAND until it succeeds; fails after that time.
within() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.3
	done
}

# locked ensures that one command at a time changes this world. The lock ends with the process.
locked() {
	exec 9>"$state/lock"
	if ! flock -n 9; then
		say "waiting for another world command"
		flock 9
	fi
}

have() { command -v "$1" >/dev/null 2>&1; }

# packages PACKAGE... installs Debian packages.
packages() {
	have apt-get || die "missing: $*; install them (this script does so only on Debian)"
	[ "$(id -u)" = 0 ] || die "missing: $*; run as root, or: apt-get install --no-install-recommends $*"
	say "installing $*"
	{
		apt-get update -q
		DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
	} >"$state/apt.log" 2>&1 || {
		tail -20 "$state/apt.log" >&2
		die "apt-get could not install $*"
	}
}

k() { kubectl --kubeconfig "$kubeconfig" "$@"; }
