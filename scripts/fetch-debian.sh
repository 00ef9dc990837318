#!/bin/sh
# Unpacks packages of a Debian suite, with all that they need, into DIRECTORY/root: nothing is installed, no root is needed,
# and the machine's own release does not matter. With --alone, the packages only, without what they depend on.
#
#   scripts/fetch-debian.sh [--alone] DIRECTORY SUITE PACKAGE...
set -eu

alone=
if [ "$1" = --alone ]; then alone=yes && shift; fi
dir=$1 suite=$2
shift 2

fail() {
	echo "fetch-debian.sh: $1" >&2
	exit 1
}

command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "apt-get and dpkg are needed: this works on Debian"
# The archive that this machine uses already.
archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
[ -n "$archive" ] || fail "no archive of Debian is among apt's sources (run apt-get update once, on Debian)"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || fail "$keyring is missing: install debian-archive-keyring"

apt="$dir/apt"
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$dir/root"
: >"$apt/status"
echo "deb [signed-by=$keyring] $archive $suite main" >"$apt/sources.list"
# apt with a state of its own, in which no package is installed.
apt() {
	command=$1
	shift
	"$command" -q -y -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- \
		-o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" \
		-o Dir::Cache::archives="$apt/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
		-o Dir::Log="$apt" -o Debug::NoLocking=true -o APT::Sandbox::User="$(id -un)" \
		-o APT::Install-Recommends=false "$@"
}

log="$dir/fetch.log"
{
	apt apt-get update &&
		if [ -n "$alone" ]; then
			(cd "$apt/archives" && apt apt-get download "$@")
		else
			apt apt-get install --download-only "$@"
		fi
} >"$log" 2>&1 || {
	tail -n 20 "$log" >&2
	fail "$suite: cannot fetch $*"
}
for package in "$apt"/archives/*.deb; do
	dpkg -x "$package" "$dir/root"
done
rm -rf "$apt"
