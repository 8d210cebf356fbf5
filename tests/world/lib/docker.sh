# The Docker engine: uses a reachable one, or installs and starts one.
# shellcheck shell=bash

docker_answers() { timeout 10 docker version >/dev/null 2>&1; }

# lacks_sys_resource succeeds if the machine itself has no CAP_SYS_RESOURCE (bit 24). `docker run --privileged` requests all
# capabilities, and fails with "unable to apply caps" there.
lacks_sys_resource() {
	local bounding
	bounding=$(awk '/^CapBnd/ {print $2}' /proc/self/status)
	(((0x$bounding >> 24 & 1) == 0))
}

# pid_of NAME FILE prints the pid in FILE if that process still runs. A killed process stays as a zombie on machines where
# no init process reaps orphans.
pid_of() {
	local pid
	pid=$(cat "$2" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] && ! is_zombie "$pid" && echo "$pid"
}
is_zombie() { grep -q '^State:.*Z' "/proc/$1/status" 2>/dev/null; }

daemon_pid() { pid_of dockerd "$state/dockerd.pid"; } # the dockerd that this world started

# Every kubelet, containerd and CoreDNS uses inotify instances, of which a user has 128 by default: with about ten nodes a
# kubelet exits with "too many open files" (a known issue of kind, too).
raise_limits() {
	local limit=/proc/sys/fs/inotify/max_user_instances
	if [ -w $limit ] && [ "$(cat $limit)" -lt 8192 ]; then
		echo 8192 >$limit
		say "raised fs.inotify.max_user_instances to 8192"
	fi
}

world_docker() {
	if [ -n "$engine" ]; then
		engine_docker
		return
	fi
	raise_limits
	local missing=() tool package
	for tool in docker:docker.io jq:jq iptables:iptables skopeo:skopeo openssl:openssl curl:curl flock:util-linux; do
		package=${tool#*:}
		have "${tool%%:*}" || missing+=("$package")
	done
	if docker_answers; then
		[ ${#missing[@]} = 0 ] || packages "${missing[@]}"
		say "Docker $(docker version -f '{{.Server.Version}}') responds on $DOCKER_HOST"
		return
	fi
	[ "$DOCKER_HOST" != "$socket" ] || die "no Docker engine on $DOCKER_HOST; only a unix:// one can be started here"
	[ "$(id -u)" = 0 ] || die "no Docker engine on $DOCKER_HOST: start one, or run as root"
	have dockerd || missing+=(docker.io)
	[ ${#missing[@]} = 0 ] || packages "${missing[@]}"
	start_daemon
}

start_daemon() {
	local args=(--host "$DOCKER_HOST" --pidfile "$state/dockerd.pid")
	# A second engine needs directories of its own, and must not change the firewall: a starting engine removes the rules
	# of the other.
	if [ -n "${WORLD_DOCKER_DIR-}" ]; then
		mkdir -p "$WORLD_DOCKER_DIR"
		args+=(--data-root "$WORLD_DOCKER_DIR/data" --exec-root "$WORLD_DOCKER_DIR/exec" --bridge none --iptables=false)
	fi
	if lacks_sys_resource; then
		# In the cache, since it must exist as long as the engine has containers.
		local wrapper=$cache/runc-wrap runc
		runc=$(command -v runc) || die "no runc found"
		sed "s|^runc=.*|runc=$runc|" "$here/node-image/runc-wrap" >"$wrapper.new"
		chmod +x "$wrapper.new"
		mv "$wrapper.new" "$wrapper"
		args+=(--add-runtime "wrap=$wrapper" --default-runtime wrap)
		say "this machine has no CAP_SYS_RESOURCE: privileged containers are started without it"
	fi
	# Files of an engine that was killed: dockerd mistakes any process with that pid, also a zombie, for itself or for its
	# containerd, and exits.
	local run=/var/run/docker
	[ -z "${WORLD_DOCKER_DIR-}" ] || run=$WORLD_DOCKER_DIR/exec
	daemon_pid >/dev/null || rm -f "$state/dockerd.pid"
	pid_of containerd "$run/containerd/containerd.pid" >/dev/null || rm -f "$run/containerd/containerd.pid"
	say "starting dockerd; log: $state/dockerd.log"
	# Without the descriptor of the lock, which the engine would hold as long as it runs.
	setsid dockerd "${args[@]}" >>"$state/dockerd.log" 2>&1 </dev/null 9>&- &
	local child=$!
	up_or_dead() { docker_answers || ! kill -0 "$child" 2>/dev/null; }
	within 90 up_or_dead || true
	if ! docker_answers; then
		tail -20 "$state/dockerd.log" >&2
		die "dockerd does not respond on $DOCKER_HOST"
	fi
	say "Docker $(docker version -f '{{.Server.Version}}') started"
}

stop_daemon() {
	local pid
	if ! pid=$(daemon_pid); then
		say "no dockerd of this world is running"
		return
	fi
	stopped() { [ ! -e "/proc/$pid" ] || is_zombie "$pid"; }
	kill "$pid"
	within 60 stopped || die "dockerd (pid $pid) does not stop"
	rm -f "$state/dockerd.pid"
	say "dockerd stopped"
}

# world_restart_docker restarts the engine as an upgrade of Docker does: all containers stop, and those with a restart policy
# start again.
world_restart_docker() {
	if [ -n "$engine" ]; then
		stop_dockerd
		launch_engine
	elif daemon_pid >/dev/null; then
		stop_daemon
		start_daemon
	elif have systemctl && systemctl is-active -q docker; then
		systemctl restart docker
		within 90 docker_answers || die "dockerd does not respond on $DOCKER_HOST"
	else
		die "neither this world nor systemd started the engine on $DOCKER_HOST"
	fi
	within 180 node_ready || die "the management cluster did not come back with Docker"
}
