package main

import (
	"context"
	"fmt"
	"net/http"
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
		return usageError("--timeout must be more than 0")
	}
	return nil
}

// newHook makes the credential and a Hook on it.
func (f credentialFlags) newHook(o outside, options ...aadpool.Option) (*aadpool.Hook, error) {
	options = append(options, aadpool.WithTokenTimeout(f.Timeout))
	if f.Scope != "" {
		options = append(options, aadpool.WithScope(f.Scope))
	}
	made, err := f.newCredential(o.clientOptions)
	if err != nil {
		return nil, exitError{status: exitCredential, text: reason(err.Error())}
	}
	hook, err := aadpool.NewHook(made, options...)
	if err != nil {
		return nil, usageError(strings.TrimPrefix(err.Error(), "aadpool: "))
	}
	return hook, nil
}

// newCredential makes the one that the flags name.
func (f credentialFlags) newCredential(options azcore.ClientOptions) (azcore.TokenCredential, error) {
	return credential.New(credential.Settings{
		Name: f.Credential, ClientOptions: options, DisableInstanceDiscovery: f.DisableInstanceDiscovery})
}

// A watchedCredential remembers the token that it has given, and whom it has asked for it.
type watchedCredential struct {
	inner azcore.TokenCredential

	mu    sync.Mutex // guards what follows
	scope string
	token azcore.AccessToken
	// logged is what azidentity has said about it, and machine how the metadata service of this machine has answered.
	logged  []string
	machine string
}

var _ azcore.TokenCredential = (*watchedCredential)(nil)

// newWatchedCredential makes the credential that the flags name.
func (f credentialFlags) newWatchedCredential(options azcore.ClientOptions) (*watchedCredential, error) {
	w := &watchedCredential{}
	options.PerRetryPolicies = append(slices.Clone(options.PerRetryPolicies), metadataWatch{w})
	listen(w)
	var err error
	if w.inner, err = f.newCredential(options); err != nil {
		return nil, err
	}
	return w, nil
}

// GetToken is azcore.TokenCredential's.
func (w *watchedCredential) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
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

// A metadataWatch is the part of a credential's pipeline that sees how the metadata service answers: a chain that goes
// on to the next credential tells nobody.
type metadataWatch struct{ credential *watchedCredential }

// metadataHost is the Instance Metadata Service's:
// https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service
const metadataHost = "169.254.169.254"

func (m metadataWatch) Do(request *policy.Request) (*http.Response, error) {
	response, err := request.Next()
	if request.Raw().URL.Hostname() == metadataHost {
		said := "no metadata service answers at " + metadataHost + ": this is no machine of Azure's, or it has no identity"
		if err == nil {
			said = fmt.Sprintf("the metadata service at %s answered %s", metadataHost, response.Status)
		}
		m.credential.mu.Lock()
		m.credential.machine = said
		m.credential.mu.Unlock()
	}
	return response, err
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
