package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// output runs a program in a directory and returns what it prints, without the last newline.
func output(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(args, " "), err, out, stderr.String())
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}

// git runs git in a directory.
func (r *release) git(ctx context.Context, dir string, args ...string) (string, error) {
	return output(ctx, dir, nil, "git", args...)
}

// golang runs the go command in a directory, with the release's modules before all others.
func (r *release) golang(ctx context.Context, dir string, args ...string) (string, error) {
	return output(ctx, dir, r.env, "go", args...)
}

// goEnvironment has the go command find the release's modules in proxy, others in the caller's module cache, and what
// is in neither where the caller finds it. What it downloads is in a cache of its own: the caller's would keep a dry
// run's v0.1.0 for good.
func goEnvironment(ctx context.Context, scratch, proxy string) ([]string, error) {
	env := append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	cache, err := output(ctx, "", env, "go", "env", "GOMODCACHE")
	if err != nil {
		return nil, err
	}
	upstream, err := output(ctx, "", env, "go", "env", "GOPROXY")
	if err != nil {
		return nil, err
	}
	unverified, err := output(ctx, "", env, "go", "env", "GONOSUMDB")
	if err != nil {
		return nil, err
	}
	proxies := []string{fileURL(proxy), fileURL(filepath.Join(cache, "cache", "download")), upstream}
	return append(env,
		"GOPROXY="+strings.Join(proxies, ","),
		"GONOSUMDB="+strings.Trim(unverified+","+root, ","), "GONOPROXY=none", "GOPRIVATE=",
		"GOMODCACHE="+filepath.Join(scratch, "modules"),
		// So that the cache can be removed; two compilers at a time, as others work on the machine.
		"GOFLAGS=-modcacherw -p=2",
		"GOTOOLCHAIN=local", "CGO_ENABLED=0",
	), nil
}

func fileURL(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a drive of Windows
	}
	return "file://" + path
}
