# The Docker engine: a reachable one is used, otherwise one is installed and started.
# shellcheck shell=bash

docker_answers() { timeout 10 docker version >/dev/null 2>&1; }

# lacks_sys_resource: `docker run --privileged` asks for every capability, and fails with
# "unable to apply caps" where the machine itself was never given CAP_SYS_RESOURCE (bit 24).
lacks_sys_resource() {
	local bounding
	bounding=$(awk '/^CapBnd/ {print $2}' /proc/self/status)
	(((0x$bounding >> 24 & 1) == 0))
}

# pid_of NAME FILE prints the pid in FILE, if such a process still runs. A killed one may stay as a
# zombie for as long as the machine is up where nothing collects orphans.
pid_of() {
	local pid
	pid=$(cat "$2" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] && ! is_zombie "$pid" && echo "$pid"
}
is_zombie() { grep -q '^State:.*Z' "/proc/$1/status" 2>/dev/null; }

daemon_pid() { pid_of dockerd "$state/dockerd.pid"; } # of the dockerd that this world started

# Every kubelet, containerd and CoreDNS takes inotify instances of one user's, 128 by default: with some ten nodes a
# kubelet ends with "too many open files" (kind documents the same as a known issue).
raise_limits() {
	local limit=/proc/sys/fs/inotify/max_user_instances
	if [ -w $limit ] && [ "$(cat $limit)" -lt 8192 ]; then
		echo 8192 >$limit
		say "raised fs.inotify.max_user_instances to 8192"
	fi
}

world_docker() {
	raise_limits
	local missing=() tool package
	for tool in docker:docker.io jq:jq iptables:iptables skopeo:skopeo openssl:openssl curl:curl flock:util-linux; do
		package=${tool#*:}
		have "${tool%%:*}" || missing+=("$package")
	done
	if docker_answers; then
		[ ${#missing[@]} = 0 ] || packages "${missing[@]}"
		say "Docker $(docker version -f '{{.Server.Version}}') answers on $DOCKER_HOST"
		return
	fi
	[ "$DOCKER_HOST" != "$socket" ] || die "no Docker engine on $DOCKER_HOST, and only a unix:// one can be started here"
	[ "$(id -u)" = 0 ] || die "no Docker engine on $DOCKER_HOST: start one, or run as root"
	have dockerd || missing+=(docker.io)
	[ ${#missing[@]} = 0 ] || packages "${missing[@]}"
	start_daemon
}

start_daemon() {
	local args=(--host "$DOCKER_HOST" --pidfile "$state/dockerd.pid")
	# A second engine beside one that runs already needs everything of its own, and must leave the
	# firewall alone: a starting engine throws away the rules of the other.
	if [ -n "${WORLD_DOCKER_DIR-}" ]; then
		mkdir -p "$WORLD_DOCKER_DIR"
		args+=(--data-root "$WORLD_DOCKER_DIR/data" --exec-root "$WORLD_DOCKER_DIR/exec" --bridge none --iptables=false)
	fi
	if lacks_sys_resource; then
		# In the cache: it must be there for as long as the engine has containers.
		local wrapper=$cache/runc-wrap runc
		runc=$(command -v runc) || die "no runc found"
		sed "s|^runc=.*|runc=$runc|" "$here/node-image/runc-wrap" >"$wrapper.new"
		chmod +x "$wrapper.new"
		mv "$wrapper.new" "$wrapper"
		args+=(--add-runtime "wrap=$wrapper" --default-runtime wrap)
		say "this machine has no CAP_SYS_RESOURCE: privileged containers are started without it"
	fi
	# Left by an engine that was killed: dockerd takes any process of that number, zombies too, for
	# itself or for its containerd, and gives up.
	local run=/var/run/docker
	[ -z "${WORLD_DOCKER_DIR-}" ] || run=$WORLD_DOCKER_DIR/exec
	daemon_pid >/dev/null || rm -f "$state/dockerd.pid"
	pid_of containerd "$run/containerd/containerd.pid" >/dev/null || rm -f "$run/containerd/containerd.pid"
	say "starting dockerd; log: $state/dockerd.log"
	# Without the lock's descriptor, which would otherwise be held for as long as the engine lives.
	setsid dockerd "${args[@]}" >>"$state/dockerd.log" 2>&1 </dev/null 9>&- &
	local child=$!
	up_or_dead() { docker_answers || ! kill -0 "$child" 2>/dev/null; }
	within 90 up_or_dead || true
	if ! docker_answers; then
		tail -20 "$state/dockerd.log" >&2
		die "dockerd does not answer on $DOCKER_HOST"
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

# world_restart_docker: as an upgrade of Docker does it. All containers stop, and what has a restart policy starts again.
world_restart_docker() {
	if daemon_pid >/dev/null; then
		stop_daemon
		start_daemon
	elif have systemctl && systemctl is-active -q docker; then
		systemctl restart docker
		within 90 docker_answers || die "dockerd does not answer on $DOCKER_HOST"
	else
		die "the engine on $DOCKER_HOST was not started by this world, nor by systemd"
	fi
	within 180 node_ready || die "the management cluster did not come back with Docker"
}
