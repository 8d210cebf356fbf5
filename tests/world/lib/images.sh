# The images: the real ones if they can be pulled, otherwise stand-ins built from node-image/.
# shellcheck shell=bash

# online succeeds if images can be pulled, which is tested once per run. With WORLD_OFFLINE=1 it fails.
online() {
	if [ -z "${WORLD_OFFLINE-}" ]; then
		if timeout 20 docker pull -q docker.io/library/busybox:1.37 >/dev/null 2>&1; then
			WORLD_OFFLINE=0
		else
			WORLD_OFFLINE=1
		fi
	fi
	[ "$WORLD_OFFLINE" = 0 ]
}

names() { # names true|false sets the image names: of the stand-ins, or of the real images
	standin=$1
	if [ "$standin" = true ]; then
		# localhost/ is no registry, so these can be neither mistaken for K3s nor pulled.
		node_repository=${WORLD_NODE_REPOSITORY:-localhost/k3s-standin}
		busybox_image=standin/busybox:1.35
		# The oldest ones that are still in use, and the newest ones beside the newest engines.
		lb_image=standin/nginx:1.22
		registry_image=standin/registry:2.8
		if [ "${engine_major:-0}" -ge 28 ]; then
			lb_image=standin/nginx:1.30
			registry_image=standin/registry:3.1
		fi
	else
		node_repository=docker.io/rancher/k3s
		busybox_image=docker.io/library/busybox:1.37
		lb_image=docker.io/library/nginx:1.29
		registry_image=docker.io/library/registry:3
	fi
	http_image=standin/http:1
	token_image=standin/token:1
	hostile_image=standin/hostile:1
	node_image=$node_repository:${version/+/-}
	node_image_2=$node_repository:${version_2/+/-}
	tars=$cache/images
}

# source_hash FILE... hashes names and contents.
source_hash() { sha256sum "$@" | sha256sum | cut -c1-16; }

is_built_from() { # is_built_from IMAGE HASH
	[ "$(docker image inspect -f '{{index .Config.Labels "standin.source-hash"}}' "$1" 2>/dev/null)" = "$2" ]
}

# run_logged LOG COMMAND... prints the steps of a long command, and the end of its log if it fails.
run_logged() {
	local log=$1
	shift
	if ! "$@" 2>&1 | tee "$log" | grep --line-buffered -E '^ *[0-9]+s  ' | sed -u 's/^/        /'; then
		tail -20 "$log" >&2
		die "failed: $*; log: $log"
	fi
}

build_node() { # build_node VERSION
	local hash
	hash=$(cd "$here/node-image" && find . -type f \( -name '*.go' -o -name go.mod -o -name go.sum -o -name '*.tsv' \
		-o -path './manifests/*' -o -name build -o -name rootfs.sh \) ! -name '*_test.go' ! -path './out/*' ! -path './test-images/*' |
		LC_ALL=C sort | { mapfile -t files && source_hash "${files[@]}"; })
	if is_built_from "$node_repository:${1/+/-}" "$hash"; then
		say "node image $node_repository:${1/+/-} exists (sources $hash)"
		return
	fi
	say "building $node_repository:${1/+/-} from source: real Kubernetes, etcd and containerd, and a program of this project in place of K3s"
	say "this takes 6 to 10 minutes on two cores, half a minute with a warm Go cache; log: $state/node-image.log"
	have go || die "the stand-in node image needs Go (see tests/world/node-image/README.md)"
	SOURCE_HASH=$hash REPO=$node_repository VERSION=$1 OUT=$cache/node-image \
		run_logged "$state/node-image.log" "$here/node-image/build"
}

build_small() {
	local hash image there=1
	hash=$(cd "$here/node-image" && find test-images build-images rootfs.sh -type f | LC_ALL=C sort |
		{ mapfile -t files && source_hash "${files[@]}"; })
	for image in "$busybox_image" standin/{nginx:1.22,nginx:1.30,registry:2.8,registry:3.1} "$http_image" "$token_image"; do
		is_built_from "$image" "$hash" || there=0
	done
	if [ $there = 0 ] || [ ! -s "$tars/.$hash" ]; then
		say "building nginx, registry, busybox and http images of Debian packages, and a token server"
		mkdir -p "$tars"
		SOURCE_HASH=$hash DEBS=$cache/node-image/debs "$here/node-image/build-images" "$tars" >"$state/images.log" 2>&1 || {
			tail -20 "$state/images.log" >&2
			die "build-images failed; log: $state/images.log"
		}
		echo "$hash" >"$tars/.$hash"
	fi
	say "nginx, registry, busybox, http and token images exist (sources $hash)"
}

pull() {
	local image
	for image; do
		if docker image inspect "$image" >/dev/null 2>&1; then
			say "$image exists"
		else
			say "pulling $image"
			docker pull -q "$image" >/dev/null || die "cannot pull $image"
		fi
	done
}

# A small web server that responds with its own name.
make_http() {
	mkdir -p "$tars"
	printf '%s\n' "FROM $busybox_image" 'EXPOSE 80' \
		'CMD ["sh", "-c", "mkdir -p /www && hostname >/www/index.html && exec httpd -f -v -p 80 -h /www"]' |
		docker build -q -t "$http_image" - >/dev/null
	docker save -o "$tars/http.tar" "$http_image"
	docker save -o "$tars/busybox.tar" "$busybox_image"
}

