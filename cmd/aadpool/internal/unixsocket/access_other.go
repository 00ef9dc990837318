//go:build !unix

package unixsocket

import "io/fs"

// CanKeepDir reports whether this system shows who can write to a directory. Go reports every one as open to all.
const CanKeepDir = false

func checkAccess(string, fs.FileInfo) error { return nil }
