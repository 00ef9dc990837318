#!/bin/sh
# Makes the directory $1, for programs that are fetched into it and then run, unless it is there. One that another user has
# made, or can write to, could hold anything: it is an error.
set -eu
mkdir -p "$(dirname "$1")"
mkdir -m 755 "$1" 2>/dev/null || true
if [ -L "$1" ] || [ ! -d "$1" ] || [ -n "$(find "$1" -prune \( ! -user "$(id -u)" -o -perm -020 -o -perm -002 \))" ]; then
	echo "$1 is not a directory that this user alone can write to: remove it, or choose another" >&2
	exit 1
fi
