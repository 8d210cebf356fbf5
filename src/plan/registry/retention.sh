#!/bin/sh
# Removes the tags and images that spec.retention does not keep from the data of a registry, then collects garbage.
# The registry does not run meanwhile. Uses only what busybox has; an image of a registry without it is told.
#
#   retention.sh ROOT KEEP_TAGS KEEP_FOR COMMAND...
#
# ROOT       data directory of the registry
# KEEP_TAGS  tags that each repository keeps, those that were pushed last; 0 without this rule
# KEEP_FOR   seconds that a tag is kept after its last push; 0 without this rule
# COMMAND    collects the garbage
#
# A registry writes the file `current/link` of a tag at each push of that tag, and the file `link` of a revision (a
# manifest) at each push of that manifest: their modification times are those of the pushes. Nothing is removed before
# everything is read; whatever is not understood ends the script.
set -eu

root=$1/docker/registry/v2
keep_tags=$2 keep_for=$3
shift 3

fail() {
    echo "panic: retention: $*" >&2
    exit 1
}

# Removes the paths in its input, many at a time.
remove() {
    set --
    while read -r path; do
        set -- "$@" "$path"
        if [ $# -eq 200 ]; then
            rm -rf "$@"
            set --
        fi
    done
    rm -rf "$@"
}

work=$(mktemp -d)
removed_tags=0 removed_images=0
if [ -d "$root/repositories" ]; then
    cd "$root/repositories"
    # Neither layers nor uploads nor the former images of tags, which may be many. Not by xargs: that of busybox 1.35 breaks
    # names in two if there are many.
    find . \( -name _layers -o -name _uploads -o -path '*/_manifests/tags/*/index' \) -prune -o \
        \( -path '*/_manifests/tags/*/current/link' -o -path '*/_manifests/revisions/*/*/link' \) \
        -exec stat -c '%Y %n' {} + >"$work/times"
    if grep -q -v '^-\{0,1\}[0-9]* \./[A-Za-z0-9._/-]*$' "$work/times"; then
        fail "unexpected name: $(grep -v '^-\{0,1\}[0-9]* \./[A-Za-z0-9._/-]*$' "$work/times" | head -n 1)"
    fi
    # The tag that was pushed last comes first.
    sort -k 1,1nr -k 2 "$work/times" >"$work/sorted"
    # shellcheck disable=SC2016 # awk's fields are not the shell's
    awk -v keep_tags="$keep_tags" -v keep_for="$keep_for" -v now="$(date +%s)" '
        function stop(why) {
            print "panic: retention: " why >"/dev/stderr"
            stopped = 1
            exit 1
        }

        function content(path,    text, line, got) {
            text = ""
            while ((got = (getline line < path)) > 0) text = text line " "
            close(path)
            if (got < 0) stop("cannot read " path)
            return text
        }

        # Returns the digest at the begin of a text; "" if there is none.
        function digest_at(text) {
            if (!match(text, /^sha(256|512):[0-9a-f]+/)) return ""
            if (RLENGTH != 71 && RLENGTH != 135) return ""
            return substr(text, 1, RLENGTH)
        }

        # Reads the digests that a manifest names, all of them: an index names its manifests, and what refers to a
        # subject names that.
        function read_manifest(digest,    colon, hex, text, found) {
            if (digest in mentions) return
            colon = index(digest, ":")
            hex = substr(digest, colon + 1)
            text = content("../blobs/" substr(digest, 1, colon - 1) "/" substr(hex, 1, 2) "/" hex "/data")
            gsub(/[ \t\r]/, "", text)
            refers[digest] = index(text, "\"subject\":{") > 0
            mentions[digest] = ""
            while (match(text, /sha(256|512):[0-9a-f]+/)) {
                found = digest_at(substr(text, RSTART, RLENGTH))
                if (found != "" && found != digest) mentions[digest] = mentions[digest] " " found
                text = substr(text, RSTART + RLENGTH)
            }
        }

        function keep(repository, digest) {
            if ((repository, digest) in kept || !((repository, digest) in revision)) return
            kept[repository, digest] = 1
            queue[queued++] = repository SUBSEP digest
        }

        function keep_tag(i) {
            kept_tag[i] = 1
            keep(tag_repository[i], tag_digest[i])
        }

        BEGIN { tags = queued = stopped = 0 }

        {
            at = index($2, "/_manifests/")
            repository = substr($2, 1, at - 1)
            parts = split(substr($2, at + length("/_manifests/")), part, "/")
            if (part[1] == "tags" && parts == 4) {
                tag_path[tags] = repository "/_manifests/tags/" part[2]
                tag_repository[tags] = repository
                tag_time[tags] = $1
                tag_name[tags] = part[2]
                tag_digest[tags] = digest_at(content($2))
                if (tag_digest[tags] == "") stop("no digest in " $2)
                target[repository, tag_digest[tags]] = 1
                tags++
            } else if (part[1] == "revisions" && parts == 4) {
                digest = part[2] ":" part[3]
                if (digest_at(digest) != digest) stop("no digest: " $2)
                revision[repository, digest] = $1
                is_image[digest] = 1
                read_manifest(digest)
            } else {
                stop("unexpected name: " $2)
            }
        }

        END {
            if (stopped) exit 1
            # What refers to an image goes with it: by its subject, or by a tag like sha256-<digest>.sig.
            for (pair in revision) {
                split(pair, of, SUBSEP)
                if (refers[of[2]]) {
                    found = split(mentions[of[2]], all, " ")
                    for (i = 1; i <= found; i++) {
                        referrers[of[1], all[i]] = referrers[of[1], all[i]] " " of[2]
                    }
                }
            }
            for (i = 0; i < tags; i++) {
                image = tag_name[i]
                sub(/-/, ":", image)
                rest = image
                image = digest_at(image)
                rest = substr(rest, length(image) + 1, 1)
                if (image != "" && image in is_image && (rest == "" || rest == ".")) {
                    followers[image] = followers[image] " " i
                    continue
                }
                # Tags of the same second count as equally new: rather one too many is kept.
                repository = tag_repository[i]
                if (!(repository in last) || last[repository] != tag_time[i]) newer[repository] = seen[repository] + 0
                last[repository] = tag_time[i]
                seen[repository]++
                if (newer[repository] < keep_tags || now - tag_time[i] < keep_for) keep_tag(i)
            }
            # An image that has no tag any more, or none yet: a push may be in progress.
            grace = keep_for > 0 ? keep_for : 86400
            for (pair in revision) {
                if (!(pair in target) && now - revision[pair] < grace) {
                    split(pair, of, SUBSEP)
                    keep(of[1], of[2])
                }
            }
            for (next_one = 0; next_one < queued; next_one++) {
                split(queue[next_one], of, SUBSEP)
                found = split(mentions[of[2]], all, " ")
                for (i = 1; i <= found; i++) keep(of[1], all[i])
                found = split(referrers[of[1], of[2]], all, " ")
                for (i = 1; i <= found; i++) keep(of[1], all[i])
                found = split(followers[of[2]], all, " ")
                for (i = 1; i <= found; i++) keep_tag(all[i])
            }
            for (i = 0; i < tags; i++) if (!(i in kept_tag)) print "tag " tag_path[i]
            for (pair in revision) {
                if (!(pair in kept)) {
                    split(pair, of, SUBSEP)
                    sub(/:/, "/", of[2])
                    print "image " of[1] "/_manifests/revisions/" of[2]
                }
            }
        }
    ' "$work/sorted" >"$work/removed"

    sed -n 's/^tag //p' "$work/removed" >"$work/tags"
    sed -n 's/^image //p' "$work/removed" >"$work/images"
    removed_tags=$(grep -c . "$work/tags" || true)
    removed_images=$(grep -c . "$work/images" || true)
    remove <"$work/tags"
    # An earlier removal that was interrupted, or a push: the registry would list a tag that nobody can pull.
    find . -path '*/_manifests/tags/*' -prune -type d -print >"$work/all"
    sed -n '/^\.\/[A-Za-z0-9._/-]*\/_manifests\/tags\/[A-Za-z0-9._-]*$/p' "$work/all" >"$work/tags"
    while read -r tag; do
        [ -e "$tag/current/link" ] || echo "$tag"
    done <"$work/tags" >"$work/broken"
    remove <"$work/broken"
    # The former images of tags.
    find . -path '*/_manifests/tags/*/index/*/*' -prune -print >"$work/all"
    awk -v images="$work/images" '
        BEGIN { while ((getline image < images) > 0) gone[image] = 1 }
        {
            image = $0
            sub(/\/_manifests\/tags\/[^\/]*\/index\//, "/_manifests/revisions/", image)
            if (image in gone) print
        }
    ' "$work/all" >"$work/former"
    remove <"$work/former"
    remove <"$work/images"
fi
rm -rf "$work"
cd /
"$@"
echo "retention: $removed_tags tags and $removed_images images removed"
