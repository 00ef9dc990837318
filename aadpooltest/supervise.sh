# Runs a server and removes its data: sh supervise.sh DIRECTORY SERVER [ARGUMENT...]
#
# The server is shut down, fast, when standard input ends. That is a pipe whose other end only the Go process holds, so it
# ends however that process ends, even by SIGKILL. (Linux's parent-death signal could not remove the directory, would come
# when a mere thread of the parent ends, and exists nowhere else.)
# File 3 is held open for tidy.sh, which waits for its end.
exec 4<&0
dir=$1
shift
"$@" </dev/null >"$dir/log" 2>&1 3>&- 4<&- &
server=$!
(
	read -r _ <&4
	# A shell starts its background jobs with SIGINT ignored: SIGTERM is for a server that has not set up its signals yet.
	# SIGINT makes the shutdown a fast one: https://www.postgresql.org/docs/current/server-shutdown.html
	kill -TERM "$server"
	kill -INT "$server"
) >/dev/null 2>&1 3>&- &
lifeline=$!
status=0
wait "$server" || {
	status=$?
	tail -n 20 "$dir/log" >&2
}
kill "$lifeline" 2>/dev/null
rm -rf "$dir/data" "$dir/socket" 2>/dev/null # the directories themselves may be left to tidy.sh
exit "$status"
