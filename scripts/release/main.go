// Command release makes all that a release has, and checks it: the nested modules' tags, binaries in archives with
// checksums and lists of what is in them, an image, a chart, the descriptions for Homebrew and Scoop, and the notes.
//
//	go run . [-version vX.Y.Z] [-out directory]
//
// If the tag vX.Y.Z is there, that is what is released. Otherwise it is a dry run: the commit at hand is released as
// vX.Y.Z in a clone, which is thrown away. Nothing is pushed, and only -tag changes the repository. What is made
// depends on the commit and the version alone: a person's files are the same as a workflow's.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("release: ")
	var o options
	flag.StringVar(&o.version, "version", "v0.1.0-rc.1", "the version, with the v")
	flag.StringVar(&o.repository, "repository", "../..", "the `directory` of the repository")
	flag.StringVar(&o.out, "out", "../../dist", "the `directory` for what is made; what is in it is removed")
	flag.BoolVar(&o.tag, "tag", false, "put the nested modules' tags into the repository; the root's must be there")
	flag.BoolVar(&o.test, "test", false,
		"run the nested modules' tests with the package's version in place of its directory")
	flag.BoolVar(&o.rebuild, "rebuild", true, "build this machine's binary once more from nothing, and compare")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

type options struct {
	version, repository, out string
	tag, test, rebuild       bool
}

// run makes the release in a directory of its own, so that the caller's clone and module cache know nothing of a
// version that may never be.
func run(ctx context.Context, o options) (err error) {
	scratch, err := os.MkdirTemp("", "aadpool-release-")
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, os.RemoveAll(scratch)) }() // GOFLAGS=-modcacherw lets it
	r, err := newRelease(ctx, o, scratch)
	if err != nil {
		return err
	}
	steps := []step{
		{"clone and tag", r.cloneAndTag},
		{"tag the modules", r.tagModules},
		{"build", r.buildAll},
		{"pack", r.packAll},
		{"make the image", r.makeImage},
		{"describe for package managers", r.writeDescriptions},
		{"cut the notes", r.writeNotes},
		{"check archives", r.checkArchives},
		{"check lists of modules", r.checkInventories},
		{"check the image", r.checkImage},
		{"check the chart", r.checkChart},
		{"check the modules from outside", r.checkOutside},
	}
	if o.rebuild {
		steps = append(steps, step{"build from nothing, and compare", r.checkReproducible})
	}
	if o.tag {
		steps = append(steps, step{"put the tags into the repository", r.fetchTags})
	}
	for _, s := range steps {
		begun := time.Now()
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		log.Printf("%-34s %6.1f s", s.name, time.Since(begun).Seconds())
	}
	return r.list(os.Stdout)
}

type step struct {
	name string
	do   func(context.Context) error
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// release is one that is being made.
type release struct {
	options
	dryRun  bool
	scratch string // what is needed on the way
	src     string // the clone, at the root's tag and then at the modules'
	proxy   string // a directory that serves the modules as GOPROXY
	commit  string // the root's
	modules string // the commit of the nested modules, which is the binaries'
	epoch   time.Time
	env     []string
	built   []binary
}

func newRelease(ctx context.Context, o options, scratch string) (*release, error) {
	if err := checkVersion(o.version); err != nil {
		return nil, err
	}
	r := &release{options: o, scratch: scratch, src: filepath.Join(scratch, "src"), proxy: filepath.Join(scratch, "proxy")}
	for _, dir := range []*string{&r.repository, &r.out} {
		path, err := filepath.Abs(*dir)
		if err != nil {
			return nil, err
		}
		*dir = path
	}
	if err := emptyDirectory(r.out); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(r.proxy, 0o755); err != nil {
		return nil, err
	}
	env, err := goEnvironment(ctx, scratch, r.proxy)
	r.env = env
	return r, err
}

// marker is in each directory that this program has made: it empties no other.
const marker = ".made-by-release"

func emptyDirectory(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, marker)); err != nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty, and not of an earlier run: name another by -out", dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, marker), nil, 0o644)
}
