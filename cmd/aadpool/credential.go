package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/credential"
	"github.com/aadpool/aadpool/internal/entra"
)

// defaultTimeout bounds each step of a check, and the fetch of a token.
const defaultTimeout = 30 * time.Second

// credentialNames are the values of --credential, as a kong enum.
var credentialNames = strings.Join(credential.Names, ",")

// credentialFlags are the flags about the access token that several commands have.
type credentialFlags struct {
	Credential               string        `enum:"${credentials}" default:"default" placeholder:"NAME" help:"The credential: default (the chain of DefaultAzureCredential), cli, managed-identity, workload-identity, environment or pipelines."`
	Scope                    string        `placeholder:"SCOPE" help:"The scope of the access token, as in WithScope (default: by the server's name)."`
	DisableInstanceDiscovery bool          `env:"AADPOOL_DISABLE_INSTANCE_DISCOVERY" help:"Ask no public endpoint whether the authority (AZURE_AUTHORITY_HOST) is a known one: for private and disconnected clouds."`
	Timeout                  time.Duration `default:"${default_timeout}" help:"How long to wait for a token, and for each other step (default: ${default})."`
}

func (f credentialFlags) check() error {
	if f.Timeout <= 0 {
		return usageError("--timeout must be more than 0, such as 5s")
	}
	return nil
}

// newHook makes the credential and a Hook on it.
func (f credentialFlags) newHook(o outside, options ...aadpool.Option) (*aadpool.Hook, error) {
	credential, err := f.newCredential(o.clientOptions)
	if err != nil {
		return nil, exitError{status: exitCredential, text: entra.Brief(err)}
	}
	return f.hookOn(credential, options...)
}

// hookOn makes a Hook as the flags say. Its error is about them.
func (f credentialFlags) hookOn(credential azcore.TokenCredential, options ...aadpool.Option) (*aadpool.Hook, error) {
	options = append(options, aadpool.WithTokenTimeout(f.Timeout))
	if f.Scope != "" {
		options = append(options, aadpool.WithScope(f.Scope))
	}
	hook, err := aadpool.NewHook(credential, options...)
	if err != nil {
		return nil, usageError(withoutPrefix(err))
	}
	return hook, nil
}

// newCredential makes the one that the flags name.
func (f credentialFlags) newCredential(options azcore.ClientOptions) (azcore.TokenCredential, error) {
	return credential.New(credential.Settings{
		Name: f.Credential, ClientOptions: options, DisableInstanceDiscovery: f.DisableInstanceDiscovery})
}

// A watchedCredential makes the credential of the flags when it is first asked, remembers the token that it has given, and
// sees whom it asks for it.
type watchedCredential struct {
	flags   credentialFlags
	options azcore.ClientOptions

	made    sync.Once // guards what follows
	inner   azcore.TokenCredential
	makeErr error

	mu    sync.Mutex // guards what follows
	scope string
	token azcore.AccessToken
	// logged is what azidentity has said about it, and machine how the metadata service of this machine has answered.
	logged  []string
	machine string
	request entraRequest
}

var _ azcore.TokenCredential = (*watchedCredential)(nil)

// watched is the credential that the flags name.
func (f credentialFlags) watched(options azcore.ClientOptions) *watchedCredential {
	w := &watchedCredential{flags: f, options: options}
	w.options.PerRetryPolicies = append(slices.Clone(options.PerRetryPolicies), requestWatch{w})
	listen(w)
	return w
}

// GetToken is azcore.TokenCredential's.
func (w *watchedCredential) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	w.made.Do(func() { w.inner, w.makeErr = w.flags.newCredential(w.options) })
	if w.makeErr != nil {
		return azcore.AccessToken{}, w.makeErr
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

func (w *watchedCredential) given() (token azcore.AccessToken, scope string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.token, w.scope
}

// azidentity has one log for the whole process, without a lock. The listener is set once and passes on to the credential
// that was made last.
var (
	listenOnce sync.Once
	listenerMu sync.Mutex
	listener   *watchedCredential // guarded by listenerMu
)

func listen(w *watchedCredential) {
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
			current.logged = append(current.logged, message)
		})
	})
}
