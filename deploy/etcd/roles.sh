#!/bin/sh
# Roles and users of etcd for mcp-discovery: each may do what it does, and nothing more.
#
#   export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=https://etcd-1:2379 ETCDCTL_USER=root:…
#   export ETCDCTL_CACERT=ca.pem ETCDCTL_CERT=client.pem ETCDCTL_KEY=client-key.pem
#   deploy/etcd/roles.sh roles                                  # the roles below; may be run again
#   deploy/etcd/roles.sh user mcp-sidecar mcp-sidecar <password-file
#   deploy/etcd/roles.sh user mcp-facade mcp-facade,mcp-queries,mcp-sweeper,mcp-sidecar <password-file
#   deploy/etcd/roles.sh user coredns mcp-dns <password-file
#   deploy/etcd/roles.sh server product-catalog products inventory   # one server's own sidecar role
#
# Roles: mcp-sidecar registers servers (a facade that takes posted servers does so, too), mcp-facade
# lists them and answers named queries, mcp-queries keeps these, mcp-sweeper removes documents that nobody needs any more, mcp-dns answers DNS queries.
# "server NAME TAG…" makes the role mcp-sidecar-NAME: it may register that server with those tags
# and write no other's keys; its instances' ids must begin with NAME-, as they do by default.
#
# PREFIX is the path of the store URL (default /mcp). SKYDNS is the domain of its ?skydns=, if it
# has one; SKYDNS_PATH that of its ?skydns-path= (default /skydns). Turn users on, once root is
# there, with "etcdctl auth enable". docs/etcd.md tells the whole way.
set -eu

prefix="/$(printf %s "${PREFIX:-/mcp}" | sed 's,^/*,,; s,/*$,,')/"
service="$(basename "$prefix")"
zone=""
if [ -n "${SKYDNS:-}" ]; then
    zone="/$(printf %s "${SKYDNS_PATH:-/skydns}" | tr -d /)"
    for label in $(printf %s "$SKYDNS" | tr . '\n' | sed '1!G;h;$!d'); do zone="$zone/$label"; done
    zone="$zone/"
fi

role() { etcdctl role get "$1" >/dev/null 2>&1 || etcdctl role add "$1"; }
# ROLE read|write|readwrite PREFIX, and ROLE read|readwrite FIRST END
all_below() { etcdctl role grant-permission "$1" "$2" --prefix=true "$3"; }
range() { etcdctl role grant-permission "$1" "$2" "$3" "$4"; }

case "${1:-}" in
roles)
    role mcp-sidecar
    for part in documents ids live servers; do
        all_below mcp-sidecar readwrite "$prefix$part/"
    done
    role mcp-facade
    range mcp-facade read "${prefix}live/" "${prefix}servers0"  # one watch, so one range
    all_below mcp-facade read "${prefix}documents/"
    role mcp-queries
    all_below mcp-queries readwrite "${prefix}queries/"
    role mcp-sweeper
    all_below mcp-sweeper read "${prefix}servers/"
    all_below mcp-sweeper readwrite "${prefix}documents/"
    if [ -n "$zone" ]; then
        all_below mcp-sidecar readwrite "$zone$service/"
        all_below mcp-sidecar readwrite "${zone}_"
        role mcp-dns
        all_below mcp-dns read "$zone"
    fi
    ;;
user)
    [ $# -eq 3 ] || { echo "usage: $0 user NAME ROLE[,ROLE…] <password-file" >&2; exit 2; }
    etcdctl user get "$2" >/dev/null 2>&1 || etcdctl user add "$2" --interactive=false
    for each in $(printf %s "$3" | tr , ' '); do etcdctl user grant-role "$2" "$each"; done
    ;;
server)
    [ $# -ge 2 ] || { echo "usage: $0 server NAME [TAG…]" >&2; exit 2; }
    name="$2"
    own="mcp-sidecar-$name"
    shift
    role "$own"
    all_below "$own" readwrite "${prefix}documents/"
    all_below "$own" readwrite "${prefix}servers/$name/"
    for part in ids live; do all_below "$own" readwrite "$prefix$part/$name-"; done
    if [ -n "$zone" ]; then
        for label; do
            all_below "$own" readwrite "$zone$service/$label/$name-"
            all_below "$own" readwrite "${zone}_$label/_$service/$name-"
        done
        shift
        for tag; do
            all_below "$own" readwrite "$zone$service/tag/$tag/$name-"
            # A tag that is the name of another server is not served alone …
            [ "$tag" = "$name" ] || all_below "$own" read "${prefix}servers/$tag/"
        done
        # … nor is the name where it is a tag of another server.
        all_below "$own" write "$zone$service/server/$name/$name-"
        all_below "$own" readwrite "$zone$service/server/_$name/$name-"
        all_below "$own" readwrite "$zone$service/_agents/$name/$name-"  # ?skydns-agents=true
        for kind in server tag; do all_below "$own" read "$zone$service/$kind/$name/"; done
    fi
    ;;
*)
    sed -n '2,23s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
