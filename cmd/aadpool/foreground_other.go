//go:build !unix

package main

import "os"

// isInForeground reports whether this process is of those that Ctrl-C reaches.
func isInForeground() bool { return isTerminal(os.Stdin) }
