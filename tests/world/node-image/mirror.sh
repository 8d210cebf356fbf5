# The mirror of Debian that root file systems are made from.
# shellcheck shell=bash

# debian_mirror prints the mirror that apt uses here.
debian_mirror() {
	# shellcheck disable=SC2016 # apt-get expands it
	apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -m1 '/debian/\?$' || echo http://deb.debian.org/debian
}
