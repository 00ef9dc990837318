//go:build !linux

package child

// RunAsInit is about containers, which are Linux's.
func RunAsInit([]string) (code int, is bool) { return 0, false }
