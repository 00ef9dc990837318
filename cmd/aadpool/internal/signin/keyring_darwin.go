//go:build cgo

package signin

import (
	"context"
	"errors"
	"os"

	"github.com/AzureAD/microsoft-authentication-extensions-for-go/cache/accessor"
)

// forgetKeyring removes what azidentity's cache keeps: items of the keychain, and the files that tell their age.
func forgetKeyring() (found bool, err error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return false, nil
	}
	found, err = removeCache(home)
	for _, name := range cacheNames() {
		item, itemErr := accessor.New(name, accessor.WithAccount("MSALCache"))
		if itemErr == nil {
			itemErr = item.Delete(context.Background())
		}
		err = errors.Join(err, itemErr)
	}
	return found, err
}
