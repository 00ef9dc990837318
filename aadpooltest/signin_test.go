package aadpooltest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newUser is an authority with a user, Ada, whose browser is the one that PATH has.
func newUser(t *testing.T) (*Authority, Principal) {
	t.Helper()
	a := newAuthority(t)
	ada := a.Register(Principal{Kind: User, Name: "ada@example.com"})
	dir := t.TempDir()
	require.NoError(t, a.InstallBrowser(ada, dir))
	t.Setenv("PATH", dir)
	return a, ada
}

// newBrowserCredential is azidentity's, changed by the options.
func newBrowserCredential(
	t *testing.T, a *Authority, change ...func(*azidentity.InteractiveBrowserCredentialOptions),
) *azidentity.InteractiveBrowserCredential {
	t.Helper()
	options := azidentity.InteractiveBrowserCredentialOptions{
		ClientOptions: a.ClientOptions(), DisableInstanceDiscovery: true}
	for _, f := range change {
		f(&options)
	}
	cred, err := azidentity.NewInteractiveBrowserCredential(&options)
	require.NoError(t, err)
	return cred
}

func TestBrowserSignsAUserIn(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*Authority, *azidentity.InteractiveBrowserCredentialOptions)
		client string
	}{
		{"any tenant", func(*Authority, *azidentity.InteractiveBrowserCredentialOptions) {}, azureCLIClientID},
		{"the tenant", func(a *Authority, o *azidentity.InteractiveBrowserCredentialOptions) {
			o.TenantID = a.TenantID()
		}, azureCLIClientID},
		{"an application of one's own", func(a *Authority, o *azidentity.InteractiveBrowserCredentialOptions) {
			o.ClientID = a.Register(Principal{Name: "orders-desktop", ClientID: "99999999-0000-4000-8000-000000000000"}).ClientID
		}, "99999999-0000-4000-8000-000000000000"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, ada := newUser(t)
			cred := newBrowserCredential(t, a, func(o *azidentity.InteractiveBrowserCredentialOptions) { row.change(a, o) })

			token, err := cred.GetToken(t.Context(), postgresToken)

			require.NoError(t, err)
			claims, err := a.Verify(token.Token, DefaultAudience)
			require.NoError(t, err)
			assert.Equal(t, ada.Name, claims.Name)
			assert.Equal(t, row.client, claims.ClientID)
			assert.Equal(t, 1, a.SignIns())
		})
	}
}

// MSAL's server closes a connection that has sent nothing for a second.
func TestBrowserSendsItsAnswerAgain(t *testing.T) {
	got, answers := make(chan url.Values, 2), make(chan bool, 2)
	answers <- false
	answers <- true
	client := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		assert.NoError(t, r.ParseForm())
		got <- r.PostForm
		if !<-answers {
			panic(http.ErrAbortHandler) // the connection ends
		}
	}))
	defer client.Close()
	form := url.Values{"code": {"x"}}
	require.NoError(t, postBack(t.Context(), client.URL, form))
	assert.Equal(t, []url.Values{form, form}, []url.Values{<-got, <-got})
}

func TestSignInIsRenewedWithoutTheUser(t *testing.T) {
	a, ada := newUser(t)
	a.SetTokenLife(time.Minute) // azidentity asks again for a token that has less than five minutes left
	cred := newBrowserCredential(t, a)
	record, err := cred.Authenticate(t.Context(), &postgresToken)
	require.NoError(t, err)
	assert.Equal(t, ada.Name, record.Username)
	assert.Equal(t, a.TenantID(), record.TenantID)
	for range 3 {
		_, err := cred.GetToken(t.Context(), postgresToken)
		require.NoError(t, err)
	}
	assert.Equal(t, 1, a.SignIns())
	assert.Equal(t, 4, a.Requests())

	a.Revoke(ada.Name)
	_, err = cred.GetToken(t.Context(), postgresToken)
	require.ErrorContains(t, err, "AADSTS50057")
	a.Register(ada)
	_, err = cred.GetToken(t.Context(), postgresToken)
	require.NoError(t, err)
	assert.Equal(t, 3, a.SignIns(), "what she renewed with is gone: she signs in again")
}

