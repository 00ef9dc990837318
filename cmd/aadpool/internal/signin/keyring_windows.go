package signin

import "golang.org/x/sys/windows"

// forgetKeyring removes what azidentity's cache keeps: files that are encrypted for the user (DPAPI).
func forgetKeyring() (found bool, err error) {
	dir, err := windows.KnownFolderPath(windows.FOLDERID_LocalAppData, 0)
	if err != nil {
		return false, err
	}
	return removeCache(dir)
}
