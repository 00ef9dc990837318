package aadpoolsql

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/credential"
	"github.com/aadpool/aadpool/internal/dsn"
)

// hooks are the Hooks of a process, one for each identity and scope.
type hooks struct {
	clientOptions azcore.ClientOptions // of each credential; tests have stand-ins

	mu sync.Mutex // guards of; held while a credential is made, which asks nothing of the network
	of map[credential.Parameters]*aadpool.Hook
}

var processHooks hooks

// get returns the Hook for the parameters and the scope that their server needs.
func (h *hooks) get(p credential.Parameters, scope string) (*aadpool.Hook, error) {
	p.Scope = scope
	if p.Credential == "" {
		p.Credential = credential.Default
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if hook := h.of[p]; hook != nil {
		return hook, nil
	}
	hook, err := h.make(p)
	if err != nil {
		return nil, err
	}
	if h.of == nil {
		h.of = map[credential.Parameters]*aadpool.Hook{}
	}
	h.of[p] = hook
	return hook, nil
}

// discoveryEnv is for whoever has a cloud of their own.
const discoveryEnv = "AADPOOL_DISABLE_INSTANCE_DISCOVERY"

func (h *hooks) make(p credential.Parameters) (*aadpool.Hook, error) {
	settings := p.Settings()
	settings.ClientOptions = h.clientOptions
	if value := os.Getenv(discoveryEnv); value != "" {
		var err error
		if settings.DisableInstanceDiscovery, err = strconv.ParseBool(value); err != nil {
			return nil, errors.New(discoveryEnv + " must be true or false")
		}
	}
	made, err := credential.New(settings)
	if err != nil {
		return nil, fmt.Errorf("making the credential: %w", err)
	}
	options := []aadpool.Option{aadpool.WithScope(p.Scope)}
	if credential.IsSignIn(p.Credential) {
		p.TokenTimeout = cmp.Or(p.TokenTimeout, credential.SignInTimeout)
	}
	if p.TokenTimeout > 0 {
		options = append(options, aadpool.WithTokenTimeout(p.TokenTimeout))
	}
	if p.UserFromToken {
		options = append(options, aadpool.WithUserFromToken())
	}
	hook, err := aadpool.NewHook(made, options...)
	if err != nil { // it repeats a value of the DSN
		return nil, errors.New("scope= is no scope: one looks like " + dsn.DefaultScope)
	}
	return hook, nil
}
