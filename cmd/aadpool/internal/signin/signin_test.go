package signin

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/credential"
)

var postgres = policy.TokenRequestOptions{Scopes: []string{aadpooltest.DefaultAudience + "/.default"}}

// newHome is a user's home that has nothing in it.
func newHome(t *testing.T) (home string) {
	t.Helper()
	home = t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(home, ".cache"))
	t.Cleanup(func() { _, _ = Forget() })
	return home
}

// newCredential is what another process would make of the sign-in.
func newCredential(t *testing.T, a *aadpooltest.Authority, s SignIn, silent bool) credential.SignInCredential {
	t.Helper()
	keyring, err := Keyring()
	if err != nil {
		t.Skip(err)
	}
	made, err := credential.New(credential.Settings{Name: credential.Browser, TenantID: a.TenantID(),
		ClientOptions: a.ClientOptions(), DisableInstanceDiscovery: true,
		SignIn: credential.SignIn{Record: s.Record, Cache: keyring, Silent: silent}})
	require.NoError(t, err)
	return made.(credential.SignInCredential)
}

// filesIn are all of them, with their paths.
func filesIn(t *testing.T, dir string) (files []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	}))
	return files
}

func TestSignInIsKept(t *testing.T) {
	home := newHome(t)
	a, err := aadpooltest.NewAuthority()
	require.NoError(t, err)
	t.Cleanup(a.Close)
	a.SetTokenLife(4 * time.Minute) // each token is asked for anew
	ada := a.Register(aadpooltest.Principal{Kind: aadpooltest.User, Name: "ada@example.com"})
	dir := t.TempDir()
	require.NoError(t, a.InstallBrowser(ada, dir))
	t.Setenv("PATH", dir)
	_, ok, err := Load()
	require.NoError(t, err)
	require.False(t, ok)

	record, err := newCredential(t, a, SignIn{}, false).Authenticate(t.Context(), &postgres)
	require.NoError(t, err)
	require.NoError(t, SignIn{credential.Browser, record}.Save())

	var token azcore.AccessToken
	for range 3 { // processes, later
		s, ok, err := Load()
		require.NoError(t, err)
		require.True(t, ok)
		assert.Equal(t, ada.Name, s.Record.Username)
		token, err = newCredential(t, a, s, true).GetToken(t.Context(), postgres)
		require.NoError(t, err)
	}
	assert.Equal(t, 1, a.SignIns())
	kept := filesIn(t, home)
	assert.NotEmpty(t, kept)
	for _, file := range kept {
		info, err := os.Stat(file)
		require.NoError(t, err)
		assert.Zero(t, info.Mode().Perm()&0o077, "%s can be read by others", file)
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.NotContains(t, string(content), token.Token)
		assert.NotContains(t, string(content), "refresh_token")
	}

	s, _, err := Load()
	require.NoError(t, err)
	found, err := Forget()
	require.NoError(t, err)
	assert.True(t, found)
	assert.Empty(t, filesIn(t, home))
	_, err = newCredential(t, a, s, true).GetToken(t.Context(), postgres)
	var required *azidentity.AuthenticationRequiredError
	require.ErrorAs(t, err, &required, "who has kept the record alone has nothing")
	found, err = Forget()
	require.NoError(t, err)
	assert.False(t, found, "the test for a keyring leaves nothing")
}

func TestRecordThatCannotBeRead(t *testing.T) {
	newHome(t)
	require.NoError(t, SignIn{Credential: credential.Browser}.Save())
	_, _, err := Load()
	require.ErrorContains(t, err, "aadpool logout removes it", "a record of azidentity's has a version")
	_, err = Forget()
	require.NoError(t, err)
	_, ok, err := Load()
	require.NoError(t, err)
	assert.False(t, ok)
}

func TestAProgramWithoutTheKeychainSaysHowToGetOneThatHasIt(t *testing.T) {
	assert.ErrorIs(t, noKeyring("darwin"), ErrNoKeyring)
	assert.ErrorContains(t, noKeyring("darwin"), "Homebrew and go install")
	assert.NotContains(t, noKeyring("freebsd").Error(), "Keychain")
}