func TestSignInFails(t *testing.T) {
	for _, row := range []struct {
		name  string
		spoil func(*Authority, Principal)
		want  string
	}{
		{"a policy", func(a *Authority, _ Principal) {
			a.RefuseSignIns(53003, "Access has been blocked by Conditional Access policies.")
		}, "AADSTS53003"},
		{"the account is disabled", func(a *Authority, p Principal) { a.Revoke(p.Name) }, "AADSTS50057"},
	} {
		t.Run("by browser: "+row.name, func(t *testing.T) {
			a, ada := newUser(t)
			row.spoil(a, ada)
			_, err := newBrowserCredential(t, a).GetToken(t.Context(), postgresToken)
			require.ErrorContains(t, err, row.want)
		})
		t.Run("by device code: "+row.name, func(t *testing.T) {
			a, ada := newUser(t)
			row.spoil(a, ada)
			_, err := signInByDeviceCode(t, a, func(code string) {
				assert.ErrorContains(t, a.EnterDeviceCode(code, ada.Name), row.want)
			})
			require.ErrorContains(t, err, "400 Bad Request", "MSAL for Go has read the answer, and azidentity shows no body")
		})
	}
}

// signInByDeviceCode has azidentity's credential ask for a code, and enter read it.
func signInByDeviceCode(t *testing.T, a *Authority, enter func(userCode string)) (Claims, error) {
	t.Helper()
	return signInByDeviceCodeWith(t, a, a.ClientOptions(), enter)
}

func signInByDeviceCodeWith(t *testing.T, a *Authority, options azcore.ClientOptions,
	enter func(userCode string)) (Claims, error) {
	t.Helper()
	cred, err := azidentity.NewDeviceCodeCredential(&azidentity.DeviceCodeCredentialOptions{
		ClientOptions: options, DisableInstanceDiscovery: true,
		UserPrompt: func(_ context.Context, m azidentity.DeviceCodeMessage) error {
			assert.Contains(t, m.Message, m.VerificationURL)
			assert.Contains(t, m.Message, m.UserCode)
			enter(m.UserCode)
			return nil
		}})
	require.NoError(t, err)
	token, err := cred.GetToken(t.Context(), postgresToken)
	if err != nil {
		return Claims{}, err
	}
	return a.Verify(token.Token, DefaultAudience)
}

// answers is a policy of azcore's that tells of an answer to a request for a token.
type answers chan struct{}

func (c answers) Do(r *policy.Request) (*http.Response, error) {
	response, err := r.Next()
	if strings.HasSuffix(r.Raw().URL.Path, "/token") {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	return response, err
}

func TestDeviceCode(t *testing.T) {
	t.Run("entered at once", func(t *testing.T) {
		a, ada := newUser(t)
		claims, err := signInByDeviceCode(t, a, func(code string) { assert.NoError(t, a.EnterDeviceCode(code, ada.Name)) })
		require.NoError(t, err)
		assert.Equal(t, ada.Name, claims.Name)
	})
	t.Run("entered while the client polls", func(t *testing.T) {
		a, ada := newUser(t)
		answered := make(answers, 1)
		options := a.ClientOptions()
		options.PerRetryPolicies = append(options.PerRetryPolicies, answered)
		claims, err := signInByDeviceCodeWith(t, a, options, func(code string) {
			go func() {
				<-answered // a first poll
				assert.NoError(t, a.EnterDeviceCode(code, ada.Name))
			}()
		})
		require.NoError(t, err)
		assert.Equal(t, ada.Name, claims.Name)
		assert.GreaterOrEqual(t, a.Requests(), 2)
	})
	t.Run("declined", func(t *testing.T) {
		a, _ := newUser(t)
		_, err := signInByDeviceCode(t, a, func(code string) { assert.NoError(t, a.EnterDeviceCode(code, "")) })
		require.ErrorContains(t, err, "400 Bad Request")
	})
	t.Run("never entered", func(t *testing.T) {
		a, ada := newUser(t)
		a.SetDeviceCodeLife(0)
		_, err := signInByDeviceCode(t, a, func(code string) {
			assert.ErrorContains(t, a.EnterDeviceCode(code, ada.Name), "AADSTS70018", "too late")
		})
		require.Error(t, err)
	})
	t.Run("mistyped", func(t *testing.T) {
		a, ada := newUser(t)
		require.ErrorContains(t, a.EnterDeviceCode("ABCDEFGHI", ada.Name), "AADSTS70018")
	})
	t.Run("nobody of that name", func(t *testing.T) {
		a, ada := newUser(t)
		_, err := signInByDeviceCode(t, a, func(code string) {
			assert.ErrorContains(t, a.EnterDeviceCode(code, "eve@example.com"), "AADSTS50034")
			assert.NoError(t, a.EnterDeviceCode(code, ada.Name), "she can still enter it")
		})
		require.NoError(t, err)
	})
}

// A poll by hand, for clients that heed the interval.
func TestDeviceCodeAnswers(t *testing.T) {
	a, ada := newUser(t)
	started := postForm(t, a, "organizations/oauth2/v2.0/devicecode", url.Values{"client_id": {azureCLIClientID}})
	require.Equal(t, http.StatusOK, started.status)
	assert.InDelta(t, 900, started.body["expires_in"], 0)
	assert.InDelta(t, 5, started.body["interval"], 0)
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {azureCLIClientID},
		"device_code": {started.body["device_code"].(string)}, "scope": {DefaultAudience + "/.default"}}
	poll := func() entraAnswer { return postForm(t, a, "organizations/oauth2/v2.0/token", form) }

	assert.Equal(t, "authorization_pending", poll().body["error"])
	a.mu.Lock()
	a.signIns.devices[form.Get("device_code")].polled = time.Now().Add(time.Hour) // a moment ago, however slow this is
	a.mu.Unlock()
	assert.Equal(t, "slow_down", poll().body["error"])
	require.NoError(t, a.EnterDeviceCode(started.body["user_code"].(string), ""))
	assert.Equal(t, "authorization_declined", poll().body["error"])

	started = postForm(t, a, "organizations/oauth2/v2.0/devicecode", url.Values{"client_id": {azureCLIClientID}})
	form.Set("device_code", started.body["device_code"].(string))
	require.NoError(t, a.EnterDeviceCode(started.body["user_code"].(string), ada.Name))
	got := poll()
	require.Equal(t, http.StatusOK, got.status, got.body)
	assert.NotContains(t, got.body, "refresh_token", "offline_access was not asked for")
	assert.Equal(t, "invalid_grant", poll().body["error"], "a code is good once")
	started = postForm(t, a, "organizations/oauth2/v2.0/devicecode", url.Values{"client_id": {"x"}})
	assert.Equal(t, []any{700016.0}, started.body["error_codes"])
}

