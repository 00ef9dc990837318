//go:build linux || windows || (darwin && cgo)

package signin

import (
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity/cache"
)

// Keyring is the cache of what renews tokens. Its error wraps ErrNoKeyring.
func Keyring() (azidentity.Cache, error) {
	made, err := cache.New(&cache.Options{Name: cacheName()})
	if err != nil {
		return azidentity.Cache{}, fmt.Errorf("%w: %w", ErrNoKeyring, err)
	}
	return made, nil
}
