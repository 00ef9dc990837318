//go:build !linux

package main

// runAsInit is about containers, which are Linux's.
func runAsInit([]string) (code int, is bool) { return 0, false }
