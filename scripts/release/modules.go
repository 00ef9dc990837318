package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/mod/zip"
)

// root is the package's module.
const root = "github.com/aadpool/aadpool"

// released are the directories of the modules that are tagged beside the root, each after what it requires.
var released = []string{"aadpoolsql", "otelaadpool", "cmd/aadpool"}

// unreleased are those of the modules that nobody imports or installs.
var unreleased = []string{
	"bench", "deploy", "examples/ecosystem", "examples/standins", "examples/tokenservice", "scripts/release", "tools",
}

func checkVersion(version string) error {
	switch {
	case !semver.IsValid(version) || semver.Canonical(version) != version:
		return fmt.Errorf("%q is no version of a module: name one like v1.2.3 or v1.2.3-rc.1", version)
	case semver.Major(version) != "v0" && semver.Major(version) != "v1":
		return fmt.Errorf("%s: from v2 on the modules' paths end in the major version: "+
			"see https://go.dev/ref/mod#major-version-suffixes", version)
	}
	return nil
}

// cloneAndTag makes the clone at the root's tag, which it makes itself in a dry run, and has the proxy serve the root.
func (r *release) cloneAndTag(ctx context.Context) error {
	ref := r.version + "^{commit}"
	commit, err := r.git(ctx, r.repository, "rev-parse", "--verify", "--quiet", "refs/tags/"+ref)
	if r.dryRun = err != nil; r.dryRun {
		if r.tag {
			return fmt.Errorf("-tag: there is no tag %s", r.version)
		}
		if commit, err = r.git(ctx, r.repository, "rev-parse", "HEAD"); err != nil {
			return err
		}
	}
	r.commit = commit
	if err := r.clone(ctx, r.src); err != nil {
		return err
	}
	seconds, err := r.git(ctx, r.src, "log", "-1", "--format=%ct", commit)
	if err != nil {
		return err
	}
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return err
	}
	r.epoch = time.Unix(unix, 0).UTC()
	if r.dryRun {
		if err := r.makeTag(ctx, r.version); err != nil {
			return err
		}
	}
	return r.serve("", r.commit)
}

// clone makes a clone at the root's commit.
func (r *release) clone(ctx context.Context, dir string) error {
	clone := []string{"clone", "--quiet", "--no-checkout", "--config", "core.autocrlf=false", r.repository, dir}
	if _, err := r.git(ctx, r.scratch, clone...); err != nil {
		return err
	}
	_, err := r.git(ctx, dir, "checkout", "--quiet", "--detach", r.commit)
	return err
}

// makeTag tags what is checked out in the clone, as of the commit's own date: the same tag each time.
func (r *release) makeTag(ctx context.Context, tag string) error {
	_, err := output(ctx, r.src, r.commitEnvironment(), "git",
		"-c", "tag.gpgSign=false", "tag", "--annotate", tag, "--message", tag)
	return err
}

// commitEnvironment has git write the same commit each time, whoever makes it.
func (r *release) commitEnvironment() []string {
	env := os.Environ()
	for _, role := range []string{"AUTHOR", "COMMITTER"} {
		env = append(env, "GIT_"+role+"_NAME=aadpool", "GIT_"+role+"_EMAIL=release@aadpool.invalid",
			"GIT_"+role+"_DATE="+r.epoch.Format(time.RFC3339))
	}
	return env
}

// tagModules puts the root's version in place of the nested modules' replace lines, on a commit beside the branch, tags
// that for each of them, and has the proxy serve them.
func (r *release) tagModules(ctx context.Context) error {
	for i, dir := range released {
		if err := r.requireReleased(ctx, filepath.Join(r.src, dir), released[:i]); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		if err := r.commitModules(ctx, i > 0); err != nil {
			return err
		}
		if err := r.serve(dir, r.modules); err != nil { // for those that require it
			return err
		}
	}
	for _, dir := range released {
		if err := r.makeTag(ctx, dir+"/"+r.version); err != nil {
			return err
		}
	}
	return nil
}

// commitModules makes the commit of the nested modules, or again, with one more of them.
func (r *release) commitModules(ctx context.Context, again bool) (err error) {
	args := []string{"-c", "commit.gpgSign=false", "commit", "--quiet", "--no-verify", "--all",
		"--message", "Modules of " + r.version}
	if again {
		args = append(args, "--amend")
	}
	if _, err := output(ctx, r.src, r.commitEnvironment(), "git", args...); err != nil {
		return err
	}
	r.modules, err = r.git(ctx, r.src, "rev-parse", "HEAD")
	return err
}

// requireReleased has a nested module require the root, and those nested ones that it uses, as everybody gets them.
func (r *release) requireReleased(ctx context.Context, dir string, earlier []string) error {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return err
	}
	// Not by go get, which would first look for the version that the replace line stands for.
	edit := []string{"mod", "edit"}
	for _, other := range append([]string{""}, earlier...) {
		if m := path.Join(root, other); strings.Contains(string(text), "\nreplace "+m+" ") {
			edit = append(edit, "-dropreplace", m, "-require", m+"@"+r.version)
		}
	}
	if _, err := r.golang(ctx, dir, edit...); err != nil {
		return err
	}
	if _, err := r.golang(ctx, dir, "mod", "tidy"); err != nil {
		return err
	}
	if text, err = os.ReadFile(filepath.Join(dir, "go.mod")); err != nil {
		return err
	}
	if strings.Contains(string(text), "\nreplace") {
		return fmt.Errorf("go install refuses a module with a replace line, and one is left in go.mod")
	}
	if r.test {
		_, err = r.golang(ctx, dir, "test", "-short", "-timeout", "15m", "./...")
	}
	return err
}

// serve has the proxy serve the module in a directory of the clone: https://go.dev/ref/mod#goproxy-protocol.
func (r *release) serve(dir, commit string) (err error) {
	m := module.Version{Path: path.Join(root, dir), Version: r.version}
	files := filepath.Join(r.proxy, filepath.FromSlash(m.Path), "@v")
	if err := os.MkdirAll(files, 0o755); err != nil {
		return err
	}
	mod, err := os.ReadFile(filepath.Join(r.src, dir, "go.mod"))
	if err != nil {
		return err
	}
	info := fmt.Sprintf(`{"Version":%q,"Time":%q}`, r.version, r.epoch.Format(time.RFC3339))
	for name, text := range map[string]string{
		"list": r.version + "\n", r.version + ".info": info, r.version + ".mod": string(mod),
	} {
		if err := os.WriteFile(filepath.Join(files, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	file, err := os.Create(filepath.Join(files, r.version+".zip"))
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, file.Close()) }()
	return zip.CreateFromVCS(file, m, r.src, commit, dir)
}

// tagsName is the list of the nested modules' tags, for git push.
const tagsName = "tags.txt"

// fetchTags puts the nested modules' tags into the repository.
func (r *release) fetchTags(ctx context.Context) error {
	args := []string{"fetch", "--quiet", "--no-tags", r.src}
	var tags strings.Builder
	for _, dir := range released {
		tag := "refs/tags/" + dir + "/" + r.version
		args = append(args, tag+":"+tag)
		fmt.Fprintln(&tags, tag)
	}
	if _, err := r.git(ctx, r.repository, args...); err != nil {
		return err
	}
	return r.write(tagsName, []byte(tags.String()))
}
