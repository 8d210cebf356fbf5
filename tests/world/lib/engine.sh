# Another Docker Engine beside the machine's: ENGINE=28, with a root tree, a network namespace and directories of its own.
# shellcheck shell=bash

# shellcheck source=../node-image/mirror.sh
. "$here/node-image/mirror.sh"

# The suite of Debian that has this version; 29 runs in the tree of 28.
engine_suite() {
	case $1 in
	20) echo bookworm ;;
	26) echo trixie ;;
	28 | 29) echo forky ;;
	*) die "ENGINE=$1 is unknown: use 20, 26, 28 or 29" ;;
	esac
}

# valid_engine fails unless this world can run what ENGINE, STORE and TOPOLOGY say.
valid_engine() {
	[ -z "$engine_major" ] || engine_suite "$engine_major" >/dev/null
	case $store in
	'') ;;
	containerd) [ "${engine_major:-0}" -ge 28 ] || die "STORE=containerd needs ENGINE=28 or later" ;;
	*) die "STORE=$store is unknown: use containerd" ;;
	esac
	case $topology in
	container | host) ;;
	*) die "TOPOLOGY=$topology is unknown: use container or host" ;;
	esac
}

engine_packages=docker.io,jq,iptables,nftables,iproute2,ca-certificates,procps

# Names for an engine: of its network namespace, its link (15 characters at most), and its directories.
engine_names() { # engine_names 28-containerd
	local clone
	clone=$(echo "$root" | sha256sum | cut -c1-4)
	netns=lco-$1-$clone
	link=lco$1-$clone
	link=${link/-containerd/c}
	link=${link/-host/h}
	# Short, since paths of sockets have at most 107 characters.
	engine_run=/run/$netns
	engine_dir=$root/target/engines/$1
}

# Runs a command with the machine's engine.
outside() { DOCKER_HOST=$machine_docker "$@"; }

# enter_engine COMMAND... continues in the network namespace of the engine, where ports are published and containers are
# reached. `ip netns exec` would hide /sys/fs/cgroup.
enter_engine() {
	[ "${WORLD_INSIDE-}" != "$netns" ] || return 0
	[ -e "/run/netns/$netns" ] || die "Docker $engine does not run; first: make world"
	# The way back.
	exec 8</proc/self/ns/net
	exec nsenter --net="/run/netns/$netns" env WORLD_INSIDE="$netns" "$@"
}

# leave_engine COMMAND... continues in the network namespace from which enter_engine came.
leave_engine() {
	[ -n "$netns" ] && [ "${WORLD_INSIDE-}" = "$netns" ] || return 0
	exec nsenter --net=/proc/self/fd/8 env -u WORLD_INSIDE "$@"
}

# machine_world COMMAND... is `world` for the machine's engine, which builds the images.
machine_world() { env -u ENGINE -u STORE -u TOPOLOGY DOCKER_HOST="$machine_docker" "$here/world" "$@"; }

