package commands_test

import (
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

func TestTokenPrintsTheTokenAndNothingElse(t *testing.T) {
	for _, row := range []struct {
		name     string
		host     string
		flags    []string
		audience string
	}{
		{"of the public cloud", "", nil, aadpooltest.DefaultAudience},
		{"by the server's name", "orders.postgres.database.usgovcloudapi.net", nil,
			"https://ossrdbms-aad.database.usgovcloudapi.net"},
		{"for a Unix socket", "/var/run/postgresql", nil, aadpooltest.DefaultAudience},
		{"by a list of servers", "a.postgres.cosmos.azure.com,b.postgres.cosmos.azure.com", nil,
			"https://token.postgres.cosmos.azure.com"},
		{"by the flag", "orders.postgres.database.usgovcloudapi.net", []string{"--scope", "https://example.com/.default"},
			"https://example.com"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			a.UseSecret(t)
			t.Setenv("PGHOST", row.host)
			got := commandtest.RunUnchecked(t.Context(), a.System(), append([]string{"token"}, row.flags...)...)
			require.Equal(t, diag.OK, got.Status, got.Stderr)
			assert.Empty(t, got.Stderr)
			token, ok := strings.CutSuffix(got.Stdout, "\n")
			assert.True(t, ok)
			claims, err := a.Verify(token, row.audience)
			require.NoError(t, err)
			assert.Equal(t, "orders-api", claims.Name)
		})
	}
}

func TestTokenAsJSON(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	a.SetTokenLife(70 * time.Minute)
	began := time.Now()
	got := commandtest.RunUnchecked(t.Context(), a.System(), "token", "--json")
	took := time.Since(began)
	require.Equal(t, diag.OK, got.Status, got.Stderr)
	var token struct {
		Token     string
		ExpiresOn time.Time `json:"expires_on"`
		ExpiresIn int       `json:"expires_in"`
	}
	require.NoError(t, json.Unmarshal([]byte(got.Stdout), &token))
	claims, err := a.Verify(token.Token, aadpooltest.DefaultAudience)
	require.NoError(t, err)
	assert.WithinDuration(t, claims.ExpiresAt, token.ExpiresOn, took+2*time.Second)
	assert.InDelta(t, 70*60, token.ExpiresIn, took.Seconds()+2)
}

func TestTokenFormats(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	for _, row := range []struct{ format, want string }{
		{"bare", `^(eyJ\S+)\n$`},
		{"pgpass", `^\*:\*:\*:\*:(eyJ\S+)\n$`},
		{"env", `^export PGPASSWORD='?(eyJ[^'\s]+)'?\n$`},
		{"json", `^\{"token":"(eyJ[^"]+)","expires_on":"[-0-9]+T[:0-9]+Z","expires_in":\d+\}\n$`},
		{"exec-credential", `^\{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",` +
			`"status":\{"expirationTimestamp":"[-0-9]+T[:0-9]+Z","token":"(eyJ[^"]+)"\}\}\n$`},
	} {
		t.Run(row.format, func(t *testing.T) {
			got := commandtest.RunUnchecked(t.Context(), a.System(), "token", "--format", row.format)
			require.Equal(t, diag.OK, got.Status, got.Stderr)
			found := regexp.MustCompile(row.want).FindStringSubmatch(got.Stdout)
			require.NotNil(t, found)
			_, err := a.Verify(found[1], aadpooltest.DefaultAudience)
			require.NoError(t, err)
		})
	}
}

func TestTokenOnATerminalWarns(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	o := a.System()
	o.IsTerminal = func(io.Writer) bool { return true }
	got := commandtest.RunUnchecked(t.Context(), o, "token")
	require.Equal(t, diag.OK, got.Status)
	assert.Regexp(t, `^aadpool: this is a secret, [^\n]+\n$`, got.Stderr)
	assert.Regexp(t, `^eyJ\S+\n$`, got.Stdout)
}

func TestTokenFailsInOneLine(t *testing.T) {
	for _, row := range []struct {
		name  string
		make  func(t *testing.T, a commandtest.Azure)
		flags []string
		want  string
	}{
		{"no credential", func(*testing.T, commandtest.Azure) {}, nil,
			"no credential of the default chain has a token; EnvironmentCredential: missing environment variable " +
				"AZURE_TENANT_ID; "},
		{"no such credential here", func(*testing.T, commandtest.Azure) {}, []string{"--credential=environment"},
			"the credential environment lacks AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"},
		{"a wrong secret", func(t *testing.T, a commandtest.Azure) {
			a.UseSecret(t)
			t.Setenv("AZURE_CLIENT_SECRET", "hunter2hunter2")
		}, []string{"--credential=environment"}, "AADSTS7000215"},
		{"an answer that is cut short, with a token in it", func(t *testing.T, a commandtest.Azure) {
			a.UseSecret(t)
			a.SetFailure(aadpooltest.MalformedBody())
		}, []string{"--credential=environment"}, "aadpool check says more"},
		{"a credential that hangs", func(t *testing.T, a commandtest.Azure) {
			a.UseSecret(t)
			a.SetFailure(aadpooltest.Hanging())
		}, []string{"--timeout=300ms"}, "no answer within the token timeout"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			row.make(t, a)
			got := commandtest.Run(t, a.System(), append([]string{"token"}, row.flags...)...)
			assert.Equal(t, diag.Credential, got.Status)
			assert.Empty(t, got.Stdout)
			assert.Regexp(t, `^aadpool: [^\n]+\n$`, got.Stderr)
			assert.Contains(t, got.Stderr, row.want)
		})
	}
}
