# The management cluster: one node of the node image, with the Docker socket.
# shellcheck shell=bash

port_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# snapshot prints a line for each object that Docker has, for `world verify`.
snapshot() {
	{
		docker ps -a --no-trunc --format 'container {{.ID}} {{.Names}}'
		# Without Docker's own three: the default bridge has a new ID after each start of the engine.
		docker network ls --no-trunc --filter type=custom --format 'network {{.ID}} {{.Name}}'
		docker volume ls --format 'volume {{.Name}}'
	} | LC_ALL=C sort
}

running() { [ "$(docker inspect -f '{{.State.Running}}' "$mgmt" 2>/dev/null)" = true ]; }
node_ready() {
	[ "$(k get node "$mgmt_node" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ] &&
		# It is created after the Node is Ready, and no Pod can be created without it.
		k get serviceaccount default
}

write_kubeconfig() {
	local port=6443
	[ "$topology" = host ] || port=$(docker port "$mgmt" 6443/tcp | sed -n 1p)
	docker exec "$mgmt" cat /etc/rancher/k3s/k3s.yaml >"$kubeconfig.new" 2>/dev/null || return 1
	[ -s "$kubeconfig.new" ] || return 1
	sed "s|https://127.0.0.1:6443|https://127.0.0.1:${port##*:}|" "$kubeconfig.new" >"$kubeconfig"
	rm "$kubeconfig.new"
	chmod 600 "$kubeconfig"
}

# create_mgmt starts the management cluster. Its node is a container like those of other clusters, or, with TOPOLOGY=host,
# one in the engine's network namespace: its Pods and processes then see the network that those of a K3s see which is
# installed beside Docker.
create_mgmt() {
	local args port=$api_port
	if [ "$topology" = host ]; then
		port=6443
		# The container's name is not the node's, as the operator would not find a container for the node of such a K3s.
		args=(--network host)
	else
		until port_free "$port"; do port=$((port + 1)); done
		docker network inspect "$world" >/dev/null 2>&1 ||
			docker network create --label "$label" --subnet "$subnet" "$world" >/dev/null
		args=(--hostname "$mgmt_node" --network "$world" -p "127.0.0.1:$port:6443")
	fi
	say "starting the management cluster $mgmt ($node_image, API on 127.0.0.1:$port)"
	# shellcheck disable=SC2046
	docker create --name "$mgmt" --label "$label" --privileged --restart unless-stopped --tmpfs /run --tmpfs /var/run \
		-v "$socket:/var/run/docker.sock" "${args[@]}" "$node_image" server --node-name="$mgmt_node" \
		--disable=traefik,metrics-server,servicelb "$keep_images" $(cgroup_args) $(host_args) $(audit_args) >/dev/null
	audit_policy >"$state/audit.yaml"
	docker cp -q "$state/audit.yaml" "$mgmt:/etc/audit.yaml"
	docker start "$mgmt" >/dev/null
}

# audit_args prints the arguments by which the API server records what the operator requests.
audit_args() {
	printf -- '--kube-apiserver-arg=%s\n' audit-policy-file=/etc/audit.yaml audit-log-path=/var/log/audit.log \
		audit-log-maxsize=100 audit-log-maxbackup=2
}

audit_policy() {
	cat <<-END
		apiVersion: audit.k8s.io/v1
		kind: Policy
		omitStages: [RequestReceived]
		rules:
		- {level: Metadata, users: ["system:serviceaccount:localcluster-system:localcluster-operator"]}
		- {level: None}
	END
}

# host_args prints the arguments of a management cluster on the host, which has networks of containers besides its own.
host_args() { [ "$topology" != host ] || echo --node-ip="$(ip -4 -o address show eth0 | awk '{print $4}' | cut -d/ -f1)"; }

world_up() {
	known
	if [ -n "$(docker ps -aq --filter "name=^$mgmt\$")" ] && ! running; then
		say "$mgmt is not running: recreating it"
		world_down
	fi
	if running; then
		[ "$(docker inspect -f '{{.Config.Image}}' "$mgmt")" = "$node_image" ] ||
			die "$mgmt runs another image; first: world down"
		[ "$(docker inspect -f '{{.HostConfig.NetworkMode}}' "$mgmt")" = "$mgmt_network" ] ||
			die "$mgmt has another topology; first: world down"
	else
		snapshot >"$state/before"
		trap 'failed_up' EXIT
		create_mgmt
	fi
	up_or_dead() { { write_kubeconfig && node_ready; } || ! running; }
	within 180 up_or_dead || true
	node_ready >/dev/null 2>&1 || {
		docker logs --tail 30 "$mgmt" >&2
		die "the management cluster did not come up"
	}
	# The value of the label on everything that an operator in this cluster creates in Docker.
	k get namespace kube-system -o 'jsonpath={.metadata.uid}' >"$state/manager"
	trap - EXIT
	write_env
	say "management cluster is Ready; kubeconfig: $kubeconfig"
}

# world_with COMMAND... runs the command with a management cluster and WORLD_* in its environment. Removes the cluster
# afterwards unless it existed before or KEEP is set.
world_with() {
	[ $# -gt 0 ] || die "usage: world with COMMAND..."
	if ! running; then
		[ -n "${KEEP-}" ] || trap '"$here/world" down' EXIT
	fi
	"$here/world" up
	local line
	while read -r line; do export "${line?}"; done <"$state/env"
	"$@"
}

failed_up() {
	say "cleaning up after the failure"
	world_down
}

world_load() {
	local image=${1:?usage: world load IMAGE}
	bring "$image"
	load "$image"
}

load() {
	local image=$1
	say "loading $image into $mgmt"
	docker image inspect "$image" >/dev/null 2>&1 || die "Docker has no image $image"
	docker save "$image" |
		docker exec -i "$mgmt" ctr -a /run/k3s/containerd/containerd.sock -n k8s.io images import - >"$state/load.log" 2>&1 || {
		cat "$state/load.log" >&2
		die "cannot load $image"
	}
}

# operator_tag sets name and tag of the operator's image in Nodes. The tag is unique for each build, so that a new build is
# rolled out, and for each world, which removes it.
operator_tag() {
	docker image inspect "$operator_image" >/dev/null 2>&1 || die "Docker has no $operator_image; first: make image"
	name=localcluster-operator
	tag=$world-$(docker image inspect -f '{{.Id}}' "$operator_image" | cut -d: -f2 | cut -c1-12)
}

load_operator() {
	docker tag "$operator_image" "$name:$tag"
	load "$name:$tag"
	docker rmi "$name:$tag" >/dev/null
}

# write_overlay KINDS GROUPS COMPONENT... writes a kustomization of deploy/ with the settings of this world for the Pods of
# these kinds, as "Deployment DaemonSet", with the groups of the Docker socket, as "999, 998".
write_overlay() {
	local overlay=$state/overlay kinds=$1 groups=$2 component kind setting
	shift 2
	mkdir -p "$overlay"
	cat >"$overlay/kustomization.yaml" <<-END
		apiVersion: kustomize.config.k8s.io/v1beta1
		kind: Kustomization
		resources: [$(realpath --relative-to="$overlay" "$root/deploy")]
		components: [$(for component; do echo "$(realpath --relative-to="$overlay" "$root/deploy/$component"),"; done)]
		images: [{name: $name, newName: docker.io/library/$name, newTag: $tag}]
		patches:
	END
	for kind in $kinds; do
		cat <<-END
			- target: {kind: $kind, name: localcluster-.*}
			  patch: |
			    - {op: add, path: /spec/template/spec/securityContext/supplementalGroups, value: [$groups]}
			    - {op: add, path: /spec/template/spec/containers/0/imagePullPolicy, value: Never}
		END
		for setting in LOCALCLUSTER_NODE_IMAGE_REPOSITORY="$node_repository" LOCALCLUSTER_DEFAULT_VERSION="$version" \
			LOCALCLUSTER_LOAD_BALANCER_IMAGE="$lb_image" LOCALCLUSTER_REGISTRY_IMAGE="$registry_image" \
			LOCALCLUSTER_NETWORK_POOL=10.231.0.0/16; do
			echo "    - {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: ${setting%%=*}, value: \"${setting#*=}\"}}"
		done
	done >>"$overlay/kustomization.yaml"
}

# apply_overlay WORKLOAD... applies it and waits until these are rolled out.
apply_overlay() {
	local workload
	say "kubectl apply -k deploy/ (image $name:$tag)"
	k apply --server-side --force-conflicts -k "$state/overlay" >"$state/install.log" 2>&1 || {
		cat "$state/install.log" >&2
		die "cannot apply deploy/"
	}
	k wait --for=condition=Established --timeout=30s crd/localclusters.localcluster.dev crd/registries.localcluster.dev \
		crd/hostpolicies.localcluster.dev >/dev/null
	open_policy
	for workload; do
		k -n localcluster-system rollout status --timeout=120s "$workload" >"$state/install.log" 2>&1 || {
			cat "$state/install.log" >&2
			k -n localcluster-system describe pods >&2
			k -n localcluster-system logs --tail=50 "$workload" >&2 || true
			die "the operator's $workload is not available"
		}
	done
	say "the operator runs: $(k -n localcluster-system get pods -o 'jsonpath={.items[*].metadata.name}')"
}

# world_install applies deploy/ through an overlay with the settings of this world.
world_install() {
	local name tag
	known
	bring "$operator_image"
	operator_tag
	load_operator
	write_overlay Deployment "$(stat -c %g "$socket")"
	apply_overlay "deployment/$name"
}

# open_policy allows everything in all namespaces, unless a policy of a test has a higher priority.
open_policy() {
	k apply --server-side --force-conflicts -f - >/dev/null <<-END
		apiVersion: localcluster.dev/v1alpha1
		kind: HostPolicy
		metadata: {name: world}
		spec: {priority: -1000, namespaceSelector: {}}
	END
}

world_uninstall() {
	[ ! -e "$state/overlay/kustomization.yaml" ] || k delete -k "$state/overlay" --ignore-not-found --timeout=120s >/dev/null
	say "removed the operator and its CRDs from the management cluster"
}

# remove_network ID removes a network. Engines before 28.1 sometimes keep one on which nothing is, until they are restarted:
# their count of endpoints is wrong (moby#43286). It stays then, and the next `world down` removes it.
remove_network() {
	local said
	said=$(docker network rm "$1" 2>&1 >/dev/null) && return
	if [[ $said == *"has active endpoints"* && $(docker network inspect -f '{{len .Containers}}' "$1") = 0 ]]; then
		say "left until Docker is restarted: ${said%%$'\n'*}"
		return
	fi
	echo "$said" >&2
	return 1
}

# remove_all LABEL removes containers with their anonymous volumes, volumes and networks with a label.
remove_all() {
	docker ps -aq --filter "label=$1" | xargs -r docker rm -fv >/dev/null
	docker volume ls -q --filter "label=$1" | xargs -r docker volume rm >/dev/null
	local network
	for network in $(docker network ls -q --filter "label=$1"); do remove_network "$network"; done
}

# owned LABEL prints the names of containers, volumes and networks with a label.
owned() {
	docker ps -a --filter "label=$1" --format 'container {{.Names}}'
	docker volume ls --filter "label=$1" --format 'volume {{.Name}}'
	docker network ls --filter "label=$1" --format 'network {{.Name}}'
}

# manager_id prints the value of the label on everything that the operator creates in Docker. It is read from the cluster if
# it runs, since another clone may have started it.
manager_id() {
	asked() { id=$(docker exec "$mgmt" kubectl get namespace kube-system -o 'jsonpath={.metadata.uid}') && [ -n "$id" ]; }
	local id
	if running && within 30 asked; then
		echo "$id"
	else
		cat "$state/manager" 2>/dev/null
	fi
}

# remove_links removes the interfaces that the network of a management cluster on the host leaves.
remove_links() {
	local interface
	for interface in cni0 flannel.1; do ip -n "$netns" link delete "$interface" 2>/dev/null || true; done
}

world_down() {
	trap - EXIT
	if docker_answers; then
		local manager left of=$label
		# Lanes of a run that was killed are other worlds.
		[ "${1-}" != --all ] || of=${label%%=*}
		manager=$(manager_id) || true
		# The management clusters first: a running operator would recreate the removed objects.
		docker ps -aq --filter "label=$of" | xargs -r docker rm -fv >/dev/null
		if [ -n "$manager" ]; then
			left=$(owned "localcluster.dev/manager=$manager")
			[ -z "$left" ] || say "removing what its operator left: ${left//$'\n'/, }"
			remove_all "localcluster.dev/manager=$manager"
		fi
		[ "${1-}" != --all ] || remove_all localcluster.dev/manager
		remove_all "$of"
		[ "$topology" != host ] || remove_links
		say "removed the management cluster"
		rm -f "$state/manager" "$kubeconfig"
	fi
	[ "${1-}" = --docker ] || return 0
	if [ -n "$engine" ]; then
		remove_engine "$engine"
	else
		remove_engines
		stop_daemon
	fi
}

# world_verify fails unless Docker has exactly what it had before `world up`.
world_verify() {
	[ -e "$state/before" ] || die "no record of what Docker had before: world up did not run"
	if snapshot | diff "$state/before" - >"$state/difference"; then
		say "Docker has exactly what it had before: $(wc -l <"$state/before") containers, networks and volumes"
	else
		grep '^[<>]' "$state/difference" | sed 's/^</missing:/; s/^>/left behind:/' >&2
		die "Docker does not have what it had before"
	fi
}
