#!/usr/bin/env bash
# Builds the image without a daemon, and holds it to what docs/deployment.md says: make image-test.
# It needs root and a Debian whose packages can be installed; elsewhere it says so and ends well.
set -euo pipefail
cd "$(dirname "$0")/.."

WORK=$PWD/build/image
IMAGE=unmask:test
BASE=python:3.11-slim
MOST_BYTES=1300000000
STOP_SECONDS=10
PORT=${PORT:-8791}
PIP=${PIP:-.venv/bin/pip}

skip() { echo "image test skipped: $*"; exit 0; }
fail() { echo "image test FAILED: $*" >&2; exit 1; }
say() { echo "image test, after $SECONDS s: $*"; }
buildah() { command buildah --root "$WORK/store" --runroot "$WORK/run" "$@"; }

server=
clean_up() {
    [ -z "$server" ] || kill -KILL "$server" 2> /dev/null || true
    ! mountpoint -q "$WORK/full" || umount "$WORK/full"
    buildah rm --all > /dev/null 2>&1 || true
    buildah rmi --prune > /dev/null 2>&1 || true
}

[ "$(id -u)" = 0 ] || skip "it needs root"
mkdir -p "$WORK"
for tool in buildah debootstrap curl; do
    command -v "$tool" > /dev/null || { apt-get update -q && apt-get install -qy \
        --no-install-recommends "$tool" ca-certificates; } > "$WORK/tools.log" 2>&1 \
        || skip "$tool is not there, and cannot be installed"
done
trap clean_up EXIT

