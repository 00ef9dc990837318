//go:build !linux && !windows && !(darwin && cgo)

package signin

import (
	"runtime"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// Keyring has none: the keychain of macOS takes cgo, which this program was built without.
func Keyring() (azidentity.Cache, error) { return azidentity.Cache{}, noKeyring(runtime.GOOS) }

func forgetKeyring() (found bool, err error) { return false, nil }
