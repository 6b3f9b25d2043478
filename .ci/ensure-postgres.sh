#!/bin/sh
# Makes sure that PostgreSQL's server programs are on this machine; installs the system's package if not.
# No server is started or used: tests and demo make throwaway clusters with these programs.
set -eu

# The same places as src/postgres.rs looks at.
found() {
    if [ -n "${PG_BIN:-}" ]; then
        [ -x "$PG_BIN/initdb" ]
        return
    fi
    bindir=$(pg_config --bindir 2>/dev/null || true)
    for folder in "$bindir" $(echo "$PATH" | tr ':' ' ') \
        /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
        /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin \
        /home/linuxbrew/.linuxbrew/opt/postgresql*/bin \
        /Applications/Postgres.app/Contents/Versions/*/bin \
        /usr/lib64/postgresql-*/bin /usr/libexec/postgresql* /usr/local/pgsql/bin; do
        if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ]; then
            return 0
        fi
    done
    return 1
}

if found; then
    exit 0
fi
if [ -n "${PG_BIN:-}" ]; then
    echo "PG_BIN=$PG_BIN holds no initdb; set it to the folder of PostgreSQL's server programs, or unset it" >&2
    exit 1
fi

as_root=
if [ "$(id -u)" != 0 ]; then
    as_root=sudo
fi

if command -v apt-get >/dev/null; then
    echo "No PostgreSQL server on this machine; installing Debian's package postgresql"
    $as_root apt-get update
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql
elif command -v dnf >/dev/null; then
    echo "No PostgreSQL server on this machine; installing the package postgresql-server"
    $as_root dnf install -y postgresql-server
elif command -v brew >/dev/null; then
    echo "No PostgreSQL server on this machine; installing Homebrew's postgresql@17"
    brew install postgresql@17
else
    echo "No PostgreSQL server on this machine, and neither apt-get, dnf nor brew to install one." >&2
    echo "Next: install PostgreSQL 14 or newer with its server, or set PG_BIN to the folder of initdb." >&2
    exit 1
fi

if ! found; then
    echo "The package was installed, yet initdb is in none of the usual folders." >&2
    echo "Next: set PG_BIN to the folder that holds initdb and postgres." >&2
    exit 1
fi
