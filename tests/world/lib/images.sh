# The images: the real ones where they can be pulled, otherwise stand-ins built from node-image/.
# shellcheck shell=bash

# online: whether images can be pulled, asked once per run. WORLD_OFFLINE=1 answers no.
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

names() { # names true|false: sets the image names, of the stand-ins or the real ones
	standin=$1
	if [ "$standin" = true ]; then
		# localhost/ is no registry, so that nothing can take them for, or pull them as, K3s.
		node_repository=${WORLD_NODE_REPOSITORY:-localhost/k3s-standin}
		busybox_image=standin/busybox:1.35
		lb_image=standin/nginx:1.22
		registry_image=standin/registry:2.8
	else
		node_repository=docker.io/rancher/k3s
		busybox_image=docker.io/library/busybox:1.37
		lb_image=docker.io/library/nginx:1.29
		registry_image=docker.io/library/registry:3
	fi
	http_image=standin/http:1
	token_image=standin/token:1
	node_image=$node_repository:${version/+/-}
	node_image_2=$node_repository:${version_2/+/-}
	tars=$cache/images
}

# source_hash FILE... hashes names and contents.
source_hash() { sha256sum "$@" | sha256sum | cut -c1-16; }

is_built_from() { # is_built_from IMAGE HASH
	[ "$(docker image inspect -f '{{index .Config.Labels "standin.source-hash"}}' "$1" 2>/dev/null)" = "$2" ]
}

# run_logged LOG COMMAND... shows a long command's own steps, and the end of its log when it fails.
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
		say "node image $node_repository:${1/+/-} is there (sources $hash)"
		return
	fi
	say "building $node_repository:${1/+/-} from source: real Kubernetes, etcd and containerd, and our own program in place of K3s"
	say "this takes 6 to 10 minutes on two cores, and half a minute when Go's cache is warm; log: $state/node-image.log"
	have go || die "the stand-in node image needs Go (see tests/world/node-image/README.md)"
	SOURCE_HASH=$hash REPO=$node_repository VERSION=$1 OUT=$cache/node-image \
		run_logged "$state/node-image.log" "$here/node-image/build"
}

build_small() {
	local hash image there=1
	hash=$(cd "$here/node-image" && find test-images build-images rootfs.sh -type f | LC_ALL=C sort |
		{ mapfile -t files && source_hash "${files[@]}"; })
	for image in "$busybox_image" "$lb_image" "$registry_image" "$http_image" "$token_image"; do
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
	say "nginx, registry, busybox, http and token images are there (sources $hash)"
}

pull() {
	local image
	for image; do
		if docker image inspect "$image" >/dev/null 2>&1; then
			say "$image is there"
		else
			say "pulling $image"
			docker pull -q "$image" >/dev/null || die "cannot pull $image"
		fi
	done
}

# A web server that answers with its own name: real images have none so small.
make_http() {
	mkdir -p "$tars"
	printf '%s\n' "FROM $busybox_image" 'EXPOSE 80' \
		'CMD ["sh", "-c", "mkdir -p /www && hostname >/www/index.html && exec httpd -f -v -p 80 -h /www"]' |
		docker build -q -t "$http_image" - >/dev/null
	docker save -o "$tars/http.tar" "$http_image"
	docker save -o "$tars/busybox.tar" "$busybox_image"
}

# A token server is our own in both cases. It needs nothing but Go, Debian's too.
make_token() {
	have go || packages golang-go
	DEBS=$cache/node-image/debs "$here/node-image/build-images" "$tars" token >"$state/images.log" 2>&1 || {
		tail -20 "$state/images.log" >&2
		die "build-images failed; log: $state/images.log"
	}
}

world_images() {
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
		# Earlier builds of the same tags.
		docker image prune -f --filter label=standin.source-hash >/dev/null
	fi
	have kubectl || kubectl_from_image
	write_env
}

# Debian's kubectl is years old; the node image has the cluster's own.
kubectl_from_image() {
	say "taking kubectl from the node image"
	local id
	id=$(docker create "$node_image")
	mkdir -p "$cache/bin"
	docker cp -q "$id:/bin/k3s" "$cache/bin/kubectl"
	docker rm -v "$id" >/dev/null
}

# write_env: what tests, the Makefile and the other subcommands need to know.
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
		WORLD_NETWORK=$world
		WORLD_SUBNET=$subnet
		WORLD_MGMT_NODE=$mgmt
		WORLD_MGMT_IMAGE=$node_image
		WORLD_DOCKER_HOST=$DOCKER_HOST
		WORLD_DOCKER_GROUP=$(stat -c %g "$socket")
		WORLD_OPERATOR_IMAGE=$operator_image
		WORLD_CGROUP_VERSION=$(docker info -f '{{.CgroupVersion}}')
	END
	mv "$state/env.new" "$state/env"
}

# known: takes the names from an earlier `world images`.
known() {
	[ -r "$state/env" ] || die "the images are not there yet; first: world images"
	names "$(sed -n 's/^WORLD_STANDIN=//p' "$state/env")"
}

# Images that were loaded and not pulled must stay, however full the disk is: nobody can bring them back.
keep_images="--kubelet-arg=image-gc-high-threshold=100"

# v1.35 and later refuse a cgroup v1 machine unless told otherwise.
cgroup_args() { [ "$(docker info -f '{{.CgroupVersion}}')" = 2 ] || echo --kubelet-arg=fail-cgroupv1=false; }

world_check() {
	known
	if [ "$standin" = true ]; then
		say "testing the stand-in's own code"
		# With these settings alone Go takes the build's Kubernetes packages from its cache.
		(cd "$here/node-image" && CGO_ENABLED=0 go test -trimpath -vet=off .) || die "go test failed"
	fi
	say "checking $node_image from outside"
	IMAGES=$tars BUSYBOX=$busybox_image REGISTRY=$registry_image SERVER_ARGS=$(cgroup_args) AGENT_ARGS=$(cgroup_args) \
		"$here/node-image/check" "$node_image"
}
