package commands_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commands"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/signin"
)

func TestLoginServesTheOtherCommands(t *testing.T) {
	a, ada := commandtest.NewLaptop(t)
	a.SetTokenLife(4 * time.Minute) // which azidentity does not keep: each command renews
	got := commandtest.Run(t, a.System(), "login")
	require.Equal(t, diag.OK, got.Status, got.Stderr)
	assert.Equal(t, "Signed in as ada@example.com, tenant "+a.TenantID()+".\n", got.Stdout)

	dsn := a.Server.DSN(ada.Name)
	for _, args := range [][]string{{"check", dsn}, {"whoami"}, {"token"}, {"proxy", dsn, "--", "bash", "-c", ":"}} {
		got := commandtest.RunUnchecked(t.Context(), a.System(), args...)
		assert.Equal(t, diag.OK, got.Status, "%s: %s%s", args[0], got.Stdout, got.Stderr)
	}
	assert.Equal(t, 1, a.SignIns(), "nobody is asked again")

	got = commandtest.Run(t, a.System(), "whoami", "--json")
	require.Equal(t, diag.OK, got.Status, got.Stderr)
	var who map[string]string
	require.NoError(t, json.Unmarshal([]byte(got.Stdout), &who))
	assert.Equal(t, map[string]string{"credential": "aadpool login", "kind": "user", "role": ada.Name,
		"tenant_id": a.TenantID(), "object_id": ada.ObjectID, "scope": aadpooltest.DefaultAudience + "/.default",
		"expires_on": who["expires_on"]}, who)

	got = commandtest.Run(t, a.System(), "logout")
	require.Equal(t, diag.OK, got.Status, got.Stderr)
	var left []string
	for _, name := range []string{"XDG_CONFIG_HOME", "HOME"} {
		found, err := filepath.Glob(filepath.Join(os.Getenv(name), "*", "aadpool", "*"))
		require.NoError(t, err)
		left = append(left, found...)
	}
	assert.Empty(t, left)
	assert.Contains(t, commandtest.Run(t, a.System(), "logout").Stderr, "nobody was signed in")
}

func TestLoginFails(t *testing.T) {
	for _, row := range []struct {
		name  string
		spoil func(*testing.T, commandtest.Azure, aadpooltest.Principal)
		args  []string
		want  diag.Status
		says  string
	}{
		{"a policy", func(_ *testing.T, a commandtest.Azure, _ aadpooltest.Principal) {
			a.RefuseSignIns(53003, "Access has been blocked by Conditional Access policies.")
		}, nil, diag.Credential, "AADSTS53003: Access has been blocked by Conditional Access policies. A " +
			"Conditional Access policy blocks this login: by place, risk, device or app. To fix: have the tenant's " +
			"administrator look into the sign-in logs"},
		{"a person who declines", func(_ *testing.T, a commandtest.Azure, _ aadpooltest.Principal) {
			a.RefuseSignIns(65004, "User declined to consent to access the app.")
		}, nil, diag.Credential, "has declined. To fix: aadpool login"},
		{"no browser", func(t *testing.T, a commandtest.Azure, _ aadpooltest.Principal) {
			require.NoError(t, os.Remove(filepath.Join(a.Bin, "xdg-open")))
		}, nil, diag.Credential, "the credential device-code shows a code"},
		{"a credential without a person", nil, []string{"--credential", "managed-identity"}, diag.Usage,
			"aadpool login signs a person in"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, ada := commandtest.NewLaptop(t)
			if row.spoil != nil {
				row.spoil(t, a, ada)
			}
			got := commandtest.Run(t, a.System(), append([]string{"login"}, row.args...)...)
			assert.Equal(t, row.want, got.Status)
			assert.Contains(t, got.Stderr, row.says)
			_, kept, err := signin.Load()
			require.NoError(t, err)
			assert.False(t, kept)
		})
	}
}

func TestLoginWithoutADisplayShowsACode(t *testing.T) {
	a, ada := commandtest.NewLaptop(t)
	t.Setenv("DISPLAY", "")
	printed := &watchedBuffer{seen: func(text string) {
		if code := regexp.MustCompile(`enter the code (\w{9})\n`).FindStringSubmatch(text); code != nil {
			assert.NoError(t, a.EnterDeviceCode(code[1], ada.Name))
		}
	}}
	var stdout watchedBuffer
	status := commands.Run(t.Context(), []string{"login"}, &stdout, printed, a.System())
	require.Equal(t, diag.OK, status, printed.String())
	assert.Contains(t, printed.String(), "/devicelogin in a browser and enter the code ")
	assert.NotContains(t, printed.String(), "\x1b", "only a terminal has links")
	assert.Contains(t, stdout.String(), "Signed in as "+ada.Name)
}

