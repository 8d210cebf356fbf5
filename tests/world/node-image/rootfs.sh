# Shell functions that make root file systems of Debian packages, and images of them.
# The caller sets cache, a folder for the packages.
# shellcheck shell=bash

# shellcheck source=mirror.sh
. "$(dirname "${BASH_SOURCE[0]}")/mirror.sh"

path='ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

# Options for apt; none for the suite of this machine.
apt_options=()

# of_suite SUITE chooses the packages of another suite of Debian, which are kept in a folder of their own.
of_suite() {
	local mirror
	mirror=$(debian_mirror)
	cache=$cache/$1
	mkdir -p "$cache/lists/partial"
	echo "deb $mirror $1 main" >"$cache/sources.list"
	apt_options=(-o "Dir::State::Lists=$cache/lists" -o "Dir::Etc::SourceList=$cache/sources.list" -o Dir::Etc::SourceParts=/dev/null
		-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
}

# package NAME prints the file of a package, downloaded when it is not there yet.
package() {
	local deb
	deb=$(find "$cache" -maxdepth 1 -name "$1_*.deb" -print -quit)
	if [ -z "$deb" ]; then
		# Old package lists name versions that the mirror has no more.
		if [ ! -e "$cache/.lists-updated" ] || [ -n "$(find "$cache/.lists-updated" -mmin +60)" ]; then
			apt-get "${apt_options[@]}" update -qq >&2
			touch "$cache/.lists-updated"
		fi
		(cd "$cache" && apt-get "${apt_options[@]}" -o APT::Sandbox::User=root download -qq "$1") >&2
		deb=$(find "$cache" -maxdepth 1 -name "$1_*.deb" -print -quit)
	fi
	[ -n "$deb" ] || {
		echo "cannot download Debian package $1" >&2
		return 1
	}
	echo "$deb"
}

# unpack ROOT PACKAGE... extracts packages into a merged-/usr tree, without what a container does not need.
unpack() {
	local root=$1 pkg dir tmp deb
	shift
	mkdir -p "$cache"
	for dir in bin sbin lib lib64; do
		mkdir -p "$root/usr/$dir"
		[ -e "$root/$dir" ] || ln -s "usr/$dir" "$root/$dir"
	done
	for pkg; do
		deb=$(package "$pkg")
		tmp=$(mktemp -d)
		dpkg-deb -x "$deb" "$tmp"
		for dir in bin sbin lib lib64; do
			[ -d "$tmp/$dir" ] || continue
			cp -a "$tmp/$dir/." "$root/usr/$dir/"
			rm -r "${tmp:?}/$dir"
		done
		cp -a "$tmp/." "$root/"
		rm -r "$tmp"
	done
	chmod 755 "$root" # mktemp's 700 came along with the copies
	rm -rf "$root"/usr/share/{doc,man,lintian,locale,bash-completion} "$root"/usr/lib/*/gconv \
		"$root"/etc/{init.d,logrotate.d,ufw} "$root"/usr/lib/systemd
}

# userland ROOT adds busybox, root's account and writable folders.
userland() {
	local applet
	unpack "$1" busybox-static
	mkdir -p "$1"/{etc,tmp,run,root,proc,sys,dev,var/log}
	chmod 1777 "$1/tmp"
	[ -e "$1/var/run" ] || ln -s ../run "$1/var/run"
	for applet in $("$1/bin/busybox" --list); do
		[ -e "$1/bin/$applet" ] || [ -e "$1/sbin/$applet" ] || ln -s busybox "$1/bin/$applet"
	done
	echo 'root:x:0:0:root:/root:/bin/sh' >"$1/etc/passwd"
	echo 'root:x:0:' >"$1/etc/group"
	echo 'hosts: files dns' >"$1/etc/nsswitch.conf"
}

# image REF ROOT [INSTRUCTION...] makes an image of ROOT with Dockerfile instructions.
# SOURCE_HASH, where set, becomes a label: it tells whether an image is of these sources.
image() {
	local ref=$1 root=$2 log
	shift 2
	log=$(mktemp)
	if ! printf '%s\n' 'FROM scratch' 'COPY . /' "$@" "LABEL standin.source-hash=\"${SOURCE_HASH-}\"" |
		docker build -q -t "$ref" -f - "$root" >"$log" 2>&1; then
		cat "$log" >&2
		rm "$log"
		return 1
	fi
	rm "$log"
	docker image inspect -f '{{index .RepoTags 0}}, {{.Size}} bytes' "$ref"
}