# The token server is part of this project in both cases. Any Go builds it, also Debian's.
make_token() {
	have go || packages golang-go
	DEBS=$cache/node-image/debs "$here/node-image/build-images" "$tars" token >"$state/images.log" 2>&1 || {
		tail -20 "$state/images.log" >&2
		die "build-images failed; log: $state/images.log"
	}
}

# A node in which nothing answers as it should. Part of this project in both cases.
make_hostile() {
	local hash build=$state/hostile
	hash=$(cd "$here/hostile" && source_hash main.go go.mod)
	if is_built_from "$hostile_image" "$hash"; then
		say "$hostile_image exists (sources $hash)"
		return
	fi
	have go || packages golang-go
	mkdir -p "$build"
	(cd "$here/hostile" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$build/hostile" .)
	{
		printf '%s\n' 'FROM scratch' "LABEL standin.source-hash=$hash" 'ENV PATH=/bin' 'ENTRYPOINT ["/bin/k3s"]'
		printf 'COPY hostile /bin/%s\n' k3s sh ctr cat rm mount
	} >"$build/Dockerfile"
	docker build -q -t "$hostile_image" "$build" >/dev/null
	rm -r "$build"
	say "built $hostile_image (sources $hash)"
}

world_images() {
	if [ -n "$engine" ]; then
		engine_images "$@"
		return
	fi
	local second=
	[ "${1-}" != --second ] || second=1
	docker_answers || die "no Docker engine on $DOCKER_HOST; first: world docker"
	if online; then
		names false
		say "images can be pulled: using the real $node_image"
		pull "$node_image" "$lb_image" "$registry_image" "$busybox_image"
		[ -z "$second" ] || pull "$node_image_2"
		make_http
		make_token
	else
		names true
		say "images cannot be pulled here: using STAND-INS instead of rancher/k3s, nginx and registry"
		build_node "$version"
		[ -z "$second" ] || build_node "$version_2"
		build_small
		# Removes earlier builds of the same tags.
		docker image prune -f --filter label=standin.source-hash >/dev/null
	fi
	make_hostile
	have kubectl || kubectl_from_image
	write_env
}

# Debian's kubectl is years old; the node image contains that of the cluster.
kubectl_from_image() {
	say "copying kubectl from the node image"
	local id
	id=$(docker create "$node_image")
	mkdir -p "$cache/bin"
	docker cp -q "$id:/bin/k3s" "$cache/bin/kubectl"
	docker rm -v "$id" >/dev/null
}

# write_env writes the values that tests, the Makefile and other commands read.
write_env() {
	cat >"$state/env.new" <<-END
		WORLD_KUBECONFIG=$kubeconfig
		WORLD_STANDIN=$standin
		WORLD_NODE_IMAGE=$node_image
		WORLD_NODE_IMAGE_2=$node_image_2
		WORLD_NODE_IMAGE_REPOSITORY=$node_repository
		WORLD_NODE_VERSION=$version
		WORLD_NODE_VERSION_2=$version_2
		WORLD_LB_IMAGE=$lb_image
		WORLD_REGISTRY_IMAGE=$registry_image
		WORLD_BUSYBOX_IMAGE=$busybox_image
		WORLD_BUSYBOX_TAR=$tars/busybox.tar
		WORLD_HTTP_IMAGE=$http_image
		WORLD_HTTP_TAR=$tars/http.tar
		WORLD_TOKEN_IMAGE=$token_image
		WORLD_HOSTILE_IMAGE=$hostile_image
		WORLD_NETWORK=$world
		WORLD_SUBNET=$subnet
		WORLD_MGMT_NODE=$mgmt
		WORLD_MGMT_IMAGE=$node_image
		WORLD_TOPOLOGY=$topology
		WORLD_DOCKER_HOST=$DOCKER_HOST
		WORLD_DOCKER_GROUP=$(stat -c %g "$socket")
		WORLD_OPERATOR_IMAGE=$operator_image
		WORLD_CGROUP_VERSION=$(docker info -f '{{.CgroupVersion}}')
	END
	mv "$state/env.new" "$state/env"
}

# known [FILE] sets the names from an earlier `world images`.
known() {
	local file=${1:-$state/env}
	[ -r "$file" ] || die "no images yet; first: world images"
	names "$(sed -n 's/^WORLD_STANDIN=//p' "$file")"
}

# Keeps loaded images even when the disk is full: they can't be pulled again.
keep_images="--kubelet-arg=image-gc-high-threshold=100"

# Kubelets of v1.35 and later refuse cgroup v1 without this argument.
cgroup_args() { [ "$(docker info -f '{{.CgroupVersion}}')" = 2 ] || echo --kubelet-arg=fail-cgroupv1=false; }

world_check() {
	known
	if [ "$standin" = true ]; then
		say "testing the code of the stand-in"
		# With the settings of the build, so that Go finds its Kubernetes packages in the cache.
		(cd "$here/node-image" && CGO_ENABLED=0 go test -trimpath -vet=off .) || die "go test failed"
	fi
	say "checking $node_image from outside"
	IMAGES=$tars BUSYBOX=$busybox_image REGISTRY=$registry_image SERVER_ARGS=$(cgroup_args) AGENT_ARGS=$(cgroup_args) \
		"$here/node-image/check" "$node_image"
}
