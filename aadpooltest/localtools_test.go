package aadpooltest

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAzureCLI(t *testing.T) {
	a := newAuthority(t)
	p := a.Register(Principal{Kind: User, Name: "ada@example.com"})
	dir := t.TempDir()
	require.NoError(t, a.InstallAzureCLI(p, dir))
	getAccessToken := func(arguments ...string) []string {
		return append([]string{"account", "get-access-token"}, arguments...)
	}
	for _, tt := range []struct {
		name      string
		arguments []string
		audience  string // of the token
		fails     string // what standard error says where there is no token
	}{
		{name: "--resource", arguments: getAccessToken("-o", "json", "--resource", DefaultAudience),
			audience: DefaultAudience},
		{name: "--resource=", arguments: getAccessToken("--resource=" + DefaultAudience), audience: DefaultAudience},
		{name: "--scope", arguments: getAccessToken("--scope", DefaultAudience+"/.default"), audience: DefaultAudience},
		{name: "--tenant", arguments: getAccessToken("--resource", DefaultAudience, "--tenant", a.TenantID()),
			audience: DefaultAudience},
		{name: "--subscription, which may have spaces", arguments: getAccessToken("--subscription", "Pay as you go",
			"--resource", DefaultAudience), audience: DefaultAudience},
		{name: "no resource", arguments: getAccessToken(), audience: "https://management.core.windows.net/"},
		{name: "another tenant", arguments: getAccessToken("--tenant", "contoso.example"), fails: "AADSTS90002"},
		{name: "a resource that would end the request's line", arguments: getAccessToken("--resource", "x\r\ny"),
			fails: "line break"},
		{name: "an unknown argument", arguments: getAccessToken("--debug"), fails: "unrecognized argument: --debug"},
		{name: "another command", arguments: []string{"login"}, fails: "az account get-access-token"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			output, err := exec.CommandContext(t.Context(), filepath.Join(dir, "az"), tt.arguments...).Output()
			if tt.fails != "" {
				var exit *exec.ExitError
				require.ErrorAs(t, err, &exit)
				assert.Contains(t, string(exit.Stderr), tt.fails)
				assert.Empty(t, output)
				return
			}
			require.NoError(t, err)
			var got struct {
				AccessToken string `json:"accessToken"`
				ExpiresOn   string `json:"expiresOn"`
				Epoch       int64  `json:"expires_on"`
				Tenant      string `json:"tenant"`
			}
			require.NoError(t, json.Unmarshal(output, &got))
			claims, err := a.Verify(got.AccessToken, tt.audience)
			require.NoError(t, err)
			assert.Equal(t, p.Name, claims.Name)
			assert.Equal(t, claims.ExpiresAt.Unix(), got.Epoch)
			local, err := time.ParseInLocation("2006-01-02 15:04:05.999999", got.ExpiresOn, time.Local)
			require.NoError(t, err)
			assert.Equal(t, got.Epoch, local.Unix())
			assert.Equal(t, a.TenantID(), got.Tenant)
		})
	}
	t.Run("a user who was revoked", func(t *testing.T) {
		a.Revoke(p.Name)
		_, err := exec.CommandContext(t.Context(), filepath.Join(dir, "az"), getAccessToken()...).Output()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		assert.Contains(t, string(exit.Stderr), "ERROR: AADSTS50057: The user account is disabled.")
	})
}
