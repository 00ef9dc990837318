//go:build !unix

package proxy

// openFileLimit is 0: this system has no such limit.
func openFileLimit() uint64 { return 0 }
