#!/bin/sh
# Runs the shell command $1 with a new directory, whose name is in $dir. The directory is removed when the command has ended,
# whatever ended it: Ctrl-C, a terminal that is closed, a kill. The exit status is the command's.
set -eu
dir=$(mktemp -d)
mkfifo "$dir/held"
# A trap would not do: a shell that a signal ends runs none. This one reads until nobody holds the other end any more.
(
	trap '' HUP INT QUIT TERM
	cat "$dir/held" || true
	rm -rf "$dir"
) </dev/null >/dev/null 2>&1 &
exec 3>"$dir/held"
trap 'rm -rf "$dir"' EXIT
trap : INT # Ctrl-C is for the command
status=0
dir=$dir sh -c "$1" || status=$?
exit "$status"
