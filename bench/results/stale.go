package results

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// errUnknownCommit is that of a clone that has not got a result's commit.
var errUnknownCommit = errors.New("the commit is not in this clone")

// isStale reports whether what is measured, or how, differs from what it was at the commit.
func (m Measurement) isStale(ctx context.Context, commit string) (bool, error) {
	differs, err := differsFrom(ctx, commit, m.Paths)
	if differs || err != nil {
		return differs, err
	}
	return differsFrom(ctx, commit, m.Files) // among which may be what Paths exclude
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
		if p.stale[r.Name], err = Of(r.Name).isStale(ctx, r.Commit); err != nil {
			return p, fmt.Errorf("is the result of %s stale? %w", r.Name, err)
		}
	}
	return p, nil
}

// WritePages makes the pages of the results in dir anew.
func WritePages(ctx context.Context, dir string, quick bool) error {
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

// CheckPages compares the pages with what they would be now. A clone without the commits, or no clone at all, passes.
func CheckPages(ctx context.Context, dir string) error {
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
				"run: cd bench && go run ./pages", name)
		}
	}
	return nil
}

// MeasuredCommit is the one that is checked out. What is measured has to be that commit's.
func MeasuredCommit(ctx context.Context) (string, error) {
	id, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "", fmt.Errorf("asking git for the commit: %w", err)
	}
	return string(bytes.TrimSpace(id)), nil
}

// RefuseChanges fails if what is measured is no commit's.
func (m Measurement) RefuseChanges(ctx context.Context) error {
	changed, err := m.isStale(ctx, "HEAD")
	if err == nil && changed {
		err = fmt.Errorf("what %s measures has changes that are not committed, so that its result would be of no "+
			"commit: commit them, or take -quick, which writes into out", m.Name)
	}
	return err
}
