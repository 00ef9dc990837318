#!/bin/sh
# Runs in the environment of aadpooltest/serve: prints it for a shell, checks the DSN in it, and gives a person on a
# terminal a shell with both. $1 is the fault that serve was asked for, if any. The exit status is that of the check;
# with a fault it is 0 if the check has found one. See make try.
set -eu
fault=${1-}

echo "# The stand-ins for Entra and Azure Database for PostgreSQL, for a shell, while this runs:"
env | grep -E '^(AZURE_|PG|DATABASE_URL=|SSL_CERT_FILE=|HTTPS_PROXY=|NO_PROXY=)' | sort | sed "s/'/'\\\\''/g; s/^\([A-Z_]*\)=\(.*\)/export \1='\2'/"
echo
echo "\$ aadpool check \"\$DATABASE_URL\""
status=0
aadpool check "$DATABASE_URL" || status=$?
echo
if [ -z "$fault" ]; then
	echo "# exit status $status. Now with a fault, make try FAULT=NAME:"
	serve -help 2>&1 | sed -n 's/^.*what goes wrong: //p' | sed 's/), /)|/g' | tr '|' '\n' | sed 's/^/#   /'
elif [ "$status" -ne 0 ]; then
	echo "# exit status $status: the check has found the fault $fault"
	status=0
else
	echo "# exit status 0: the check has not noticed the fault $fault"
	status=1
fi
if [ -t 0 ] && [ -t 1 ]; then
	echo "# a shell with this environment: try aadpool psql, aadpool token, go test; exit ends the stand-ins"
	"${SHELL:-sh}" || true
fi
exit "$status"
