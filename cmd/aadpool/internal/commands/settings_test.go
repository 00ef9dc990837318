package commands

import (
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// A credential's settings come by flag, by variable and in the DSN, as what they are called says.
func TestSettingsOfCredentials(t *testing.T) {
	const id = "99999999-2222-3333-4444-555555555555"
	for _, row := range []struct {
		flag, value string
		variable    string // empty: that of the flag's name
		parameter   string // empty: that of the flag's name; -: it has no place in a DSN
		want        tokens.Flags
	}{
		{"credential", "oidc-file,azd", "", "", tokens.Flags{Credential: "oidc-file,azd"}},
		{"client-id", id, "", "", tokens.Flags{ClientID: id}},
		{"tenant-id", "contoso.com", "", "", tokens.Flags{TenantID: "contoso.com"}},
		{"login-hint", "ada@contoso.com", "", "", tokens.Flags{LoginHint: "ada@contoso.com"}},
		{"oidc-token-file", "/run/token", "", "", tokens.Flags{OIDCTokenFile: "/run/token"}},
		{"client-certificate", "/run/app.pem", "", "", tokens.Flags{ClientCertificate: "/run/app.pem"}},
		{"scope", "https://example/.default", "", "", tokens.Flags{Scope: "https://example/.default"}},
		{"timeout", "45s", "", "token_timeout", tokens.Flags{Timeout: 45 * time.Second}},
		{"disable-instance-discovery", "true", "", "-", tokens.Flags{DisableInstanceDiscovery: true}},
	} {
		t.Run(row.flag, func(t *testing.T) {
			azuretest.ClearPGEnv(t)
			want := row.want
			if want.Credential == "" {
				want.Credential = "default"
			}
			if want.Timeout == 0 {
				want.Timeout = tokens.DefaultTimeout
			}
			assert.Equal(t, want, flagsOf(t, "--"+row.flag+"="+row.value), "by flag")

			dsn := "postgres://ada@orders.postgres.database.azure.com/orders"
			if row.parameter != "-" {
				name := row.parameter
				if name == "" {
					name = strings.ReplaceAll(row.flag, "-", "_")
				}
				given := flagsOf(t)
				given.FillFrom(dsn + "?" + name + "=" + row.value)
				assert.Equal(t, want, given, "in the DSN")
			}
			other := flagsOf(t, "--"+row.flag+"="+row.value)
			other.FillFrom(dsn + "?credential=cli&client_id=88888888-2222-3333-4444-555555555555&tenant_id=other&" +
				"login_hint=other&oidc_token_file=other&client_certificate=other&token_timeout=7s&scope=https%3A%2F%2Fother")
			assert.Equal(t, 1, agreements(want, other), "a flag wins over the DSN, which says all others")

			t.Setenv("AADPOOL_"+strings.ToUpper(strings.ReplaceAll(row.flag, "-", "_")), row.value)
			assert.Equal(t, want, flagsOf(t), "by variable")
		})
	}
}

// flagsOf are those that aadpool token gets.
func flagsOf(t *testing.T, args ...string) tokens.Flags {
	t.Helper()
	chosen, err := parse(append([]string{"token"}, args...), io.Discard)
	require.NoError(t, err)
	return chosen.(*tokenCommand).Flags
}

// agreements counts the settings, of those that are no defaults, that both have.
func agreements(a, b tokens.Flags) (n int) {
	for _, same := range []bool{
		a.Credential != "default" && a.Credential == b.Credential, a.ClientID != "" && a.ClientID == b.ClientID,
		a.TenantID != "" && a.TenantID == b.TenantID, a.LoginHint != "" && a.LoginHint == b.LoginHint,
		a.OIDCTokenFile != "" && a.OIDCTokenFile == b.OIDCTokenFile, a.Scope != "" && a.Scope == b.Scope,
		a.ClientCertificate != "" && a.ClientCertificate == b.ClientCertificate,
		a.Timeout != tokens.DefaultTimeout && a.Timeout == b.Timeout,
		a.DisableInstanceDiscovery && b.DisableInstanceDiscovery} {
		if same {
			n++
		}
	}
	return n
}

// A secret comes by a variable, or in a file that a flag names.
func TestNoFlagTakesASecret(t *testing.T) {
	parser, err := newParser(commands, io.Discard, func(int) {})
	require.NoError(t, err)
	looksSecret := regexp.MustCompile(`secret|password|passwd|passphrase|token|key|bearer|header`)
	notSecret := regexp.MustCompile(`-file$|^token-timeout$|^tls-key$|^user-from-token$`)
	count := 0
	for _, command := range parser.Model.Children {
		for _, flag := range command.Flags {
			count++
			if looksSecret.MatchString(flag.Name) && !notSecret.MatchString(flag.Name) {
				assert.Fail(t, "may take a secret", "--%s of %s", flag.Name, command.Name)
			}
		}
	}
	assert.Greater(t, count, 50)
}
