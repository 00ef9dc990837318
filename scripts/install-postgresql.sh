#!/bin/sh
# Makes sure that PostgreSQL's server programs (initdb, postgres) are on this machine: as root or through sudo it
# installs them on Debian and Ubuntu; elsewhere it says in one line what to install. It starts no server.
set -eu

# With a database of its own given, no program is needed.
[ -z "${AADPOOL_TEST_DATABASE:-}" ] || exit 0

# The places where aadpooltest looks, and what it takes: see aadpooltest/postgres_find.go.
old=
for dir in $(printf '%s' "$PATH" | tr ':' ' ') \
	"$(pg_config --bindir 2>/dev/null || true)" \
	/usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
	/opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin; do
	if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then
		version=$("$dir/postgres" --version) # such as: postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
		major=$(printf '%s' "${version#*) }" | sed 's/[^0-9].*//')
		if [ "${major:-0}" -ge 14 ]; then exit 0; fi
		old="$dir has ${version#postgres }"
	fi
done
if [ -n "$old" ]; then
	echo "PostgreSQL 14 or newer is needed, since older ones take no password as long as a token: $old" >&2
	exit 1
fi

fail() {
	echo "PostgreSQL's server programs are missing: $1, or set AADPOOL_TEST_DATABASE to the DSN of a superuser" >&2
	exit 1
}

command -v apt-get >/dev/null || fail "install PostgreSQL 14 or newer (macOS: brew install postgresql; Fedora: dnf install postgresql-server)"
if [ "$(id -u)" -eq 0 ]; then
	sudo=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
	sudo='sudo -n'
else
	fail "run: sudo apt-get install postgresql"
fi

echo 'installing PostgreSQL with apt-get (no server is started)' >&2
log=$(mktemp)
# Debian's package makes and starts a cluster unless told not to.
install='
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update
conf=/etc/postgresql-common/createcluster.d/aadpool.conf
mkdir -p "${conf%/*}"
echo "create_main_cluster = false" >"$conf"
trap "rm -f $conf" EXIT
apt-get install -y --no-install-recommends postgresql
'
if ! $sudo sh -c "$install" >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	rm -f "$log"
	fail "apt-get could not install it (see above); run: apt-get install postgresql"
fi
rm -f "$log"
