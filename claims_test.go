package aadpool

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// jwt is an unsigned token with these claims: what reads them does not look at the signature.
func jwt(claims string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + encode([]byte(claims)) + ".c2lnbmF0dXJl"
}

func TestUserNameByKindOfPrincipal(t *testing.T) {
	for _, row := range []struct {
		file, user, kind string
		life             time.Duration
	}{
		{"user.json", "ada@contoso.example", "a user", 75 * time.Minute},
		{"user_v2.json", "ada@contoso.example", "a user", 75 * time.Minute},
		{"guest.json", "bo_fabrikam.example#EXT#@contoso.example", "a user", 75 * time.Minute},
		{"service_principal.json", "orders-api", "a service principal", 65 * time.Minute},
		{"managed_identity_user_assigned.json", "id-orders", "a managed identity", 24*time.Hour + 5*time.Minute},
		{"managed_identity_system_assigned.json", "vm-orders-01", "a managed identity", 24*time.Hour + 5*time.Minute},
	} {
		t.Run(row.file, func(t *testing.T) {
			c, err := parseClaims(jwt(readFile(t, "testdata/claims", row.file)))
			require.NoError(t, err)
			user, err := c.userName()
			require.NoError(t, err)
			assert.Equal(t, row.user, user)
			assert.Equal(t, row.user, c.principal())
			assert.Equal(t, row.kind, c.kind())
			assert.Equal(t, row.life, c.life())
			assert.Equal(t, "https://ossrdbms-aad.database.windows.net", c.audience())
		})
	}
}

func readFile(t *testing.T, dir, name string) string {
	text, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(text)
}

func TestTokenThatNamesNoUser(t *testing.T) {
	c, err := parseClaims(jwt(readFile(t, "testdata/claims", "unnamed.json")))
	require.NoError(t, err)
	_, err = c.userName()
	require.ErrorContains(t, err, "its claims are: appid, aud, exp, iat, idtyp, oid, ver")
	require.ErrorContains(t, err, "put user= into the DSN")
	assert.Equal(t, "a service principal", c.kind(), "as far as one can tell")
	assert.Equal(t, "appid d2a1f0c9-0b7e-4e4c-b6a8-7f9e5c3b1a02", c.principal())
	assert.Equal(t, "https://ossrdbms-aad.database.windows.net", c.audience())
}

func TestClaimsOfWhatIsNoJWT(t *testing.T) {
	encode := base64.RawURLEncoding.EncodeToString
	for _, row := range []struct{ name, token string }{
		{"empty", ""},
		{"opaque", "secret-0a1b2c"},
		{"two parts", "secret.secret"},
		{"four parts", "a.secret.secret.b"},
		{"claims that are not base64url", "a.secret+/=.b"},
		{"claims that are not JSON", "a." + encode([]byte("secret")) + ".b"},
		{"claims that are not an object", "a." + encode([]byte(`["secret"]`)) + ".b"},
		{"claims that are null", "a." + encode([]byte(`null`)) + ".b"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := parseClaims(row.token)
			require.ErrorContains(t, err, "not a JWT")
			assert.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestClaimsOfAnUnexpectedTypeCountAsAbsent(t *testing.T) {
	c, err := parseClaims(jwt(`{"upn": 7, "unique_name": null, "xms_mirid": "///", "app_displayname": "orders-api", "iat": "soon", "exp": 1e300, "aud": {}}`))
	require.NoError(t, err)
	user, err := c.userName()
	require.NoError(t, err)
	assert.Equal(t, "orders-api", user)
	assert.Zero(t, c.life())
	assert.Empty(t, c.audience())
}

func FuzzClaims(f *testing.F) {
	files, err := filepath.Glob("testdata/claims/*.json")
	require.NoError(f, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(jwt(string(text)))
	}
	f.Add("")
	f.Add("..")
	f.Add(jwt(`{"iat":-1,"exp":9e99}`))
	f.Fuzz(func(t *testing.T, token string) {
		c, err := parseClaims(token)
		if err != nil {
			return
		}
		_, _ = c.userName()
		_, _, _ = c.principal(), c.kind(), c.audience()
		assert.GreaterOrEqual(t, c.life(), time.Duration(0))
	})
}
