#!/bin/sh
# Puts the clients that make clients has go through the proxy into the directory $1: Django's own tests and PostgreSQL's
# regression tests, from Debian's sources, and node-postgres, postgres.js and Sequelize, from npm. As root it also installs what runs them. For Debian
# and Ubuntu.
set -eu

dir=$1
here=$(cd "$(dirname "$0")" && pwd)
"$here/own-directory.sh" "$dir"
mkdir -p "$dir/lists/partial"
cd "$dir"

if [ "$(id -u)" -eq 0 ]; then
	apt-get install --yes --no-install-recommends python3-django python3-dj-database-url python3-sqlalchemy python3-psycopg2 chromium-driver tmux postgresql-server-dev-all gcc libc6-dev bzip2 dpkg-dev
fi

# The sources of this suite, from the archive that this machine uses already, without a change to its own list.
. /etc/os-release
archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
[ -n "$archive" ] || { echo "no archive of Debian is among apt's sources: run apt-get update once, on Debian" >&2; exit 1; }
echo "deb-src $archive $VERSION_CODENAME main" >sources.list
apt="apt-get -o Dir::Etc::sourcelist=$dir/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::lists=$dir/lists"
$apt update
[ -d django ] || { $apt source --download-only python-django && mkdir django && tar xf python-django_*.orig.tar.* --no-same-owner -C django --strip-components 1; }
[ -d postgresql ] || {
	source=$(pg_config --version | sed 's/^PostgreSQL \([0-9]*\).*/postgresql-\1/')
	$apt source --download-only "$source" && mkdir postgresql && tar xf postgresql-*.orig.tar.* --no-same-owner -C postgresql --strip-components 1
}
[ -d node_modules/postgres ] || { cp "$here"/proxy-clients/package*.json . && npm ci --ignore-scripts --no-audit --no-fund; }
