package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// The code that measurements measure, as Git's pathspecs.
var (
	// packagePaths are the package's, without its tests and what is only shared with other modules.
	packagePaths = []string{":(top,glob)*.go", ":(top)internal", ":(top,exclude,glob)**/*_test.go",
		":(top,exclude)internal/azuretest", ":(top,exclude)internal/signingkey",
		":(top,exclude)internal/credential", ":(top,exclude)internal/spelling", ":(top,exclude)internal/freeport",
		":(top,exclude)internal/leaktest"}
	proxyPaths = append(slices.Clone(packagePaths), ":(top)cmd/aadpool/internal/proxy",
		":(top)cmd/aadpool/go.mod")
	// commandPaths are those of aadpool token and of what answers it.
	commandPaths = []string{":(top)cmd/aadpool/internal/agent", ":(top)cmd/aadpool/internal/agentclient",
		":(top)cmd/aadpool/internal/early", ":(top)cmd/aadpool/internal/tokens",
		":(top)cmd/aadpool/internal/commands/commands.go", ":(top)cmd/aadpool/internal/commands/token.go",
		":(top,exclude,glob)**/*_test.go", ":(top)cmd/aadpool/go.mod"}
)

// errUnknownCommit is that of a clone that has not got a result's commit.
var errUnknownCommit = errors.New("the commit is not in this clone")

// isStale reports whether what is measured, or how, differs from what it was at the commit.
func (m measurement) isStale(ctx context.Context, commit string) (bool, error) {
	differs, err := differsFrom(ctx, commit, m.paths)
	if differs || err != nil {
		return differs, err
	}
	return differsFrom(ctx, commit, m.files) // among which may be what paths exclude
}

func differsFrom(ctx context.Context, commit string, paths []string) (bool, error) {
	git := exec.CommandContext(ctx, "git", append([]string{"diff", "--quiet", commit, "--"}, paths...)...)
	out, err := git.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false, nil
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return true, nil
	}
	return false, fmt.Errorf("%w (%s): git diff: %w: %s", errUnknownCommit, commit, err, bytes.TrimSpace(out))
}

// loadPages makes the pages of the results below dir.
func loadPages(ctx context.Context, dir string) (p pages, err error) {
	p.stale = map[string]bool{}
	if p.results, err = loadResults(dir); err != nil {
		return p, err
	}
	for _, r := range p.results {
		if p.stale[r.Name], err = measurementOf(r.Name).isStale(ctx, r.Commit); err != nil {
			return p, fmt.Errorf("is the result of %s stale? %w", r.Name, err)
		}
	}
	return p, nil
}

func writePages(ctx context.Context, dir string, quick bool) error {
	p, err := loadPages(ctx, dir)
	if err != nil {
		return err
	}
	p.quick = quick
	for name, text := range p.markdown() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// checkPages compares the pages with what they would be now. A clone without the commits, or no clone at all, passes.
func checkPages(ctx context.Context, dir string) error {
	p, err := loadPages(ctx, dir)
	if errors.Is(err, errUnknownCommit) {
		fmt.Fprintln(os.Stderr, "bench: stale results are not looked for:", err)
		return nil
	}
	if err != nil {
		return err
	}
	for name, text := range p.markdown() {
		have, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if string(have) != text {
			return fmt.Errorf("%s is not what the results and the code make of it (above all, which are stale); "+
				"run: cd bench && go run . -page", name)
		}
	}
	return nil
}

// measuredCommit is the one that is checked out. What is measured has to be that commit's.
func measuredCommit(ctx context.Context) (string, error) {
	id, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "", fmt.Errorf("asking git for the commit: %w", err)
	}
	return string(bytes.TrimSpace(id)), nil
}

// refuseChanges fails if what is measured is no commit's.
func refuseChanges(ctx context.Context, chosen []measurement) error {
	for _, m := range chosen {
		changed, err := m.isStale(ctx, "HEAD")
		if err != nil {
			return err
		}
		if changed {
			return fmt.Errorf("what %s measures has changes that are not committed, so that its result would be of no "+
				"commit: commit them, or take -quick, which writes into out", m.name)
		}
	}
	return nil
}