// authorizationQuery is what a public client asks the page with.
func authorizationQuery() url.Values {
	return url.Values{
		"client_id":             {azureCLIClientID},
		"response_type":         {"code"},
		"redirect_uri":          {"http://localhost:1"},
		"scope":                 {DefaultAudience + "/.default openid"},
		"state":                 {`"><script>`},
		"code_challenge":        {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, // RFC 7636, appendix B
		"code_challenge_method": {"S256"},
		"login_hint":            {"ada@example.com"},
	}
}

func TestSignInPageRefuses(t *testing.T) {
	a, _ := newUser(t)
	for _, row := range []struct{ name, parameter, value, want string }{
		{"no client", "client_id", "", "AADSTS900144"},
		{"an unknown client", "client_id", "x", "AADSTS700016"},
		{"a redirect elsewhere", "redirect_uri", "https://attacker.example", "AADSTS50011"},
		{"a redirect with a user before the host", "redirect_uri", "http://localhost@attacker.example", "AADSTS50011"},
		{"a redirect to a host that begins like loopback", "redirect_uri", "http://localhost.attacker.example",
			"AADSTS50011"},
		{"an implicit grant", "response_type", "token", "AADSTS900144"},
		{"no proof key", "code_challenge", "", "AADSTS900144"},
		{"a plain proof key", "code_challenge_method", "plain", "AADSTS900144"},
		{"no scope", "scope", "openid", "AADSTS1002012"},
	} {
		t.Run(row.name, func(t *testing.T) {
			query := authorizationQuery()
			query.Set(row.parameter, row.value)
			got := get(t, a, "organizations/oauth2/v2.0/authorize?"+query.Encode())
			assert.Equal(t, http.StatusBadRequest, got.status)
			assert.Contains(t, got.body["text"], row.want)
		})
	}
}

// The page as a browser without scripts goes through it.
func TestSignInPageByHand(t *testing.T) {
	a, ada := newUser(t)
	query := authorizationQuery()
	page := get(t, a, "organizations/oauth2/v2.0/authorize?"+query.Encode())
	require.Equal(t, http.StatusOK, page.status)
	text := page.body["text"].(string)
	assert.Contains(t, text, `value="ada@example.com" autofocus`)
	assert.NotContains(t, text, "<script>", "what the client says is shown, not run")

	answers := httptest.NewRecorder()
	choose := func(user string) *url.URL {
		form := authorizationQuery()
		form.Set("user", user)
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answers = httptest.NewRecorder()
		a.signInAtPage(answers, r)
		require.Equal(t, http.StatusFound, answers.Code)
		location, err := url.Parse(answers.Header().Get("Location"))
		require.NoError(t, err)
		assert.Equal(t, query.Get("state"), location.Query().Get("state"))
		return location
	}
	assert.Equal(t, "access_denied", choose("").Query().Get("error"), "cancelled")
	assert.Contains(t, choose("eve@example.com").Query().Get("error_description"), "AADSTS50034")

	redeem := func(code, verifier string) entraAnswer {
		return postForm(t, a, "organizations/oauth2/v2.0/token", url.Values{"grant_type": {"authorization_code"},
			"code": {code}, "code_verifier": {verifier}, "client_id": {azureCLIClientID},
			"redirect_uri": {"http://localhost:1"}, "scope": {DefaultAudience + "/.default"}})
	}
	const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	code := choose(ada.Name).Query().Get("code")
	assert.Equal(t, []any{501481.0}, redeem(code, "another").body["error_codes"])
	assert.Equal(t, "invalid_grant", redeem(code, verifier).body["error"], "a code is good once")
	assert.Equal(t, http.StatusOK, redeem(choose(ada.Name).Query().Get("code"), verifier).status)
}

func TestDevicePageByHand(t *testing.T) {
	a, ada := newUser(t)
	page := get(t, a, strings.TrimPrefix(deviceLoginPath, "/"))
	assert.Contains(t, page.body["text"], `name="user_code"`)
	claims, err := signInByDeviceCode(t, a, func(code string) {
		got := postForm(t, a, strings.TrimPrefix(deviceLoginPath, "/"), url.Values{"user_code": {code}, "user": {ada.Name}})
		assert.Regexp(t, regexp.MustCompile(`You have signed in`), got.body["text"])
	})
	require.NoError(t, err)
	assert.Equal(t, ada.Name, claims.Name)
}

func TestGitHubActionsAssertion(t *testing.T) {
	a := newAuthority(t)
	p := a.Register(Principal{Name: "deploy"})
	env := a.GitHubActionsEnv(p)
	for _, row := range []struct {
		name, secret, audience string
		status                 int
		want                   string
	}{
		{"for Entra", env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"], assertionAudience, 200, ""},
		{"another audience", env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"], "sts.amazonaws.com", 200, "AADSTS700212"},
		{"without the permission", "", assertionAudience, 401, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
				env["ACTIONS_ID_TOKEN_REQUEST_URL"]+"&audience="+url.QueryEscape(row.audience), nil)
			require.NoError(t, err)
			r.Header.Set("Authorization", "bearer "+row.secret)
			got := ask(t, a, r)
			require.Equal(t, row.status, got.status)
			if row.status != http.StatusOK {
				return
			}
			cred, err := azidentity.NewClientAssertionCredential(a.TenantID(), p.ClientID,
				func(context.Context) (string, error) { return got.body["value"].(string), nil },
				&azidentity.ClientAssertionCredentialOptions{ClientOptions: a.ClientOptions(), DisableInstanceDiscovery: true})
			require.NoError(t, err)
			_, err = cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{DefaultAudience + "/.default"}})
			if row.want != "" {
				require.ErrorContains(t, err, row.want)
				return
			}
			require.NoError(t, err)
		})
	}
}

