package server

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

// A WatchedCredential makes a credential when it is first asked, remembers the token that it has given, and
// sees whom it asks for it.
type WatchedCredential struct {
	name    string
	options azcore.ClientOptions
	build   func(azcore.ClientOptions) (azcore.TokenCredential, error)

	made    sync.Once // guards what follows
	inner   azcore.TokenCredential
	makeErr error

	mu    sync.Mutex // guards what follows
	scope string
	token azcore.AccessToken
	// logged is what azidentity has said about it, request the last to Entra, and metadata the last to the metadata
	// service.
	logged   []string
	request  diag.Request
	metadata diag.MetadataRequest
}

var _ azcore.TokenCredential = (*WatchedCredential)(nil)

// Watch watches the credential of that name, as --credential has it.
func Watch(name string, options azcore.ClientOptions,
	build func(azcore.ClientOptions) (azcore.TokenCredential, error)) *WatchedCredential {
	w := &WatchedCredential{name: name, options: options, build: build}
	w.options.PerRetryPolicies = append(slices.Clone(options.PerRetryPolicies), requestWatch{w})
	listen(w)
	return w
}

// GetToken is azcore.TokenCredential's.
func (w *WatchedCredential) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken,
	error) {
	if err := w.Make(); err != nil {
		return azcore.AccessToken{}, err
	}
	token, err := w.inner.GetToken(ctx, options)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scope = strings.Join(options.Scopes, " ")
	if err == nil {
		w.token = token
	}
	return token, err
}

// Make makes the credential, unless it is there.
func (w *WatchedCredential) Make() error {
	w.made.Do(func() { w.inner, w.makeErr = w.build(w.options) })
	return w.makeErr
}

// Given is the last token that it has given, and its scope.
func (w *WatchedCredential) Given() (token azcore.AccessToken, scope string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.token, w.scope
}

// maxLogged is more than a chain says of one token: an agent fetches tokens for weeks.
const maxLogged = 100

// azidentity has one log for the whole process, without a lock. The listener is set once and passes on to the
// credential that was made last.
var (
	listenOnce sync.Once
	listenerMu sync.Mutex
	listener   *WatchedCredential // guarded by listenerMu
)

func listen(w *WatchedCredential) {
	listenerMu.Lock()
	listener = w
	listenerMu.Unlock()
	listenOnce.Do(func() {
		azlog.SetEvents(azidentity.EventAuthentication)
		azlog.SetListener(func(_ azlog.Event, message string) {
			listenerMu.Lock()
			current := listener
			listenerMu.Unlock()
			current.mu.Lock()
			defer current.mu.Unlock()
			current.logged = append(current.logged[max(0, len(current.logged)-maxLogged+1):], message)
		})
	})
}
