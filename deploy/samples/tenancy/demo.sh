#!/bin/sh
# Two teams under one HostPolicy: what one may do, what is refused to the other and with which message, and that nothing of
# one reaches the other. It needs an installed operator and the rights of an administrator.
#
#   deploy/samples/tenancy/demo.sh         runs it, and leaves everything for a look
#   deploy/samples/tenancy/demo.sh down    deletes what it created
#
# Settings (environment): TEAM_A and TEAM_B, the namespaces; POLICY, the file with the HostPolicy "teams"; KUBECTL.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
policy=${POLICY:-$here/policy.yaml}
a=${TEAM_A:-team-a}
b=${TEAM_B:-team-b}

kubectl() {
	command "${KUBECTL:-kubectl}" "$@"
}

say() {
	printf '\n== %s\n' "$*"
}

fail() {
	printf 'demo: %s\n' "$*" >&2
	exit 1
}

# create NAMESPACE KIND NAME SPEC
create() {
	printf 'apiVersion: localcluster.dev/v1alpha1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n' "$2" "$3" "$4" |
		kubectl -n "$1" apply -f -
}

# message NAMESPACE OBJECT CONDITION
message() {
	kubectl -n "$1" get "$2" -o "jsonpath={.status.conditions[?(@.type=='$3')].message}"
}

# refused KIND NAME SPEC CONDITION WORDS: creates an object of the second team, which the operator has to refuse
refused() {
	create "$b" "$1" "$2" "$3"
	kubectl -n "$b" wait "$1/$2" "--for=condition=$4=False" --timeout=60s >/dev/null
	told=$(message "$b" "$1/$2" "$4")
	printf '   %s: %s\n' "$4" "$told"
	case $told in
	*"$5"*) ;;
	*) fail "$1 $2: the message does not contain \"$5\"" ;;
	esac
	made=$(kubectl -n "$b" get "$1/$2" -o 'jsonpath={.status.nodes[*].name}{.status.container}')
	[ -z "$made" ] || fail "created for $1 $2: $made"
	# It counts for the quota, and would have the next ones refused for another reason.
	kubectl -n "$b" delete "$1/$2" --timeout=60s >/dev/null
}

# may USER GROUP NAMESPACE: prints whether a member of a group may create LocalClusters
may() {
	answer=$(kubectl -n "$3" auth can-i create localclusters "--as=$1" "--as-group=$2" || true)
	printf '   %s of the group %s may create LocalClusters in %s: %s\n' "$1" "$2" "$3" "$answer"
	[ "$answer" = "$4" ] || fail "expected $4"
}

# since OBJECT: prints since when an object of the first team is Ready, if it is
since() {
	kubectl -n "$a" get "$1" \
		-o "jsonpath={range .status.conditions[?(@.type=='Ready')]}{.status} since {.lastTransitionTime}{end}"
}

down() {
	for namespace in "$b" "$a"; do
		kubectl -n "$namespace" delete localclusters --all --ignore-not-found --timeout=180s
		kubectl -n "$namespace" delete registries --all --ignore-not-found --timeout=180s
		kubectl delete namespace "$namespace" --ignore-not-found --timeout=180s
	done
	kubectl delete -f "$policy" --ignore-not-found
}

up() {
	say "An administrator applies the policy, labels a namespace for each team, and lets its members create objects there"
	kubectl apply -f "$policy"
	for namespace in "$a" "$b"; do
		kubectl create namespace "$namespace" --dry-run=client -o yaml | kubectl apply -f -
		kubectl label --overwrite namespace "$namespace" localcluster.dev/tier=team
		kubectl -n "$namespace" create rolebinding localcluster-edit --clusterrole=localcluster-edit \
			"--group=$namespace" --dry-run=client -o yaml | kubectl apply -f -
	done
	kubectl wait hostpolicy/teams --for=condition=Ready --timeout=60s
	may alice "$a" "$a" yes
	may alice "$a" "$b" no
	may bob "$b" "$b" yes
	may bob "$b" "$a" no

	say "$a creates a Registry and a LocalCluster that uses it"
	create "$a" Registry images '{memory: 256Mi}'
	create "$a" LocalCluster dev '{registries: {use: [{name: images}]}}'
	kubectl -n "$a" wait registry/images --for=condition=Ready --timeout=120s
	kubectl -n "$a" wait localcluster/dev --for=condition=Ready --timeout=600s
	printf '   the policy filled in: %s\n' "$(kubectl -n "$a" get localcluster dev -o 'jsonpath={.status.effective}')"
	before="$(since localcluster/dev) $(since registry/images)"

	say "$b gets no more of the host than the policy allows"
	refused LocalCluster large '{servers: {count: 1, memory: 8Gi}}' Accepted perNode.maxMemory
	refused LocalCluster many '{agents: {count: 9}}' Accepted quota.nodes
	refused LocalCluster mount '{servers: {count: 1, volumes: [{hostPath: /srv, mountPath: /srv}]}}' Accepted hostPaths
	refused LocalCluster image '{image: "registry.example/other/k3s:v1.36.2-k3s1"}' Accepted nodes.images
	refused Registry open '{memory: 256Mi, hostIP: 0.0.0.0}' Accepted ports.hostIPs

	say "$b gets nothing of $a"
	volume=$(kubectl -n "$a" get registry images -o 'jsonpath={.status.volume}')
	container=$(kubectl -n "$a" get registry images -o 'jsonpath={.status.cluster}')
	container=${container%:*}
	refused Registry volume "{memory: 256Mi, storage: {volumeName: $volume}}" Accepted registry.volumes
	refused LocalCluster container "{registries: {containers: [{name: $container}]}}" Accepted containers
	refused LocalCluster registry "{registries: {use: [{name: images, namespace: $a}]}}" ResolvedRefs "$a/images"

	say "Nothing of $b was created, and nothing of $a was changed"
	after="$(since localcluster/dev) $(since registry/images)"
	[ "$before" = "$after" ] || fail "$a was disturbed: $before, then $after"
	kubectl get localclusters,registries --all-namespaces
	kubectl get hostpolicies
}

case ${1-up} in
up) up ;;
down) down ;;
*) fail "unknown command $1: up or down" ;;
esac