engine_docker() {
	[ "$(id -u)" = 0 ] || die "ENGINE=$engine_major needs root"
	machine_world docker
	if docker_answers && [ -e "/run/netns/$netns" ]; then
		say "Docker $(docker version -f '{{.Server.Version}}') responds on $DOCKER_HOST"
		return
	fi
	local missing=() tool
	for tool in debootstrap:debootstrap ip:iproute2 nsenter:util-linux iptables:iptables; do
		have "${tool%%:*}" || missing+=("${tool#*:}")
	done
	[ ${#missing[@]} = 0 ] || packages "${missing[@]}"
	build_tree
	link_engine
	launch_engine
}

# The tree in which the engine runs. Shared by all engines of a suite, which keep their data elsewhere.
tree_dir() {
	local suite
	suite=$(engine_suite "$engine_major")
	echo "$cache/engines/$suite-$(echo "$suite $engine_packages" | sha256sum | cut -c1-8)"
}

build_tree() {
	local suite tree mirror
	suite=$(engine_suite "$engine_major")
	tree=$(tree_dir)
	[ ! -d "$tree" ] || return 0
	mirror=$(debian_mirror)
	say "building a root tree of Debian $suite with Docker from $mirror; log: $state/tree.log"
	rm -rf "$tree.new"
	mkdir -p "$tree.new"
	{
		# Older debootstraps have no script of a newer suite, and all newer suites have that of sid.
		debootstrap --variant=minbase "$suite" "$tree.new" "$mirror" /usr/share/debootstrap/scripts/sid &&
			# Nothing starts in it.
			printf '#!/bin/sh\nexit 101\n' >"$tree.new/usr/sbin/policy-rc.d" &&
			chmod +x "$tree.new/usr/sbin/policy-rc.d" &&
			DEBIAN_FRONTEND=noninteractive chroot "$tree.new" apt-get install -qy --no-install-recommends ${engine_packages//,/ } &&
			rm -rf "$tree.new"/var/cache/apt/archives/*.deb "$tree.new"/var/lib/apt/lists/*
	} >"$state/tree.log" 2>&1 </dev/null || {
		tail -20 "$state/tree.log" >&2
		die "cannot build a tree of Debian $suite"
	}
	mv "$tree.new" "$tree"
}

# Debian does not have 29 yet.
build_dockerd() {
	local sources=$here/engine/29
	dockerd_29=$cache/engines/dockerd-29-$(cat "$sources/go.mod" "$sources/go.sum" | sha256sum | cut -c1-8)
	[ ! -x "$dockerd_29" ] || return 0
	have go || die "ENGINE=29 is built from source, which needs Go"
	local version
	version=$(sed -n 's|.*github.com/moby/moby/v2 v2.0.0-||p' "$sources/go.mod")
	say "building Docker 29 from source: this takes 10 minutes on two cores; log: $state/dockerd-29.log"
	(cd "$sources" && CGO_ENABLED=0 go build -tags exclude_graphdriver_btrfs -o "$dockerd_29" \
		-ldflags "-X github.com/moby/moby/v2/dockerversion.Version=29.0.0-$version" \
		github.com/moby/moby/v2/cmd/dockerd) >"$state/dockerd-29.log" 2>&1 || {
		tail -20 "$state/dockerd-29.log" >&2
		die "cannot build Docker 29"
	}
}

# link_rules -I|-D SUBNET LINK NAME adds or deletes what lets a subnet behind a link reach the networks of the machine.
link_rules() {
	local comment=(-m comment --comment "$4")
	iptables -t nat "$1" POSTROUTING -s "$2" ! -o "$3" "${comment[@]}" -j MASQUERADE
	# An engine of the machine drops what it does not know.
	iptables "$1" FORWARD -i "$3" "${comment[@]}" -j ACCEPT
	iptables "$1" FORWARD -o "$3" "${comment[@]}" -j ACCEPT
}

link_engine() {
	[ ! -e "/run/netns/$netns" ] || return 0
	local third=0
	while [ -n "$(ip -4 -o address show to "10.99.$third.0/30")" ]; do third=$((third + 1)); done
	mkdir -p "$engine_run"
	echo "10.99.$third.0/30" >"$engine_run/subnet"
	ip netns add "$netns"
	ip link add "$link" type veth peer name eth0 netns "$netns"
	ip address add "10.99.$third.1/30" dev "$link"
	ip link set "$link" up
	ip -n "$netns" address add "10.99.$third.2/30" dev eth0
	ip -n "$netns" link set eth0 up
	ip -n "$netns" link set lo up
	ip -n "$netns" route add default via "10.99.$third.1"
	echo 1 >/proc/sys/net/ipv4/ip_forward
	link_rules -I "$(cat "$engine_run/subnet")" "$link" "$netns"
}

# switch_names sets the names of the switch that joins the engines of several hosts (`hosts`).
switch_names() {
	switch=lcosw-$(echo "$root" | sha256sum | cut -c1-4)
	switch_run=/run/$switch
}

# link_switch makes the switch: a bridge with a subnet that the machine routes.
link_switch() {
	local third=0
	[ ! -e "/sys/class/net/$switch" ] || return 0
	remove_switch
	while [ -n "$(ip -4 -o address show to "10.98.$third.0/24")" ]; do third=$((third + 1)); done
	mkdir -p "$switch_run"
	echo "10.98.$third" >"$switch_run/prefix"
	ip link add "$switch" type bridge
	ip address add "10.98.$third.1/24" dev "$switch"
	ip link set "$switch" up
	echo 1 >/proc/sys/net/ipv4/ip_forward
	link_rules -I "10.98.$third.0/24" "$switch" "$switch"
}

remove_switch() {
	local prefix
	if prefix=$(cat "$switch_run/prefix" 2>/dev/null); then
		link_rules -D "$prefix.0/24" "$switch" "$switch" 2>/dev/null || true
	fi
	ip link delete "$switch" 2>/dev/null || true
	rm -rf "$switch_run"
}

# link_host ADDRESS connects the engine's network namespace to the switch, as a machine in a rack.
link_host() {
	if [ ! -e "/run/netns/$netns" ]; then
		ip link delete "$link" 2>/dev/null || true
		ip netns add "$netns"
		ip -n "$netns" link set lo up
	fi
	if [ ! -e "/sys/class/net/$link" ]; then
		ip link add "$link" type veth peer name eth0 netns "$netns"
		ip -n "$netns" address add "$1/24" dev eth0
		ip -n "$netns" link set eth0 up
		ip -n "$netns" route add default via "${1%.*}.1"
		ip link set "$link" master "$switch"
	fi
	ip link set "$link" up
}

# engine_pids COMMAND... prints the processes with these names in the engine's network namespace and root tree. A Node in that
# network has a containerd of its own.
engine_pids() {
	local pid name
	for pid in $(ip netns pids "$netns" 2>/dev/null); do
		[ -d "/proc/$pid/root$engine_run" ] || continue
		# shellcheck disable=SC2254 # patterns
		for name; do case $(cat "/proc/$pid/comm" 2>/dev/null) in $name) echo "$pid" ;; esac done
	done
}

launch_engine() {
	local tree old program=dockerd args=(--host "$DOCKER_HOST" --pidfile "$engine_run/dockerd.pid" --exec-root "$engine_run/exec"
		--data-root "$engine_dir/data")
	tree=$(tree_dir)
	mkdir -p "$engine_run" "$engine_dir/data" "$engine_dir/images"
	# An engine that was killed may have left them, and any process may have that pid now.
	pid_of dockerd "$engine_run/dockerd.pid" >/dev/null || rm -f "$engine_run/dockerd.pid"
	pid_of containerd "$engine_run/exec/containerd/containerd.pid" >/dev/null ||
		rm -f "$engine_run/exec/containerd/containerd.pid"
	if [ "$engine_major" = 29 ]; then
		build_dockerd
		program=$engine_run/dockerd
		cp "$dockerd_29" "$program"
	fi
	if [ "$store" = containerd ]; then
		args+=(--storage-driver overlayfs --feature containerd-snapshotter=true)
	elif [ "$engine_major" -lt 29 ]; then # whose default it is
		args+=(--storage-driver overlay2)
	fi
	if lacks_sys_resource; then
		sed 's|^runc=.*|runc=/usr/sbin/runc|' "$here/node-image/runc-wrap" >"$engine_run/runc-wrap"
		chmod +x "$engine_run/runc-wrap"
		args+=(--add-runtime "wrap=$engine_run/runc-wrap" --default-runtime wrap)
	fi
	# A resolver of the machine's own loopback is not reached from here.
	local resolvers=/etc/resolv.conf
	[ ! -e /run/systemd/resolve/resolv.conf ] || resolvers=/run/systemd/resolve/resolv.conf
	[ "$(readlink -f "$tree/etc/resolv.conf")" = "$resolvers" ] || cp --remove-destination "$resolvers" "$tree/etc/resolv.conf"
	say "starting Docker $engine in the network namespace $netns; log: $engine_dir/dockerd.log"
	# The clone too, since tests mount files of it.
	local enter=(unshare --mount --propagation private "$here/engine/in-root" "$tree" "$root $engine_run")
	# What runs on after an engine was killed has its mounts where that engine was.
	old=$(engine_pids 'containerd*' | sed -n 1p)
	[ -z "$old" ] || enter=(nsenter --mount="/proc/$old/ns/mnt")
	setsid nsenter --net="/run/netns/$netns" "${enter[@]}" "$program" "${args[@]}" \
		>>"$engine_dir/dockerd.log" 2>&1 </dev/null 9>&- &
	local child=$!
	up_or_dead() { docker_answers || ! kill -0 "$child" 2>/dev/null; }
	within 90 up_or_dead || true
	docker_answers || {
		tail -20 "$engine_dir/dockerd.log" >&2
		die "Docker $engine does not respond on $DOCKER_HOST"
	}
	local version
	version=$(docker version -f '{{.Server.Version}}')
	[ "${version%%.*}" = "$engine_major" ] || die "this tree has Docker $version: ENGINE=$engine_major needs another suite of Debian"
	say "Docker $version started"
}

# stop_dockerd stops the engine and its containers, also those that an engine left which was killed.
stop_dockerd() {
	local pid
	if pid=$(pid_of dockerd "$engine_run/dockerd.pid"); then
		gone() { [ ! -e "/proc/$pid" ] || is_zombie "$pid"; }
		kill "$pid"
		within 60 gone || die "Docker $engine (pid $pid) does not stop"
	fi
	kill_engine
}

# kill_engine kills the engine and everything that it runs at once.
kill_engine() {
	local file
	engine_pids dockerd containerd | xargs -r kill -9 2>/dev/null || true
	for file in "$engine_run"/exec/containerd/daemon/io.containerd.runtime.v2.task/moby/*/init.pid; do
		[ ! -e "$file" ] || kill -9 "$(cat "$file")" 2>/dev/null || true
	done
	engine_pids 'containerd-shim*' docker-proxy | xargs -r kill -9 2>/dev/null || true
	rm -f "$engine_run/dockerd.pid"
	remove_cgroups
}

# remove_cgroups removes the cgroups of containers that nobody is left to remove. They are empty once the processes are gone.
remove_cgroups() {
	local container
	empty() {
		find /sys/fs/cgroup -depth -type d -path "*/docker/$container*" -exec rmdir {} + 2>/dev/null
		[ -z "$(find /sys/fs/cgroup -type d -name "$container" 2>/dev/null)" ]
	}
	for container in "$engine_dir"/data/containers/*; do
		container=${container##*/}
		[ "$container" = '*' ] || within 10 empty || say "left in /sys/fs/cgroup: the container $container of Docker $engine"
	done
}

# remove_engine NAME removes everything of an engine except the tree, which is in the cache.
remove_engine() {
	local netns link engine_run engine_dir
	engine_names "$1"
	stop_dockerd
	[ ! -e "$engine_run/subnet" ] || link_rules -D "$(cat "$engine_run/subnet")" "$link" "$netns" 2>/dev/null || true
	ip link delete "$link" 2>/dev/null || true
	[ ! -e "/run/netns/$netns" ] || ip netns delete "$netns"
	rm -rf "$engine_run" "$engine_dir"
	say "removed Docker $1"
}

# remove_engines removes all engines of this clone, also those of hosts.
remove_engines() {
	local directory
	for directory in "$root"/target/engines/*; do
		[ ! -d "$directory" ] || remove_engine "${directory##*/}"
	done
	switch_names
	remove_switch
}

# bring IMAGE... copies images of the machine's engine to this one, unless it has them. Their IDs differ if the stores do.
bring() {
	[ -n "$engine" ] || return 0
	local image id record
	for image; do
		id=$(outside docker image inspect -f '{{.Id}}' "$image") || die "Docker has no image $image"
		record=$engine_dir/images/${image//[\/:]/_}
		if [ "$(cat "$record" 2>/dev/null)" = "$id" ] && docker image inspect "$image" >/dev/null 2>&1; then continue; fi
		say "copying $image to Docker $engine"
		outside docker save "$image" | docker load -q >/dev/null || die "cannot copy $image"
		echo "$id" >"$record"
	done
}

engine_images() {
	machine_world images "$@"
	known "${state%-"$engine"}/env"
	bring "$node_image" "$lb_image" "$registry_image" "$busybox_image" "$http_image" "$token_image" "$hostile_image"
	[ "${1-}" != --second ] || bring "$node_image_2"
	write_env
}
