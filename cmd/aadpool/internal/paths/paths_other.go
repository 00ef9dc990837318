//go:build !unix

package paths

import "path/filepath"

// Join is filepath.Join.
func Join(elements ...string) string { return filepath.Join(elements...) }

// Dir is filepath.Dir.
func Dir(name string) string { return filepath.Dir(name) }

// Abs is filepath.Abs.
func Abs(name string) (string, error) { return filepath.Abs(name) }
