package aadpoolsql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/credential"
)

// hooks are the Hooks of a process, one for each identity and scope.
type hooks struct {
	clientOptions azcore.ClientOptions // of each credential; tests have stand-ins

	mu sync.Mutex // guards by; held while a credential is made, which asks nothing of the network
	by map[credential.Parameters]*aadpool.Hook
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
	if hook := h.by[p]; hook != nil {
		return hook, nil
	}
	hook, err := h.make(p)
	if err != nil {
		return nil, err
	}
	if h.by == nil {
		h.by = map[credential.Parameters]*aadpool.Hook{}
	}
	h.by[p] = hook
	return hook, nil
}

// discoveryEnv is for whoever has a cloud of their own.
const discoveryEnv = "AADPOOL_DISABLE_INSTANCE_DISCOVERY"

func (h *hooks) make(p credential.Parameters) (*aadpool.Hook, error) {
	settings := credential.Settings{
		Name: p.Credential, ClientID: p.ClientID, TenantID: p.TenantID, ClientOptions: h.clientOptions}
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
	if p.UserFromToken {
		options = append(options, aadpool.WithUserFromToken())
	}
	return aadpool.NewHook(made, options...)
}

// scopeOf asks package aadpool which scope the servers of config need, by a Hook that is never logged in with. It
// applies the TLS policy on the way. With hooked, the scope is another Hook's matter.
func scopeOf(config *pgxpool.Config, scope string, hooked bool) (string, error) {
	asked := &scopeWatch{}
	options := []aadpool.Option{aadpool.WithLogger(slog.New(slog.DiscardHandler))}
	if scope != "" {
		options = append(options, aadpool.WithScope(scope))
	}
	hook, err := aadpool.NewHook(asked, options...)
	if err != nil {
		return "", errors.New("aadpool: scope= is no scope: one looks like " +
			"https://ossrdbms-aad.database.windows.net/.default")
	}
	err = hook.Configure(context.Background(), config.Copy())
	if err != nil && (!hooked || errors.Is(err, aadpool.ErrPlaintext)) {
		return "", err
	}
	return asked.scope, nil
}

// A scopeWatch is a credential that notes what it is asked for.
type scopeWatch struct{ scope string }

func (w *scopeWatch) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	w.scope = o.Scopes[0]
	return azcore.AccessToken{Token: "none", ExpiresOn: time.Now().Add(24 * time.Hour)}, nil
}
