# Stands in for the Azure CLI in tests: "az account get-access-token" asks the test's authority. It uses nothing but bash,
# so that PATH may hold this directory alone.

if [[ "${1-} ${2-}" != "account get-access-token" ]]; then
  echo "ERROR: this stand-in for az knows 'az account get-access-token' only" >&2
  exit 2
fi
shift 2

query=
while (($#)); do
  name=${1%%=*}
  if [[ $1 == *=* ]]; then value=${1#*=}; else value=${2-}; shift; fi
  shift
  case $name in
    --resource | --scope | --tenant) ;;
    -t) name=--tenant ;;
    --output | -o | --subscription | -s) continue ;;
    *) echo "ERROR: unrecognized argument: $name" >&2; exit 2 ;;
  esac
  if [[ $value == *[!A-Za-z0-9./:_-]* ]]; then
    echo "ERROR: invalid value of $name: $value" >&2
    exit 2
  fi
  query+="${name#--}=$value&"
done

exec 3<>"/dev/tcp/$host/$port" || exit 1
printf 'GET %s?%s HTTP/1.0\r\nHost: %s:%s\r\n\r\n' "$path" "$query" "$host" "$port" >&3
IFS=' ' read -r _ status _ <&3 || { echo "ERROR: the authority closed the connection" >&2; exit 1; }
while IFS= read -r line <&3 && [[ $line != $'\r' ]]; do :; done
IFS= read -r -d '' body <&3

if [[ $status != 200 ]]; then
  printf '%s\n' "$body" >&2
  exit 1
fi
printf '%s\n' "$body"
