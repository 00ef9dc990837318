//go:build unix

// Package paths is what others need of package path/filepath, where Unix can do without it: Go initialises that after
// much else, and package early could not run before.
package paths

import (
	"os"
	"path"
)

// Join is filepath.Join.
func Join(elements ...string) string { return path.Join(elements...) }

// Dir is filepath.Dir.
func Dir(name string) string { return path.Dir(name) }

// Abs is filepath.Abs.
func Abs(name string) (string, error) {
	if path.IsAbs(name) {
		return path.Clean(name), nil
	}
	here, err := os.Getwd()
	return path.Join(here, name), err
}