func TestAzureDeveloperCLIAndPowerShell(t *testing.T) {
	a := newAuthority(t)
	ada := a.Register(Principal{Kind: User, Name: "ada@example.com"})
	dir := t.TempDir()
	require.NoError(t, a.InstallAzureDeveloperCLI(ada, dir))
	require.NoError(t, a.InstallAzurePowerShell(ada, dir))
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	azd, err := azidentity.NewAzureDeveloperCLICredential(
		&azidentity.AzureDeveloperCLICredentialOptions{TenantID: a.TenantID()})
	require.NoError(t, err)
	powerShell, err := azidentity.NewAzurePowerShellCredential(
		&azidentity.AzurePowerShellCredentialOptions{TenantID: a.TenantID()})
	require.NoError(t, err)
	for name, cred := range map[string]azcore.TokenCredential{"azd": azd, "PowerShell": powerShell} {
		t.Run(name, func(t *testing.T) {
			token, err := getToken(t, cred)
			require.NoError(t, err)
			claims, err := a.Verify(token.Token, DefaultAudience)
			require.NoError(t, err)
			assert.Equal(t, ada.Name, claims.Name)
			a.Revoke(ada.Name)
			defer a.Register(ada)
			_, err = getToken(t, cred)
			require.ErrorContains(t, err, "AADSTS50057")
		})
	}
}
