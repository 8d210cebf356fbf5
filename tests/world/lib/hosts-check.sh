# Shows that hosts are what the tests expect of them, without an operator.
# shellcheck shell=bash

# A Pod on each Node, with the socket of its host and a web server that answers with the Pod's name.
check_pods() {
	local node
	for node in $nodes; do
		cat <<-END
			---
			apiVersion: v1
			kind: Pod
			metadata: {name: check-$node, labels: {app: hosts-check}}
			spec:
			  nodeName: $node
			  terminationGracePeriodSeconds: 0
			  containers:
			  - name: web
			    image: $http_image
			    imagePullPolicy: Never
			    volumeMounts: [{name: docker, mountPath: /var/run/docker.sock}]
			  volumes: [{name: docker, hostPath: {path: /var/run/docker.sock, type: Socket}}]
		END
	done
}

# checked WHAT COMMAND... fails unless the command succeeds.
checked() {
	local what=$1 said
	shift
	said=$("$@" 2>&1) || die "not so: $what: $said"
	say "ok: $what"
}

all_ready() {
	local node
	for node in $nodes; do
		k wait --for=condition=Ready "node/$node" --timeout=60s || return 1
	done
}

engines_differ() {
	local ids
	ids=$(for number in $(seq ${#hosts[@]}); do on "$number" docker info -f '{{.ID}}'; done)
	[ "$(sort -u <<<"$ids" | wc -l)" = ${#hosts[@]} ] || { echo "$ids" && return 1; }
}

# A socket is the same file wherever it is mounted.
pod_sees_its_engine() {
	local mounted
	mounted=$(k exec "check-$1" -- stat -c %d:%i /var/run/docker.sock)
	[ "$mounted" = "$(stat -c %d:%i "$2")" ] || { echo "$mounted is not $2" && return 1; }
}

pod_reaches() {
	local said
	said=$(k exec "check-$1" -- timeout 10 wget -qO- "http://$(k get pod "check-$2" -o 'jsonpath={.status.podIP}')/")
	[ "$said" = "check-$2" ] || { echo "it said: $said" && return 1; }
}

hosts_check() {
	need_up
	local number from to sockets
	nodes=$(sed -n 's/^WORLD_HOST_NODES=//p' "$state/env")
	read -ra sockets <<<"$(sed -n 's/^WORLD_HOST_SOCKETS=//p' "$state/env")"
	checked "all Nodes are Ready" all_ready
	checked "each host has an engine of its own" engines_differ
	"$here/hosts" load "$http_image" >/dev/null
	trap 'k delete pods -l app=hosts-check --ignore-not-found --wait=false >/dev/null' EXIT
	check_pods | k apply -f - >/dev/null
	checked "a Pod runs on each Node" k wait --for=condition=Ready pods -l app=hosts-check --timeout=90s
	number=0
	for from in $nodes; do
		checked "the Pod on $from has the socket of its host" pod_sees_its_engine "$from" "${sockets[number++]#unix://}"
		for to in $nodes; do
			[ "$from" = "$to" ] || checked "the Pod on $from reaches the one on $to" pod_reaches "$from" "$to"
		done
	done
}
