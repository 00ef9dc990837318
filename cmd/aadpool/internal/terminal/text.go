package terminal

import "strings"

// WithoutPrefix is the text of an error of package aadpool without the name that it begins with, which this program
// says by itself.
func WithoutPrefix(err error) string { return strings.TrimPrefix(err.Error(), "aadpool: ") }
