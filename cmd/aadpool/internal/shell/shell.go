// Package shell writes for POSIX shells.
package shell

import "strings"

// Quote makes one word of text.
func Quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
