#!/bin/sh
# Tags the nested modules of a release, with the package's tag in place of their replace lines; see CONTRIBUTING.md.
#
#     scripts/tag-modules.sh vX.Y.Z
#
# vX.Y.Z has to be pushed, so that go gets it. The tags are on a commit beside the branch. Nothing is pushed.
set -eu
version=$1
package=github.com/aadpool/aadpool
cd "$(git rev-parse --show-toplevel)"
[ -z "$(git status --porcelain)" ] || { echo 'commit or stash your changes first' >&2; exit 1; }

# Nobody imports the benchmarks and the examples.
modules=$(git ls-files '*/go.mod' | xargs -n 1 dirname | grep -v -e '^bench$' -e '^examples/')

branch=$(git symbolic-ref --short HEAD)
trap 'git checkout --quiet --force "$branch"' EXIT
git checkout --quiet --detach "$version"
for module in $modules; do (
	cd "$module"
	# Not by go get, which would first look for the version that the replace line stands for.
	go mod edit -dropreplace "$package" -require "$package@$version"
	go mod tidy
	if grep '^replace' go.mod; then exit 1; fi # go install would refuse it
	go test ./...
); done
git commit --quiet --all --message "Modules of $version"
tags=
for module in $modules; do
	git tag --annotate "$module/$version" --message "$module/$version"
	tags="$tags $module/$version"
done
echo "git push origin$tags"
