package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// target is a system that there is a binary for.
type target struct{ os, arch string }

var targets = []target{
	{"linux", "amd64"}, {"linux", "arm64"},
	{"darwin", "amd64"}, {"darwin", "arm64"},
	{"windows", "amd64"}, {"windows", "arm64"},
}

func (t target) String() string { return t.os + "_" + t.arch }

// isHere reports whether this machine runs the target's programs.
func (t target) isHere() bool { return t.os == runtime.GOOS && t.arch == runtime.GOARCH }

// program is the program's file name on the target.
func (t target) program() string {
	if t.os == "windows" {
		return "aadpool.exe"
	}
	return "aadpool"
}

// binary is the program for a target.
type binary struct {
	target
	path string
	info *buildinfo.BuildInfo
}

func (r *release) buildAll(ctx context.Context) error {
	for _, t := range targets {
		path := filepath.Join(r.scratch, "bin", t.String(), t.program())
		if err := r.build(ctx, r.src, t, r.env, path); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		if err := r.checkBuildInfo(t, info); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		r.built = append(r.built, binary{t, path, info})
	}
	return nil
}

// build builds the command in a clone. Nothing of the machine's is in the binary: -trimpath leaves out directories, and
// the version, the commit and its date come from the clone.
func (r *release) build(ctx context.Context, src string, t target, env []string, path string) error {
	env = append(env[:len(env):len(env)], "GOOS="+t.os, "GOARCH="+t.arch, "GOAMD64=v1", "GOARM64=v8.0")
	_, err := output(ctx, filepath.Join(src, "cmd", "aadpool"), env, "go",
		"build", "-trimpath", "-buildvcs=true", "-ldflags=-s", "-o", path, ".")
	return err
}

// checkBuildInfo checks what the binary says of itself, which aadpool version prints.
func (r *release) checkBuildInfo(t target, info *buildinfo.BuildInfo) error {
	if info.Main.Version != r.version {
		return fmt.Errorf("the binary's version is %s, not %s", info.Main.Version, r.version)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	for key, want := range map[string]string{
		"vcs.revision": r.modules, "vcs.modified": "false",
		"GOOS": t.os, "GOARCH": t.arch, "CGO_ENABLED": "0", "-trimpath": "true",
	} {
		if settings[key] != want {
			return fmt.Errorf("the binary's %s is %q, not %q", key, settings[key], want)
		}
	}
	return nil
}

// checkReproducible builds this machine's binary again in another clone, with empty caches of what has been compiled.
func (r *release) checkReproducible(ctx context.Context) error {
	for _, b := range r.built {
		if !b.isHere() {
			continue
		}
		src := filepath.Join(r.scratch, "another", "place", "src")
		if _, err := r.git(ctx, r.scratch, "clone", "--quiet", r.src, src); err != nil {
			return err
		}
		again := filepath.Join(r.scratch, "another", b.program())
		env := append(r.env[:len(r.env):len(r.env)], "GOCACHE="+filepath.Join(r.scratch, "another", "cache"))
		if err := r.build(ctx, src, b.target, env, again); err != nil {
			return err
		}
		return sameContent(b.path, again)
	}
	return fmt.Errorf("there is no binary for %s/%s", runtime.GOOS, runtime.GOARCH)
}

func sameContent(a, b string) error {
	first, err := os.ReadFile(a)
	if err != nil {
		return err
	}
	second, err := os.ReadFile(b)
	if err != nil {
		return err
	}
	if len(first) != len(second) {
		return fmt.Errorf("two builds differ: %d and %d bytes", len(first), len(second))
	}
	for i := range first {
		if first[i] != second[i] {
			return fmt.Errorf("two builds differ from byte %d of %d on", i, len(first))
		}
	}
	return nil
}
