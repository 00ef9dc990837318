#!/bin/sh
# Puts the programs of docs/recipes that make recipes runs into the directory $1: those in Go, from the module proxy, and
# those from npm. As root it also installs those that Debian has. scripts/recipes has their versions.
set -eu

dir=$1
here=$(cd "$(dirname "$0")" && pwd)
"$here/own-directory.sh" "$dir"
mkdir -p "$dir/bin"
cd "$dir"

packages=$(sed 's/#.*//' "$here/recipes/debian.txt")
# shellcheck disable=SC2086 # a list
if [ "$(id -u)" -eq 0 ] && ! dpkg --status $packages >/dev/null 2>&1; then
	apt-get -o DPkg::Lock::Timeout=600 install --yes --no-install-recommends $packages
fi

# A program that is there already with this version stays. A module of its own for each: some have lines that go install
# refuses.
grep -v '^#' "$here/recipes/go.txt" | while read -r name package tags; do
	[ -x "bin/$name" ] && [ "$(cat "bin/.$name" 2>/dev/null)" = "$package $tags" ] && continue
	rm -rf "build/$name" && mkdir -p "build/$name"
	(
		cd "build/$name"
		go mod init "recipe/$name" 2>/dev/null
		go get "$package"
		GOFLAGS=-mod=mod go build -tags "$tags" -o "$dir/bin/$name" "${package%@*}"
	)
	echo "$package $tags" >"bin/.$name"
done

cmp -s "$here/recipes/package-lock.json" package-lock.json && [ -d node_modules ] ||
	{ cp "$here"/recipes/package*.json . && npm ci --ignore-scripts --no-audit --no-fund; }