# No registry of images is asked: Debian's Python stands in for the official image of that name.
if ! buildah images "$BASE" > /dev/null 2>&1; then
    rm -rf "$WORK/base"
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
        bookworm "$WORK/base" > "$WORK/debootstrap.log" 2>&1 || skip "no packages of Debian"
    chroot "$WORK/base" apt-get clean
    rm -rf "$WORK/base/var/lib/apt/lists"/*
    ln -s python3 "$WORK/base/usr/bin/python"
    container=$(buildah from scratch)
    buildah add -q "$container" "$WORK/base" / > /dev/null
    buildah commit -q --rm "$container" "$BASE" > /dev/null
    rm -rf "$WORK/base"
    say "there is a base"
fi

# What pip may get is got here, by this machine's own pip; the build is without a network.
rm -rf "$WORK/wheels"
"$PIP" download -qqq --disable-pip-version-check -d "$WORK/wheels" -c constraints.txt \
    "$(grep '^torch==' constraints.txt)" ".[$(sed -n 's/^ARG EXTRAS=//p' Dockerfile)]" \
    'hatchling>=1.27,<2'
printf '[global]\nno-index = true\nfind-links = /wheels\n' > "$WORK/pip.conf"
say "there are wheels"
buildah bud -q --isolation chroot --pull-never --format docker -t "$IMAGE" \
    --volume "$WORK/wheels:/wheels:ro" --volume "$WORK/pip.conf:/etc/pip.conf:ro" . \
    > "$WORK/build.log" 2>&1 || { tail -20 "$WORK/build.log" >&2; fail "it does not build"; }
say "it is built"

container=$(buildah from --pull-never "$IMAGE")
root=$(buildah mount "$container")
of_image() { buildah inspect --type image --format "{{range $1}}{{println .}}{{end}}" "$IMAGE"; }
mapfile -t variables < <(of_image .OCIv1.Config.Env | sed '/^$/d')
mapfile -t command < <({ of_image .OCIv1.Config.Entrypoint; of_image .OCIv1.Config.Cmd; } \
    | sed '/^$/d')

size=$(du -sxb "$root" | cut -f1)
[ "$size" -lt "$MOST_BYTES" ] || fail "it has $size bytes, $MOST_BYTES are the most"
say "it has $size bytes"
[ "$(buildah inspect --type image --format '{{.OCIv1.Config.User}}' "$IMAGE")" = 10001:10001 ] \
    || fail "its user is another than 10001"
[ "${command[*]}" = "unmask serve" ] || fail "it runs another command: ${command[*]}"
found=$(find "$root" -xdev -path '*bin/*' \( -name '*gcc*' -o -name '*g++*' -o -name 'clang*' \
    -o -name cc -o -name ld -o -name make \))
[ -z "$found" ] || fail "it holds a compiler: $found"
found=$(find "$root/opt" \( -type d -name tests -o -name 'test_*' -o -name conftest.py \) \
    -not -path '*/torch/testing/*' -not -path '*/licenses/*')
[ -z "$found" ] || fail "it holds tests: $found"
say "it holds no compiler and no tests"

# run DATA WORD...: the words, as the image's user, over its files, of which none can be written;
# DATA is its folder /data. In the background its process is that of the command.
run() {
    data=$1 root=$root exec unshare --mount sh -ec '
        mount --bind "$root" "$root"
        mount -o remount,bind,ro "$root"
        mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
        mount --bind "$data" "$root/data"
        mount --rbind /dev "$root/dev"
        mount -t proc proc "$root/proc"
        exec env -i "$@"' run "${variables[@]}" UNMASK_PORT="$PORT" UNMASK_API_KEY="$key" \
        chroot --userspec=10001:10001 "$root" "${@:2}"
}
ask() {
    curl -s --max-time 60 -H "Authorization: Bearer $key" -H 'Content-Type: application/json' \
        -d '{"prompt": "a red apple"}' "$@" "http://127.0.0.1:$PORT/v1/images/generations"
}
start() { # DATA
    run "$1" "${command[@]}" > "$WORK/server.log" 2>&1 &
    server=$!
    for _ in $(seq 60); do
        ! curl -sf "http://127.0.0.1:$PORT/readyz" > /dev/null || return 0
        kill -0 "$server" || break
        sleep 1
    done
    cat "$WORK/server.log" >&2
    fail "it does not serve"
}
stop() {
    local began=$SECONDS code=0
    kill -TERM "$server"
    wait "$server" || code=$?
    server=
    [ "$code" = 0 ] || fail "SIGTERM ended it with $code"
    [ $((SECONDS - began)) -le "$STOP_SECONDS" ] || fail "it took more than $STOP_SECONDS s to end"
}

key=$(head -c 32 /dev/urandom | base64 | tr -d '+/=')
rm -rf "$WORK/data" "$WORK/closed" "$WORK/full"
mkdir "$WORK/data" "$WORK/closed" "$WORK/full"
chown 10001:10001 "$WORK/data"

(run "$WORK/data" unmask doctor) || fail "unmask doctor finds something wrong"
! (run "$WORK/data" touch /opt/code/x 2> /dev/null) || fail "its files can be written"
start "$WORK/data"
[ "$(ps -o uid= -p "$server" | tr -d ' ')" = 10001 ] || fail "it runs as another user"
ask | grep -q '"b64_json":"iVBORw0KGgo' || fail "it draws no picture"
(run "$WORK/data" python -c "$(sed -n 's/^    \["python", "-c", "\(.*\)"\]$/\1/p' Dockerfile)") \
    || fail "its HEALTHCHECK fails"
ask -H 'Prefer: respond-async' | grep -q '"status":"queued"' || fail "it keeps no job"
stop
say "it draws as user 10001 over files that cannot be written, and ends when it is told"

mount -t tmpfs -o size=1m,uid=10001 tmpfs "$WORK/full"
dd if=/dev/zero of="$WORK/full/all" bs=4k 2> /dev/null || true
for lack in "closed:Permission denied" "full:disk is full"; do
    folder=$WORK/${lack%%:*}
    ! (run "$folder" unmask doctor) | grep WRONG || true
    start "$folder"
    ask | grep -q b64_json || fail "it draws nothing without a place for jobs"
    ask -H 'Prefer: respond-async' | grep -q 'jobs cannot be kept' || fail "it took a job"
    stop
    grep "jobs cannot be kept.*${lack#*:}" "$WORK/server.log" || fail "it does not say: $lack"
done
say "it says what it lacks; all is as it should be"
