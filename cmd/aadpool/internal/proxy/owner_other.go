//go:build !unix

package proxy

import "io/fs"

func checkOwner(string, fs.FileInfo) error { return nil }
