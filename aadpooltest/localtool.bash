# Stands in for a program that azidentity runs: it tells the test's authority its arguments, and prints the answer. It
# uses nothing but bash, so that PATH may hold this directory alone.

exec 3<>"/dev/tcp/$host/$port" || exit 1
{
  printf 'GET %s HTTP/1.0\r\nHost: %s:%s\r\n' "$path" "$host" "$port"
  for argument; do
    if [[ $argument == *[$'\r\n']* ]]; then
      echo "ERROR: an argument holds a line break" >&2
      exit 2
    fi
    printf 'Argument: %s\r\n' "$argument"
  done
  printf '\r\n'
} >&3
IFS=' ' read -r _ status _ <&3 || { echo "ERROR: the authority closed the connection" >&2; exit 1; }
while IFS= read -r line <&3 && [[ $line != $'\r' ]]; do :; done
IFS= read -r -d '' body <&3

if [[ $status != 200 ]]; then
  printf '%s\n' "$body" >&2
  exit 1
fi
printf '%s\n' "$body"