// Some tenants take no device codes.
func TestLoginByACodeThatAPolicyForbids(t *testing.T) {
	for _, row := range []struct {
		number     int
		text, says string
	}{
		{53003, "Access has been blocked by Conditional Access policies.", "A Conditional Access policy blocks this login"},
		{530035, "Access has been blocked by security defaults.", "A security policy of the tenant"},
		{50199, "For security reasons, user confirmation is required for this request.", "a policy of the tenant, wants"},
	} {
		t.Run(strconv.Itoa(row.number), func(t *testing.T) {
			a, ada := commandtest.NewLaptop(t)
			a.RefuseSignIns(row.number, row.text)
			printed := &watchedBuffer{seen: func(text string) {
				if code := regexp.MustCompile(`enter the code (\w{9})\n`).FindStringSubmatch(text); code != nil {
					_ = a.EnterDeviceCode(code[1], ada.Name)
				}
			}}
			status := commands.Run(t.Context(), []string{"login", "--credential=device-code"}, io.Discard, printed, a.System())
			assert.Equal(t, diag.Credential, status)
			assert.Contains(t, printed.String(), fmt.Sprintf("AADSTS%d: %s", row.number, row.text))
			assert.Contains(t, printed.String(), row.says)
			assert.Contains(t, printed.String(), "To fix: aadpool login --credential browser")
		})
	}
}

// watchedBuffer tells of what is written to it.
type watchedBuffer struct {
	text []byte
	seen func(string)
}

func (w *watchedBuffer) Write(p []byte) (int, error) {
	w.text = append(w.text, p...)
	if w.seen != nil {
		w.seen(string(p))
	}
	return len(p), nil
}

func (w *watchedBuffer) String() string { return string(w.text) }

func TestSignInThatHasEnded(t *testing.T) {
	a, ada := commandtest.NewLaptop(t)
	a.SetTokenLife(time.Minute)
	require.Equal(t, diag.OK, commandtest.Run(t, a.System(), "login").Status)
	a.Revoke(ada.Name)
	a.Register(ada)
	got := commandtest.Run(t, a.System(), "check", a.Server.DSN(ada.Name))
	assert.Equal(t, diag.Credential, got.Status)
	assert.Contains(t, got.Stdout+got.Stderr, "aadpool login")
	assert.Equal(t, 1, a.SignIns(), "a command that is not login opens no browser by itself")
}

func TestCredentialsFlags(t *testing.T) {
	a := commandtest.New(t)
	p := a.Register(aadpooltest.Principal{Name: "deploy"})
	env := a.GitHubActionsEnv(p)
	delete(env, "AZURE_CLIENT_ID")
	delete(env, "AZURE_TENANT_ID")
	commandtest.Setenv(t, env)
	got := commandtest.Run(t, a.System(), "whoami", "--credential", "oidc-file,github-actions", "--client-id", p.ClientID,
		"--tenant-id", a.TenantID())
	require.Equal(t, diag.OK, got.Status, got.Stderr)
	assert.Regexp(t, `(?m)^role +deploy$`, got.Stdout)

	got = commandtest.Run(t, a.System(), "token", "--credential", "github-action")
	assert.Equal(t, diag.Usage, got.Status)
	assert.Contains(t, got.Stderr, "did you mean github-actions?")
}

// What the browser is given has a proof key, a loopback address to come back to, and whom to offer.
func TestTheAddressThatTheBrowserOpens(t *testing.T) {
	a := commandtest.New(t)
	opened := filepath.Join(t.TempDir(), "url")
	a.AddProgram(t, "xdg-open", `echo "$1" > '`+opened+`'`)
	t.Setenv("AZURE_AUTHORITY_HOST", a.URL())
	ended := make(chan commandtest.Output, 1)
	go func() {
		ended <- commandtest.Run(t, a.System(), "token", "--credential=browser", "--tenant-id="+a.TenantID(),
			"--login-hint=ada@example.com")
	}()
	var content []byte
	require.Eventually(t, func() bool {
		content, _ = os.ReadFile(opened)
		return strings.HasSuffix(string(content), "\n")
	}, time.Minute, 10*time.Millisecond, "the browser is opened")
	address, err := url.Parse(strings.TrimSpace(string(content)))
	require.NoError(t, err)
	query := address.Query()
	commandtest.Get(t, query.Get("redirect_uri")+"/?"+
		url.Values{"error": {"access_denied"}, "state": {query.Get("state")}}.Encode()) // the person declines
	http.DefaultClient.CloseIdleConnections()
	got := <-ended
	assert.Equal(t, diag.Credential, got.Status, got.Stderr)
	assert.Equal(t, "/"+a.TenantID()+"/oauth2/v2.0/authorize", address.Path)
	assert.Equal(t, "code", query.Get("response_type"))
	assert.Equal(t, "S256", query.Get("code_challenge_method"))
	assert.NotEmpty(t, query.Get("code_challenge"))
	assert.Regexp(t, `^http://localhost:\d+$`, query.Get("redirect_uri"))
	assert.Equal(t, "ada@example.com", query.Get("login_hint"))
}
