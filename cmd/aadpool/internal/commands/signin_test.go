package commands

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/signin"
)

// newLaptop is Azure with a person, Ada, at a laptop that has a browser and a keyring.
func newLaptop(t *testing.T) (azure, aadpooltest.Principal) {
	t.Helper()
	a := newAzure(t)
	ada := a.Register(aadpooltest.Principal{Kind: aadpooltest.User, Name: "ada@example.com"})
	require.NoError(t, a.InstallBrowser(ada, a.bin))
	setenv(t, map[string]string{"DISPLAY": ":0", "AZURE_AUTHORITY_HOST": a.URL(), "AZURE_TENANT_ID": a.TenantID()})
	if _, err := signin.Keyring(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _, _ = signin.Forget() })
	return a, ada
}

func TestLoginServesTheOtherCommands(t *testing.T) {
	a, ada := newLaptop(t)
	a.SetTokenLife(4 * time.Minute) // which azidentity does not keep: each command renews
	got := runCommand(t, a.system(), "login")
	require.Equal(t, exitOK, got.status, got.stderr)
	assert.Equal(t, "Signed in as ada@example.com, tenant "+a.TenantID()+".\n", got.stdout)

	dsn := a.server.DSN(ada.Name)
	for _, args := range [][]string{{"check", dsn}, {"whoami"}, {"token"}, {"proxy", dsn, "--", "bash", "-c", ":"}} {
		got := runUnchecked(t.Context(), a.system(), args...)
		assert.Equal(t, exitOK, got.status, "%s: %s%s", args[0], got.stdout, got.stderr)
	}
	assert.Equal(t, 1, a.SignIns(), "nobody is asked again")

	got = runCommand(t, a.system(), "whoami", "--json")
	require.Equal(t, exitOK, got.status, got.stderr)
	var who identity
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &who))
	assert.Equal(t, identity{"aadpool login", "user", ada.Name, a.TenantID(), ada.ObjectID,
		aadpooltest.DefaultAudience + "/.default", who.ExpiresOn}, who)

	got = runCommand(t, a.system(), "logout")
	require.Equal(t, exitOK, got.status, got.stderr)
	var left []string
	for _, name := range []string{"XDG_CONFIG_HOME", "HOME"} {
		found, err := filepath.Glob(filepath.Join(os.Getenv(name), "*", "aadpool", "*"))
		require.NoError(t, err)
		left = append(left, found...)
	}
	assert.Empty(t, left)
	assert.Contains(t, runCommand(t, a.system(), "logout").stderr, "nobody was signed in")
}

func TestLoginFails(t *testing.T) {
	for _, row := range []struct {
		name  string
		spoil func(*testing.T, azure, aadpooltest.Principal)
		args  []string
		want  exitStatus
		says  string
	}{
		{"a policy", func(_ *testing.T, a azure, _ aadpooltest.Principal) {
			a.RefuseSignIns(53003, "Access has been blocked by Conditional Access policies.")
		}, nil, exitCredential, "AADSTS53003"},
		{"no browser", func(t *testing.T, a azure, _ aadpooltest.Principal) {
			require.NoError(t, os.Remove(filepath.Join(a.bin, "xdg-open")))
		}, nil, exitCredential, "the credential device-code shows a code"},
		{"a credential without a person", nil, []string{"--credential", "managed-identity"}, exitUsage,
			"aadpool login signs a person in"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, ada := newLaptop(t)
			if row.spoil != nil {
				row.spoil(t, a, ada)
			}
			got := runCommand(t, a.system(), append([]string{"login"}, row.args...)...)
			assert.Equal(t, row.want, got.status)
			assert.Contains(t, got.stderr, row.says)
			_, kept, err := signin.Load()
			require.NoError(t, err)
			assert.False(t, kept)
		})
	}
}

func TestLoginWithoutADisplayShowsACode(t *testing.T) {
	a, ada := newLaptop(t)
	t.Setenv("DISPLAY", "")
	printed := &watchedBuffer{seen: func(text string) {
		if code := regexp.MustCompile(`enter the code (\w{9})\n`).FindStringSubmatch(text); code != nil {
			assert.NoError(t, a.EnterDeviceCode(code[1], ada.Name))
		}
	}}
	var stdout watchedBuffer
	status := Run(t.Context(), []string{"login"}, &stdout, printed, a.system())
	require.Equal(t, exitOK, status, printed.String())
	assert.Contains(t, printed.String(), "/devicelogin in a browser and enter the code ")
	assert.NotContains(t, printed.String(), "\x1b", "only a terminal has links")
	assert.Contains(t, stdout.String(), "Signed in as "+ada.Name)
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
	a, ada := newLaptop(t)
	a.SetTokenLife(time.Minute)
	require.Equal(t, exitOK, runCommand(t, a.system(), "login").status)
	a.Revoke(ada.Name)
	a.Register(ada)
	got := runCommand(t, a.system(), "check", a.server.DSN(ada.Name))
	assert.Equal(t, exitCredential, got.status)
	assert.Contains(t, got.stdout+got.stderr, "aadpool login")
	assert.Equal(t, 1, a.SignIns(), "a command that is not login opens no browser by itself")
}

func TestCredentialsFlags(t *testing.T) {
	a := newAzure(t)
	p := a.Register(aadpooltest.Principal{Name: "deploy"})
	env := a.GitHubActionsEnv(p)
	delete(env, "AZURE_CLIENT_ID")
	delete(env, "AZURE_TENANT_ID")
	setenv(t, env)
	got := runCommand(t, a.system(), "whoami", "--credential", "oidc-file,github-actions", "--client-id", p.ClientID,
		"--tenant-id", a.TenantID())
	require.Equal(t, exitOK, got.status, got.stderr)
	assert.Regexp(t, `(?m)^role +deploy$`, got.stdout)

	got = runCommand(t, a.system(), "token", "--credential", "github-action")
	assert.Equal(t, exitUsage, got.status)
	assert.Contains(t, got.stderr, "did you mean github-actions?")
}
