package credential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// SignIn is what the credentials of a user who signs in need beyond settings. The zero value asks the user at the first
// token, and keeps what renews it in memory.
type SignIn struct {
	// Record and Cache are of an earlier sign-in, which is used while it lasts.
	Record azidentity.AuthenticationRecord
	Cache  azidentity.Cache
	// Silent: the user is not asked. Where the earlier sign-in has ended, there is an
	// azidentity.AuthenticationRequiredError.
	Silent bool
	// Prompt shows a device code's message. Default: on standard error.
	Prompt func(context.Context, azidentity.DeviceCodeMessage) error
}

// A SignInCredential is one whose user can be asked to sign in.
type SignInCredential interface {
	azcore.TokenCredential
	Authenticate(context.Context, *policy.TokenRequestOptions) (azidentity.AuthenticationRecord, error)
}

// SignInTimeout is how long a person may take: as long as Entra lets a device code stand,
// https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code#device-authorization-response
const SignInTimeout = 15 * time.Minute

// IsSignIn reports whether a credential of that name may ask a user, who takes minutes.
func IsSignIn(name string) bool {
	links := strings.Split(name, ",")
	return slices.Contains(links, Browser) || slices.Contains(links, DeviceCode)
}

// newBrowser opens the user's browser at Entra's page, and gets the code back on a loopback port, with PKCE.
func (s Settings) newBrowser() (azcore.TokenCredential, error) {
	inner, err := azidentity.NewInteractiveBrowserCredential(&azidentity.InteractiveBrowserCredentialOptions{
		ClientOptions: s.ClientOptions, ClientID: s.ClientID, TenantID: or(s.TenantID, tenantEnv), LoginHint: s.LoginHint,
		AuthenticationRecord: s.SignIn.Record, Cache: s.SignIn.Cache,
		DisableAutomaticAuthentication: s.SignIn.Silent, DisableInstanceDiscovery: s.DisableInstanceDiscovery})
	if err != nil {
		return nil, err
	}
	return browser{inner}, nil
}

// browser says what to do where there is none to open.
type browser struct{ SignInCredential }

func (b browser) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := b.SignInCredential.GetToken(ctx, options)
	return token, withoutBrowser(err)
}

func (b browser) Authenticate(
	ctx context.Context, options *policy.TokenRequestOptions,
) (azidentity.AuthenticationRecord, error) {
	record, err := b.SignInCredential.Authenticate(ctx, options)
	return record, withoutBrowser(err)
}

// ErrNoBrowser is the cause where no browser can be opened.
var ErrNoBrowser = errors.New("there is no browser here to open: the credential device-code shows a code to enter on " +
	"another machine")

// withoutBrowser goes by the words of os/exec, which MSAL and azidentity pass on without the error itself.
func withoutBrowser(err error) error {
	if err != nil && strings.Contains(err.Error(), "executable file not found") {
		return ErrNoBrowser
	}
	return err
}

// newDeviceCode shows a code, which the user enters in a browser anywhere.
func (s Settings) newDeviceCode() (azcore.TokenCredential, error) {
	prompt := s.SignIn.Prompt
	if prompt == nil {
		prompt = func(_ context.Context, m azidentity.DeviceCodeMessage) error {
			_, err := fmt.Fprintln(os.Stderr, m.Message)
			return err
		}
	}
	watch := &refusalWatch{}
	options := s.ClientOptions
	options.PerRetryPolicies = append(slices.Clone(options.PerRetryPolicies), watch)
	inner, err := azidentity.NewDeviceCodeCredential(&azidentity.DeviceCodeCredentialOptions{
		ClientOptions: options, ClientID: s.ClientID, TenantID: or(s.TenantID, tenantEnv), UserPrompt: prompt,
		AuthenticationRecord: s.SignIn.Record, Cache: s.SignIn.Cache,
		DisableAutomaticAuthentication: s.SignIn.Silent, DisableInstanceDiscovery: s.DisableInstanceDiscovery})
	if err != nil {
		return nil, err
	}
	return deviceCode{inner, watch}, nil
}

// deviceCode says what Entra has answered. MSAL reads the body of a refused poll, so that azidentity's error has none.
type deviceCode struct {
	SignInCredential
	watch *refusalWatch
}

func (d deviceCode) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	d.watch.set("")
	token, err := d.SignInCredential.GetToken(ctx, options)
	return token, d.withRefusal(err)
}

func (d deviceCode) Authenticate(
	ctx context.Context, options *policy.TokenRequestOptions,
) (azidentity.AuthenticationRecord, error) {
	d.watch.set("")
	record, err := d.SignInCredential.Authenticate(ctx, options)
	return record, d.withRefusal(err)
}

func (d deviceCode) withRefusal(err error) error {
	if refusal := d.watch.get(); err != nil && refusal != "" && !strings.Contains(err.Error(), refusal) {
		return fmt.Errorf("%s: %w", refusal, err)
	}
	return err
}

// refusalWatch keeps Entra's last refusal of a poll.
type refusalWatch struct {
	mu   sync.Mutex // guards text
	text string
}

func (w *refusalWatch) set(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = text
}

func (w *refusalWatch) get() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text
}

// Do is policy.Policy's.
func (w *refusalWatch) Do(request *policy.Request) (*http.Response, error) {
	response, err := request.Next()
	if err != nil || response.StatusCode != http.StatusBadRequest {
		return response, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAssertion))
	if err != nil {
		return response, nil // whoever reads on meets the error
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), response.Body), response.Body}
	var refusal struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &refusal) == nil && refusal.Code != "" {
		w.set(strings.TrimSuffix(refusal.Code+": "+refusal.Description, ": "))
	}
	return response, nil
}
