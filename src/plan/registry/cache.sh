#!/bin/sh
# Serves a pull-through cache: as a proxy while the upstream registry answers, otherwise read-only from its data alone. It
# needs only what busybox has.
#
#   cache.sh PROXY OFFLINE REPORT
#
# PROXY    configuration file of the registry with the section `proxy`
# OFFLINE  configuration file without that section, read-only
# REPORT   file that tells whether the upstream answers: `answers`, or why not
#
# A registry with the section `proxy` asks its upstream for /v2/ when it starts, and exits if nothing answers, whatever it has
# cached. Once it runs, it serves what it has. An upstream that answers with an error answers.
set -u

proxy=$1 offline=$2 report=$3
work=/tmp/localcluster-cache
# Seconds between two questions to the upstream: after one that was answered, and after one that was not.
answered_again=300 silent_again=15
server='' stopped=''

# Ends the registry as `docker stop` would; what is under way there comes to its end first. Before it runs, nothing is.
stop() {
    stopped=yes
    [ -n "$server" ] || exit 0
    kill -TERM "$server" 2>/dev/null
}
trap stop TERM INT

# A tenth of a second, where sleep knows fractions.
pause() {
    if sleep 0.1 2>/dev/null; then tenths=$((tenths + 1)); else
        sleep 1
        tenths=$((tenths + 10))
    fi
}

# Reports whether the upstream answers, which is left in $report. It is asked by a registry with the same configuration on
# port 5999 (176F) of the loopback address, which listens as soon as it has an answer. Its data is not that of the cache: a
# proxy deletes what has expired before it asks, and that would be lost if nothing answers.
answers() {
    rm -rf "$work/data"
    (
        # Of all processes, this one is ended first if the memory of the container is used up.
        echo 1000 >/proc/self/oom_score_adj
        export REGISTRY_HTTP_ADDR=127.0.0.1:5999 REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="$work/data"
        exec registry serve "$proxy"
    ) >"$work/log" 2>&1 &
    probe=$!
    tenths=0 answer=''
    while [ -z "$answer" ] && [ "$tenths" -lt 100 ] && kill -0 "$probe" 2>/dev/null; do
        pause
        if grep -q '^ *[0-9]*: 0100007F:176F 00000000:0000 0A ' /proc/net/tcp; then answer=yes; fi
    done
    kill -KILL "$probe" 2>/dev/null
    wait "$probe" 2>/dev/null
    if [ -n "$answer" ]; then
        echo answers
    elif [ "$tenths" -ge 100 ]; then
        echo 'no answer within 10 seconds'
    else
        # Without the word that would make it the last word of the container.
        { grep -m 1 -e 'panic: ' -e 'level=fatal' "$work/log" || tail -n 1 "$work/log"; } |
            sed 's/^panic: //' | head -c 1000
    fi >"$work/report"
    # A reader sees one report or the other.
    mv "$work/report" "$report"
    [ -n "$answer" ]
}

# Asks the upstream again and again. When it answers, a registry that serves without it is ended.
watch() {
    if [ "$1" = proxy ]; then again=$answered_again; else again=$silent_again; fi
    while sleep "$again"; do
        again=$silent_again
        if answers; then
            again=$answered_again
            if [ "$1" = offline ]; then
                : >"$work/back"
                kill -TERM "$server"
                return
            fi
        fi
    done
}

rm -rf "$work" "$report"
mkdir -p "$work"
while :; do
    if [ -e "$work/back" ] || answers; then
        mode=proxy config=$proxy
    else
        mode=offline config=$offline
        echo "localcluster: the upstream registry does not answer, so only what is cached is served: $(cat "$report")"
    fi
    rm -f "$work/back"
    registry serve "$config" &
    server=$!
    # A signal that came before it was known.
    [ -z "$stopped" ] || kill -TERM "$server" 2>/dev/null
    watch "$mode" &
    wait "$server"
    code=$?
    if [ -n "$stopped" ] && kill -0 "$server" 2>/dev/null; then
        # The first wait was ended by the signal.
        wait "$server"
        code=$?
    fi
    [ -n "$stopped" ] || [ ! -e "$work/back" ] || {
        echo 'localcluster: the upstream registry answers again'
        continue
    }
    exit "$code"
done
