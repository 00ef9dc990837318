#!/bin/sh
# Runs in the environment of aadpooltest/serve: prints it for a shell, checks the DSN in it, and gives a person on a
# terminal a shell with both. The exit status is that of the check. See make try.
set -eu

echo "# The stand-ins for Entra and Azure Database for PostgreSQL, for a shell, while this runs:"
env | grep -E '^(AZURE_|PG|DATABASE_URL=|SSL_CERT_FILE=|HTTPS_PROXY=|NO_PROXY=)' | sort | sed "s/'/'\\\\''/g; s/^\([A-Z_]*\)=\(.*\)/export \1='\2'/"
echo
echo "\$ aadpool check \"\$DATABASE_URL\""
status=0
aadpool check "$DATABASE_URL" || status=$?
echo
echo "# exit status $status; faults to choose from: make try FAULT=entra-down, FAULT=role-missing, FAULT=wrong-audience"
if [ -t 0 ] && [ -t 1 ]; then
	echo "# a shell with this environment: try aadpool psql, aadpool token, go test; exit ends the stand-ins"
	"${SHELL:-sh}" || true
fi
exit "$status"
